"""Robust score of one value against others: the distance from their median in the scale of their spread.

Median and Qn are right even if nearly half of the others are odd themselves. So several slow ones do not hide one
another, as they do behind a mean and a standard deviation (B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle
Outliers", ASQC 1993; P. J. Rousseeuw and C. Croux, "Alternatives to the Median Absolute Deviation", J. Am. Stat. Assoc.
88, 1993). Qn is taken rather than the median absolute deviation since it wastes less: 82% against 37% efficiency.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bench.stats.distributions import two_sided_p

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SIBLINGS = 4
"""Fewer have no spread from which an outlier could be distinguished."""
MANY = 100
"""Number of values above which one more or less changes neither median nor scale: none is left out."""

_QN = 2.21914
"""1 / (sqrt(2) x the 5/8 quantile of the normal): makes Qn estimate a standard deviation."""
_SMALL_QN = {2: 0.399, 3: 0.994, 4: 0.512, 5: 0.844, 6: 0.611, 7: 0.857, 8: 0.669, 9: 0.872}
"""Number of values -> what Qn is multiplied with to be free of bias (Rousseeuw and Croux 1993, section 4)."""
_NUM_OTHERS = (4, 6, 8, 10, 12, 16, 24, 32, 62, 98)
_DEGREES = (1.95, 3.3, 4.7, 6.1, 7.3, 10.3, 16.5, 22.5, 50.5, 80.0)
"""Number of others (an odd number as the even one below it) -> degrees of freedom of the score of a member left out, by
simulation: the t distribution whose tails from p = 1e-3 to 1e-5 are those of normal members."""
_EFFICIENCY = 0.82
"""Degrees of freedom per value of Qn if there are many, from its variance."""


def p_value(distance: float, scale: float, num_others: int, degrees: float) -> float:
    """Two-sided p value of a distance from the median of others, which has an error itself."""
    return two_sided_p(distance, scale * math.sqrt(1 + math.pi / (2 * num_others)), degrees)


def mean_distance_scale(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation from the mean distance, [row][value] -> [row]: 0 only if all values are the same.

    Iglewicz and Hoaglin's remedy if half of the values are one number, as with a clock too coarse for the case.
    """
    scales: NDArray[np.float64] = math.sqrt(math.pi / 2) * distances.mean(axis=-1)
    return scales


def degrees(num_others: int) -> float:
    """Degrees of freedom of a score whose scale is Qn of this many values."""
    if num_others >= _NUM_OTHERS[-1]:
        return _EFFICIENCY * num_others
    return float(np.interp(num_others - num_others % 2, _NUM_OTHERS, _DEGREES))


def qn(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rousseeuw and Croux's Qn of every row, [row][value] -> [row]: a standard deviation from the distances of pairs.

    Of the n (n - 1) / 2 distances the k-th smallest, k = h (h - 1) / 2 with h = n // 2 + 1; for at least 2 values.
    """
    num = values.shape[1]
    ordered = np.sort(values, axis=1)
    distances = np.concatenate([ordered[:, step:] - ordered[:, :-step] for step in range(1, num)], axis=1)
    half = num // 2 + 1
    k = half * (half - 1) // 2
    correction = _SMALL_QN.get(num, num / (num + 1.4) if num % 2 else num / (num + 3.8))
    smallest: NDArray[np.float64] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    scales: NDArray[np.float64] = _QN * correction * smallest
    return scales
