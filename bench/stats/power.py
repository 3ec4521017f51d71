"""Power of paired comparisons: the pairs of launches that it takes to find a change of a given size.

For each case the standard deviation of one pair's difference of logarithms is taken as known. The power of Student's
t is that of the noncentral t. It is integrated over the distribution of the observed variance: the trapezoid on a
logarithmic scale is right within 0.0001, and the same nodes give the probability of the verdict `same`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench.stats import intervals
from bench.stats.distributions import t_quantile

POWER = 0.8
"""Mean power over the cases at which a number of pairs is enough."""
SAME_SHARE = 1 / 3
"""Mean probability of the verdict `same` for unchanged cases, at which a number of pairs is enough."""
LOW_POWER = 0.5
"""Power of a case below which its change is rather missed than found."""
FEWEST_PAIRS, MOST_PAIRS = 8, 60
"""Pairs to plan: fewer know their own spread too badly, and end where it looks small by chance."""
CHANGED_SHARE = 0.1
"""Share of the cases, at least one, that a change is taken to be in."""
LARGEST_SHIFT = math.log(10)
NUM_NODES = 60


def discovery_level(num_cases: int, false_discoveries: float = 1 - intervals.CONFIDENCE) -> float:
    """The p value that a changed case has to reach among this many, if a tenth of them, at least one, is changed.

    Benjamini and Hochberg's procedure rejects p values up to q R / m, R being the number of rejected ones. With r true
    rejections and m0 unchanged cases R is r + m0 times the level, so the level is q r / (m - q m0). Source: S.-H. Jung,
    "Sample size for FDR-control in microarray data analysis", Bioinformatics 21 (2005) 3097.
    """
    changed = max(1.0, CHANGED_SHARE * num_cases)
    found = max(1.0, POWER * changed)
    return min(
        false_discoveries, false_discoveries * found / (num_cases - false_discoveries * max(0.0, num_cases - changed))
    )


def change_power(pairs: int, deviation: float, shift: float, level: float) -> float:
    """Probability that a paired, two-sided t-test rejects at the level, if the logarithms differ by the shift."""
    if deviation == 0:
        return float(shift != 0)
    centre = abs(shift) * math.sqrt(pairs) / deviation
    limit = t_quantile(1 - level / 2, pairs - 1)
    return math.fsum(
        weight * (_normal_cdf(centre - limit * ratio) + _normal_cdf(-centre - limit * ratio))
        for ratio, weight in _deviation_ratios(pairs - 1)
    )


def same_probability(pairs: int, deviation: float, threshold: float, confidence: float = intervals.CONFIDENCE) -> float:
    """Probability that the whole interval of an unchanged case lies within the threshold."""
    if deviation == 0:
        return 1.0
    # As a faster change the threshold is further away in logarithms: the nearer end decides, for both.
    room = math.log1p(threshold) * math.sqrt(pairs) / deviation
    limit = t_quantile(0.5 + confidence / 2, pairs - 1)
    return math.fsum(
        weight * (2 * _normal_cdf(room - limit * ratio) - 1)
        for ratio, weight in _deviation_ratios(pairs - 1)
        if room > limit * ratio
    )


@cache
def _deviation_ratios(degrees: int) -> tuple[tuple[float, float], ...]:
    """Ratios of an observed standard deviation to the true one, sqrt(chi^2 / degrees), with their probabilities."""
    # The logarithm of chi^2 has about this centre and spread; seven spreads, and more on the long lower side.
    spread = math.sqrt(2 / degrees) * (1 + 1 / degrees)
    low, high = -12 * spread, 6 * spread
    step = (high - low) / (NUM_NODES - 1)
    logs = [low + step * node for node in range(NUM_NODES)]
    heights = [degrees / 2 * (log - math.exp(log) + 1) for log in logs]
    masses = [math.exp(height) for height in heights]
    total = math.fsum(masses)
    return tuple((math.exp(log / 2), mass / total) for log, mass in zip(logs, masses, strict=True) if mass > 0)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@dataclass(frozen=True)
class PairPlan:
    """Pairs that find a change of a size, by the spread of the cases."""

    pairs: int
    """Pairs to make: those that find the change, and call unchanged cases the same if that is in reach."""
    finds: bool
    """False if not even the most pairs find the change."""
    shows_same: bool
    """False if fewer than a third of unchanged cases would be called the same."""
    smallest_shift: float | None
    """The smallest shift that this number of pairs finds; None: none below a factor of ten."""
    hidden: tuple[int, ...]
    """Numbers of the cases in which the change is rather missed than found."""


def plan_pairs(
    deviations: Sequence[float],
    shift: float,
    threshold: float,
    fewest: int = FEWEST_PAIRS,
    most: int = MOST_PAIRS,
) -> PairPlan:
    """The fewest pairs at which the mean power over the cases is 80%, and unchanged cases are the same in a third.

    `deviations`: of one pair's difference of logarithms, for at least one case. If only the latter is out of reach,
    the pairs are those that find the change; if that is out of reach, the most.
    """
    assert deviations
    fewest = min(fewest, most)
    level = discovery_level(len(deviations))

    def finds(pairs: int) -> bool:
        return _mean([change_power(pairs, deviation, shift, level) for deviation in deviations]) >= POWER

    def shows_same(pairs: int) -> bool:
        return _mean([same_probability(pairs, deviation, threshold) for deviation in deviations]) >= SAME_SHARE

    sizes = range(fewest, most + 1)
    finding, showing = (bisect.bisect_left(sizes, True, key=enough) + fewest for enough in (finds, shows_same))
    pairs = min(most, finding if showing > most else max(finding, showing))
    powers = [change_power(pairs, deviation, shift, level) for deviation in deviations]
    return PairPlan(
        pairs=pairs,
        finds=finding <= most,
        shows_same=showing <= most,
        smallest_shift=smallest_shift(deviations, pairs),
        hidden=tuple(number for number, power in enumerate(powers) if power < LOW_POWER),
    )


def smallest_shift(deviations: Sequence[float], pairs: int) -> float | None:
    """The smallest shift that this number of pairs finds with a mean power of 80%; None: none below a factor of ten."""
    level = discovery_level(len(deviations))

    def finds(shift: float) -> bool:
        return _mean([change_power(pairs, deviation, shift, level) for deviation in deviations]) >= POWER

    if not finds(LARGEST_SHIFT):
        return None
    low, high = 0.0, LARGEST_SHIFT
    while high - low > 1e-3 * high and high > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if finds(middle) else (middle, high)
    return high


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
