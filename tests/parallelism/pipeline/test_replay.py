"""Replay against numbers worked out by hand, and against the known overheads of torch's schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.parallelism.pipeline.replay import Computation, replay
from bench.parallelism.pipeline.schedules import SCHEDULES, PipelineSchedule
from bench.workloads.parallel.torch_schedules import operations, torch_class

# Two ranks with a stage each, two microbatches, all forwards first. The second stage is the slower one:
# its operations run from 1 to 15 without a gap, and the first ends with a backward from 15 to 17.
UNEQUAL = [
    Computation(rank, rank, microbatch, kind, seconds[rank])
    for rank in (0, 1)
    for kind, seconds in (("forward", (1.0, 3.0)), ("backward", (2.0, 4.0)))
    for microbatch in (0, 1)
]


def test_each_operation_starts_when_its_rank_and_its_inputs_are_ready() -> None:
    result = replay(UNEQUAL)
    assert result.start_seconds == (0, 1, 11, 15, 1, 4, 7, 11)
    assert result.busy_seconds == (6, 14)
    assert result.makespan_seconds == 17
    # Ideal: 20 seconds of work on two ranks.
    assert result.overhead == pytest.approx(0.7)
    assert result.bubble == pytest.approx(0.7 / 1.7)


def test_messages_delay_the_receiver_only() -> None:
    # Forwards cross from rank 0 in 1 second, gradients from rank 1 in 2.
    result = replay(UNEQUAL, lambda sender, receiver: 1.0 if sender == 0 else 2.0)
    assert result.start_seconds == (0, 1, 14, 18, 2, 5, 8, 12)
    assert result.busy_seconds == (6, 14)
    assert result.makespan_seconds == 20


def test_messages_within_a_rank_take_no_time() -> None:
    v = [
        Computation(0, 0, 0, "forward", 1.0),
        Computation(0, 1, 0, "forward", 1.0),
        Computation(0, 1, 0, "backward", 2.0),
        Computation(0, 0, 0, "backward", 2.0),
    ]
    assert replay(v, lambda sender, receiver: 100.0).makespan_seconds == 6


def test_a_split_backward_lets_the_stage_before_go_on_after_the_input_gradient() -> None:
    kinds = ("forward", "backward_input", "backward_weight")
    split = [Computation(rank, rank, 0, kind, 1.0) for rank in (0, 1) for kind in kinds]
    assert replay(split).start_seconds == (0, 3, 4, 1, 2, 3)


def test_a_pair_sends_its_results_together() -> None:
    pair = [
        Computation(0, 0, 0, "forward", 1.0, sends_with_next=True),
        Computation(0, 0, 1, "forward", 2.0),
        Computation(1, 1, 0, "forward", 1.0),
        Computation(1, 1, 1, "forward", 1.0),
    ]
    assert replay(pair).start_seconds == (0, 1, 3, 4)
    apart = [operation._replace(sends_with_next=False) for operation in pair]
    assert replay(apart).start_seconds == (0, 1, 1, 3)


OVERHEADS: dict[str, Callable[[int, int, int], float]] = {
    "gpipe": lambda p, m, v: (p - 1) / m,
    "1f1b": lambda p, m, v: (p - 1) / m,
    "interleaved_1f1b": lambda p, m, v: (p - 1) / (v * m),
    "looped_bfs": lambda p, m, v: (p - 1) / (v * m),
    "interleaved_zero_bubble": lambda p, m, v: (p - 1) / (3 * v * m),
    "zbv_zero_bubble": lambda p, m, v: (p - 1) / (6 * m),
    "dual_pipe_v": lambda p, m, v: (p - 1) / (3 * m),
}


def _rows(op: str) -> list[PipelineSchedule]:
    row = SCHEDULES[op]
    # Looped schedules take any number of stages a rank, those in a V two.
    may_vary = row.stages_per_rank > 1 and row.placement == "loop"
    return [row, replace(row, stages_per_rank=3)] if may_vary else [row]


@pytest.mark.parametrize("op", SCHEDULES)
@pytest.mark.parametrize(("p", "m"), [(1, 2), (2, 4), (2, 8), (3, 6), (3, 9), (4, 8), (4, 16), (8, 16)])
def test_equal_durations_give_the_known_overhead(op: str, p: int, m: int) -> None:
    for row in _rows(op):
        result = replay(operations(row, p, m))
        # Forward, input gradient and weight gradient of every microbatch on every stage of a rank.
        assert result.busy_seconds == (3.0 * m * row.stages_per_rank,) * p
        overhead = OVERHEADS[op](p, m, row.stages_per_rank)
        assert result.overhead == pytest.approx(overhead, abs=1e-12)
        assert result.bubble == pytest.approx(overhead / (1 + overhead), abs=1e-12)


def test_a_thousand_ranks() -> None:
    result = replay(operations(SCHEDULES["gpipe"], 1024, 64))
    assert result.makespan_seconds == 3 * (64 + 1023)
    assert result.overhead == pytest.approx(1023 / 64)


@pytest.mark.parametrize("op", [op for op, row in SCHEDULES.items() if row.order is None or op == "1f1b"])
def test_objections_are_those_of_torch(op: str) -> None:
    row = SCHEDULES[op]
    for p in (1, 2, 3, 4):
        stage = SimpleNamespace(num_stages=row.num_stages(p), group_size=p, group_rank=0, submod=None)
        stages = stage if row.order else [stage] * row.stages_per_rank
        for m in range(1, 10):
            try:
                torch_class(row)(stages, m)
            except ValueError:
                assert row.objection(p, m), (p, m)
            else:
                assert row.objection(p, m) is None, (p, m)


@pytest.mark.parametrize(("op", "stages"), [("interleaved_1f1b", (1, 5)), ("zbv_zero_bubble", (1, 6))])
def test_placement(op: str, stages: tuple[int, ...]) -> None:
    row = SCHEDULES[op]
    assert row.stages_of(1, 4) == stages
    for p in (2, 3, 4):
        planned = {(o.rank, o.stage) for o in operations(row, p, 2 * p)}
        assert planned == {(rank, stage) for rank in range(p) for stage in row.stages_of(rank, p)}


def test_the_order_of_1f1b() -> None:
    order = [
        f"{operation.kind[0]}{operation.microbatch}"
        for operation in operations(SCHEDULES["1f1b"], 3, 4)
        if operation.rank == 1
    ]
    assert order == ["f0", "f1", "b0", "f2", "b1", "f3", "b2", "b3"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no operations"),
        ([Computation(0, 0, 0, "recompute", 1.0)], "unknown kind of operation 'recompute'"),
        ([Computation(0, 0, 0, "forward", 1.0)] * 2, "forward of stage 0, microbatch 0, on rank 0 comes twice"),
        ([Computation(0, 0, 0, "forward", 0.0)], "no time at all"),
        (
            [Computation(0, 0, 0, "backward", 1.0), Computation(0, 0, 0, "forward", 1.0)],
            "1 of 1 ranks .* backward of stage 0, microbatch 0, on rank 0 needs the activation of stage 0",
        ),
        (
            # Rank 0 waits for a gradient that rank 1 makes after what it waits for itself.
            [
                Computation(0, 0, 0, "forward", 1.0),
                Computation(0, 0, 0, "backward", 1.0),
                Computation(0, 0, 1, "forward", 1.0),
                Computation(1, 1, 1, "forward", 1.0),
                Computation(1, 1, 0, "forward", 1.0),
                Computation(1, 1, 0, "backward", 1.0),
            ],
            "deadlocked, 2 of 2 ranks .* rank 0 needs the input gradient of stage 1, microbatch 0",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused(bad: list[Computation], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replay(bad)


def test_numbers_that_a_schedule_refuses() -> None:
    with pytest.raises(ValueError, match="as many microbatches as stages, 8; there are 6"):
        operations(SCHEDULES["dual_pipe_v"], 4, 6)
