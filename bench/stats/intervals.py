"""Medians, intervals and quantiles: pure functions of arrays, with numpy alone.

Nothing is assumed of how times are distributed within a launch (Hoefler and Belli, "Scientific Benchmarking
of Parallel Computing Systems", SC15, rules 5 and 6): times are skewed and often have several modes, so
medians and order statistics stand where means and normal intervals would mislead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
BETWEEN_RUNS = 0.4
"""Variance between runs of unchanged code, beyond what their launches explain, over that between the launches of a run.

Launches of a run lie within minutes, and see no slower drift. Measured, not known: 0.1 to 0.5 for four kinds of work on
one machine; with it an interval held the median of other runs in 95.6% of cases, without it in 89% (results/evidence).
Where runs do not drift the interval is wider than it need be."""


class Interval(NamedTuple):
    low: float
    high: float


def median(samples: ArrayLike) -> float:
    """The median of at least one sample."""
    values = np.asarray(samples)
    middle = values.size // 2
    # By hand, since numpy's own takes ten times as long for tens of samples.
    if values.size % 2:
        return float(np.partition(values, middle)[middle])
    pair = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return (float(pair[0]) + float(pair[1])) / 2


def quantiles(samples: ArrayLike, shares: Sequence[float]) -> list[float]:
    """The samples' quantiles at `shares` (0 to 1), interpolated linearly between order statistics."""
    return [float(q) for q in np.quantile(np.asarray(samples, dtype=float), shares)]


def median_interval(samples: ArrayLike, confidence: float = CONFIDENCE) -> Interval | None:
    """The nonparametric interval of the median: the k-th smallest and k-th largest sample.

    k is the largest with coverage 1 - 2 P(Binomial(n, 1/2) < k) >= confidence. It holds for independent
    samples of any distribution; None where the samples are too few for any k (fewer than 6 at 95%). Source:
    W. J. Conover, "Practical Nonparametric Statistics", 3rd edition, section 3.2; J.-Y. Le Boudec,
    "Performance Evaluation of Computer and Communication Systems", theorem 2.1.
    """
    values = np.asarray(samples, dtype=float)
    k = order_statistic(values.size, confidence)
    if k is None:
        return None
    split = np.partition(values, (k - 1, values.size - k))
    return Interval(float(split[k - 1]), float(split[values.size - k]))


def order_statistic(num_samples: int, confidence: float = CONFIDENCE) -> int | None:
    """The k of `median_interval`, counted from 1; None where there is none."""
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
    9.5.3). It describes one launch, and is not the error of a result. None where there are fewer samples than
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
    the variance of one of the logarithms and its degrees of freedom, where like cases tell more of it than the values.
    None for fewer than two values, or where one is not above 0.
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
    """Half of the interval of a mean of so many logarithms, of which one has the variance within its run.

    Student's t times sqrt(s^2 (1 / n + BETWEEN_RUNS)): the mean over launches of one run, and what runs differ by.
    """
    return t_quantile(0.5 + confidence / 2, degrees) * math.sqrt(variance * (1 / count + BETWEEN_RUNS))


def centre_and_squares(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the sum of the squared distances from it, of at least one value.

    For a handful of launches: numpy takes ten times as long for so few, and a comparison has thousands of cases.
    """
    centre = math.fsum(values) / len(values)
    return centre, math.fsum((value - centre) ** 2 for value in values)


@cache
def t_quantile(share: float, degrees: float) -> float:
    """The quantile of Student's t for 0 < share < 1 and `degrees` of freedom above 0; infinity: the normal.

    Found by bisection on the distribution function, to about 1e-12 of its value.
    """
    assert 0 < share < 1
    assert degrees > 0
    if share < 0.5:
        return -t_quantile(1 - share, degrees)
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < share:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, degrees: float) -> float:
    """P(T <= t) for t >= 0: 1 - I_x(degrees/2, 1/2) / 2 with x = degrees / (degrees + t^2).

    Source: Abramowitz and Stegun, 26.7.1.
    """
    if math.isinf(degrees):
        return 0.5 * math.erfc(-t / math.sqrt(2))
    x = degrees / (degrees + t * t)
    return 1 - _incomplete_beta(degrees / 2, 0.5, x, t * t / (degrees + t * t)) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised I_x(a, b), with rest = 1 - x given exactly, by its continued fraction."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below
        return 1 - _incomplete_beta(b, a, rest, x)
    log_front = (
        a * math.log(x) + b * math.log(rest) - math.log(a) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    )
    return math.exp(log_front) / _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d1/(1 + d2/(1 + ...)) of DLMF 8.17.22, by Lentz's method."""
    value, upper, lower = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / (1 + d * lower)
        upper = 1 + d / upper
        value *= upper * lower
        if abs(upper * lower - 1) < 1e-15:
            break
    return value


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """p values adjusted for the false discovery rate: rejecting those <= q lets at most q of the rejected be false.

    It holds for independent tests and for positively dependent ones, such as cases that share their launches.
    Source: Benjamini and Hochberg, "Controlling the False Discovery Rate", J. R. Stat. Soc. B 57 (1995);
    Benjamini and Yekutieli, Ann. Stat. 29 (2001), theorem 1.2.
    """
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given, kind="stable")[::-1]
    scaled = given[order] * given.size / np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return adjusted
