"""Every schedule on real ranks, a check that notices a wrong stage, shares of the step known by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism.pipeline import bubble
from bench.parallelism.pipeline.schedules import SCHEDULES, PipelineSchedule
from bench.suite import COMMUNICATION, Check, Observed, Params, Skip, Span
from bench.workloads.parallel.torch_schedules import operations
from suites import pipeline_parallel
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: Params = {"hidden": 16, "num_heads": 2, "num_layers": 8, "sequence": 8, "microbatch_size": 2}


def _run(context: Any, **params: Any) -> dict[str, Any]:
    return run_case(context, "pipeline_parallel", SMALL | params, calls=1)


def _broken(context: Any) -> dict[str, Check]:
    """Checks of a stage with another weight, and of one that loses a microbatch's share of a gradient."""
    import torch

    from bench.workloads.parallel.pipeline_check import Model, check_step

    sizes = {key: value for key, value in SMALL.items() if isinstance(value, int)}
    model = Model(**sizes, num_microbatches=4, dtype="float32")
    schedule = SCHEDULES["interleaved_zero_bubble"]
    step, whole = model.pipeline_step(schedule, context), model.one_device_step(context)
    checks = {"sound": check_step(step, whole, model)}

    weight = next(step.modules[2 + context.index].parameters()) if context.index == 0 else None
    if weight is not None:
        weight.data.mul_(1.001)
    checks["another weight"] = check_step(step, whole, model)
    if weight is not None:
        weight.data.div_(1.001)

    last = list(step.modules[2 + context.index].parameters())[-1]
    seen: list[int] = []

    def lose_the_first(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return gradient if len(seen) > 1 or context.index == 0 else torch.zeros_like(gradient)

    last.register_hook(lose_the_first)
    checks["a lost share"] = check_step(step, whole, model)
    return checks


def _two_ranks(context: Any) -> dict[str, Any]:
    results = {op: _run(context, op=op, num_microbatches=4) for op in SCHEDULES}
    results["bfloat16"] = _run(context, op="1f1b", num_microbatches=4, dtype="bfloat16")
    results["broken"] = _broken(context)
    # Without room for the whole stack on one rank, none has the variant, and all check a smaller stack.
    if context.index == 1:
        context.machine = replace(context.machine, memory_bytes=1000)
    results["no room"] = _run(context, op="zbv_zero_bubble", num_microbatches=4)
    return results


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return on_ranks(2, _two_ranks)


def _observed(results: list[dict[str, Any]]) -> Observed:
    return Observed(
        world_size=len(results),
        num_cores=len(results),
        device_type="cpu",
        seconds={},
        rank_seconds={},
        spans=tuple(span for result in results for span in result["spans"]),
        traced_call_ns=tuple(tuple(result["call_ns"]) for result in results),
    )


def _assert_spans_are_the_planned_order(results: list[dict[str, Any]], schedule: PipelineSchedule, m: int) -> None:
    planned = operations(schedule, len(results), m)
    for rank, result in enumerate(results):
        for call in range(pipeline_parallel.TRACED_CALLS):
            spans = sorted((s for s in result["spans"] if s.call == call), key=lambda s: s.start_ns)
            computed = [s for s in spans if s.kind not in (bubble.LOSS, COMMUNICATION)]
            # Every rank waits for what another stage sends.
            assert any(s.kind == COMMUNICATION and s.axis == "pipeline" for s in spans)
            assert [(s.stage, s.microbatch, s.kind) for s in computed] == [
                (o.stage, o.microbatch, o.kind) for o in planned if o.rank == rank
            ]
            losses = [s.stage for s in spans if s.kind == bubble.LOSS]
            last = schedule.num_stages(len(results)) - 1
            assert losses == [last] * (m if last in schedule.stages_of(rank, len(results)) else 0)


@pytest.mark.parametrize("op", SCHEDULES)
def test_every_schedule_is_right_on_two_ranks(two_ranks: list[dict[str, Any]], op: str) -> None:
    results = [rank[op] for rank in two_ranks]
    for result in results:
        assert all(check.passed and check.scope == "full" for check in result["checks"])
        assert result["variants"] == ["full", "one_device"]
        # 4 microbatches of 2 sequences of 8.
        assert result["tokens"] == 64
        # A layer: 24 x tokens x hidden^2 for the matrices, 4 x batch x sequence^2 x hidden for attention.
        # There are 8 layers, and the backward counts twice.
        assert result["flops"] == 3 * 8 * (24 * 64 * 16**2 + 4 * 8 * 8**2 * 16)
    _assert_spans_are_the_planned_order(results, SCHEDULES[op], 4)


@pytest.mark.parametrize("op", SCHEDULES)
def test_shares_of_a_real_step(two_ranks: list[dict[str, Any]], op: str) -> None:
    observed = _observed([rank[op] for rank in two_ranks])
    known = pipeline_parallel.shares(observed, schedule=SCHEDULES[op], num_microbatches=4, is_idle_known=True)
    assert known.keys() == pipeline_parallel.METRICS.keys()
    theory, idle, rest = known.values()
    assert theory is not None
    assert idle is not None
    assert 0 < theory < 1
    assert 0 < idle < 1
    assert rest == idle - theory
    unknown = pipeline_parallel.shares(observed, schedule=SCHEDULES[op], num_microbatches=4, is_idle_known=False)
    assert list(unknown.values()) == [theory, None, None]


def test_a_short_type_is_held_against_a_longer_one(two_ranks: list[dict[str, Any]]) -> None:
    for rank in two_ranks:
        for check in rank["bfloat16"]["checks"]:
            assert 0 < check.error <= check.tolerance


def test_the_check_notices_a_wrong_stage(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["broken"] for rank in two_ranks)
    assert first["sound"].passed
    assert second["sound"].passed
    # A wrong weight changes everything behind it, and every gradient before it.
    assert not first["another weight"].passed
    assert not second["another weight"].passed
    assert first["a lost share"].passed
    assert not second["a lost share"].passed


def test_where_one_device_has_no_room_the_check_is_reduced(two_ranks: list[dict[str, Any]]) -> None:
    for rank in two_ranks:
        result = rank["no room"]
        assert result["variants"] == ["full"]
        assert all(check.passed and check.scope == "reduced" for check in result["checks"])
        assert "a rank has 0 MiB" in result["notes"][0]


def _four_ranks(context: Any) -> dict[str, Any]:
    return {op: _run(context, op=op, num_microbatches=8) for op in ("1f1b", "dual_pipe_v")}


def test_four_ranks_on_two_cores() -> None:
    ranks = on_ranks(4, _four_ranks)
    for op in ("1f1b", "dual_pipe_v"):
        results = [rank[op] for rank in ranks]
        assert all(check.passed for result in results for check in result["checks"])
        assert all("no idle_share: 4 ranks share 2 cores" in result["notes"] for result in results)
        _assert_spans_are_the_planned_order(results, SCHEDULES[op], 8)


def _span(rank: int, kind: str, stage: int, duration_ns: int, call: int = 0) -> Span:
    return Span(rank=rank, call=call, kind=kind, stage=stage, microbatch=0, start_ns=0, duration_ns=duration_ns)


# Two ranks, one microbatch: the loss belongs to the last forward, so that the chain is 10 + 12 + 20 + 20.
CHAIN = (
    _span(0, "forward", 0, 10),
    _span(0, "backward", 0, 20),
    _span(1, "forward", 1, 10),
    _span(1, "loss", 1, 2),
    _span(1, "backward", 1, 20),
)


def test_shares_by_hand() -> None:
    observed = Observed(2, 2, "cpu", {}, {}, CHAIN, ((80,), (100,)))
    shares = pipeline_parallel.shares(observed, schedule=SCHEDULES["gpipe"], num_microbatches=1, is_idle_known=True)
    # One rank at a time works; of a step of 100, the ranks are busy for 30 and 32.
    assert shares == pytest.approx({"bubble_theory": 0.5, "idle_share": 0.69, "communication_and_overhead": 0.19})


def test_a_duration_is_the_median_over_calls_and_microbatches() -> None:
    spans = [_span(0, "forward", 0, ns, call) for call, ns in enumerate((10, 1000, 30))]
    assert bubble.stage_seconds(spans) == {(0, "forward"): pytest.approx(30e-9)}
    assert bubble.idle_share(spans, [(40, 2000, 60)]) == pytest.approx(0.5)


def test_shares_without_spans_are_unknown() -> None:
    assert bubble.bubble_theory(CHAIN[:-1], operations(SCHEDULES["gpipe"], 2, 1)) is None
    assert bubble.idle_share((), ()) is None


@pytest.mark.parametrize(
    ("world_size", "params", "reason"),
    [
        (1, {"op": "gpipe"}, "one rank"),
        (3, {"op": "gpipe"}, "num_layers=8 cannot be split evenly over 3 stages"),
        (4, {"op": "1f1b", "num_microbatches": 3}, "as many microbatches as ranks, 4; there are 3"),
        (4, {"op": "interleaved_1f1b", "num_microbatches": 9}, "9 microbatches do not divide into 2 rounds"),
        (4, {"op": "dual_pipe_v", "num_microbatches": 7}, "as many microbatches as stages, 8; there are 7"),
        (2, {"op": "gpipe", "num_heads": 3}, "num_heads=3 does not divide hidden=16"),
        (2, {"op": "gpipe", "sequence": 0}, "sequence=0 is less than 1"),
        (2, {"op": "tomorrow"}, "this torch has no ScheduleOfTomorrow"),
    ],
)
def test_what_cannot_run_is_skipped_with_its_numbers(
    monkeypatch: pytest.MonkeyPatch, world_size: int, params: Params, reason: str
) -> None:
    tomorrow = replace(SCHEDULES["gpipe"], class_name="ScheduleOfTomorrow")
    monkeypatch.setitem(pipeline_parallel.SCHEDULES, "tomorrow", tomorrow)
    rank: Any = SimpleNamespace(world_size=world_size, backend="gloo")
    case = {**pipeline_parallel.DEFAULTS, **SMALL, "num_microbatches": 8, **params}
    with pytest.raises(Skip, match=reason):
        pipeline_parallel.prepare(case, rank)


def test_every_case_can_run_on_any_number_of_ranks_and_differs_from_the_others() -> None:
    suite = load("pipeline_parallel")
    for preset, device_type, world_size in product(("smoke", "standard", "full"), ("cpu", "cuda"), range(2, 10)):
        machine = replace(cpu_machine(world_size, preset=preset), device_type=device_type)
        cases = suite.cases(machine)
        first = {case["op"] for case in cases[: len(SCHEDULES)]}
        assert first == (
            set(pipeline_parallel.ORDER[: pipeline_parallel.SMOKE_SCHEDULES]) if preset == "smoke" else SCHEDULES.keys()
        )
        assert cases[0]["op"] == "1f1b"
        assert len({suite.case(case).id for case in cases}) == len(cases)
        for case in cases:
            assert all(case[name] in choices for name, choices in suite.choices.items())
            assert SCHEDULES[str(case["op"])].objection(world_size, int(case["num_microbatches"])) is None
            assert int(case["num_layers"]) % (2 * world_size) == 0
    assert len(suite.cases(cpu_machine(2, preset="smoke"))) == pipeline_parallel.SMOKE_SCHEDULES
    assert len(suite.cases(cpu_machine(2, preset="standard"))) == 12


def test_memory_by_hand() -> None:
    params: Params = {
        **pipeline_parallel.DEFAULTS,
        "op": "gpipe",
        "hidden": 4,
        "num_heads": 2,
        "num_layers": 4,
        "sequence": 3,
        "num_microbatches": 2,
    }
    # 4 layers of 12 x 4^2 weights and 2 norms of 4: half of them with their gradients; 24 numbers in the
    # batch, the target, the outputs twice and two receive buffers; 17 a token and hidden unit for 2 layers.
    assert pipeline_parallel.memory(params, cpu_machine(2)) == 4 * (800 + 6 * 24 + 17 * 24 * 2)
    # A second stage a rank has buffers of its own.
    params["op"] = "looped_bfs"
    assert pipeline_parallel.memory(params, cpu_machine(2)) == 4 * (800 + 8 * 24 + 17 * 24 * 2)
