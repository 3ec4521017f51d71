"""Small answers about rows and metrics, each at its edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.records import metrics, rows, samples
from bench.records.file import load
from bench.records.lines.parts import VariantSamples
from tests.support.results import header, measurement, save


@pytest.mark.parametrize(
    ("num_samples", "expected"), [(None, False), (0, False), (1, True), (19, True), (20, False), (1000, False)]
)
def test_few_samples(num_samples: int | None, expected: bool) -> None:
    assert samples.has_few_samples({"num_samples": num_samples}) is expected
    assert samples.has_few_samples({}) is False


def test_a_share_is_nobody_s_own_and_a_rate_of_a_device_is_said_to_be() -> None:
    of_device = [
        metric for metric in metrics.METRICS.values() if metric.over_ranks in (metrics._MEAN, metrics._ONE_RANK)
    ]
    shares = [metric for metric in of_device if metric.unit == "%"]
    rates = [metric for metric in of_device if metric.unit != "%"]
    assert shares
    assert rates
    assert not [metric.name for metric in shares if metric.is_per_device or "per device" in metric.phrase(50.0)]
    assert all(metric.is_per_device and metric.phrase(1e9).endswith("per device") for metric in rates)


def test_times_of_a_rank_are_exact() -> None:
    found = samples.rank_times(VariantSamples(calls=2, nanoseconds=np.array([[2 * 10**9, 10**9, 4 * 10**9]])))
    assert found == [(3, (1.0, 0.5, 2.0))]


def test_a_case_without_an_operation_has_none_among_its_parameters(tmp_path: Path) -> None:
    cases = {"sum/one": {"size": 4}, "sum/two": {"op": "x"}}
    lines = [measurement(case) | {"params": params} for case, params in cases.items()]
    groups = rows.case_groups([load(save(tmp_path / "a.jsonl", header(), *lines))])
    assert {case: rows.group_row(group)["params"] for case, group in groups.items()} == cases
