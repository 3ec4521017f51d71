"""Is one rank's own compute slower than its siblings'? For a verdict on one machine, from one result file.

Five ranks or more have a spread from which an outlier can be distinguished (`bench.stats.outliers`). Of fewer, a rank
is called slow if two things hold. It is slower than the median of the others in every one of at least seven kinds of
work that each rank does while the others rest (a sign test: 1 in 128 by chance). And it is slower by more than 5% in
the median of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.compare.outlier_search import judge
from bench.analysis.compare.peer_group import ALONE, peer_cases, ranks
from bench.errors import BenchError
from bench.stats import intervals, outliers
from bench.stats.robust_score import MIN_SIBLINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.analysis.compare.peer_group import Peer
    from bench.records.file import Result

MIN_CASES_SHARE = 0.25
"""Share of the cases in which a rank has to be slower before it is called slow: a single one may be chance."""
MIN_CASES = 2
MIN_SIGNS = 7


@dataclass(frozen=True)
class RankVerdict:
    """Verdict on the ranks, in words."""

    slow: str
    """Names the slow ranks; empty if there is none."""
    said: str


def many_ranks(result: Result) -> RankVerdict | None:
    """Verdict by the spread of the siblings; None if there are too few ranks or nothing in common."""
    members = _members(result)
    if len(members) <= MIN_SIBLINGS:
        return None
    try:
        search = judge(members, "rank")
    except BenchError:  # no case in which ranks work by themselves
        return None
    least = max(MIN_CASES, MIN_CASES_SHARE * search.num_cases)
    slow = {name: counts["slower"] for name, counts in search.standing_out().items() if counts["slower"] >= least}
    texts = [f"{name} is slow by its own work in {count} of {search.num_cases} cases" for name, count in slow.items()]
    return RankVerdict("; ".join(texts), f"no outlier among {len(members)} ranks in {search.num_cases} cases")


def few_ranks(result: Result) -> RankVerdict | None:
    """Verdict by signs; None if there are too few kinds of work."""
    members = _members(result)
    shared = [key for key in peer_cases(members) if key.variant == ALONE]
    if len(members) < 2 or len(shared) < MIN_SIGNS:
        return None
    distances = {member.name: [_distance(member, members, key) for key in shared] for member in members}
    middles = {name: math.expm1(intervals.median(row)) for name, row in distances.items()}
    slow = [n for n, row in distances.items() if all(d > 0 for d in row) and middles[n] > outliers.OUTLIER]
    texts = [f"{name} is slower by its own work in all of {len(shared)} cases, by {middles[name]:.0%}" for name in slow]
    widest = max(middles.values())
    return RankVerdict(
        "; ".join(texts), f"none slower than the others in all of {len(shared)} cases (most {widest:.0%})"
    )


def _distance(member: Peer, members: Sequence[Peer], key: object) -> float:
    """Logarithm of its time over the median of the others'."""
    times = {peer.name: peer.launches[key].value for peer in members if key in peer.launches}  # type: ignore[index]
    log_seconds = times.pop(member.name, None)
    return 0.0 if log_seconds is None or not times else log_seconds - intervals.median(list(times.values()))


def _members(result: Result) -> list[Peer]:
    try:
        return ranks([result], allow_unlike=True)
    except BenchError:  # a file without ranks of its own
        return []
