"""Which rank or pair stands out in a matrix of pairs: what is slower than all the others, beyond chance, or nothing.

A rank is held against the pairs in which it has no part: it stands out where *every one* of its own pairs, as sender or
as receiver, is slower than those. Then each pair of the ranks that do not is held against all others. The distance is
that from the others' median, in the scale of their spread (Qn, as in `bench.stats.outliers`): both endure that some of
the others are slow themselves. Where many are slower they are another kind of link, and nothing is said. Pairs within a
host and across hosts are judged apart.

The numbers are logarithms of one median a pair and launch. That leaves a machine's slow minute: what stands out in
one launch and not in the next was no link.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.stats import intervals, outliers

Pair = tuple[int, int]
"""(sender, receiver); where both directions run at once, the lower rank first."""
Role = Literal["rank", "sender", "receiver", "pair"]

OUTLIER = 0.1
"""Pairs that take less than this share longer than the others are of no practical interest."""
MOST = 0.25
"""Where more than this share of the ranks, or of the pairs, are slower, they are another kind of link (PCIe among
NVLink) and no outliers."""
_MAD = 1.4826
"""Makes the median absolute deviation estimate the standard deviation of a normal distribution."""

_ROLES: Mapping[Role, Callable[[Pair, int], bool]] = {
    "sender": lambda pair, rank: pair[0] == rank,
    "receiver": lambda pair, rank: pair[1] == rank,
    "rank": lambda pair, rank: rank in pair,
}
"""Role -> whether the rank plays it in the pair."""


@dataclass(frozen=True)
class Slow:
    """What stands out."""

    role: Role
    ranks: tuple[int, ...]
    """One, or for a pair two."""
    seconds: float
    """Its median over its pairs."""
    others_seconds: float
    """The median of those that it is held against."""
    num_others: int
    adjusted_p: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.others_seconds


@dataclass(frozen=True)
class _Others:
    """What a rank or a pair is held against, in logarithms."""

    centre: float
    scale: float
    count: int


@dataclass(frozen=True)
class _Candidate:
    role: Role
    ranks: tuple[int, ...]
    own: tuple[float, ...]
    others: _Others

    @property
    def distance(self) -> float:
        """Of the own pair that is nearest to the others: all of them have to stand out."""
        return min(self.own) - self.others.centre


def stand_out(seconds: Mapping[Pair, float], is_directed: bool) -> list[Slow]:
    """Ranks, then pairs, that are slower than the others, the slowest first; all pairs are of one kind of link.

    `seconds` are above 0. `is_directed`: (a, b) and (b, a) are there, each a direction; otherwise there is one of them.
    False discoveries among the ranks, and then among the pairs, are held at `outliers.FALSE_DISCOVERIES`.
    """
    logs = {pair: math.log(value) for pair, value in seconds.items()}
    roles: tuple[Role, ...] = ("sender", "receiver") if is_directed else ("rank",)
    num_ranks = len({rank for pair in logs for rank in pair})
    named = _significant(_of_ranks(logs, roles))
    ranks = [slow for role in roles for slow in _few([each for each in named if each.role == role], num_ranks)]
    rest = {pair: value for pair, value in logs.items() if not any(_plays(pair, slow) for slow in ranks)}
    pairs = _few(_merged(_significant(_of_pairs(rest)), rest), len(rest))
    return sorted([*ranks, *pairs], key=lambda slow: -slow.ratio)


def _few(found: list[Slow], among: int) -> list[Slow]:
    """All of them, or none where they are so many that they are another kind of link."""
    return found if len(found) <= max(1, MOST * among) else []


def what_is_needed(num_ranks: int, is_directed: bool) -> str | None:
    """Why too few ranks of a kind cannot show which of them stands out; None where they can."""
    least = _least_ranks(is_directed)
    if num_ranks >= least:
        return None
    return f"{num_ranks} ranks: too few pairs to say which of the ranks stands out, which takes {least}"


def _least_ranks(is_directed: bool) -> int:
    """So that a rank's pairs can be held against enough others: (n - 1)(n - 2) pairs without it, or half as many."""
    each = 1 if is_directed else 2
    return next(n for n in range(3, 9) if (n - 1) * (n - 2) // each >= outliers.MIN_SIBLINGS)


def _plays(pair: Pair, slow: Slow) -> bool:
    return slow.role != "pair" and _ROLES[slow.role](pair, slow.ranks[0])


def _of_ranks(logs: Mapping[Pair, float], roles: Sequence[Role]) -> Iterable[_Candidate]:
    every = _others(list(logs.values())) if len(logs) > outliers.MANY else None
    for rank in sorted({rank for pair in logs for rank in pair}):
        others = every or _others([value for pair, value in logs.items() if rank not in pair])
        for role in roles:
            own = tuple(value for pair, value in logs.items() if _ROLES[role](pair, rank))
            if len(own) > 1 and others.count >= outliers.MIN_SIBLINGS:
                yield _Candidate(role, (rank,), own, others)


def _of_pairs(logs: Mapping[Pair, float]) -> Iterable[_Candidate]:
    every = _others(list(logs.values())) if len(logs) > outliers.MANY else None
    for pair, value in logs.items():
        others = every or _others([v for p, v in logs.items() if set(p) != set(pair)])
        if others.count >= outliers.MIN_SIBLINGS:
            yield _Candidate("pair", pair, (value,), others)


def _others(values: Sequence[float]) -> _Others:
    """Median and scale: Qn, or of very many the median absolute deviation, which is quick and then good enough."""
    if len(values) < outliers.MIN_SIBLINGS:
        return _Others(0.0, 0.0, len(values))
    array = np.array(values)
    centre = float(np.median(array))
    distances = np.abs(array - centre)
    scale = _MAD * float(np.median(distances)) if array.size > outliers.MANY else float(outliers.qn(array[None, :])[0])
    if scale == 0:  # half of the others are one number: the mean distance is 0 only where all of them are
        scale = math.sqrt(math.pi / 2) * float(distances.mean())
    return _Others(centre, scale, array.size)


def _significant(candidates: Iterable[_Candidate]) -> list[Slow]:
    judged = list(candidates)
    if not judged:
        return []
    adjusted = intervals.benjamini_hochberg([_p_value(each) for each in judged]).tolist()
    return [
        Slow(
            role=each.role,
            ranks=each.ranks,
            seconds=math.exp(intervals.median(each.own)),
            others_seconds=math.exp(each.others.centre),
            num_others=each.others.count,
            adjusted_p=q,
        )
        for each, q in zip(judged, adjusted, strict=True)
        if q <= outliers.FALSE_DISCOVERIES and each.distance >= math.log1p(OUTLIER)
    ]


def _p_value(candidate: _Candidate) -> float:
    """Two-sided, by Student's t; of a candidate that is no slower 1."""
    others = candidate.others
    if candidate.distance <= 0:
        return 1.0
    if others.scale == 0:
        return 0.0
    spread = others.scale * math.sqrt(1 + math.pi / (2 * others.count))  # the median of the others has an error too
    return 2 * (1 - intervals.t_cdf(candidate.distance / spread, outliers.degrees(others.count)))


def _merged(pairs: Sequence[Slow], logs: Mapping[Pair, float]) -> list[Slow]:
    """Pairs, with all those of one rank as that rank: of few pairs half are its own, and cannot be judged otherwise."""
    named = {slow.ranks for slow in pairs}
    found: list[Slow] = []
    rest = list(pairs)
    for rank in sorted({rank for pair in named for rank in pair}):
        own = {pair for pair in logs if rank in pair}
        if len(own) > 2 and own <= named:
            mine = [slow for slow in rest if slow.ranks in own]
            middle = sorted(mine, key=lambda slow: slow.seconds)[len(mine) // 2]
            found.append(
                Slow("rank", (rank,), middle.seconds, middle.others_seconds, middle.num_others, middle.adjusted_p)
            )
            rest = [slow for slow in rest if slow.ranks not in own]
    return found + rest
