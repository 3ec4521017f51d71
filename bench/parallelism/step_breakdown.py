"""Parts of a training step's time, from the spans of the traced pass: pure functions.

Of each rank, in the order in which time is given away; no nanosecond is counted twice:

    forward, backward, optimizer   their spans (the loss is counted to the forward), without the time in which the
                                   host stood still for communication inside them
    waiting                        of collectives: from when the host waits until the last rank of the group
                                   has started its part (the collectives of a group are numbered alike on its
                                   ranks). Also the end of the step, from the end of this rank's own call to the last's
    exposed_communication          the rest of that wait: the transfer that nothing hides
    pipeline_idle                  of the pipeline's messages: waiting while no operation of another stage that
                                   the next of this rank is made from has ended; at the end of a step as `waiting`
    other                          what is left: the host's work between the spans

A step is the longest rank's call, so that each rank's parts add up to the step. The ranks' clocks are set by the
alignment before the call: they differ by how unequally ranks leave it. On a GPU it is the stream of the computation
that waits, not the host, and the times are the device's: `other` is then what the device waits for the host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.parallelism.layout import Layout
from bench.parallelism.pipeline.bubble import LOSS
from bench.suite import COMMUNICATION, Span

PARTS = {
    "forward": "the forward pass and the loss",
    "backward": "the backward pass",
    "optimizer": "the optimizer",
    "exposed_communication": "transfer that nothing hides",
    "waiting": "waiting for other ranks in collectives and at the end of the step",
    "pipeline_idle": "waiting for the stages before and behind",
    "other": "none of the other parts, such as the host's work between them",
}
"""Part -> what it is, in a few words."""
SHARES = {part: f"{part}_share" for part in PARTS}
"""Part -> the metric that is its share of the step."""
TABLE = "time_by_part"
"""Name of the table of the ranks' parts in a result file."""
HEADS = {part: f"{part} ms" for part in PARTS}
"""Part -> head of its column in that table."""
_COMPUTE = {
    "forward": "forward",
    LOSS: "forward",
    "backward": "backward",
    "backward_input": "backward",
    "backward_weight": "backward",
    "optimizer": "optimizer",
}
"""Kind of a span -> the part that it is of."""

_Operation = tuple[int, str, int | None, int | None]
"""Rank, what it yields (`forward` or `backward`), stage and microbatch."""

Parts = dict[str, float]
"""Part -> nanoseconds."""


def step_parts(
    spans: Sequence[Span], traced_call_ns: Sequence[Sequence[int]], layout: Layout, num_stages: int
) -> list[list[Parts]]:
    """[call][rank]: the parts of each; `traced_call_ns` is [rank][call]. Empty without a traced call."""
    of_call: defaultdict[int, list[Span]] = defaultdict(list)
    for span in spans:
        of_call[span.call].append(span)
    return [
        _parts_of_call(of_call[call], durations, layout, num_stages)
        for call, durations in enumerate(zip(*traced_call_ns, strict=True))
    ]


def mean_shares(calls: Sequence[Sequence[Parts]]) -> Mapping[str, float | None]:
    """Part -> share of the mean step, mean over the ranks, so that they add up to 1; None without a call."""
    return _shares(rank_seconds(calls)) or dict.fromkeys(PARTS)


