"""Waterfalls and suspects from spans made by hand, with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.analysis.explain import suspects, timeline
from bench.analysis.explain.waterfall import waterfall
from bench.analysis.findings.of_explanation import suspect_remarks
from bench.parallelism import heterogeneous_step
from bench.records.file import load as load_result
from bench.records.lines.kinds import Measurement
from bench.records.rows import case_groups
from bench.suite import COMMUNICATION, Span
from tests import ROOT
from tests.support.results import line, measurement

MS = 1_000_000


def data_spans(num_calls: int = 4, slow: float = 1.0, late: int = 0) -> tuple[list[list[Any]], list[list[int]]]:
    """Two ranks: 3 microbatches of 10 ms (rank 1: over its speed), 2 ms of sums; rank 1 starts `late` ms later."""
    rows: list[list[Any]] = []
    calls: list[list[int]] = [[], []]
    for number in range(num_calls):
        jitter = number * 1000
        ready = []
        for rank, each in ((0, 10 * MS + jitter), (1, round(10 * MS / slow) + jitter)):
            start = late * MS if rank else 0
            for microbatch in range(3):
                rows.append([rank, number, "forward_backward", None, microbatch, start, each])
                start += each
            ready.append(start)
        end = max(ready) + 2 * MS
        for rank in (0, 1):
            rows.append([rank, number, COMMUNICATION, None, None, ready[rank], end - ready[rank]])
            calls[rank].append(end)
    return rows, calls


def spans_of(rows: list[list[Any]]) -> list[Span]:
    return msgspec.convert(rows, list[Span])


def record(case: str = "heterogeneous/data[units=6]", slow: float = 1.0, **fields: Any) -> dict[str, Any]:
    spans, calls = data_spans(slow=slow)
    return measurement(case, calls, flops=6e9, flops_dtype="float32", spans=spans, traced_call_ns=calls, **fields)


def test_a_call_run_again_takes_what_it_took() -> None:
    rows, calls = data_spans(num_calls=1, slow=0.5)
    found = timeline.operations(spans_of(rows), [rank[0] for rank in calls])
    assert found.run(found.seconds)[0] == pytest.approx(0.062)
    moved = found.seconds[found.communicates]
    assert moved.tolist() == [[pytest.approx(0.002)], [pytest.approx(0.002)]]  # the rest is waiting


def test_nested_communication_is_cut_out_of_the_computation() -> None:
    spans = spans_of([[0, 0, "backward", None, None, 10, 100], [0, 0, COMMUNICATION, None, None, 40, 20]])
    pieces = timeline.pieces_of(spans, 0, 120)
    assert [(p.kind, p.start, p.end) for p in pieces] == [
        ("outside", 0, 10),
        ("backward", 10, 40),
        (COMMUNICATION, 40, 60),
        ("backward", 60, 110),
        ("outside", 110, 120),
    ]


def test_a_pipeline_waits_for_the_stage_before_and_behind() -> None:
    """Stage 0: forward 0 to 10, backward 35 to 45; stage 1: forward 12 to 22, backward 22 to 33; messages take 2."""
    rows: list[list[Any]] = [
        [0, 0, "forward", 0, 0, 0, 10],
        [0, 0, "backward", 0, 0, 35, 10],
        [1, 0, "forward", 1, 0, 12, 10],
        [1, 0, "backward", 1, 0, 22, 11],
    ]
    found = timeline.operations(spans_of(rows), [45, 45])
    assert found.run(found.seconds)[0] == pytest.approx(45e-9)
    slower = found.seconds.copy()
    slower[(found.places["rank"] == 1) & (found.kind == found.kinds.index("forward"))] += 5e-9
    assert found.run(slower)[0] == pytest.approx(50e-9)


def test_parts_add_up_from_peak_to_achieved() -> None:
    made = record(slow=0.5)
    found = waterfall([line(made)], 0.065, 2e11, "a peak", [1.0, 0.5])
    parts = {part.name: part for part in found.parts}
    assert found.peak_seconds == pytest.approx(0.03)
    known = [part.seconds for part in found.parts if part.seconds is not None]
    assert found.peak_seconds + sum(known) == pytest.approx(found.measured_seconds)
    assert parts["slowest device"].seconds == pytest.approx(0.030, abs=1e-4)
    assert parts["exposed communication"].seconds == pytest.approx(0.002, abs=1e-4)
    assert parts["residual"].seconds == pytest.approx(0.003, abs=1e-4)
    assert parts["imbalance of the split"].seconds == pytest.approx(0.0, abs=1e-4)
    assert parts["input stalls"].seconds is None
    blind = {part.name: part for part in waterfall([line(made)], 0.065, 2e11, "a peak", None).parts}
    assert blind["slowest device"].seconds is None
    assert "not measured" in blind["slowest device"].how
    assert blind["imbalance of the split"].seconds == pytest.approx(0.015, abs=1e-4)


def test_parts_of_a_call_that_took_longer_are_scaled_to_the_time_of_the_case() -> None:
    """Tracing costs time: of 62 ms the peak's 30 ms stay, and the rest shrinks to what is left of 46 ms: by a half."""
    found = waterfall([line(record(slow=0.5))], 0.046, 2e11, "a peak", [1.0, 0.5])
    parts = {part.name: part for part in found.parts}
    assert found.traced_seconds == pytest.approx(0.062, abs=1e-4)
    assert parts["slowest device"].seconds == pytest.approx(0.015, abs=1e-4)
    assert parts["residual"].seconds == 0.0
    assert "1.35x as long" in parts["residual"].how
    assert found.peak_seconds + sum(part.seconds or 0.0 for part in found.parts) == pytest.approx(0.046)


