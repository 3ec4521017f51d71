"""Waterfall from the sum of the devices' peaks down to what a step achieved, one cause after the other.

Of the traced calls of a case the one that took most nearly the case's own time is run again
(`bench.analysis.explain.timeline`) with causes taken away in this order. Each is taken away on top of the ones before,
and also alone, since effects do not simply add:

    input stalls                    input takes no time
    slower than the median message  communication that takes longer than the median of its kind takes the median
    exposed communication           communication takes no time
    host between kernels            time outside of all spans is zero
    slowest device                  every rank computes at the speed of the fastest
    imbalance of the split          every rank has equally much to compute
    pipeline idle and waiting       ranks wait for nothing: the mean of the ranks' computation is left
    kernels below peak              the FLOPs at the devices' peak

The parts are those of one call, so that they add up to the step. If the call took less than the case, the residual is
the rest. If it took longer, as calls do that are traced, its parts are scaled to the case's time. Speeds of devices are
those that the case itself, or the compute suite in the same file, measured of each rank. Without them it is unknown
whether a rank with more computation is slow or has more to do, and both are shown as imbalance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.explain import timeline
from bench.analysis.explain.what_if import Operations
from bench.core.values import as_count
from bench.parallelism.layout import AXES, Layout
from bench.records.lines.kinds import Measurement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Seconds = NDArray[np.float64]

Change = Callable[[Operations, "Seconds"], "Seconds"]


@dataclass(frozen=True)
class Part:
    """One cause. Seconds of the step; None: not measured, for the reason in `how`."""

    name: str
    seconds: float | None
    alone_seconds: float | None
    """Gain of the step if only this were gone."""
    how: str


@dataclass(frozen=True)
class Waterfall:
    """Parts of one case, from `peak_seconds` through the last cause first to `measured_seconds`."""

    case: str
    num_ranks: int
    flops: float
    peak_flop_per_s: float
    """Peak of all ranks together."""
    peak_source: str
    measured_seconds: float
    traced_seconds: float
    """Time of the traced call that was run again."""
    parts: tuple[Part, ...]

    @property
    def peak_seconds(self) -> float:
        return self.flops / self.peak_flop_per_s


def _is_sort(sort: str) -> Callable[[Operations], NDArray[np.bool_]]:
    number = timeline.SORTS.index(sort)
    return lambda operations: operations.places["sort"] == number


def _without_sort(sort: str) -> Change:
    chosen = _is_sort(sort)
    return lambda operations, seconds: np.where(chosen(operations)[:, None], 0.0, seconds)


def _median_links(operations: Operations, seconds: Seconds) -> Seconds:
    moved, ideal = _is_sort(timeline.MOVE)(operations), seconds.copy()
    for number in range(len(operations.kinds)):
        chosen = moved & (operations.kind == number)
        if chosen.any():
            ideal[chosen] = np.minimum(seconds[chosen], np.median(seconds[chosen]))
    return ideal


def _equal_speeds(speeds: Sequence[float]) -> Change:
    by_rank = np.asarray(speeds) / max(speeds)

    def change(operations: Operations, seconds: Seconds) -> Seconds:
        factor = np.where(_is_sort(timeline.COMPUTE)(operations), by_rank[operations.places["rank"]], 1.0)
        return np.asarray(seconds * factor[:, None])

    return change


def _equal_shares(operations: Operations, seconds: Seconds) -> Seconds:
    computes, ranks = _is_sort(timeline.COMPUTE)(operations), operations.places["rank"]
    busy = np.bincount(ranks[computes], weights=seconds[computes, 0], minlength=int(ranks.max()) + 1)
    # Of no computation at all bincount counts in whole numbers, whatever the weights are.
    factor = np.divide(busy.mean(), busy, out=np.ones(busy.shape), where=busy > 0)
    return np.asarray(seconds * np.where(computes, factor[ranks], 1.0)[:, None])


def _no_waits(operations: Operations, seconds: Seconds) -> float:
    """Mean over the ranks of what they do, as if none waited."""
    return float(seconds.sum() / (int(operations.places["rank"].max()) + 1))


_HOW_SPEED = "ranks' computation over their measured speeds"
EXPOSED, SLOW_MESSAGES, RESIDUAL = "exposed communication", "slower than the median message", "residual"
_STEPS = (
    ("input stalls", "input spans at no time"),
    (SLOW_MESSAGES, "communications at most at the median of those as large along their axis"),
    (EXPOSED, "communication spans at no time, apart from waiting"),
    ("host between kernels", "time in no span at none"),
    ("slowest device", _HOW_SPEED),
    ("imbalance of the split", "every rank computes equally long"),
)


def waterfall(
    records: Sequence[Measurement],
    measured_seconds: float,
    peak_flop_per_s: float,
    peak_source: str,
    speeds: Sequence[float] | None,
) -> Waterfall:
    """`records`: of the case's launches, with spans of traced calls; `speeds`: of the ranks' devices, if known."""
    lead = records[0]
    flops = float((lead.work and lead.work.flops) or 0.0)
    operations = _typical_call(records, measured_seconds)
    parts, traced_seconds = _parts(operations, flops / peak_flop_per_s, peak_source, speeds)
    return Waterfall(
        case=lead.case,
        num_ranks=lead.num_ranks,
        flops=flops,
        peak_flop_per_s=peak_flop_per_s,
        peak_source=peak_source,
        measured_seconds=measured_seconds,
        traced_seconds=traced_seconds,
        parts=_add_up(parts, flops / peak_flop_per_s, traced_seconds, measured_seconds),
    )


def _parts(
    operations: Operations, peak_seconds: float, peak_source: str, speeds: Sequence[float] | None
) -> tuple[list[Part], float]:
    """Parts of the call, the last cause first, and its time."""
    changes: list[Change | None] = [
        _without_sort(timeline.FEED) if _is_sort(timeline.FEED)(operations).any() else None,
        _median_links,
        _without_sort(timeline.MOVE),
        _without_sort(timeline.HOST),
        None if speeds is None else _equal_speeds(speeds),
        _equal_shares,
    ]
    lacks = {0: "the case marks no input", 4: "no speed of each rank in this file (compute suite); see imbalance"}
    again = _cumulative_seconds(operations, changes)
    parts = []
    for number, ((name, how), change) in enumerate(zip(_STEPS, changes, strict=True)):
        if change is None:
            parts.append(Part(name, None, None, f"not measured: {lacks[number]}"))
            continue
        alone = again[0] - float(operations.run(change(operations, operations.seconds))[0])
        parts.append(Part(name, again[number] - again[number + 1], alone, how))
    work = _no_waits(operations, _apply_changes(operations, changes))
    how = "what is left over the mean of the ranks' computation"
    waits = round(again[-1] - work, 12)  # clocks count nanoseconds: what is left of a sum is none
    parts.append(Part("pipeline idle and waiting", waits, None, how))
    parts.append(Part("kernels below peak", work - peak_seconds, None, f"FLOPs at {peak_source}"))
    return parts[::-1], again[0]


def _add_up(
    parts: Sequence[Part], peak_seconds: float, traced_seconds: float, measured_seconds: float
) -> tuple[Part, ...]:
    """The parts and the residual: with the peak they add up to the measured time."""
    if not peak_seconds < measured_seconds < traced_seconds:
        rest = Part(RESIDUAL, measured_seconds - traced_seconds, None, "measured - re-run of the traced call")
        return (*parts, rest)
    factor = (measured_seconds - peak_seconds) / (traced_seconds - peak_seconds)
    how = f"none: the traced call took {traced_seconds / measured_seconds:.2f}x as long, and its parts are scaled"
    return (*(_scale(part, factor) for part in parts), Part(RESIDUAL, 0.0, None, how))


def _scale(part: Part, factor: float) -> Part:
    alone = None if part.alone_seconds is None else part.alone_seconds * factor
    return part if part.seconds is None else replace(part, seconds=part.seconds * factor, alone_seconds=alone)


def _typical_call(records: Sequence[Measurement], measured_seconds: float) -> Operations:
    """Graph of the traced call of the case itself whose time is nearest to the measured one, of all launches."""
    calls = [
        (max(row[number] for row in record.traced_call_ns), record, number)
        for record in records
        for number in range(len(record.traced_call_ns[0]))
        if not record.traced_variants or record.traced_variants[number] == record.main
    ]
    _, record, number = min(calls, key=lambda call: abs(call[0] * 1e-9 - measured_seconds))
    spans = [span for span in record.spans if span.call == number]
    return timeline.operations(spans, [row[number] for row in record.traced_call_ns], _groups(record))


def _groups(record: Measurement) -> timeline.GroupOf:
    """Groups of ranks along each axis, if the case is split along several (parameters `tp` and `pp`)."""
    num_ranks = record.num_ranks
    tensor, pipeline = (as_count(record.params.get(name)) for name in ("tp", "pp"))
    if not tensor or not pipeline or num_ranks % (tensor * pipeline):
        return timeline.one_group
    layout = Layout(tp=tensor, pp=pipeline, dp=num_ranks // (tensor * pipeline))

    def group_of(rank: int, axis: Any) -> object:
        return layout.peers(rank, axis) if axis in AXES else 0

    return group_of


def _cumulative_seconds(operations: Operations, changes: Sequence[Change | None]) -> list[float]:
    """Step times: as it was, then with each change on top of those before."""
    seconds = operations.seconds
    times = [float(operations.run(seconds)[0])]
    for change in changes:
        seconds = seconds if change is None else change(operations, seconds)
        times.append(float(operations.run(seconds)[0]))
    return times


def _apply_changes(operations: Operations, changes: Sequence[Change | None]) -> Seconds:
    seconds = operations.seconds
    for change in changes:
        seconds = seconds if change is None else change(operations, seconds)
    return seconds
