"""Verdicts: from the launches of two sides to a change with its interval, for all cases of a comparison at once.

Each case and side has one number per launch, and its logarithm is compared: launches differ by factors.
Unpaired sides are compared with each other by the difference of their means with the pooled variance; sides measured in
alternation by the mean of the pairs' differences. Either variance is moderated by the like cases
(`bench.stats.variance_prior`), and false discoveries are controlled over all cases that are judged together. A change
is new / base - 1.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bench.stats import intervals, variance_prior
from bench.stats.distributions import benjamini_hochberg, t_quantile, two_sided_p

Verdict = Literal["same", "slower", "faster", "unclear"]
VERDICTS: tuple[Verdict, ...] = ("slower", "faster", "unclear", "same")

THRESHOLD = 0.05
"""Changes smaller than this share are of no practical interest, unless asked for."""
MOST_LAUNCHES = 1000
"""More launches than anyone makes: what they would not settle, launches do not settle."""


class SideLaunches(NamedTuple):
    """One case on two sides."""

    base: Sequence[float]
    """Logarithms of one number per launch; paired: those of the same launches as in `new`, in the same order."""
    new: Sequence[float]
    kind: str
    """Cases of a kind are like each other in how their launches vary."""
    lower_is_better: bool = True
    spread: float | None = None
    """Interquartile range of the logarithms of a launch's samples, a mean over the launches; None: not known."""


@dataclass(frozen=True)
class JudgedChange:
    """One case's change and the verdict on it."""

    change: float
    change_low: float | None
    """Ends of the 95% interval, or of that of another confidence; None if there is no error bar."""
    change_high: float | None
    p_value: float | None
    adjusted_p: float | None
    verdict: Verdict
    reason: str | None
    """Reason of the verdict `unclear`."""
    launches_needed: int | None
    """About how many launches per side (or pairs) would settle it; None: not known, or more than anyone makes."""


class Estimate(NamedTuple):
    """Estimate of a change, in logarithms."""

    shift: float
    variance: float
    """Variance of one launch; NaN without degrees of freedom."""
    degrees: float
    scale: float
    """Factor from the variance of one launch to that of the shift."""

    def half(self, confidence: float = intervals.CONFIDENCE) -> float:
        """Half of the interval of the shift."""
        return t_quantile(0.5 + confidence / 2, self.degrees) * math.sqrt(self.variance * self.scale)

    def p_value(self) -> float | None:
        """Two-sided, of no change; None without degrees of freedom."""
        if self.degrees <= 0:
            return None
        return two_sided_p(self.shift, math.sqrt(self.variance * self.scale), self.degrees)


def estimate(cases: Sequence[SideLaunches], paired: bool = False) -> list[Estimate]:
    """The change of each case with its moderated variance; each needs at least one launch per side."""
    return _moderate(cases, [(_paired_estimate if paired else _unpaired_estimate)(case) for case in cases])


def judge(
    cases: Sequence[SideLaunches],
    estimates: Sequence[Estimate],
    threshold: float = THRESHOLD,
    paired: bool = False,
    confidence: float = intervals.CONFIDENCE,
) -> list[JudgedChange]:
    """The verdicts, in the order of the cases and of their estimates.

    `same`: the interval lies within the threshold. `slower`, `faster`: not that, and the interval excludes no change,
    with the false discoveries among such verdicts held at 5%. Else `unclear`. At another confidence the ends of the
    intervals and the false discoveries are those of that one.
    """
    p_values = [one.p_value() for one in estimates]
    testable = [p for p in p_values if p is not None]
    adjusted = iter(benjamini_hochberg(testable).tolist())
    return [
        _without_error_bar(case, one, paired)
        if p is None
        else _judge_case(case, one, p, next(adjusted), threshold, paired, len(testable), confidence)
        for case, one, p in zip(cases, estimates, p_values, strict=True)
    ]


def _unpaired_estimate(case: SideLaunches) -> Estimate:
    (base, base_squares), (new, new_squares) = map(intervals.centre_and_squares, (case.base, case.new))
    degrees = len(case.base) + len(case.new) - 2
    variance = (base_squares + new_squares) / degrees if degrees else math.nan
    return Estimate(new - base, variance, degrees, 1 / len(case.base) + 1 / len(case.new))


