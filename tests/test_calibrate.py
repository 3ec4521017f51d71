"""Factors from measured training steps, and a rank's own computation, on steps with known answers and on real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.predict import measured
from bench.predict.calibrate import MeasuredStep, factors
from bench.predict.job import Job, Split
from bench.predict.shapes import find

JOB = Job(find("llama3-8b"), 128, 8, "fp32")
EVIDENCE = Path(__file__).parents[1] / "results" / "evidence" / "predict"


def step(microbatch: int, seconds: float, ranks: int = 1) -> MeasuredStep:
    return MeasuredStep(f"{microbatch}", ranks, JOB, Split(dp=ranks, microbatch=microbatch), seconds)


def predict(_: MeasuredStep) -> Any:
    """0.5 s of work, 0.1 s of transfers."""
    parts = {"compute_seconds": 0.4, "host_seconds": 0.0, "optimizer_seconds": 0.1, "data_seconds": 0.1}
    return SimpleNamespace(step_seconds=0.6, parts=parts)


def test_small_microbatches_have_a_factor_of_their_own() -> None:
    found = factors([step(8, 0.7), step(8, 0.6), step(8, 0.65), step(1, 0.85)], predict)
    assert found is not None
    # (measured - 0.1) / 0.5, of three the median, by tokens.
    assert dict(zip(found.sizes, found.values, strict=True)) == pytest.approx({128.0: 1.5, 1024.0: 1.1})
    assert 1.1 < found.at(500) < 1.5


def test_steps_of_the_fewest_ranks_say_it() -> None:
    found = factors([step(8, 0.6), step(8, 9.0, ranks=2)], predict)
    assert found is not None
    assert found.values == pytest.approx((1.0,))
    assert factors([], predict) is None


def test_microbatches_are_of_one_rank() -> None:
    assert step(4, 1.0).microbatch_tokens == 4 * 128
    assert replace(step(4, 1.0), split=Split(cp=2, microbatch=4)).microbatch_tokens == 2 * 128
    assert replace(step(4, 1.0), split=Split(tp=4, microbatch=4)).microbatch_tokens == 128


def test_own_computation_is_what_traced_calls_did_not_send() -> None:
    """Links of 200 Mbit/s: of a sharded step most is transfers, of a step on one rank nothing."""
    shares = {}
    for ranks in (1, 2):
        found = measured.read([str(path) for path in sorted((EVIDENCE / "lab" / f"r{ranks}").glob("*.jsonl*"))])
        for each in found.steps:
            assert each.own_seconds is not None
            shares[ranks, each.split.zero, each.split.tp] = each.own_seconds / each.seconds
    assert shares[1, 0, 1] > 0.9
    assert shares[2, 3, 1] < 0.35
    assert shares[2, 0, 2] < 0.45
