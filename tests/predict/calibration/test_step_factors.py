"""Factors from measured training steps, and a rank's own computation, on steps with known answers and on real files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.parallelism.layout import Job
from bench.parallelism.shapes import find_model
from bench.predict.calibration import measured_rates
from bench.predict.calibration.step_factors import MeasuredStep, factors
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.rates import device
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import frozen
from tests import ROOT

H100 = device.find("H100")
JOB = Job(replace(find_model("llama3-8b"), sequence=128), 8, "fp32")
EVIDENCE = ROOT / "results" / "evidence" / "predict"


def step(microbatch: int, seconds: float, ranks: int = 1) -> MeasuredStep:
    return MeasuredStep(f"{microbatch}", ranks, JOB, TrainingStrategy(dp=ranks, microbatch=microbatch), seconds)


def predict(step: MeasuredStep, factor: BySize | None) -> Any:
    """0.5 s of work, 0.1 s of transfers."""
    times = 1.0 if factor is None else factor.at(step.microbatch_tokens)
    parts = {"compute_seconds": 0.4 * times, "host_seconds": 0.0, "optimizer_seconds": 0.1 * times, "data_seconds": 0.1}
    return SimpleNamespace(step_seconds=sum(parts.values()), parts=parts)


def test_small_microbatches_have_a_factor_of_their_own() -> None:
    found = factors([step(8, 0.7), step(8, 0.6), step(8, 0.65), step(1, 0.85)], predict)
    assert found is not None
    # So that 0.1 s of transfers and 0.5 s of work, times the factor, are what was measured; of three the median.
    assert dict(zip(found.sizes, found.values, strict=True)) == pytest.approx({128.0: 1.5, 1024.0: 1.1})
    assert 1.1 < found.at(500) < 1.5


def test_steps_of_the_fewest_ranks_say_it() -> None:
    found = factors([step(8, 0.6), step(8, 9.0, ranks=2)], predict)
    assert found is not None
    assert found.values == pytest.approx((1.0,))
    assert factors([], predict) is None


def test_a_slow_link_is_not_taken_for_slow_work() -> None:
    """Of nine seconds on two ranks one was a rank's own work; on one rank there is no link."""
    slow = replace(step(8, 9.0, ranks=2), own_seconds=1.0)
    found = factors([slow], predict)
    assert found is not None
    assert found.values == pytest.approx((2.0,))
    alone = factors([replace(step(8, 1.1), own_seconds=0.7)], predict)
    assert alone is not None
    assert alone.values == pytest.approx((2.0,))


def test_the_factor_makes_the_prediction_the_measurement_where_a_host_launches_kernels() -> None:
    """Which it waits for the less, the slower the device is: no ratio of sums would be right."""
    job = Job(find_model("gpt2-1.5b"), 8)
    strategy = TrainingStrategy(microbatch=1)

    def made(_: MeasuredStep, factor: BySize | None) -> Prediction:
        return Predictor(job, H100, frozen(), "nemo", jitter_share=0.0, slowdown=factor).predict(strategy)

    whole = made(step(1, 1.0), None)
    assert whole.parts["host_seconds"] > 0.0
    for times in (0.8, 1.5, 3.0):
        truth = made(step(1, 1.0), BySize((1024.0,), (times,))).step_seconds
        found = factors([MeasuredStep("planted", 1, job, strategy, truth)], made)
        assert made(step(1, 1.0), found).step_seconds == pytest.approx(truth, rel=1e-6)


def test_microbatches_are_of_one_rank() -> None:
    assert step(4, 1.0).microbatch_tokens == 4 * 128
    assert replace(step(4, 1.0), strategy=TrainingStrategy(cp=2, microbatch=4)).microbatch_tokens == 2 * 128
    assert replace(step(4, 1.0), strategy=TrainingStrategy(tp=4, microbatch=4)).microbatch_tokens == 128


def test_own_computation_is_what_traced_calls_did_not_send() -> None:
    """Links of 200 Mbit/s: of a sharded step most is transfers, of a step on one rank nothing."""
    shares = {}
    for ranks in (1, 2):
        found = measured_rates.read(
            [str(path) for path in sorted((EVIDENCE / "lab" / "run1" / f"r{ranks}").glob("*.jsonl*"))]
        )
        for each in found.steps:
            if each.strategy.pp > 1:  # where it waits for its neighbours there is no span
                assert each.own_seconds is None
                continue
            assert each.own_seconds is not None
            shares[ranks, each.strategy.zero, each.strategy.tp] = each.own_seconds / each.seconds
    assert shares[1, 0, 1] > 0.9
    assert shares[2, 3, 1] < 0.35
    assert shares[2, 0, 2] < 0.45
