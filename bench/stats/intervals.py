"""Medians, intervals and quantiles: pure functions of arrays, with numpy alone.

Nothing is assumed of how times are distributed within a launch (Hoefler and Belli, "Scientific Benchmarking
of Parallel Computing Systems", SC15, rules 5 and 6). Times are skewed and often have several modes, so
medians and order statistics are used where means and normal intervals would mislead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.stats.distributions import t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
BETWEEN_RUNS = 0.4
"""Variance between runs of unchanged code, beyond what their launches explain, over that between the launches of a run.

Launches of a run lie within minutes, and see no slower drift. Measured, not known: 0.1 to 0.5 for four kinds of work on
one machine; with it an interval held the median of other runs in 95.6% of cases, without it in 89% (results/evidence).
If runs do not drift the interval is wider than it need be."""


FEW_SAMPLES = 50
"""Samples up to which sorting gives the median faster than numpy."""


class Interval(NamedTuple):
    low: float
    high: float


def median(samples: ArrayLike) -> float:
    """The median of at least one sample."""
    values = np.asarray(samples)
    middle = values.size // 2
    # By hand, since numpy's own takes ten times as long for tens of samples, and sorting is quicker still for a few.
    if values.size <= FEW_SAMPLES:
        ordered = sorted(values.tolist())
        return float(ordered[middle]) if values.size % 2 else (float(ordered[middle - 1]) + float(ordered[middle])) / 2
    if values.size % 2:
        return float(np.partition(values, middle)[middle])
    pair = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return (float(pair[0]) + float(pair[1])) / 2


def quantiles(samples: ArrayLike, shares: Sequence[float]) -> list[float]:
    """The samples' quantiles at `shares` (0 to 1), interpolated linearly between order statistics."""
    return [float(q) for q in np.quantile(np.asarray(samples, dtype=float), shares)]


def ordered_quantile(ordered: NDArray[np.float64], share: float) -> float:
    """The quantile of samples in ascending order, as `quantiles` gives it: a fraction of its time."""
    place = share * (ordered.size - 1)
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
    part = place - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def median_interval(samples: ArrayLike, confidence: float = CONFIDENCE) -> Interval | None:
    """The nonparametric interval of the median: the k-th smallest and k-th largest sample.

    k is the largest with coverage 1 - 2 P(Binomial(n, 1/2) < k) >= confidence. It holds for independent
    samples of any distribution; None if the samples are too few for any k (fewer than 6 at 95%). Source:
    W. J. Conover, "Practical Nonparametric Statistics", 3rd edition, section 3.2; J.-Y. Le Boudec,
    "Performance Evaluation of Computer and Communication Systems", theorem 2.1.
    """
    values = np.asarray(samples, dtype=float)
    k = order_statistic(values.size, confidence)
    if k is None:
        return None
    split = np.partition(values, (k - 1, values.size - k))
    return Interval(float(split[k - 1]), float(split[values.size - k]))


@cache
def order_statistic(num_samples: int, confidence: float = CONFIDENCE) -> int | None:
    """The k of `median_interval`, counted from 1; None if there is none."""
    tail = (1 - confidence) / 2
    # Within two of the normal approximation for every n; from there exact steps.
    k = max(1, int(num_samples / 2 - NormalDist().inv_cdf(1 - tail) * math.sqrt(num_samples) / 2) + 2)
    while k > 0 and _half_binomial_cdf(k - 1, num_samples) > tail:
        k -= 1
    return k or None


def _half_binomial_cdf(k: int, n: int) -> float:
    """P(Binomial(n, 1/2) <= k) for k up to about n / 2, summed from its largest term downwards."""
    if k >= n:
        return 1.0
    term = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    total = 0.0
    while k >= 0 and term > total * 1e-17:
        total += term
        term *= k / (n - k + 1)
        k -= 1
    return total


def half_width(samples: ArrayLike, num_blocks: int) -> float | None:
    """Half of the 95% t interval of the mean of block medians, relative to that mean.

    It decides when to stop sampling. The samples are cut into `num_blocks` blocks of neighbours, so that a
    drift or a slow spell widens it (batch means: A. M. Law, "Simulation Modeling and Analysis", section
    9.5.3). It describes one launch, and is not the error of a result. None if there are fewer samples than
    blocks, fewer than two blocks, or all is 0.
    """
    values = np.asarray(samples, dtype=float)
    if num_blocks < 2 or values.size < num_blocks:
        return None
    medians = np.array([median(block) for block in np.array_split(values, num_blocks)])
    mean = float(medians.mean())
    if mean <= 0:
        return None
    error = float(medians.std(ddof=1)) / math.sqrt(num_blocks)
    return t_quantile(0.5 + CONFIDENCE / 2, num_blocks - 1) * error / mean


def log_t_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, spread: tuple[float, float] | None = None
) -> Interval | None:
    """The interval of the mean of the logarithms of a run's launches, as times: exp(mean(log x) +- `log_half_width`).

    Of launch medians: launches differ by factors, so their logarithms are nearer to normal than they are. `spread` is
    the variance of one of the logarithms and its degrees of freedom, if similar cases show it better than the values.
    None for fewer than two values, or if one is not above 0.
    """
    given = list(values)
    if len(given) < 2 or not all(value > 0 for value in given):
        return None
    centre, squares = centre_and_squares([math.log(value) for value in given])
    free = len(given) - 1
    variance, degrees = (squares / free, float(free)) if spread is None else spread
    half = log_half_width(variance, degrees, len(given), confidence)
    return Interval(math.exp(centre - half), math.exp(centre + half))


def log_half_width(variance: float, degrees: float, count: int, confidence: float = CONFIDENCE) -> float:
    """Half of the interval of a mean of this many logarithms, of which one has the variance within its run.

    Student's t times sqrt(s^2 (1 / n + BETWEEN_RUNS)): the mean over launches of one run, and what runs differ by.
    """
    return t_quantile(0.5 + confidence / 2, degrees) * math.sqrt(variance * (1 / count + BETWEEN_RUNS))


def centre_and_squares(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the sum of the squared distances from it, of at least one value.

    For a handful of launches: numpy takes ten times as long for few values, and a comparison has thousands of cases.
    """
    centre = math.fsum(values) / len(values)
    return centre, math.fsum((value - centre) ** 2 for value in values)


def excluded_share(num_faultless: int) -> float:
    """Share of calls, above which a fault that strikes by chance is excluded at 95% if `num_faultless` calls had none.

    1 - 0.05^(1/n), about 3/n: the rule of three (Hanley and Lippman-Hand 1983, JAMA 249(13)).
    """
    assert num_faultless > 0
    return 1.0 - math.pow(1.0 - CONFIDENCE, 1.0 / num_faultless)