def test_the_call_nearest_to_the_measured_time_is_explained() -> None:
    """Of two launches, one of which was slowed: medians of the parts over both would not add up."""
    slowed = line(record(slow=0.25, launch=1))
    found = waterfall([slowed, line(record())], 0.034, 2e11, "a peak", None)
    assert found.traced_seconds == pytest.approx(0.032, abs=1e-4)
    assert waterfall([slowed, line(record())], 0.120, 2e11, "a peak", None).traced_seconds > 0.1


def test_a_slow_rank_is_named_by_its_own_computation_and_healthy_ones_are_not() -> None:
    (ranks, links) = suspects.sentences([line(record(slow=0.5))])
    assert ranks == "rank 1 is slow: half as fast as rank 0 (0.50x) in 1 of 1 measurement"
    assert links.startswith("slow links were not measured")
    assert suspects.sentences([line(record())])[0].startswith("no rank is slow, by the ranks' own computation in 1 ")


def launches(*slow: float) -> list[Measurement]:
    """The same case in several launches; rank 1 runs at these speeds."""
    return [line(record(slow=speed, launch=launch)) for launch, speed in enumerate(slow)]


def test_a_rank_is_accused_only_if_it_is_slow_in_a_quarter_of_the_measurements() -> None:
    (accused,) = suspects.suspects(launches(0.5, 0.5, *[1.0] * 6))
    assert accused.text == "rank 1 is slow: half as fast as rank 0 (0.50x) in 2 of 8 measurements"
    assert suspects.suspects(launches(0.5, 0.5, *[1.0] * 7)) == []


def test_a_rank_is_not_accused_where_the_other_is_slow_as_often() -> None:
    """A busy machine slows now this rank and now that one: neither is the slow one."""
    assert suspects.suspects(launches(0.5, 2.0, 0.5, 2.0, 0.5, 2.0)) == []
    assert len(suspects.suspects(launches(0.5, 0.5, 0.5, 0.5, 0.5, 2.0))) == 1


@pytest.mark.parametrize(("run", "said"), [
    ("plain", []),
    ("shaped-link", []),
    ("slow-rank", ["Rank 1 is slow: half as fast as rank 0 (0.50x) in 44 of 45 measurements"]),
])  # fmt: skip
def test_saved_runs_accuse_the_slow_rank_and_nobody_else(run: str, said: list[str]) -> None:
    result = load_result(ROOT / f"results/emulated/{run}/launches-1.jsonl.gz")
    assert [remark.text for remark in suspect_remarks(result.latest())] == said


def test_without_computation_the_last_to_arrive_is_said_or_nothing() -> None:
    """Two ranks: one of them is last in all of 4 calls every eighth time, so that takes more calls, or launches."""
    made = {}
    for late, num_calls in ((3, 4), (3, 5), (1, 5)):
        spans, calls = data_spans(num_calls=num_calls, late=late)
        waits = [row for row in spans if row[2] == COMMUNICATION]
        made[late, num_calls] = line(measurement("training/run", calls, spans=waits, traced_call_ns=calls))
    said = "rank 1 arrives last at collectives: the others wait 9% of the call for it in {} of {} measurement{}"
    assert suspects.sentences([made[3, 5]])[0] == said.format(1, 1, "")
    again = msgspec.structs.replace(made[3, 4], launch=1)
    assert suspects.sentences([made[3, 4], again])[0] == said.format(2, 2, "s")
    assert suspects.suspects([made[3, 4]]) == []
    assert suspects.suspects([made[1, 5]]) == []  # 1 ms of 33 is not worth acting on
    assert suspects.sentences([line(measurement())])[0].startswith("slow ranks were not measured")


