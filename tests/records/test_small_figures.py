"""Small answers about rows and metrics, each at its edge."""

from __future__ import annotations

import pytest

from bench.records import metrics, samples


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
