"""Rules for kinds of figures without published ones: the share of a line rate that published figures reach elsewhere.

A rule is a row of `RULES`. Its shares come from the rows of `bench/catalog/data/reference_numbers.csv` that it holds
for, never from this file; without three sources that agree it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.catalog.questions import RULE, Expectation, Question, is_large, of_values, question_of, sources
from bench.catalog.reference import NO_REDUCTION, NVLS, ReferenceNumber, vendor

_PCIE_LINES = {"A100": 32.0, "L40S": 32.0, "H100": 63.0, "H200": 63.0, "H20": 63.0, "B200": 63.0, "RTX PRO 6000": 63.0}
"""Products -> GB/s of PCIe 4 or 5 with 16 lanes in one direction, as rows of PCIe cards in accelerators.csv have it."""
MIN_RING_NODES = 4
"""Nodes from which on the network alone bounds an all-reduce; two nodes may use a tree, which sends less."""


@dataclass(frozen=True)
class LineRule:
    """Figures of some kinds, as shares of one line rate."""

    name: str
    of: str
    """Words for the line rate."""
    kinds: tuple[str, ...]
    holds: Callable[[Question], bool]
    line: Callable[[Question], float | None]
    """Line rate in the unit of the figures."""
    group: Callable[[Question], str]
    """Only figures of one group are taken together."""


def by_rule(question: Question, numbers: Sequence[ReferenceNumber]) -> Expectation | None:
    """The range by the first rule that holds for a question and has enough sources; None without one."""
    for rule in RULES:
        line = _line(rule, question)
        share = None if line is None else shares(rule, question, numbers)
        if line is not None and share is not None and share.is_range:
            return replace(share, low=share.low * line, high=share.high * line)
    return None


def shares(rule: LineRule, question: Question, numbers: Sequence[ReferenceNumber]) -> Expectation | None:
    """The share of the line rate that the published figures of a question's group reach, of its loop or another."""
    by_loop: dict[str, list[tuple[str, float]]] = {}
    for number in numbers:
        published = question_of(number)
        line = _line(rule, published) if number.kind == question.kind else None
        if line is not None and number.loop is not None and rule.group(published) == rule.group(question):
            by_loop.setdefault(number.loop, []).append((vendor(number), number.value / line))
    found = max(by_loop.values(), key=lambda values: len(sources(values)), default=[])
    return of_values(found, RULE)


def _line(rule: LineRule, question: Question) -> float | None:
    """The line rate, if the rule holds for the question."""
    return rule.line(question) if question.kind in rule.kinds and rule.holds(question) else None


def _is_switched_node(question: Question) -> bool:
    return (question.num_ranks, question.num_nodes) == (8, 1) and is_large(question) and question.reduces_in == NVLS


def _is_network(question: Question) -> bool:
    nodes = question.num_nodes or 0
    return nodes >= MIN_RING_NODES and is_large(question) and question.reduces_in == NO_REDUCTION


def _is_on_nvlink(question: Question) -> bool:
    # The GPUs of GH200 stand alone on their nodes, and reach each other by other ways than on boards of eight.
    is_alone = question.accelerator.startswith("GH200")
    return _fabric(question).startswith("NVLink") and question.num_nodes == 1 and not is_alone


def _is_on_one_node(question: Question) -> bool:
    return question.num_nodes == 1


def _is_product_of_8192(question: Question) -> bool:
    return question.size == 8192


def _fabric(question: Question) -> str:
    device = question.device
    return (device.scaleup_fabric or "").partition(" (")[0] if device else ""


def _nvlink(question: Question) -> float | None:
    return question.device.scaleup_one_way_gb_per_s if question.device and _is_on_nvlink(question) else None


def _pcie(question: Question) -> float | None:
    product = question.accelerator.partition("-")[0]
    return _PCIE_LINES.get(product)


def _nics(question: Question) -> float | None:
    return question.node_gbit_per_s and question.node_gbit_per_s / 8


def _memory(question: Question) -> float | None:
    speed = question.device.memory_tb_per_s if question.device else None
    return speed and 1e3 * speed


def _peak(question: Question) -> float | None:
    return question.device.bf16_dense_tflop_per_s if question.device else None


def _all(question: Question) -> str:
    return ""


RULES = (
    LineRule("all-reduce in the NVLink switch, 8 GPUs", "NVLink", ("all_reduce_busbw",), _is_switched_node, _nvlink,
         _fabric),
    LineRule("all-reduce over 4 nodes and more", "the NICs of a node", ("all_reduce_busbw",), _is_network, _nics, _all),
    LineRule("copy GPU to GPU", "NVLink", ("p2p_copy",), _is_on_nvlink, _nvlink, _all),
    LineRule("copy host to GPU", "PCIe", ("h2d_copy",), _is_on_one_node, _pcie, _all),
    LineRule("copy GPU to host", "PCIe", ("d2h_copy",), _is_on_one_node, _pcie, _all),
    LineRule("memory copy", "the memory's peak", ("memory_copy",), _is_on_one_node, _memory, _all),
    LineRule("16-bit product of 8192³", "the peak", ("matmul_bf16", "matmul_fp16"), _is_product_of_8192, _peak, _all),
)  # fmt: skip
"""Rules in the order in which they are asked; a new one is a row."""
