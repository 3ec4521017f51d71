"""Shares of a pipeline step that were spent waiting, from the spans of its traced pass.

    bubble_theory               waiting that the schedule's order alone forces, at the measured durations
    idle_share                  waiting that was measured
    communication_and_overhead  the rest: messages, the host's work between operations, and jitter

All are shares of the step. A bubble is o / (1 + o), where the overhead o = makespan / ideal - 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from bench.parallelism.pipeline.replay import KINDS, Computation, replay
from bench.suite import Span

LOSS = "loss"
"""Kind of the span around the loss function, which follows each forward of the last stage."""


def stage_seconds(spans: Sequence[Span]) -> dict[tuple[int, str], float]:
    """(stage, kind) -> seconds of one operation, the median over microbatches and calls.

    The loss is counted to the forward of its stage.

    One typical duration per kind, not each operation's own: a single interrupted operation is not caused by
    the schedule, and belongs to the overhead.
    """
    samples: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for span in spans:
        if span.stage is not None:
            samples[span.stage, span.kind].append(span.duration_ns)
    seconds = {key: median(values) / 1e9 for key, values in samples.items()}
    for stage, kind in list(seconds):
        if kind == LOSS:
            seconds[stage, "forward"] += seconds.pop((stage, LOSS))
    return seconds


def bubble_theory(spans: Sequence[Span], planned: Sequence[Computation]) -> float | None:
    """Share of the step that ranks wait when a schedule's operations are replayed with the spans' durations.

    Messages take no time in it. None if an operation of the schedule has no span.
    """
    seconds = stage_seconds(spans)
    if not {(operation.stage, operation.kind) for operation in planned} <= seconds.keys():
        return None
    return replay([each._replace(seconds=seconds[each.stage, each.kind]) for each in planned]).bubble


def idle_share(spans: Sequence[Span], traced_call_ns: Sequence[Sequence[int]]) -> float | None:
    """1 - mean over ranks of busy time / step, the median over the traced calls.

    The step is the longest rank's call. `traced_call_ns` is [rank][call]. None without a traced call.
    """
    busy: defaultdict[tuple[int, int], int] = defaultdict(int)
    for span in spans:
        if span.kind in KINDS or span.kind == LOSS:
            busy[span.call, span.rank] += span.duration_ns
    shares = [
        1.0 - fmean(busy[call, rank] for rank in range(len(ranks))) / max(ranks)
        for call, ranks in enumerate(zip(*traced_call_ns, strict=True))
    ]
    return median(shares) if shares else None
