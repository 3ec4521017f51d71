"""What a way of splitting costs: planted costs are found, and paid by other splits as often as they have them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.parallelism.layout import Job
from bench.parallelism.shapes import find_model
from bench.predict.calibration.overheads import fit_overheads
from bench.predict.calibration.step_factors import MeasuredStep
from bench.predict.model.overheads import WAYS, Overheads, RankWork
from bench.predict.model.prediction import TrainingStrategy

JOB = Job(replace(find_model("llama3-8b"), sequence=128), 8, "fp32")
LAYERS = JOB.shape.num_layers
MILLIONS = 8
"""Of parameters of the busiest rank."""
PLANTED = {"tensor": 2e-3, "sharded data": 1e-3, "replicated data": 0.05, "pipeline": 3e-3}
UNITS = {"tensor": 2 * LAYERS, "sharded data": MILLIONS, "replicated data": MILLIONS, "pipeline": 4 + 1}
SPLITS = {
    "plain": TrainingStrategy(microbatch=8),
    "tensor": TrainingStrategy(tp=2, microbatch=4),
    "sharded data": TrainingStrategy(dp=2, zero=3, microbatch=4),
    "replicated data": TrainingStrategy(dp=2, microbatch=4),
    "pipeline": TrainingStrategy(pp=2, microbatch=2),
}


def step(name: str, more: float, own: float | None = None) -> MeasuredStep:
    strategy = SPLITS[name]
    return MeasuredStep(name, strategy.world_size, JOB, strategy, 1.0 + more, own)


def predict(_: MeasuredStep) -> Any:
    """A second, of which 0.6 are a rank's own work."""
    parts = {"compute_seconds": 0.5, "host_seconds": 0.0, "optimizer_seconds": 0.1, "data_seconds": 0.4}
    return SimpleNamespace(step_seconds=1.0, parts=parts)


def work(step: MeasuredStep) -> RankWork:
    layers, strategy = JOB.shape.num_layers // step.strategy.pp, step.strategy
    return RankWork(layers, MILLIONS * 1e6, JOB.global_batch // (strategy.dp * strategy.microbatch))


def test_planted_costs_are_found_a_unit() -> None:
    steps = [step("plain", 0.0)] + [step(name, PLANTED[name] * count) for name, count in UNITS.items()]
    assert fit_overheads(steps, predict, work).seconds_of == pytest.approx(PLANTED)


def test_where_calls_were_traced_a_slow_link_is_no_librarys_cost() -> None:
    """Of half a second more a hundredth is the rank's own computation; a pipeline's waiting is in no computation."""
    for name, found in (("sharded data", 0.01), ("tensor", 0.01), ("pipeline", 0.5)):
        steps = [step("plain", 0.0), step(name, 0.5, 0.61)]
        assert fit_overheads(steps, predict, work).seconds_of[name] == pytest.approx(found / UNITS[name])


def test_without_a_plain_step_and_below_zero_there_is_none() -> None:
    assert fit_overheads([step("tensor", 1.0)], predict, work) == Overheads()
    assert fit_overheads([step("plain", 0.0), step("tensor", -0.5)], predict, work).seconds_of == {"tensor": 0.0}


def test_a_split_in_several_ways_pays_each() -> None:
    more, eight = Overheads(PLANTED), RankWork(4, 8e6, 8)
    assert more.seconds(TrainingStrategy(), eight) == 0.0
    assert more.seconds(TrainingStrategy(tp=2, pp=2, dp=2), eight) == pytest.approx(32 * 2e-3 + 8 * 1e-3 + 9 * 3e-3)
    assert more.seconds(TrainingStrategy(dp=4), eight) == pytest.approx(8 * 0.05)
    assert more.seconds(TrainingStrategy(dp=4, zero=3), eight) == pytest.approx(64 * 1e-3)
    # In a pipeline they are gathered once.
    assert more.seconds(TrainingStrategy(pp=2, dp=2, zero=3), eight) == pytest.approx(8 * 1e-3 + 9 * 3e-3)
    assert more.seconds(TrainingStrategy(tp=2, dp=2, zero=3), RankWork(4, 8e6, 1)) == pytest.approx(4 * 2e-3 + 8 * 1e-3)
    assert more.on(0.5).seconds(TrainingStrategy(tp=2), RankWork(1, 1e6, 1)) == pytest.approx(4e-3)
    assert {way.name for way in WAYS} == set(PLANTED)
