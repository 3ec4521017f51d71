"""Waterfall from the sum of the devices' peaks down to what a step achieved, one cause after the other.

The traced calls of a case are run again (`bench.analysis.explain.timeline`) with causes taken away in this order, each
on top of the ones before, and each alone beside it, since effects do not simply add:

    input stalls            input takes no time
    slow link               communication that takes longer than the median of its kind takes the median
    exposed communication   communication takes no time
    host between kernels    what lies in no span takes no time
    slowest device          every rank computes at the speed of the fastest
    imbalance of the split  every rank has equally much to compute
    pipeline idle           ranks wait for nothing: what is left is the mean of the ranks' computation
    kernels below peak      the FLOPs at the devices' peak

and the residual, what was measured - what the re-run gives, is shown as such. Speeds of devices are those that the case
itself, or the compute suite in the same file, measured of each rank; without them nobody can say whether a rank with
more computation is slow or has more to do, and both are shown as imbalance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.explain import timeline
from bench.analysis.explain.what_if import Operations
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
    factor = np.divide(busy.mean(), busy, out=np.ones_like(busy), where=busy > 0)
    return np.asarray(seconds * np.where(computes, factor[ranks], 1.0)[:, None])


def _no_waits(operations: Operations, seconds: Seconds) -> float:
    """Mean over the ranks of what they do, as if nobody waited."""
    return float(seconds.sum() / (int(operations.places["rank"].max()) + 1))


_HOW_SPEED = "ranks' computation over their measured speeds"
_STEPS = (
    ("input stalls", "input spans at no time"),
    ("slow link", "communications at most at the median of those as large along their axis"),
    ("exposed communication", "communication spans at no time, apart from waiting"),
    ("host between kernels", "time in no span at none"),
    ("slowest device", _HOW_SPEED),
    ("imbalance of the split", "every rank computes equally long"),
)


def waterfall(
    record: Measurement,
    measured_seconds: float,
    peak_flop_per_s: float,
    peak_source: str,
    speeds: Sequence[float] | None,
) -> Waterfall:
    """`record` has spans of the case's traced calls; `speeds` are those of the ranks' devices, where measured."""
    calls = _calls(record)
    changes: list[Change | None] = [
        _without_sort(timeline.FEED),
        _median_links,
        _without_sort(timeline.MOVE),
        _without_sort(timeline.HOST),
        None if speeds is None else _equal_speeds(speeds),
        _equal_shares,
    ]
    again, alone, ideal = [], [], []
    for operations in calls:
        again.append(_cumulative_seconds(operations, changes))
        changed = [None if c is None else c(operations, operations.seconds) for c in changes]
        whole = operations.run(operations.seconds)[0]
        alone.append([None if seconds is None else float(whole - operations.run(seconds)[0]) for seconds in changed])
        ideal.append(_no_waits(operations, _apply_changes(operations, changes)))
    actual = median(row[0] for row in again)
    parts = [Part("residual", measured_seconds - actual, None, "measured - re-run of the traced calls")]
    for number, (name, how) in enumerate(_STEPS):
        if changes[number] is None:
            reason = "not measured: no speed of each rank in this file (compute suite); see imbalance"
            parts.append(Part(name, None, None, reason))
            continue
        if number == 0 and not any(_is_sort(timeline.FEED)(operations).any() for operations in calls):
            parts.append(Part(name, None, None, "not measured: the case marks no input"))
            continue
        gained = median(row[number] - row[number + 1] for row in again)
        parts.append(Part(name, gained, median(row[number] or 0.0 for row in alone), how))
    work, flops = median(ideal), float((record.work and record.work.flops) or 0.0)
    waits = median(row[-1] for row in again) - work
    parts.append(Part("pipeline idle and waiting", waits, None, "what is left over the mean of the ranks' computation"))
    parts.append(Part("kernels below peak", work - flops / peak_flop_per_s, None, f"FLOPs at {peak_source}"))
    return Waterfall(
        record.case, record.num_ranks, flops, peak_flop_per_s, peak_source, measured_seconds, tuple(reversed(parts))
    )


def _calls(record: Measurement) -> list[Operations]:
    """A graph of each traced call of the case itself."""
    names, call_ns, group_of = record.traced_variants, record.traced_call_ns, _groups(record)
    numbers = [n for n in range(len(call_ns[0])) if not names or names[n] == record.main]
    return [
        timeline.operations([s for s in record.spans if s.call == n], [row[n] for row in call_ns], group_of)
        for n in numbers
    ]


def _groups(record: Measurement) -> timeline.GroupOf:
    """Groups of ranks along each axis, if the case is split along several (parameters `tp` and `pp`)."""
    num_ranks = record.num_ranks
    tensor, pipeline = (int(record.params.get(name) or 0) for name in ("tp", "pp"))
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