def test_a_link_is_named_only_by_point_to_point() -> None:
    table = {
        "columns": ["slow link", "s", "s", "times", "n", "p"],
        "rows": [["rank 3: each of its pairs", 4, 1, 4.0, 6, 0]],
    }
    pairs = line(measurement("point_to_point/send", tables={"stands_out": table}, derived={"slow_links": 1.0}))
    healthy = [
        line(measurement("point_to_point/send", launch=launch, derived={"slow_links": 0.0})) for launch in range(1, 5)
    ]
    said = "slow link, rank 3: each of its pairs: 4.00 times as long as the others in 1 of {} measurements"
    assert suspects.sentences([pairs, *healthy[:3]])[1] == said.format(4)
    assert suspects.sentences([pairs, *healthy])[1] == "no link is slow, by 5 measurements of point_to_point"
    few = measurement("point_to_point/send", derived={"slow_links": None})
    assert "too few ranks" in suspects.sentences([line(few)])[1]


def uniform() -> list[heterogeneous_step.Uniform]:
    rows, calls = data_spans()
    return heterogeneous_step.uniform_calls(spans_of(rows), calls, range(4), (0, 1), (3, 3))


def test_the_prediction_of_data_parallel_is_arithmetic() -> None:
    for shares, speeds, seconds in (
        ((3, 3), (1.0, 1.0), 0.032),
        ((3, 3), (1.0, 0.5), 0.062),
        ((4, 2), (1.0, 0.5), 0.042),
    ):
        times = heterogeneous_step.predicted("data", uniform(), heterogeneous_step.Dealing(shares, speeds))
        assert times == pytest.approx(seconds / 0.032, rel=1e-3)
    assert heterogeneous_step.predicted_bound(uniform(), (1.0, 0.5)) == pytest.approx(42 / 32, rel=1e-3)
    assert heterogeneous_step.predicted("data", [], heterogeneous_step.Dealing((3, 3), (1.0, 1.0))) is None


STEPS_ON_FOUR_RANKS = sorted((ROOT / "results/evidence/predict").glob("*/run*/r4/*.jsonl.gz"))


@pytest.mark.parametrize("path", STEPS_ON_FOUR_RANKS, ids=lambda path: "-".join(path.parts[-4:-2]))
def test_training_steps_split_in_several_ways_are_explained(path: Path) -> None:
    """Real files, with up to two axes a step: the parts add up, little is left over, and what is sent is found."""
    for case, group in case_groups([load_result(path)]).items():
        if group.status != "ok":
            continue
        assert group.view.seconds is not None
        one = waterfall(group.records, group.view.seconds, 1e11, "planted", None)
        parts = {part.name: part.seconds or 0.0 for part in one.parts}
        assert one.peak_seconds + sum(parts.values()) == pytest.approx(one.measured_seconds), case
        # Four ranks on two cores: traced calls differ from the timed ones by up to a quarter.
        most = 0.3 if "cores" in path.parts else 0.15
        assert abs(parts["residual"]) < most * one.measured_seconds, case
        sent = parts["exposed communication"] + parts["slower than the median message"]
        assert sent > 0.3 * one.measured_seconds or "lab" not in path.parts or "pp=2" in case, case
    if "lab" in path.parts:  # on shared cores a rank may well have been slow
        said = suspects.sentences([r for g in case_groups([load_result(path)]).values() for r in g.records])
        assert said[0].startswith("no rank is slow")


def test_communications_are_held_against_those_of_their_size() -> None:
    """One of four sums is ten times as large and as long: no link is slow for that."""
    spans = [
        Span(
            rank=0,
            call=0,
            kind="communication",
            start_ns=start,
            duration_ns=length,
            axis="data",
            sequence=number,
            num_bytes=size,
        )
        for number, (start, length, size) in enumerate([(0, 10, 1), (10, 10, 1), (20, 100, 10), (120, 10, 1)])
    ]
    found = timeline.operations(spans, [130])
    assert len(found.kinds) == 2
    same = [msgspec.structs.replace(span, num_bytes=None) for span in spans]
    assert len(timeline.operations(same, [130]).kinds) == 1