def _paired_estimate(case: SideLaunches) -> Estimate:
    shift, squares = intervals.centre_and_squares([new - base for base, new in zip(case.base, case.new, strict=True)])
    degrees = len(case.base) - 1
    return Estimate(shift, squares / degrees if degrees else math.nan, degrees, 1 / len(case.base))


def _moderate(cases: Sequence[SideLaunches], estimates: Sequence[Estimate]) -> list[Estimate]:
    """Variances raised towards those of cases with as much spread; without a known spread, to those alike.

    Alike are cases of the same kind, if there are enough of it, else all such others.
    """
    by_spread = [number for number, case in enumerate(cases) if case.spread is not None]
    if len(by_spread) < variance_prior.MIN_CASES:
        by_spread = []
    by_kind = sorted(set(range(len(cases))) - set(by_spread))
    moderated = list(estimates)
    for numbers in (by_spread, by_kind):
        variances, degrees = [estimates[n].variance for n in numbers], [estimates[n].degrees for n in numbers]
        found = (
            variance_prior.moderate_by_spread(variances, degrees, [cases[n].spread or 0.0 for n in numbers])
            if numbers is by_spread
            else variance_prior.moderate_by_kind([cases[n].kind for n in numbers], variances, degrees)
        )
        for number, variance, free in zip(numbers, *(column.tolist() for column in found), strict=True):
            moderated[number] = estimates[number]._replace(variance=variance, degrees=free)
    return moderated


def _judge_case(
    case: SideLaunches,
    estimate: Estimate,
    p: float,
    q: float,
    threshold: float,
    paired: bool,
    num_cases: int,
    confidence: float,
) -> JudgedChange:
    false_share = 1 - confidence
    half = estimate.half(confidence)
    low, high = _change(estimate.shift - half), _change(estimate.shift + half)
    verdict = _verdict(estimate.shift, low, high, q <= false_share, threshold, case.lower_is_better)
    reason, needed = None, None
    if verdict == "unclear":
        reason = "the interval holds both no change and more than the threshold"
        if p <= false_share:
            reason = f"among {num_cases} cases, chance alone brings up such a change"
        # Where chance among many cases stands in the way, what holds for each of them by itself would settle it.
        needed = launches_needed(estimate, threshold, paired, 1 - false_share / (num_cases if p <= false_share else 1))
    return JudgedChange(_change(estimate.shift), low, high, p, q, verdict, reason, needed)


def _without_error_bar(case: SideLaunches, estimate: Estimate, paired: bool) -> JudgedChange:
    reason = "one launch a side has no error bar: measure with --launches 3, or use bench ab"
    if paired:
        reason = "one pair of launches has no error bar: make 10"
    return JudgedChange(_change(estimate.shift), None, None, None, None, "unclear", reason, None)


def _change(log: float) -> float:
    """exp(log) - 1, at most the largest float: JSON has no infinity."""
    return math.expm1(min(log, 700.0))


def _verdict(
    shift: float, low: float, high: float, is_discovery: bool, threshold: float, lower_is_better: bool
) -> Verdict:
    if low >= -threshold and high <= threshold:
        return "same"
    if not is_discovery:
        return "unclear"
    return "slower" if (shift > 0) == lower_is_better else "faster"


def launches_needed(
    estimate: Estimate, threshold: float, paired: bool, confidence: float = intervals.CONFIDENCE
) -> int | None:
    """The fewest launches per side (paired: pairs) at which the same shift and variance would be settled.

    Settled: an interval within the threshold, or one that excludes no change.
    """
    distance, deviation = abs(estimate.shift), math.sqrt(estimate.variance)
    share = 0.5 + confidence / 2

    def settles(size: int) -> bool:
        degrees, scale = (size - 1, 1 / size) if paired else (2 * size - 2, 2 / size)
        half = t_quantile(share, max(degrees, estimate.degrees)) * deviation * math.sqrt(scale)
        inside = _change(distance + half) <= threshold and -_change(-distance - half) <= threshold
        return inside or half < distance

    # More launches only ever narrow the interval.
    num_launches = bisect.bisect_left(range(2, MOST_LAUNCHES + 1), True, key=settles) + 2
    return num_launches if num_launches <= MOST_LAUNCHES else None
