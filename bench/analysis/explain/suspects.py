"""Suspects: the slow rank and the slow link, named only from what shows them, and else said not to be measured.

A rank is named from its own computation, never from how long its call takes: where ranks wait for one another, the fast
ones wait. Of every traced call the time of each kind of computation that all ranks do equally, and of the compute suite
each rank's own samples; the score is fastest median / own median, as in NVIDIA's resiliency extension (straggler
detection, relative performance), and a rank is flagged by the outlier test of `bench.stats.outliers`, whatever its
score. Without spans of computation the rank that comes last to most collectives is said to arrive last.

A link is named only from the suite point_to_point in the same file: messages between two ranks and nobody else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.explain import timeline
from bench.records.lines.kinds import Measurement
from bench.stats import intervals, outliers

OUTLIER = 0.10
"""Ranks of one kind differ by a few percent in good health."""
SHARED_KINDS = ("forward", "backward", "forward_backward")
"""Computations that every rank does equally much of; a loss or an embedding is one stage's alone."""
NUM_BLOCKS = 8
"""Blocks of a rank's samples, whose medians stand for repeated measurements."""
LAST_SHARE = 0.8
"""Share of all collectives at which a rank arrives last that makes it the last to arrive."""
POINT_TO_POINT = "point_to_point"


@dataclass(frozen=True)
class Score:
    """One rank in one case."""

    case: str
    rank: int
    score: float
    """Fastest median / own median of the same computation: 1 is the fastest."""
    is_slow: bool
    """Verdict of the outlier test."""
    source: str


def rank_scores(records: Iterable[Measurement]) -> list[Score]:
    """All ranks of all cases that show their own computation."""
    measured: list[tuple[str, str, dict[int, list[float]]]] = []
    for record in records:
        if record.status != "ok" or record.num_ranks < 2:
            continue
        seconds, source = _own_seconds(record)
        if len(seconds) == record.num_ranks:
            measured.append((record.case, source, seconds))
    peer_groups = [
        outliers.CaseMembers(
            {str(r): outliers.MemberLaunches(np.log(values)) for r, values in seconds.items()}, kind=source
        )
        for _, source, seconds in measured
    ]
    scores = []
    for (case, source, seconds), judged in zip(measured, outliers.judge(peer_groups, OUTLIER), strict=True):
        medians = {rank: intervals.median(values) for rank, values in seconds.items()}
        slow = {member.member for member in judged if member.verdict == "slower"}
        scores += [
            Score(case, rank, min(medians.values()) / own_median, str(rank) in slow, source)
            for rank, own_median in medians.items()
        ]
    return scores


def _own_seconds(record: Measurement) -> tuple[dict[int, list[float]], str]:
    """Rank -> seconds of equal computation, repeatedly measured; and from where."""
    if record.suite == "compute":
        return _samples(record), "own samples"
    spans = [span for span in record.main_spans() if span.kind in SHARED_KINDS]
    kinds = {rank: {s.kind for s in spans if s.rank == rank} for rank in {s.rank for s in spans}}
    shared = set.intersection(*kinds.values()) if kinds else set()
    durations: defaultdict[tuple[int, int, str], list[int]] = defaultdict(list)
    for span in spans:
        if span.kind in shared:
            durations[span.rank, span.call, span.kind].append(span.duration_ns)
    totals: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for (rank, call, _), values in durations.items():
        totals[rank][call] += intervals.median(values) / 1e9
    return {rank: list(calls.values()) for rank, calls in sorted(totals.items())}, "own computation in traced calls"


def _samples(record: Measurement) -> dict[int, list[float]]:
    variant = record.variants.get(record.main)
    rows = () if variant is None or variant.nanoseconds is None else variant.nanoseconds / (1e9 * variant.calls)
    by_rank = {}
    for rank, seconds in enumerate(rows):
        blocks = np.array_split(seconds, min(NUM_BLOCKS, len(seconds)))
        by_rank[rank] = [float(np.median(block)) for block in blocks]
    return by_rank if len(rows) == record.num_ranks else {}


def last_arrivals(record: Measurement) -> tuple[int, float] | None:
    """(rank, share) of the collectives that it came last to; None if none are marked."""
    last: Counter[int] = Counter()
    spans = record.main_spans()
    for call in {span.call for span in spans}:
        by_rank = [
            [s for s in spans if s.call == call and s.rank == r and timeline.sort_of(s.kind) == timeline.MOVE]
            for r in range(record.num_ranks)
        ]
        starts = [[s.start_ns if s.launch_ns is None else s.launch_ns for s in rank_times] for rank_times in by_rank]
        if len({len(rank_times) for rank_times in starts}) == 1 and starts[0]:
            last.update(max(range(len(row)), key=row.__getitem__) for row in zip(*starts, strict=True))
    if not last:
        return None
    rank, count = last.most_common(1)[0]
    return rank, count / sum(last.values())


def sentences(records: Sequence[Measurement]) -> list[str]:
    """Lines on ranks and links that stand out."""
    records = [record for record in records if record.status == "ok"]
    return [*_rank_sentences(records), *_link_sentences(records)]


def _rank_sentences(records: Sequence[Measurement]) -> list[str]:
    if not any(record.num_ranks > 1 for record in records):
        return []
    scores = rank_scores(records)
    slow: defaultdict[int, list[Score]] = defaultdict(list)
    for score in scores:
        if score.is_slow:
            slow[score.rank].append(score)
    if slow:
        cases = len({score.case for score in scores})
        return [
            f"slow rank: {rank}, in {len(of_rank)} of {cases} cases by its own computation (score "
            f"{intervals.median([s.score for s in of_rank]):.2f}, fastest median / own median; outlier test)"
            for rank, of_rank in sorted(slow.items())
        ]
    if scores:
        return [f"slow rank: none, by the ranks' own computation in {len({s.case for s in scores})} cases"]
    for record in records:
        rank, share = last_arrivals(record) or (0, 0.0)
        if share >= LAST_SHARE:
            return [f"rank {rank} is the last to arrive at {100 * share:.0f}% of the collectives: {record.case}"]
    return ["slow rank: not measured; no case of this file shows the ranks' own computation"]


def _link_sentences(records: Sequence[Measurement]) -> list[str]:
    pairs = [record for record in records if record.suite == POINT_TO_POINT]
    if not any(record.num_ranks > 1 for record in records):
        return []
    if not pairs:
        return ["slow link: not measured; it takes the suite point_to_point in the same file"]
    named = list(dict.fromkeys(line for record in pairs for line in _named_links(record)))
    if named:
        return named
    if all(record.derived.get("slow_links") is None for record in pairs):
        return ["slow link: not measured; point_to_point had too few ranks to tell which pair stands out"]
    return [f"slow link: none, by {len({record.case for record in pairs})} cases of point_to_point"]


def _named_links(record: Measurement) -> list[str]:
    """Links that point_to_point found to stand out: the first and the fourth column of its table of that name."""
    table = record.tables.get("stands_out")
    return [
        f"slow link: {row[0]}, {row[3]:.2f} times as long as the others ({record.case})"
        for row in (table.rows if table is not None else ())
    ]
