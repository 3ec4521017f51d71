"""Columns of a case's row that say what others reach: the row as a question to `bench.catalog.expectations`.

A range is in `expected_low` and `expected_high`, in the unit of the row's own rate; both are None if the sources are
too few or too far apart, which `expected_text` then says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from bench.catalog.accelerators import MAKERS, Accelerator, find
from bench.catalog.reference import COPY_LOOP, NCCL_LOOP, NO_REDUCTION, NVLS, SHARP, TORCH_LOOP
from bench.records.expected.kinds import Asked, asked_of
from bench.records.expected.words import UNKNOWN

if TYPE_CHECKING:
    from bench.catalog.questions import Expectation, Question
    from bench.records.file import Result
    from bench.records.lines.header import RankFacts

Row = dict[str, Any]

COLUMNS = ("expected_low", "expected_high", "expected_unit", "expected_sources", "expected_basis", "expected_text")
TEXT_COLUMNS = ("expected_unit", "expected_basis", "expected_text")

_LOOPS = {None: TORCH_LOOP, "nccl-tests": NCCL_LOOP, "all_reduce_bench": TORCH_LOOP, "PARAM": TORCH_LOOP,
          "nvbandwidth": COPY_LOOP}  # fmt: skip
"""Tool that measured, None for bench -> kind of its loop; results of others are not compared."""


def columns(result: Result, row: Mapping[str, Any]) -> Row:
    """What others reach in a case, as columns; each None if that is not known."""
    empty: Row = dict.fromkeys(COLUMNS)
    asked = asked_of(row) if row["status"] == "ok" else None
    tool = result.environment.imported_from
    if asked is None or row.get(asked.metric) is None or (tool and tool.tool) not in _LOOPS:
        return empty
    if not _is_on_accelerators(result.environment.ranks):
        return empty
    found = _answer(result, row, asked)
    if found is None:
        return empty | {"expected_text": UNKNOWN}
    known: Row = {
        "expected_unit": asked.unit,
        "expected_sources": found.num_sources,
        "expected_basis": found.basis,
        "expected_text": found.text(),
    }
    return empty | known | ({"expected_low": found.low, "expected_high": found.high} if found.is_range else {})


def _answer(result: Result, row: Mapping[str, Any], asked: Asked) -> Expectation | None:
    device = _device(result.environment.ranks)
    if device is None or (not asked.is_per_device and result.plan.backend not in (None, "nccl")):
        return None
    return _expectation(_question(result, row, asked, device.name))


@cache
def _expectation(question: Question) -> Expectation | None:
    from bench.catalog.expectations import expectation

    return expectation(question)


def _question(result: Result, row: Mapping[str, Any], asked: Asked, accelerator: str) -> Question:
    from bench.catalog.questions import Question

    ranks, tool = result.environment.ranks, result.environment.imported_from
    pair = 2 if asked.kind == "p2p_copy" else 1
    return Question(
        kind=asked.kind,
        accelerator=accelerator,
        num_ranks=pair if asked.is_per_device else int(row["num_ranks"]),
        num_nodes=1 if asked.is_per_device else _num_nodes(ranks, int(row["num_ranks"])),
        loop=_LOOPS[tool.tool if tool else None],
        num_bytes=asked.num_bytes,
        size=asked.size,
        reduction=None if asked.is_per_device else _reduction(result, row),
    )


def _num_nodes(ranks: Sequence[RankFacts], num_ranks: int) -> int | None:
    """Hosts of the ranks; None if the file does not say, or if a part of them worked."""
    hosts = {rank.host for rank in ranks}
    if None in hosts or not hosts or (num_ranks != len(ranks) and len(hosts) > 1):
        return None
    return len(hosts)


def _reduction(result: Result, row: Mapping[str, Any]) -> str | None:
    """Place of the reduction, if NCCL reported its algorithm or a variable decides; None if neither is known."""
    variables = _nccl_variables(result, row)
    asked = variables.get("NCCL_ALGO", "").lower()
    excluded, forced = (asked[1:], "") if asked.startswith("^") else ("", asked)
    algorithm = f"{row.get('nccl_algorithm') or ''} {forced}".lower()
    if "nvls" in algorithm:
        return NVLS
    if "collnet" in algorithm or variables.get("NCCL_COLLNET_ENABLE") == "1":
        return SHARP
    is_off = variables.get("NCCL_NVLS_ENABLE") == "0" or "nvls" in excluded
    return NO_REDUCTION if is_off or "ring" in algorithm or "tree" in algorithm else None


def _nccl_variables(result: Result, row: Mapping[str, Any]) -> dict[str, str]:
    """Variables of NCCL: of an own run's environment, or as an imported file has them, shared or in its cases."""
    imported = {**result.plan.options, **row["params"]} if result.environment.imported_from else {}
    stated = {name.upper(): value for name, value in imported.items() if name.startswith("nccl_")}
    return {name: str(value) for name, value in (result.environment.variables | stated).items()}


def _is_on_accelerators(ranks: Sequence[RankFacts]) -> bool:
    return bool(ranks) and all(rank.device_type == "cuda" for rank in ranks)


def _device(ranks: Sequence[RankFacts]) -> Accelerator | None:
    """The accelerator of all ranks, whole and each with one of its own; None if they differ or it is not known."""
    rows = {_known(rank.device_name or "", rank.memory_bytes) for rank in ranks}
    is_altered = any(rank.mig or rank.emulated_speed or rank.emulated_link_speed for rank in ranks)
    places = [(rank.host, rank.pci_bus_id) for rank in ranks if rank.pci_bus_id]
    is_shared = len(set(places)) < len(places)
    return rows.pop() if len(rows) == 1 and not is_altered and not is_shared else None


@cache
def _known(name: str, memory_bytes: int | None) -> Accelerator | None:
    """The row of a driver's whole name: a product's name alone, such as `H100`, does not tell form and memory."""
    row = find(name, memory_bytes)
    bare = MAKERS.sub("", name.strip().lower(), count=1)
    names = () if row is None else (row.name, *row.driver_names)
    return row if MAKERS.match(name.strip().lower()) or bare in {each.lower() for each in names} else None
