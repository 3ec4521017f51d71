"""Variances of few replicates, moderated: shrunk towards those of like cases, as far as these are alike.

With three launches per side a case's own variance has 4 degrees of freedom and is known within a factor of several.
Cases that are measured together tell how large variances usually are, and how much they differ from case to case: the
less they differ, the more weight that prior gets. Source: G. K. Smyth, "Linear models and empirical Bayes methods for
assessing differential expression in microarray experiments", Stat. Appl. Genet. Mol. Biol. 3 (2004), sections 4, 6.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.stats.distributions import digamma, trigamma, trigamma_inverse

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_CASES = 8
"""Fewest like cases; with fewer a prior is as badly known as the variances that it is to improve."""


class Prior(NamedTuple):
    """Variances s0^2 d0 / chi^2(d0): a scaled inverse chi-square. No degrees: nothing is known beforehand."""

    variance: float
    degrees: float
    """Infinity: all cases have the same variance."""
    pooled_degrees: float
    """Sum of all cases' own: no moderated variance is known better than all of them together."""


NO_PRIOR = Prior(0.0, 0.0, math.inf)


class ModeratedVariances(NamedTuple):
    variances: NDArray[np.float64]
    degrees: NDArray[np.float64]


def moderate_by_kind(kinds: Sequence[str], variances: ArrayLike, degrees: ArrayLike) -> ModeratedVariances:
    """`moderate` within each kind of case, if there are enough of it; all the others are taken together."""
    before, free = np.asarray(variances, dtype=float), np.asarray(degrees, dtype=float)
    counts = Counter(kinds)
    groups: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        groups.setdefault(kind if counts[kind] >= MIN_CASES else "", []).append(index)
    moderated = ModeratedVariances(before.copy(), free.copy())
    for indices in groups.values():
        moderated.variances[indices], moderated.degrees[indices] = moderate(before[indices], free[indices])
    return moderated


def moderate(variances: ArrayLike, degrees: ArrayLike) -> ModeratedVariances:
    """Every case's variance and its degrees of freedom, shrunk towards the prior that all of them give.

    [case] each. A variance is only ever raised: a case whose launches were seen to differ more than the others' keeps
    that. limma lowers it, too. Here that made alarms of disturbed cases (0.6% of unchanged ones in place of 0.2%, see
    results/evidence), since launches are disturbed in spells. A case without degrees of its own has variance NaN. A
    variance of 0 (a clock too coarse for the case) says nothing of the others and is left as it is.
    """
    before, free = np.asarray(variances, dtype=float), np.asarray(degrees, dtype=float)
    is_usable = (free > 0) & (before > 0)
    prior = fit_prior(before[is_usable], free[is_usable])
    if prior.degrees == 0:
        return ModeratedVariances(before, free)
    if math.isinf(prior.degrees):
        shrunk = np.full_like(before, prior.variance)
    else:
        shrunk = (prior.degrees * prior.variance + free * before) / (prior.degrees + free)
    total = np.minimum(free + prior.degrees, prior.pooled_degrees)
    return ModeratedVariances(np.where(is_usable, np.maximum(shrunk, before), before), np.where(is_usable, total, free))


def fit_prior(variances: ArrayLike, degrees: ArrayLike) -> Prior:
    """The prior's variance and degrees from the mean and the spread of the variances' logarithms.

    log s^2 has mean log s0^2 + psi(d/2) - log(d/2) - psi(d0/2) + log(d0/2) and variance psi'(d/2) + psi'(d0/2).
    """
    observed, free = np.asarray(variances, dtype=float), np.asarray(degrees, dtype=float)
    if observed.size < MIN_CASES:
        return NO_PRIOR
    several, which = np.unique(free, return_inverse=True)  # thousands of cases have as many launches each
    logs = np.log(observed) - np.array([digamma(d / 2) - math.log(d / 2) for d in several.tolist()])[which]
    centre = float(logs.mean())
    chance = np.array([trigamma(d / 2) for d in several.tolist()])[which]
    beyond = float(logs.var(ddof=1)) - float(chance.mean())
    pooled = float(free.sum())
    if beyond <= 0:  # they differ by no more than chance makes equal variances differ
        return Prior(math.exp(centre), math.inf, pooled)
    half = trigamma_inverse(beyond)
    return Prior(math.exp(centre + digamma(half) - math.log(half)), 2 * half, pooled)
