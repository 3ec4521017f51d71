"""Suspects: slow ranks and slow links, named only from what shows them, beyond chance, and often enough to act on.

A rank is judged by its own computation, never by how long its call takes: if ranks wait for one another, the fast
ones wait. Of every traced call the time of each kind of computation that all ranks do equally, and of the compute suite
each rank's own samples. The score is fastest median / own median, as in NVIDIA's resiliency extension (straggler
detection, relative performance). The outlier test of `bench.stats.outliers` flags a rank in one measurement: one
case in one launch. Without spans of computation a rank is judged by how long the others wait for it in collectives.

A link is judged only by the suite point_to_point in the same file: messages between two ranks and no others.

One flag is not an accusation. The test looks within a launch, and a minute in which another program ran looks like a
slow rank. A suspect is flagged in at least `MIN_SHARE` of all measurements that could show it, and in more than false
alarms explain (`is_accused`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.analysis.explain import timeline
from bench.core.values import counted
from bench.records.lines.kinds import Measurement
from bench.stats import intervals, outliers
from bench.stats.distributions import binomial_tail

OUTLIER = 0.10
"""Ranks of one kind differ by a few percent in good health."""
SHARED_KINDS = ("forward", "backward", "forward_backward")
"""Computations that every rank does equally much of; a loss or an embedding belongs to one stage."""
NUM_BLOCKS = 8
"""Blocks of a rank's samples, whose medians stand for repeated measurements."""
LAST_SHARE = 0.8
"""Share of its collectives to which a rank comes last that makes it the last to arrive."""
WAIT_SHARE = 0.05
"""Share of a call that the others wait for the last to arrive, below which no action is needed."""
MIN_SHARE = 0.25
"""Share of the measurements in which a suspect stands out, below which it is not accused."""
MAX_CHANCE = 0.05
"""Probability of as many false alarms of one rank or link, above which it is not accused."""
POINT_TO_POINT = "point_to_point"

Measured = tuple[str, int]
"""Case and launch: one measurement."""


@dataclass(frozen=True)
class Score:
    """One rank in one measurement."""

    measured: Measured
    rank: int
    score: float
    """Fastest median / own median of the same computation: 1 is the fastest."""
    is_slow: bool
    """Verdict of the outlier test."""


@dataclass(frozen=True)
class Suspect:
    """A rank or a link that is accused, and how often it stood out."""

    kind: Literal["rank", "late", "link"]
    name: str
    """Rank or link, such as `rank 1` or `slow link, rank 2 to 3:`."""
    figure: str
    """How slow it is, in words, against what."""
    num_slow: int
    num_measured: int
    """Measurements in which it stood out, of those that could show it."""
    times_as_long: float

    @property
    def text(self) -> str:
        """The accusation in one sentence without its full stop."""
        return f"{self.name} {self.figure} in {self.num_slow} of {counted(self.num_measured, 'measurement')}"


def is_accused(num_slow: int, num_measured: int, false_alarms: float, num_candidates: int = 1) -> bool:
    """True if this many flags are worth acting on and are more than false alarms at this rate would give.

    `num_candidates`: number of those of whom the one with most flags was picked to be judged.
    """
    often = num_slow > 0 and num_slow >= MIN_SHARE * num_measured
    return often and num_candidates * binomial_tail(num_slow, num_measured, false_alarms) <= MAX_CHANCE