def table_shares(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Part -> the same share, from the saved table of the ranks' parts; empty if a part is not known there.

    Files made before the shares added up have the median over the calls, part by part, as the shares.
    """
    places = [columns.index(head) for head in HEADS.values() if head in columns]
    ranks = [[row[place] for place in places] for row in rows]
    if len(places) != len(HEADS) or not all(isinstance(value, int | float) for rank in ranks for value in rank):
        return {}
    return _shares([dict(zip(HEADS, rank, strict=True)) for rank in ranks])


def _shares(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Part -> share of all time of all ranks; empty without a rank."""
    total = sum(sum(parts.values()) for parts in ranks)
    return {part: sum(parts[part] for parts in ranks) / total for part in PARTS} if total > 0 else {}


def rank_seconds(calls: Sequence[Sequence[Parts]]) -> list[dict[str, float]]:
    """Part -> seconds per step of each rank, the mean over the calls, so that they add up to the mean step."""
    num_ranks = len(calls[0]) if calls else 0
    return [{part: fmean(ranks[rank][part] for ranks in calls) / 1e9 for part in PARTS} for rank in range(num_ranks)]


def _parts_of_call(spans: Sequence[Span], durations: Sequence[int], layout: Layout, num_stages: int) -> list[Parts]:
    step = max(durations)
    last_launch, ends = _last_launches(spans, layout), _ends(spans)
    by_rank: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda s: s.start_ns):
        by_rank[span.rank].append(span)
    parts_of_ranks = []
    for rank, duration in enumerate(durations):
        parts = dict.fromkeys(PARTS, 0.0)
        compute = [span for span in by_rank[rank] if span.kind in _COMPUTE]
        for span in compute:
            parts[_COMPUTE[span.kind]] += span.duration_ns
        for span in by_rank[rank]:
            if span.kind == COMMUNICATION:
                _give_away(span, parts, compute, layout, num_stages, last_launch, ends)
        parts["pipeline_idle" if layout.pp > 1 else "waiting"] += step - duration
        parts["other"] = step - sum(parts.values())
        parts_of_ranks.append(parts)
    return parts_of_ranks


def _give_away(
    span: Span,
    parts: Parts,
    compute: Sequence[Span],
    layout: Layout,
    num_stages: int,
    last_launch: Mapping[tuple[str | None, tuple[int, ...], int], int],
    ends: Mapping[_Operation, int],
) -> None:
    """Add a waiting time to the parts that it is of, and take it from the computation around it."""
    around = next((other for other in compute if 0 <= span.start_ns - other.start_ns < other.duration_ns), None)
    if around is not None:
        parts[_COMPUTE[around.kind]] -= span.duration_ns
    if span.axis is not None and span.sequence is not None:
        part, until = "waiting", last_launch[span.axis, layout.peers(span.rank, span.axis), span.sequence]
    else:
        following = next((other for other in compute if other.start_ns >= span.start_ns), None)
        part, until = "pipeline_idle", _made_ns(following, layout, num_stages, ends)
    standing = min(max(until - span.start_ns, 0), span.duration_ns)
    parts[part] += standing
    parts["exposed_communication"] += span.duration_ns - standing


def _ends(spans: Sequence[Span]) -> dict[_Operation, int]:
    """End of each operation, when its result was there; an input gradient is there before its weight gradient."""
    return {
        (span.rank, _YIELDS[span.kind], span.stage, span.microbatch): span.start_ns + span.duration_ns
        for span in spans
        if span.kind in _YIELDS
    }


_YIELDS = {"forward": "forward", "backward": "backward", "backward_input": "backward"}


def _made_ns(following: Span | None, layout: Layout, num_stages: int, ends: Mapping[_Operation, int]) -> int:
    """End of the neighbour's operation that an operation waits for; 0 if it waits for none."""
    if following is None or following.stage is None or following.kind not in _YIELDS:
        return 0
    yields = _YIELDS[following.kind]
    neighbour = following.stage + (-1 if yields == "forward" else 1)
    if not 0 <= neighbour < num_stages:
        return 0
    peers = layout.peers(following.rank, "pipeline")
    known = (ends.get((peer, yields, neighbour, following.microbatch)) for peer in peers)
    return max((end for end in known if end is not None), default=0)


def _last_launches(spans: Sequence[Span], layout: Layout) -> dict[tuple[str | None, tuple[int, ...], int], int]:
    """(axis, group, number of the collective) -> when the last rank of the group started its part."""
    last: dict[tuple[str | None, tuple[int, ...], int], int] = {}
    for span in spans:
        if span.axis is not None and span.sequence is not None and span.launch_ns is not None:
            key = (span.axis, layout.peers(span.rank, span.axis), span.sequence)
            last[key] = max(last.get(key, 0), span.launch_ns)
    return last
