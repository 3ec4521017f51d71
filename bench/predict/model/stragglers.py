"""The slowest of many ranks: a step waits for the maximum of its ranks' times, not for their mean.

With normal jitter of standard deviation s (a share of the step), the expected maximum of n ranks is s times the
expected maximum of n standard normal variables, here by Blom's approximation (Blom 1958, "Statistical Estimates and
Transformed Beta-Variables"): the quantile at (n - 0.375) / (n + 0.25), a little less than sqrt(2 ln n). Measured
jitter is drawn from instead: Monte Carlo of the maximum by its exact distribution, F(x)^n.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist


def expected_maximum_share(num_ranks: int, jitter_share: float) -> float:
    """Expected maximum over mean, less one, of so many ranks with normal jitter."""
    if num_ranks < 2 or jitter_share <= 0.0:
        return 0.0
    return jitter_share * NormalDist().inv_cdf((num_ranks - 0.375) / (num_ranks + 0.25))


def maximum_of_measured(seconds: Sequence[float], num_ranks: int) -> float:
    """Expected maximum of `num_ranks` draws from measured times: exact, since P(max <= x) = F(x)^n.

    It cannot exceed the largest time that was seen: with many more ranks than samples it is a lower bound.
    Raises ValueError without a time.
    """
    if not seconds:
        raise ValueError("no measured times to draw from")
    ordered = sorted(seconds)
    total, below = 0.0, 0.0
    for place, value in enumerate(ordered, start=1):
        reached = (place / len(ordered)) ** num_ranks
        total += value * (reached - below)
        below = reached
    return total
