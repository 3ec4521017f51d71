"""Outliers among peers: a robust test of every member against its siblings, for all cases at once.

Each member has one number per launch, and its logarithm is compared. In each case a member is compared with the others
without itself, by a robust score (`bench.stats.robust_score`). Few siblings know their spread badly: it is moderated by
that of like cases (`bench.stats.variance_prior`).

A member stands out if chance does not explain it, false discoveries controlled over all members and cases, and the
distance is of practical interest. Fewer than four siblings have no spread to speak of: then the member's own launches
have to differ from those of every sibling.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bench.stats import intervals, robust_score, variance_prior
from bench.stats.distributions import benjamini_hochberg, two_sided_p, welch_degrees
from bench.stats.robust_score import MANY, MIN_SIBLINGS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["slower", "faster", "unclear", "same"]

OUTLIER = 0.05
"""Distances from the siblings' median below this share are of no practical interest, unless asked for."""
FALSE_DISCOVERIES = 0.01
"""Stricter than a comparison's 5%: a fleet is looked at every day, and each alarm sends someone to a machine."""


class MemberLaunches(NamedTuple):
    """One member in one case."""

    logs: NDArray[np.float64]
    """Logarithms of one number per launch, at least one."""
    within: float | None = None
    """Standard error of the logarithm within the only launch, if known."""

    @property
    def value(self) -> float:
        return float(self.logs.mean())

    @property
    def error(self) -> float:
        """Standard error of the value; 0 if it is unknown."""
        if self.logs.size > 1:
            return float(self.logs.std(ddof=1)) / math.sqrt(self.logs.size)
        return self.within or 0.0


class CaseMembers(NamedTuple):
    """One case and the members that have it."""

    members: Mapping[str, MemberLaunches]
    """Name of a member -> its launches; at least two."""
    kind: str = ""
    """Cases of a kind are like each other in how their members vary."""
    lower_is_better: bool = True


@dataclass(frozen=True)
class JudgedMember:
    """One member in one case, with its siblings. Values are exponentials of means of logarithms."""

    member: str
    value: float
    centre: float
    """The siblings' median."""
    low: float
    high: float
    """The siblings' range."""
    num_siblings: int
    p_value: float | None
    """Two-sided, of no difference from the siblings; None if they cannot tell."""
    adjusted_p: float | None
    verdict: Verdict

    @property
    def ratio(self) -> float:
        return self.value / self.centre


class _Deviation(NamedTuple):
    """Deviation of one member from its siblings in one case, in logarithms."""

    case: int
    member: str
    distance: float
    """Distance from the siblings' median."""
    variance: float
    """Variance of the siblings."""
    degrees: float
    floor: float
    """The least standard deviation: what the launches, the siblings' and the member's own, leave open."""
    num_siblings: int


def judge(
    cases: Sequence[CaseMembers], outlier: float = OUTLIER, only: Collection[str] | None = None
) -> list[list[JudgedMember]]:
    """Every member of every case, or `only` those named, in the order of the cases and their members.

    `slower`, `faster`: at least `outlier` (a share of the siblings' median) away from that median, and more than chance
    explains, with the false discoveries among all such verdicts held at `FALSE_DISCOVERIES`. `unclear`: as far away,
    but chance may explain it. Else `same`.
    """
    assert all(len(case.members) > 1 for case in cases)
    p_by_spread = _p_by_spread(cases, only)
    judged: list[list[tuple[str, float | None]]] = [
        [
            (name, p_by_spread[number, name] if (number, name) in p_by_spread else _p_against_each(case, name))
            for name in case.members
            if only is None or name in only
        ]
        for number, case in enumerate(cases)
    ]
    testable = [p for row in judged for _, p in row if p is not None]
    adjusted = iter(benjamini_hochberg(testable).tolist() if testable else ())
    return [
        _judge_members(case, row, [None if p is None else next(adjusted) for _, p in row], outlier)
        for case, row in zip(cases, judged, strict=True)
    ]


