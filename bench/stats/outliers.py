"""Which of many equals stands out: a robust test of every member against its siblings, for all cases at once.

Of every member there is one number a launch, and its logarithm is what is compared. In each case a member is held
against the others without itself: its distance from their median, over the scale of their spread. Median and Qn both
endure that nearly half of the siblings are odd themselves, so that several slow members do not hide one another, as
they do behind a mean and a standard deviation (B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle Outliers",
ASQC 1993; P. J. Rousseeuw and C. Croux, "Alternatives to the Median Absolute Deviation", J. Am. Stat. Assoc. 88
(1993)). Qn is taken rather than the median absolute deviation since it wastes less: 82% against 37% efficiency. Few
siblings know their spread badly: it is moderated by that of like cases (`bench.stats.variance_prior`).

A member stands out where chance does not explain it, false discoveries controlled over all members and cases, and the
distance is of practical interest. Fewer than four siblings have no spread to speak of: there the member's own launches
have to differ from those of every sibling.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bench.stats import intervals, variance_prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["slower", "faster", "unclear", "same"]

OUTLIER = 0.05
"""Distances from the siblings' median below this share are of no practical interest, unless asked for."""
FALSE_DISCOVERIES = 0.01
"""Stricter than a comparison's 5%: a fleet is looked at every day, and each alarm sends somebody to a machine."""
MIN_SIBLINGS = 4
"""Fewer have no spread that an outlier could be told from."""
MANY = 100
"""With more members than this, one more or less changes neither median nor scale: none is left out."""

_QN = 2.21914
"""1 / (sqrt(2) x the 5/8 quantile of the normal): makes Qn estimate a standard deviation."""
_SMALL_QN = {2: 0.399, 3: 0.994, 4: 0.512, 5: 0.844, 6: 0.611, 7: 0.857, 8: 0.669, 9: 0.872}
"""Siblings -> what Qn is multiplied with to be free of bias (Rousseeuw and Croux 1993, section 4)."""
_SIBLINGS = (4, 6, 8, 10, 12, 16, 24, 32, 62, 98)
_DEGREES = (1.95, 3.3, 4.7, 6.1, 7.3, 10.3, 16.5, 22.5, 50.5, 80.0)
"""Siblings (an odd number as the even one below it) -> degrees of freedom of the score of a member left out, by
simulation: the t distribution whose tails from p = 1e-3 to 1e-5 are those of normal members."""
_EFFICIENCY = 0.82
"""Degrees of freedom a sibling of Qn where there are many, from its variance."""


class MemberLaunches(NamedTuple):
    """One member in one case."""

    logs: NDArray[np.float64]
    """Logarithms of one number a launch, at least one."""
    within: float | None = None
    """Standard error of the logarithm within the only launch, where that is known."""

    @property
    def value(self) -> float:
        return float(self.logs.mean())

    @property
    def error(self) -> float:
        """Standard error of the value; 0 where nothing is known of it."""
        if self.logs.size > 1:
            return float(self.logs.std(ddof=1)) / math.sqrt(self.logs.size)
        return self.within or 0.0


class Equals(NamedTuple):
    """One case and those that have it."""

    members: Mapping[str, MemberLaunches]
    """Name -> what it measured; at least two."""
    kind: str = ""
    """Cases of a kind are like each other in how their members vary."""
    lower_is_better: bool = True


@dataclass(frozen=True)
class JudgedMember:
    """One member in one case, beside its siblings. Values are exponentials of means of logarithms."""

    member: str
    value: float
    centre: float
    """The siblings' median."""
    low: float
    high: float
    """The siblings' range."""
    num_siblings: int
    p_value: float | None
    """Two-sided, of being no other than they are; None where that cannot be said."""
    adjusted_p: float | None
    verdict: Verdict

    @property
    def ratio(self) -> float:
        return self.value / self.centre


class _Place(NamedTuple):
    """One member in one case, in logarithms."""

    case: int
    member: str
    distance: float
    """From the siblings' median."""
    variance: float
    """Of the siblings."""
    degrees: float
    floor: float
    """The least standard deviation: what the launches, the siblings' and the member's own, leave open."""
    num_siblings: int


def judge(
    cases: Sequence[Equals], outlier: float = OUTLIER, only: Collection[str] | None = None
) -> list[list[JudgedMember]]:
    """Every member of every case, or `only` those named, in the order of the cases and their members.

    `slower`, `faster`: at least `outlier` (a share of the siblings' median) away from that median, and more than chance
    explains, with the false discoveries among all such verdicts held at `FALSE_DISCOVERIES`. `unclear`: as far away,
    but chance may explain it. Else `same`.
    """
    assert all(len(case.members) > 1 for case in cases)
    by_spread = _by_spread(cases, only)
    judged: list[list[tuple[str, float | None]]] = [
        [
            (name, by_spread[number, name] if (number, name) in by_spread else _against_each(case, name))
            for name in case.members
            if only is None or name in only
        ]
        for number, case in enumerate(cases)
    ]
    known = [p for row in judged for _, p in row if p is not None]
    adjusted = iter(intervals.benjamini_hochberg(known).tolist() if known else ())
    return [
        _verdicts(case, row, [None if p is None else next(adjusted) for _, p in row], outlier)
        for case, row in zip(cases, judged, strict=True)
    ]