def rank_scores(records: Iterable[Measurement]) -> list[Score]:
    """All ranks of all measurements that show their own computation often enough to be judged."""
    measured: list[tuple[Measured, str, dict[int, list[float]]]] = []
    for record in records:
        if record.status != "ok" or record.num_ranks < 2:
            continue
        seconds, source = _own_seconds(record)
        if len(seconds) == record.num_ranks:
            measured.append(((record.case, record.launch), source, seconds))
    peer_groups = [
        outliers.CaseMembers(
            {str(r): outliers.MemberLaunches(np.log(values)) for r, values in seconds.items()}, kind=source
        )
        for _, source, seconds in measured
    ]
    scores = []
    for (key, _, seconds), judged in zip(measured, outliers.judge(peer_groups, OUTLIER), strict=True):
        if all(member.p_value is None for member in judged):
            continue
        medians = {rank: intervals.median(values) for rank, values in seconds.items()}
        slow = {member.member for member in judged if member.verdict == "slower"}
        scores += [
            Score(key, rank, min(medians.values()) / own_median, str(rank) in slow)
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


def late_rank(record: Measurement) -> tuple[int, float] | None:
    """(rank, share of the call that the others wait for it) if one rank comes last to nearly all collectives."""
    last: Counter[int] = Counter()
    wait_ns, call_ns = 0, 0
    spans = record.main_spans()
    for call in {span.call for span in spans}:
        by_rank = [
            [s for s in spans if s.call == call and s.rank == r and timeline.sort_of(s.kind) == timeline.MOVE]
            for r in range(record.num_ranks)
        ]
        starts = [[s.start_ns if s.launch_ns is None else s.launch_ns for s in rank_times] for rank_times in by_rank]
        if len({len(rank_times) for rank_times in starts}) == 1 and starts[0]:
            call_ns += max(rank_times[call] for rank_times in record.traced_call_ns)
            for row in zip(*starts, strict=True):
                *_, second, latest = sorted(row)
                last[row.index(latest)] += 1
                wait_ns += latest - second
    if not last or not call_ns:
        return None
    rank, count = last.most_common(1)[0]
    return (rank, wait_ns / call_ns) if count >= LAST_SHARE * last.total() else None


def suspects(records: Iterable[Measurement]) -> list[Suspect]:
    """Ranks and links that are accused; `records` have one for each case and launch."""
    records = [record for record in records if record.status == "ok" and record.num_ranks > 1]
    scores = rank_scores(records)
    return [*(_slow_ranks(scores) if scores else _late_ranks(records)), *_slow_links(records)]


def _slow_ranks(scores: Sequence[Score]) -> list[Suspect]:
    by_rank: defaultdict[int, list[Score]] = defaultdict(list)
    for score in scores:
        by_rank[score.rank].append(score)
    shares = {rank: sum(score.is_slow for score in of_rank) / len(of_rank) for rank, of_rank in by_rank.items()}
    found = []
    for rank, of_rank in sorted(by_rank.items()):
        slow = [score.score for score in of_rank if score.is_slow]
        others = [share for other, share in shares.items() if other != rank]
        if is_accused(len(slow), len(of_rank), _false_alarms(others)):
            fastest = f"rank {1 - rank}" if len(by_rank) == 2 else "the fastest rank"
            speed = intervals.median(slow)
            figure = f"is slow: {_speed_words(speed, fastest)}"
            found.append(Suspect("rank", f"rank {rank}", figure, len(slow), len(of_rank), 1 / speed))
    return found


def _false_alarms(other_shares: Sequence[float]) -> float:
    """Rate of false alarms of one rank: how often the others are flagged, at least the test's own.

    Where another program disturbs now this rank and now that one, all of them are flagged at times, more often than the
    test says, which takes a launch's samples as independent.
    """
    return min(0.99, max(outliers.FALSE_DISCOVERIES, intervals.median(other_shares)))


def _speed_words(speed: float, fastest: str) -> str:
    shown = f"{speed:.2f}x"
    return f"half as fast as {fastest} ({shown})" if shown == "0.50x" else f"{shown} as fast as {fastest}"


def _late_ranks(records: Sequence[Measurement]) -> list[Suspect]:
    """Ranks that the others wait for; by chance each rank is last in a call of two ranks every other time."""
    marked = [record for record in records if any(timeline.sort_of(s.kind) == timeline.MOVE for s in record.spans)]
    late: defaultdict[int, list[tuple[float, Measurement]]] = defaultdict(list)
    for record in marked:
        rank, share = late_rank(record) or (0, 0.0)
        if share >= WAIT_SHARE:
            late[rank].append((share, record))
    found = []
    for rank, waits in sorted(late.items()):
        # Ranks leave the alignment before a call in any order: chance makes one last in all calls, not in many.
        by_chance = max(record.num_ranks ** -float(len(record.traced_call_ns[0])) for _, record in waits)
        if is_accused(len(waits), len(marked), max(outliers.FALSE_DISCOVERIES, by_chance)):
            share = intervals.median([share for share, _ in waits])
            figure = f"arrives last at collectives: the others wait {100 * share:.0f}% of the call for it"
            found.append(Suspect("late", f"rank {rank}", figure, len(waits), len(marked), 1 / (1 - min(share, 0.99))))
    return found


def _judged_links(records: Iterable[Measurement]) -> list[Measurement]:
    return [r for r in records if r.suite == POINT_TO_POINT and r.derived.get("slow_links") is not None]


def _slow_links(records: Sequence[Measurement]) -> list[Suspect]:
    """Links that point_to_point found to stand out: the first and the fourth column of its table of that name."""
    judged = _judged_links(records)
    times: defaultdict[str, list[float]] = defaultdict(list)
    for record in judged:
        table = record.tables.get("stands_out")
        for row in table.rows if table is not None else ():
            times[str(row[0])].append(float(row[3] or 1.0))
    found = []
    for name, values in times.items():
        if is_accused(len(values), len(judged), outliers.FALSE_DISCOVERIES):
            longer = intervals.median(values)
            figure = f"{longer:.2f} times as long as the others"
            found.append(Suspect("link", f"slow link, {name}:", figure, len(values), len(judged), longer))
    return sorted(found, key=lambda suspect: -suspect.times_as_long)


def sentences(records: Sequence[Measurement]) -> list[str]:
    """Lines on ranks and links that stand out, and on what remains unknown of them."""
    records = [record for record in records if record.status == "ok" and record.num_ranks > 1]
    if not records:
        return []
    found = suspects(records)
    ranks = [suspect.text for suspect in found if suspect.kind != "link"]
    links = [suspect.text for suspect in found if suspect.kind == "link"]
    return [*(ranks or [ranks_judged(records)]), *(links or [links_judged(records)])]


def ranks_judged(records: Iterable[Measurement]) -> str:
    """Sentence on ranks of which none is accused, without its full stop."""
    measured = {score.measured for score in rank_scores(records)}
    if measured:
        return f"no rank is slow, by the ranks' own computation in {counted(len(measured), 'measurement')}"
    return "slow ranks were not measured: no case of this file shows the ranks' own computation"


def links_judged(records: Sequence[Measurement]) -> str:
    """Sentence on links of which none is accused, without its full stop."""
    judged = _judged_links(records)
    if judged:
        return f"no link is slow, by {counted(len(judged), 'measurement')} of point_to_point"
    if any(record.suite == POINT_TO_POINT for record in records):
        return "slow links were not measured: too few ranks to tell which pair stands out"
    return "slow links were not measured: that takes the suite point_to_point in the same file"
