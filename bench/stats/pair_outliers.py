"""Outliers in a matrix of pairs of ranks: ranks or pairs that are slower than all the others, beyond chance.

A rank is compared with the pairs in which it has no part: it stands out if *every one* of its own pairs, as sender or
as receiver, is slower than those. Then each pair of the ranks that do not is compared with all others. The distance is
that from the others' median, in the scale of their spread (`bench.stats.robust_score`): both endure that some of the
others are slow themselves. If many are slower they are another kind of link, and none is reported. Pairs within a host
and across hosts are judged apart.

The numbers are logarithms of one median per pair and launch. That leaves a machine's slow minute: what stands out in
one launch and not in the next was not a link.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bench.stats import intervals, robust_score
from bench.stats.distributions import benjamini_hochberg
from bench.stats.outliers import FALSE_DISCOVERIES
from bench.stats.robust_score import MANY, MIN_SIBLINGS

Pair = tuple[int, int]
"""(sender, receiver); if both directions run at once, the lower rank first."""
Role = Literal["rank", "sender", "receiver", "pair"]

OUTLIER = 0.1
"""Pairs that take less than this share longer than the others are of no practical interest."""
MOST = 0.25
"""Share of the ranks, or of the pairs, above which slower ones are another kind of link (PCIe among NVLink) and no
outliers."""
_MAD = 1.4826
"""Makes the median absolute deviation estimate the standard deviation of a normal distribution."""

_ROLES: Mapping[Role, Callable[[Pair, int], bool]] = {
    "sender": lambda pair, rank: pair[0] == rank,
    "receiver": lambda pair, rank: pair[1] == rank,
    "rank": lambda pair, rank: rank in pair,
}
"""Role -> whether the rank plays it in the pair."""


@dataclass(frozen=True)
class SlowLink:
    """A rank or pair that stands out."""

    role: Role
    ranks: tuple[int, ...]
    """One rank, or the two of a pair."""
    seconds: float
    """Median over its pairs."""
    others_seconds: float
    """Median of the pairs that it is compared with."""
    num_others: int
    adjusted_p: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.others_seconds


@dataclass(frozen=True)
class _Others:
    """Pairs that a rank or a pair is compared with, in logarithms."""

    centre: float
    scale: float
    count: int


@dataclass(frozen=True)
class _Candidate:
    role: Role
    ranks: tuple[int, ...]
    logs: tuple[float, ...]
    others: _Others

    @property
    def distance(self) -> float:
        """Distance of the pair that is nearest to the others: all of the candidate's have to stand out."""
        return min(self.logs) - self.others.centre


def slow_links(seconds: Mapping[Pair, float], is_directed: bool) -> list[SlowLink]:
    """Ranks, then pairs, that are slower than the others, the slowest first; all pairs are of one kind of link.

    `seconds` are above 0. `is_directed`: (a, b) and (b, a) are there, each a direction; otherwise there is one of them.
    False discoveries among the ranks, and then among the pairs, are held at `FALSE_DISCOVERIES`.
    """
    logs = {pair: math.log(value) for pair, value in seconds.items()}
    roles: tuple[Role, ...] = ("sender", "receiver") if is_directed else ("rank",)
    num_ranks = len({rank for pair in logs for rank in pair})
    slow = _significant(_rank_candidates(logs, roles))
    ranks = [link for role in roles for link in _few([link for link in slow if link.role == role], num_ranks)]
    rest = {pair: value for pair, value in logs.items() if not any(_plays(pair, link) for link in ranks)}
    pairs = _few(_merge(_significant(_pair_candidates(rest)), rest), len(rest))
    return sorted([*ranks, *pairs], key=lambda link: -link.ratio)


def _few(links: list[SlowLink], total: int) -> list[SlowLink]:
    """All of them, or none if they are this many of the total that they are another kind of link."""
    return links if len(links) <= max(1, MOST * total) else []


def too_few_ranks(num_ranks: int, is_directed: bool) -> str | None:
    """Reason why too few ranks of a kind cannot show which of them stands out; None if they can."""
    least = _least_ranks(is_directed)
    if num_ranks >= least:
        return None
    return f"{num_ranks} ranks: too few pairs to say which of the ranks stands out, which takes {least}"


