"""What a way of splitting costs: planted costs are found, and paid by other splits as often as they have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.predict.calibrate import MeasuredStep
from bench.predict.job import Job, Split
from bench.predict.overheads import WAYS, Overheads, fitted
from bench.predict.shapes import find

JOB = Job(find("llama3-8b"), 128, 8, "fp32")
LAYERS = JOB.shape.layers
PLANTED = {"tensor": 2e-3, "sharded data": 1e-3, "replicated data": 0.05, "pipeline": 3e-3}
SPLITS = {
    "plain": Split(microbatch=8),
    "tensor": Split(tp=2, microbatch=4),
    "sharded data": Split(dp=2, zero=3, microbatch=4),
    "replicated data": Split(dp=2, microbatch=4),
    "pipeline": Split(pp=2, microbatch=2),
}


def step(name: str, more: float) -> MeasuredStep:
    split = SPLITS[name]
    return MeasuredStep(name, split.devices, JOB, split, 1.0 + more)


def predict(_: MeasuredStep) -> Any:
    return SimpleNamespace(step_seconds=1.0)


def test_planted_costs_are_found_a_unit() -> None:
    units = {"tensor": 2 * LAYERS, "sharded data": LAYERS, "replicated data": 1, "pipeline": 4 + 1}
    steps = [step("plain", 0.0)] + [step(name, PLANTED[name] * count) for name, count in units.items()]
    assert fitted(steps, predict).seconds_of == pytest.approx(PLANTED)


def test_without_a_plain_step_and_below_zero_there_is_none() -> None:
    assert fitted([step("tensor", 1.0)], predict) == Overheads()
    assert fitted([step("plain", 0.0), step("tensor", -0.5)], predict).seconds_of == {"tensor": 0.0}


def test_a_split_in_several_ways_pays_each() -> None:
    more = Overheads(PLANTED)
    assert more.seconds(Split(), 4, 8) == 0.0
    assert more.seconds(Split(tp=2, pp=2, dp=2), 4, 8) == pytest.approx(32 * 2e-3 + 4 * 1e-3 + 9 * 3e-3)
    assert more.seconds(Split(dp=4), 4, 8) == pytest.approx(0.05)
    assert more.seconds(Split(dp=4, zero=3), 4, 8) == pytest.approx(32 * 1e-3)
    assert more.seconds(Split(tp=2, dp=2, zero=3), 4, 1) == pytest.approx(4 * 3e-3)
    assert more.on(0.5).seconds(Split(tp=2), 1, 1) == pytest.approx(4e-3)
    assert {way.name for way in WAYS} == set(PLANTED)
