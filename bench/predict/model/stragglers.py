"""The slowest of many ranks: a step waits for the maximum of its ranks' times, not for their mean.

With normal jitter of standard deviation s (a share of the step), the expected maximum of n ranks is s times the
expected maximum of n standard normal variables. It is taken by Blom's approximation (Blom 1958, "Statistical Estimates
and Transformed Beta-Variables"): the quantile at (n - 0.375) / (n + 0.25), a little less than sqrt(2 ln n).
"""

from __future__ import annotations

from statistics import NormalDist


def expected_maximum_share(num_ranks: int, jitter_share: float) -> float:
    """Expected maximum over mean, minus one, of this many ranks with normal jitter."""
    if num_ranks < 2 or jitter_share <= 0.0:
        return 0.0
    return jitter_share * NormalDist().inv_cdf((num_ranks - 0.375) / (num_ranks + 0.25))