def _verdicts(
    case: Equals, row: Sequence[tuple[str, float | None]], adjusted: Sequence[float | None], outlier: float
) -> list[JudgedMember]:
    values = {name: each.value for name, each in case.members.items()}
    found = []
    for (member, p), q in zip(row, adjusted, strict=True):
        siblings = [value for name, value in values.items() if name != member]
        centre = intervals.median(siblings)
        found.append(
            JudgedMember(
                member=member,
                value=math.exp(values[member]),
                centre=math.exp(centre),
                low=math.exp(min(siblings)),
                high=math.exp(max(siblings)),
                num_siblings=len(siblings),
                p_value=p,
                adjusted_p=q,
                verdict=_verdict(values[member] - centre, q, outlier, case.lower_is_better),
            )
        )
    return found


def _verdict(distance: float, adjusted_p: float | None, outlier: float, lower_is_better: bool) -> Verdict:
    if abs(math.expm1(min(distance, 700.0))) < outlier:
        return "same"
    if adjusted_p is None or adjusted_p > FALSE_DISCOVERIES:
        return "unclear"
    return "slower" if (distance > 0) == lower_is_better else "faster"


def _by_spread(cases: Sequence[Equals], only: Collection[str] | None) -> dict[tuple[int, str], float]:
    """(case, member) -> p value, where there are siblings enough."""
    alike: dict[tuple[str, str], list[_Place]] = {}
    for number, case in enumerate(cases):
        if len(case.members) > MIN_SIBLINGS:
            for place in _places(number, case, only):
                alike.setdefault((place.member, case.kind), []).append(place)
    return {
        (place.case, place.member): _p_value(place, variance, free)
        for places in alike.values()
        for place, variance, free in zip(places, *_moderated(places), strict=True)
    }


def _moderated(places: Sequence[_Place]) -> tuple[list[float], list[float]]:
    found = variance_prior.moderate([place.variance for place in places], [place.degrees for place in places])
    return found.variances.tolist(), found.degrees.tolist()


def _places(number: int, case: Equals, only: Collection[str] | None) -> list[_Place]:
    names = list(case.members)
    values, errors = (np.array([getattr(each, f) for each in case.members.values()]) for f in ("value", "error"))
    which = [index for index, name in enumerate(names) if only is None or name in only]
    if not which:
        return []
    if len(names) > MANY:
        siblings, others = values[None, :], errors[None, :]
    else:
        left = np.array([[index for index in range(len(names)) if index != out] for out in which])
        siblings, others = values[left], errors[left]
    centres, scales = np.median(siblings, axis=1), qn(siblings)
    floors = np.maximum(np.median(others, axis=1), errors[which])
    # Where half of the siblings are one number and no error is known, as with a clock too coarse for the case, the mean
    # distance stands in, which is 0 only where all are one (Iglewicz and Hoaglin's remedy for a scale of 0).
    means = math.sqrt(math.pi / 2) * np.abs(siblings - centres[:, None]).mean(axis=1)
    floors = np.where((scales > 0) | (floors > 0), floors, means)
    rows = np.broadcast_to(np.stack([scales**2, centres], axis=1), (len(which), 2)).tolist()
    free, num_siblings = degrees(len(names) - 1), len(names) - 1
    return [
        _Place(number, names[index], float(values[index]) - centre, variance, free, floor, num_siblings)
        for index, floor, (variance, centre) in zip(which, floors.tolist(), rows, strict=True)
    ]


def _p_value(place: _Place, variance: float, free: float) -> float:
    if place.distance == 0:
        return 1.0
    scale = max(math.sqrt(variance), place.floor)
    if scale == 0:  # siblings that are all the same, to the last digit
        return 0.0
    spread = scale * math.sqrt(1 + math.pi / (2 * place.num_siblings))  # the siblings' median has an error too
    return 2 * (1 - intervals.t_cdf(abs(place.distance) / spread, free))


def degrees(num_siblings: int) -> float:
    """Degrees of freedom of a score whose scale is Qn of so many siblings."""
    if num_siblings >= _SIBLINGS[-1]:
        return _EFFICIENCY * num_siblings
    return float(np.interp(num_siblings - num_siblings % 2, _SIBLINGS, _DEGREES))


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


def _against_each(case: Equals, member: str) -> float | None:
    """The largest p value of Welch's t against the launches of each sibling; None where one has a single launch."""
    if any(each.logs.size < 2 for each in case.members.values()):
        return None
    own = case.members[member]
    return max(_welch(own, sibling) for name, sibling in case.members.items() if name != member)


def _welch(one: MemberLaunches, two: MemberLaunches) -> float:
    """B. L. Welch, "The generalization of 'Student's' problem ...", Biometrika 34 (1947)."""
    distance, (a, b) = abs(one.value - two.value), (one.error**2, two.error**2)
    if a + b == 0:
        return 0.0 if distance else 1.0
    free = (a + b) ** 2 / (a**2 / (one.logs.size - 1) + b**2 / (two.logs.size - 1))
    return 2 * (1 - intervals.t_cdf(distance / math.sqrt(a + b), free))