def _judge_members(
    case: CaseMembers, row: Sequence[tuple[str, float | None]], adjusted: Sequence[float | None], outlier: float
) -> list[JudgedMember]:
    values = {name: launches.value for name, launches in case.members.items()}
    judged = []
    for (member, p), q in zip(row, adjusted, strict=True):
        siblings = [value for name, value in values.items() if name != member]
        centre = intervals.median(siblings)
        judged.append(
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
    return judged


def _verdict(distance: float, adjusted_p: float | None, outlier: float, lower_is_better: bool) -> Verdict:
    if abs(math.expm1(min(distance, 700.0))) < outlier:
        return "same"
    if adjusted_p is None or adjusted_p > FALSE_DISCOVERIES:
        return "unclear"
    return "slower" if (distance > 0) == lower_is_better else "faster"


def _p_by_spread(cases: Sequence[CaseMembers], only: Collection[str] | None) -> dict[tuple[int, str], float]:
    """(case, member) -> p value, for cases with enough siblings."""
    alike: dict[tuple[str, str], list[_Deviation]] = {}
    for number, case in enumerate(cases):
        if len(case.members) > MIN_SIBLINGS:
            for deviation in _deviations(number, case, only):
                alike.setdefault((deviation.member, case.kind), []).append(deviation)
    return {
        (deviation.case, deviation.member): _p_value(deviation, variance, degrees)
        for deviations in alike.values()
        for deviation, variance, degrees in zip(deviations, *_moderate(deviations), strict=True)
    }


def _moderate(deviations: Sequence[_Deviation]) -> tuple[list[float], list[float]]:
    """Moderated variances and degrees of freedom, [deviation] each."""
    moderated = variance_prior.moderate([d.variance for d in deviations], [d.degrees for d in deviations])
    return moderated.variances.tolist(), moderated.degrees.tolist()


def _deviations(number: int, case: CaseMembers, only: Collection[str] | None) -> list[_Deviation]:
    names = list(case.members)
    values = np.array([launches.value for launches in case.members.values()])
    errors = np.array([launches.error for launches in case.members.values()])
    indices = [index for index, name in enumerate(names) if only is None or name in only]
    if not indices:
        return []
    if len(names) > MANY:
        siblings, others = values[None, :], errors[None, :]
    else:
        left = np.array([[index for index in range(len(names)) if index != out] for out in indices])
        siblings, others = values[left], errors[left]
    centres, scales = np.median(siblings, axis=1), robust_score.qn(siblings)
    floors = np.maximum(np.median(others, axis=1), errors[indices])
    means = robust_score.mean_distance_scale(np.abs(siblings - centres[:, None]))
    floors = np.where((scales > 0) | (floors > 0), floors, means)
    rows = np.broadcast_to(np.stack([scales**2, centres], axis=1), (len(indices), 2)).tolist()
    num_siblings = len(names) - 1
    degrees = robust_score.degrees(num_siblings)
    return [
        _Deviation(number, names[index], float(values[index]) - centre, variance, degrees, floor, num_siblings)
        for index, floor, (variance, centre) in zip(indices, floors.tolist(), rows, strict=True)
    ]


def _p_value(deviation: _Deviation, variance: float, degrees: float) -> float:
    scale = max(math.sqrt(variance), deviation.floor)  # 0 if the siblings are all the same, to the last digit
    return robust_score.p_value(deviation.distance, scale, deviation.num_siblings, degrees)


def _p_against_each(case: CaseMembers, member: str) -> float | None:
    """The largest p value of Welch's t against the launches of each sibling; None if one has a single launch."""
    if any(launches.logs.size < 2 for launches in case.members.values()):
        return None
    launches = case.members[member]
    return max(_welch_p(launches, sibling) for name, sibling in case.members.items() if name != member)


def _welch_p(one: MemberLaunches, two: MemberLaunches) -> float:
    """The two-sided p value of Welch's t, from several launches of each."""
    squared_errors = (one.error**2, two.error**2)
    if sum(squared_errors) == 0:
        return 0.0 if one.value != two.value else 1.0
    degrees = welch_degrees(squared_errors, (one.logs.size, two.logs.size))
    return two_sided_p(one.value - two.value, math.sqrt(sum(squared_errors)), degrees)
