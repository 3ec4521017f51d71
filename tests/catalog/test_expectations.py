"""Ranges rest on three independent sources of one kind of loop, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalog.expectations import expectation, is_judged
from bench.catalog.questions import MARGIN, MAX_WIDTH, Expectation, Question, of_values, question_of
from bench.catalog.reference import (
    LARGE,
    NCCL_LOOP,
    NO_REDUCTION,
    NVLS,
    SHARP,
    TORCH_LOOP,
    ReferenceNumber,
    publisher,
    reference_numbers,
    relative_width,
)

MIB, GIB = 1 << 20, 1 << 30
H100 = Question("all_reduce_busbw", "H100-SXM-80GB", 8, 1, NCCL_LOOP, 8 * GIB)


def number(value: float, source: str, **others: object) -> ReferenceNumber:
    """A made figure of an all-reduce on 8 H100 at 8 GiB."""
    row = ReferenceNumber(
        "all_reduce_busbw", value, "GB/s", "H100-SXM-80GB", 8, 1, None, None, None, LARGE, None, NCCL_LOOP, source,
        "high", "", source,
    )  # fmt: skip
    return replace(row, **others)  # type: ignore[arg-type]


def found(question: Question, numbers: list[ReferenceNumber]) -> Expectation:
    answer = expectation(question, numbers)
    assert answer is not None
    return answer


def test_the_published_all_reduce_of_eight_h100_makes_a_range() -> None:
    answer = expectation(H100)
    assert answer is not None
    assert (answer.text(), answer.basis, answer.num_sources) == ("expected 462 to 495 (4 sources)", "measured", 4)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (replace(H100, num_bytes=GIB), "2 sources: 466"),
        (replace(H100, num_bytes=10**9), "2 sources: 466"),
        (replace(H100, num_bytes=64 * MIB), "2 sources: 362"),
        (replace(H100, num_bytes=8 * 10**9, loop=TORCH_LOOP), "expected 462 to 495 (4 sources)"),
        (replace(H100, accelerator="B200-SXM-180GB"), "2 sources: 830 to 838"),
        (replace(H100, accelerator="H200-SXM-141GB", reduction=NO_REDUCTION), "1 source: 366 to 367"),
        (replace(H100, accelerator="H20-SXM-96GB"), "expected 459 to 495 (rule, 5 sources)"),
        (Question("h2d_copy", "B200-SXM-180GB", 1, 1, "copy"), "expected 49.5 to 57.1 (rule, 4 sources)"),
        (Question("d2h_copy", "H100-SXM-80GB", 1, 1, "copy"), "2 sources: 46.8 to 52.0"),
        (replace(H100, num_ranks=32, num_nodes=4, fabric="InfiniBand", node_gbit_per_s=3200.0),
         "expected 355 to 403 (rule, 4 sources)"),
    ],
)  # fmt: skip
def test_what_is_expected(question: Question, text: str) -> None:
    answer = expectation(question)
    assert answer is not None
    assert answer.text() == text


@pytest.mark.parametrize(
    "question",
    [
        replace(H100, num_bytes=8 * MIB),
        replace(H100, num_ranks=4),
        replace(H100, num_nodes=None),
        replace(H100, num_ranks=16, num_nodes=2),
        replace(H100, num_ranks=32, num_nodes=4),
        replace(H100, num_ranks=32, num_nodes=4, reduction=SHARP, fabric="InfiniBand", node_gbit_per_s=3200.0),
        replace(H100, reduction=NO_REDUCTION),
        replace(H100, accelerator="H100-PCIe-80GB"),
        replace(H100, accelerator="B200-SXM-180GB", num_bytes=64 * MIB),
        replace(H100, kind="all_to_all_busbw"),
    ],
    ids=["small", "4 ranks", "nodes unknown", "2 nodes", "no NICs", "SHARP", "no NVLS", "PCIe", "loop", "operation"],
)
def test_what_nobody_published_is_unknown(question: Question) -> None:
    assert expectation(question) is None


def test_two_sources_are_no_range() -> None:
    answer = found(H100, [number(470, "A"), number(472, "A"), number(480, "B")])
    assert (answer.is_range, answer.text()) == (False, "2 sources: 470 to 480")


def test_two_pages_of_one_vendor_are_one_source() -> None:
    pages = ["NVIDIA/dgxc-benchmarking@841f546 nccl/README.md", "nvidia.com on-demand gtc25", "NVIDIA/aicr#2689"]
    assert {publisher(page) for page in pages} == {"NVIDIA"}
    assert publisher("NVIDIA/nccl-tests#290", 'large; "in the expected range", NVIDIA staff') == "NVIDIA"
    assert publisher("NVIDIA/nccl-tests#309") != publisher("NVIDIA/nccl-tests#310") != "NVIDIA"
    assert publisher("github.com/one/x README") != publisher("github.com/two/x README")
    mixed = [number(470, "Dell"), number(475, "MLPerf, Dell"), number(480, "B")]
    assert found(H100, mixed).num_sources == 2


def test_loops_are_not_mixed() -> None:
    two = [number(470, "A"), number(475, "B")]
    assert not found(H100, [*two, number(480, "C", loop=TORCH_LOOP)]).is_range
    assert found(H100, [*two, number(480, "C")]).is_range


def test_up_to_256_mib_only_a_loop_of_the_same_kind_counts() -> None:
    rows = [number(360 + step, source, num_bytes=64 * MIB) for step, source in enumerate("ABC")]
    question = replace(H100, num_bytes=64 * MIB)
    assert found(question, rows).is_range
    assert expectation(replace(question, loop=TORCH_LOOP), rows) is None


def test_sources_that_are_too_far_apart_make_no_range() -> None:
    answer = found(H100, [number(400, "A"), number(450, "B"), number(490, "C")])
    assert (answer.is_range, answer.text()) == (False, "3 sources, too far apart: 400 to 490")


def test_a_faulty_machine_is_no_source() -> None:
    rows = [number(value, name) for value, name in ((470, "A"), (475, "B"), (480, "C"))]
    assert found(H100, [*rows, number(3, "D", conditions="the sign of a TCP fall-back")]).num_sources == 3
    assert found(H100, [*rows, number(3, "D", confidence="low")]).num_sources == 3


def test_who_adds_is_part_of_the_key() -> None:
    rows = [number(366, name, reduction=NO_REDUCTION) for name in "ABC"]
    assert expectation(H100, rows) is None
    assert expectation(replace(H100, reduction=NVLS), rows) is None
    assert found(replace(H100, reduction=NO_REDUCTION), rows).is_range


@given(st.lists(st.tuples(st.sampled_from("ABCDE"), st.floats(1.0, 1e4)), min_size=1, max_size=12))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_a_range_holds_its_sources_and_is_narrow(values: list[tuple[str, float]]) -> None:
    answer = of_values(values, "measured")
    assert answer is not None
    assert answer.num_sources == len({name for name, _ in values})
    assert all(answer.low <= value <= answer.high for _, value in values)
    if answer.is_range:
        assert answer.num_sources >= 3
        assert relative_width(answer.low, answer.high) <= MAX_WIDTH
    elif answer.num_sources >= 3:
        low, high = (value for value in (answer.low * (1 - MARGIN), answer.high * (1 + MARGIN)))
        assert relative_width(low, high) > MAX_WIDTH


def test_one_publisher_differs_from_itself_by_less_than_the_margin() -> None:
    kinds: dict[tuple[object, ...], list[float]] = {}
    for row in reference_numbers():
        question = question_of(row)
        if row.kind == "all_reduce_busbw" and row.num_bytes == LARGE and is_judged(question):
            kinds.setdefault((row.publisher, replace(question, reduction=question.reduces_in)), []).append(row.value)
    several = [values for values in kinds.values() if len(values) > 1]
    assert len(several) > 5
    assert max(max(values) / min(values) - 1 for values in several) < MARGIN


def test_the_words_of_conditions_become_fields() -> None:
    rows = {(row.accelerator, row.source.split("@")[0], row.conditions): row for row in reference_numbers()}
    by_words = {conditions: row for (*_, conditions), row in rows.items()}
    sharp = by_words["size=8GiB; 8 nodes; NDR InfiniBand 8 x 400 Gb/s a node; in-network reduction on; out-of-place"]
    assert (sharp.num_nodes, sharp.fabric, sharp.node_gbit_per_s, sharp.reduction, sharp.num_bytes) == (
        8, "InfiniBand", 3200.0, SHARP, LARGE,
    )  # fmt: skip
    off = by_words["size=8GiB; 1 node; Ring"]
    assert (off.num_nodes, off.fabric, off.reduction, off.loop) == (1, None, NO_REDUCTION, NCCL_LOOP)
    assert by_words["size=256MiB; 1 node; NVLS from 2MiB"].loop == TORCH_LOOP
    assert {row.size for row in reference_numbers() if row.conditions.startswith("m,n,k=1024,2145")} == {None}
