"""Drift and two modes: signs that the samples of one launch are not of one kind.

Both look at seconds of the slowest rank in the order taken, and both are made to keep silent if chance would do: a
footnote that cries wolf is not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.stats import intervals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_SAMPLES = 20
"""Fewer say nothing of drift or modes."""

LARGE_DRIFT = 0.05
DRIFT_BLOCKS = 20
CRITICAL_Z = 3.29
"""Quantile of a standard normal |Z| that 1 in 1,000 exceeds."""

MIN_APART = 1.2
"""Two modes whose medians differ by less are of no concern to a reader."""
MIN_MODE_SHARE = 0.1
"""A rarer mode is a tail."""
MAX_CLOCK_STEP = 0.5
DIP_POINTS = 200
_LEVELS = 0.05 * 1.1 ** np.arange(60)
CRITICAL_DIP = 0.57
"""Critical value of sqrt(n) x dip. Uniform samples, the hardest of a single peak, are above it once in 100: 0.53, 0.55,
0.56 and 0.58 were the quantiles of 6,000 simulated for n = 20, 40, 100 and 200; skewed ones once in over 1,000."""


@dataclass(frozen=True)
class Drift:
    """Times changed in one direction during the launch."""

    change: float
    """Median of the last third over that of the first, minus 1: above 0 it became slower."""
    z: float
    """Statistic of the Mann-Kendall test; below 0 for a fall."""


@dataclass(frozen=True)
class Modes:
    """Samples of two kinds."""

    fast_seconds: float
    """Median of the fast ones."""
    slow_seconds: float
    slow_share: float
    """Share of all samples."""


def drift(seconds: ArrayLike) -> Drift | None:
    """The drift of a launch's samples; None if there is none above 5% that is beyond chance, or too few samples.

    The samples are cut into (at most) 20 blocks of neighbours, since neighbours are alike, and the Mann-Kendall test
    is made on the blocks' medians: S = sum over i < j of sign(x_j - x_i), Z = (S -+ 1) / sqrt(n (n - 1) (2n + 5) / 18).
    Sources: H. B. Mann, "Nonparametric tests against trend", Econometrica 13, 1945; M. G. Kendall, "Rank Correlation
    Methods", 1975. Ties only make Z smaller than it would be with a correction.
    """
    values = np.asarray(seconds, dtype=float)
    if values.size < MIN_SAMPLES:
        return None
    third = values.size // 3
    first, last = intervals.median(values[:third]), intervals.median(values[-third:])
    if first <= 0 or abs(last / first - 1) <= LARGE_DRIFT:
        return None
    blocks = np.array([intervals.median(block) for block in np.array_split(values, DRIFT_BLOCKS)])
    z = mann_kendall(blocks)
    return Drift(last / first - 1, z) if abs(z) > CRITICAL_Z and (z > 0) == (last > first) else None


def mann_kendall(values: NDArray[np.float64]) -> float:
    """Z of the test against trend, for ten values or more."""
    n = values.size
    s = float(np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)].sum())
    return (s - math.copysign(1, s)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18) if s else 0.0


def modes(seconds: ArrayLike) -> Modes | None:
    """The two modes of a launch's samples; None if one kind explains them, or there are too few.

    Two modes are reported if all of three hold for the logarithms. The dip test says that no distribution
    with a single peak explains them. The better cut in two (least squares; the outer 2.5% on both sides
    moved in, so that no outlier is a mode) leaves at least 10% on each side. The two medians are 1.2x apart or more.
    The first alone finds differences too small to matter, the others alone split any wide single peak.
    """
    values = np.asarray(seconds, dtype=float)
    if values.size < MIN_SAMPLES or values.min() <= 0:
        return None
    ordered = np.sort(values)
    # Medians of two modes that far apart leave the middle 95% as wide.
    low, high = (ordered[round(share * (values.size - 1))] for share in (0.025, 0.975))
    if high < MIN_APART * low:
        return None
    cut = _best_cut(np.log(np.clip(ordered, low, high)))
    share = 1 - cut / values.size
    if not MIN_MODE_SHARE <= share <= 1 - MIN_MODE_SHARE:
        return None
    fast, slow = intervals.median(ordered[:cut]), intervals.median(ordered[cut:])
    if slow < MIN_APART * fast:
        return None
    # Order statistics at even steps keep the shape; the test then takes no longer for many samples.
    points = np.log(_spread_ties(ordered)[_even_steps(values.size, DIP_POINTS)])
    if math.sqrt(points.size) * dip(points) <= CRITICAL_DIP:
        return None
    return Modes(fast, slow, share)


def _best_cut(ordered: NDArray[np.float64]) -> int:
    """Size of the lower of two clusters of the ordered values, for the least squares within both.

    Most squares between them is the same: (sum of the lower part's deviations from the mean)^2 / (k (n - k)).
    """
    k = np.arange(1, ordered.size)
    sums = np.cumsum(ordered - ordered.mean())[:-1]
    return int(np.argmax(sums**2 / (k * (ordered.size - k)))) + 1


def _spread_ties(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal values spread evenly over the clock's step around them, taken to be the least difference of two values,
    and at most a share of the smallest: two lone values far apart are two modes of a fine clock.

    Else each tick of a coarse clock would be a peak.
    """
    values, counts = np.unique(ordered, return_counts=True)
    if values.size in (1, ordered.size):
        return ordered
    step = min(float(np.diff(values).min()), MAX_CLOCK_STEP * float(values[0]))
    number = np.arange(ordered.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return ordered + step * ((number + 0.5) / np.repeat(counts, counts) - 0.5)


def _even_steps(size: int, most: int) -> NDArray[np.int64]:
    count = min(size, most)
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def dip(ordered: NDArray[np.float64]) -> float:
    """Distance of values in ascending order from a single peak of whatever shape: from about 0.5/n to 0.25.

    This is Hartigan's dip as half the excess mass that a second peak explains (D. W. Mueller and G. Sawitzki, "Excess
    mass estimates and tests for multimodality", JASA 86, 1991; J. A. Hartigan and P. M. Hartigan, "The dip test of
    unimodality", Annals of Statistics 13, 1985). It is the most, over all levels l, of E2(l) - E1(l), where Em(l) is
    the largest sum over m disjoint intervals of (share of the values in it - l x its length). Here over a grid of
    levels from 0.05 to 15 times the mean density of the middle 95%, for which CRITICAL_DIP was simulated.
    """
    n = ordered.size
    low, high = (ordered[round(share * (n - 1))] for share in (0.025, 0.975))
    if high <= low:
        return 0.0
    level = (_LEVELS / (high - low))[:, None]
    # An interval from value i to value j weighs ends[j] - starts[i].
    starts = np.arange(n) / n - level * ordered
    ends = starts + 1 / n
    up_to = np.maximum.accumulate(ends - np.minimum.accumulate(starts, axis=1), axis=1)
    best_end = np.maximum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    from_on = np.maximum.accumulate((best_end - starts)[:, ::-1], axis=1)[:, ::-1]
    two = (up_to[:, :-1] + from_on[:, 1:]).max(axis=1)
    return float((two - up_to[:, -1]).max()) / 2