def _least_ranks(is_directed: bool) -> int:
    """Fewest ranks n with enough pairs to compare a rank's with: (n - 1)(n - 2) without it, or half as many."""
    directions = 1 if is_directed else 2
    return next(n for n in range(3, 9) if (n - 1) * (n - 2) // directions >= MIN_SIBLINGS)


def _plays(pair: Pair, link: SlowLink) -> bool:
    return link.role != "pair" and _ROLES[link.role](pair, link.ranks[0])


def _rank_candidates(logs: Mapping[Pair, float], roles: Sequence[Role]) -> Iterable[_Candidate]:
    all_pairs = _others(list(logs.values())) if len(logs) > MANY else None
    for rank in sorted({rank for pair in logs for rank in pair}):
        others = all_pairs or _others([value for pair, value in logs.items() if rank not in pair])
        for role in roles:
            values = tuple(value for pair, value in logs.items() if _ROLES[role](pair, rank))
            if len(values) > 1 and others.count >= MIN_SIBLINGS:
                yield _Candidate(role, (rank,), values, others)


def _pair_candidates(logs: Mapping[Pair, float]) -> Iterable[_Candidate]:
    all_pairs = _others(list(logs.values())) if len(logs) > MANY else None
    for pair, value in logs.items():
        others = all_pairs or _others([v for p, v in logs.items() if set(p) != set(pair)])
        if others.count >= MIN_SIBLINGS:
            yield _Candidate("pair", pair, (value,), others)


def _others(values: Sequence[float]) -> _Others:
    """Median and scale: Qn, or of very many the median absolute deviation, which is quick and then good enough."""
    if len(values) < MIN_SIBLINGS:
        return _Others(0.0, 0.0, len(values))
    array = np.array(values)
    centre = float(np.median(array))
    distances = np.abs(array - centre)
    scale = _MAD * float(np.median(distances)) if array.size > MANY else float(robust_score.qn(array[None, :])[0])
    if scale == 0:
        scale = float(robust_score.mean_distance_scale(distances))
    return _Others(centre, scale, array.size)


def _significant(candidates: Iterable[_Candidate]) -> list[SlowLink]:
    judged = list(candidates)
    if not judged:
        return []
    adjusted = benjamini_hochberg([_p_value(candidate) for candidate in judged]).tolist()
    return [
        SlowLink(
            role=candidate.role,
            ranks=candidate.ranks,
            seconds=math.exp(intervals.median(candidate.logs)),
            others_seconds=math.exp(candidate.others.centre),
            num_others=candidate.others.count,
            adjusted_p=q,
        )
        for candidate, q in zip(judged, adjusted, strict=True)
        if q <= FALSE_DISCOVERIES and candidate.distance >= math.log1p(OUTLIER)
    ]


def _p_value(candidate: _Candidate) -> float:
    """Two-sided p value; 1 for a candidate that is no slower than the others."""
    others = candidate.others
    if candidate.distance <= 0:
        return 1.0
    return robust_score.p_value(candidate.distance, others.scale, others.count, robust_score.degrees(others.count))


def _merge(pairs: Sequence[SlowLink], logs: Mapping[Pair, float]) -> list[SlowLink]:
    """Pairs, with all those of one rank as that rank: of few pairs half are its own, and cannot be judged otherwise."""
    slow_pairs = {link.ranks for link in pairs}
    merged: list[SlowLink] = []
    rest = list(pairs)
    for rank in sorted({rank for pair in slow_pairs for rank in pair}):
        pairs_of_rank = {pair for pair in logs if rank in pair}
        if len(pairs_of_rank) > 2 and pairs_of_rank <= slow_pairs:
            links = sorted((link for link in rest if link.ranks in pairs_of_rank), key=lambda link: link.seconds)
            merged.append(replace(links[len(links) // 2], role="rank", ranks=(rank,)))
            rest = [link for link in rest if link.ranks not in pairs_of_rank]
    return merged + rest
