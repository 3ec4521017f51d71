"""Predicts a step on ranks of unequal speed from the spans of the same step on equal ones.

Every computation keeps the duration that it had, except for what grows with its share of the work (the fraction that
does not was measured: `bench.workloads.parallel.relative_speed`), over the speed of its new rank. Every communication
keeps its own duration, apart from waiting: end - the latest start among its ranks. Then the step is run again as what
waits for what:

    data       the ranks' microbatches, then one sum that waits for the last rank
    tensor     a layer's shares, then one sum that waits for the last rank; layer after layer, forward and backward
    pipeline   1F1B over the stages, each message taking its own time

Single durations are used, not means: several ranks wait for the longest of theirs, and the mean of a maximum is more
than the maximum of means. The time that the uniform step spent outside of all spans is added as it was.

    bound      the computation over the sum of the speeds, and the rest of the uniform step as it was
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from bench.parallelism.pipeline.orders import one_f_one_b
from bench.parallelism.pipeline.replay import Computation, replay
from bench.suite import COMMUNICATION, Span

Spans = Sequence[Span]


@dataclass(frozen=True)
class Uniform:
    """One traced call of the step on equal ranks, by place in the team."""

    ranks: tuple[int, ...]
    shares: tuple[int, ...]
    compute: Mapping[int, tuple[Span, ...]]
    """Rank -> its computations in order."""
    messages: Mapping[int, tuple[Span, ...]]
    """Rank -> its communications in order."""
    call_ns: int
    """Nanoseconds of the slowest rank's call."""

    @property
    def own_seconds(self) -> dict[int, float]:
        return {rank: sum(span.duration_ns for span in self.compute[rank]) / 1e9 for rank in self.ranks}

    @property
    def outside_seconds(self) -> float:
        """Time of the call that lies in no span, on the rank that has the least of it; the others wait."""
        spent = [sum(s.duration_ns for s in (*self.compute[r], *self.messages[r])) for r in self.ranks]
        return max(0.0, (self.call_ns - max(spent)) / 1e9)

    def collective_seconds(self) -> list[float]:
        """Own duration of each of the collectives: from the latest start among the ranks to the end there."""
        rows = zip(*(self.messages[rank] for rank in self.ranks), strict=True)
        return [max(0.0, fmean(_end(s) for s in row) - max(s.start_ns for s in row)) / 1e9 for row in rows]


def _end(span: Span) -> int:
    return span.start_ns + span.duration_ns


def uniform_calls(
    spans: Spans, call_ns: Sequence[Sequence[int]], calls: Sequence[int], ranks: Sequence[int], shares: Sequence[int]
) -> list[Uniform]:
    """The traced calls in `calls`; `call_ns` is [rank][call]."""
    uniform = []
    for call in calls:
        compute: dict[int, list[Span]] = {rank: [] for rank in ranks}
        messages: dict[int, list[Span]] = {rank: [] for rank in ranks}
        for span in sorted(spans, key=lambda s: s.start_ns):
            if span.call == call and span.rank in compute:
                (messages if span.kind == COMMUNICATION else compute)[span.rank].append(span)
        uniform.append(
            Uniform(
                tuple(ranks),
                tuple(shares),
                {rank: tuple(spans_of_rank) for rank, spans_of_rank in compute.items()},
                {rank: tuple(spans_of_rank) for rank, spans_of_rank in messages.items()},
                max(call_ns[rank][call] for rank in ranks),
            )
        )
    return uniform


@dataclass(frozen=True)
class Dealing:
    """Other shares, on ranks of these speeds (1: as measured)."""

    shares: tuple[int, ...]
    speeds: tuple[float, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Kind of computation -> fraction of its time at the old share that it takes whatever the share."""

    def seconds(self, span: Span, place: int, before: int) -> float:
        """Duration of a computation that had `before` units of the work, on the rank at `place`."""
        fixed = self.fixed.get(span.kind, 0.0)
        grown = fixed + (1.0 - fixed) * self.shares[place] / before
        return span.duration_ns / 1e9 * grown / self.speeds[place]


def predicted(op: str, calls: Sequence[Uniform], dealing: Dealing) -> float | None:
    """Times as long as the uniform step with other shares on ranks of other speeds.

    The median over the traced calls, each compared with itself: whatever made that call slower or faster cancels.
    """
    ratios = [_PREDICTIONS[op](call, dealing) / (call.call_ns / 1e9) for call in calls]
    return median(ratios) if ratios else None


def predicted_bound(calls: Sequence[Uniform], speeds: Sequence[float]) -> float | None:
    """Times as long as the uniform step no split could beat, if units had any size and nothing else changed."""
    ratios = []
    for call in calls:
        busy = fmean(call.own_seconds.values()) / (call.call_ns / 1e9)
        ratios.append(1.0 - busy + busy * len(speeds) / sum(speeds))
    return median(ratios) if ratios else None


def _data_step(call: Uniform, dealing: Dealing) -> float:
    # Durations of single microbatches, dealt again: those of all ranks in turn.
    pool = [s.duration_ns / 1e9 for rank in call.ranks for s in call.compute[rank] if s.microbatch is not None]
    others = [sum(s.duration_ns for s in call.compute[rank] if s.microbatch is None) / 1e9 for rank in call.ranks]
    ready, taken = [], 0
    for share, speed, other in zip(dealing.shares, dealing.speeds, others, strict=True):
        durations = [pool[number % len(pool)] for number in range(taken, taken + share)]
        taken += share
        ready.append((sum(durations) + other) / speed)
    return max(ready) + sum(call.collective_seconds()) + call.outside_seconds


def _tensor_step(call: Uniform, dealing: Dealing) -> float:
    levels = zip(*(call.compute[rank] for rank in call.ranks), strict=True)
    total = sum(
        max(dealing.seconds(span, place, call.shares[place]) for place, span in enumerate(level)) for level in levels
    )
    return total + sum(call.collective_seconds()) + call.outside_seconds


def _pipeline_step(call: Uniform, dealing: Dealing) -> float:
    num_stages = len(dealing.shares)
    seconds = {
        (span.kind, stage, span.microbatch): dealing.seconds(span, stage, call.shares[stage])
        for stage, rank in enumerate(call.ranks)
        for span in call.compute[rank]
    }
    num_microbatches = 1 + max(s.microbatch for s in call.compute[call.ranks[0]] if s.microbatch is not None)
    operations = [
        Computation(stage, stage, microbatch, kind, seconds[kind, stage, microbatch])
        for stage in range(num_stages)
        for _, microbatch, kind, _ in one_f_one_b(stage, num_stages, num_microbatches)
    ]
    message = _message_seconds(call)
    return replay(operations, lambda sender, receiver: message).makespan_seconds + call.outside_seconds


def _message_seconds(call: Uniform) -> float:
    """Own duration of a message: from the end of the computation that it carries, or its receiver's readiness."""
    done = {(s.kind, stage, s.microbatch): _end(s) for stage, r in enumerate(call.ranks) for s in call.compute[r]}
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for stage, rank in enumerate(call.ranks):
        for span in call.messages[rank]:
            if span.microbatch is None:
                continue
            for kind, other in (("forward", stage - 1), ("backward", stage + 1)):
                sent = done.get((kind, other, span.microbatch))
                if sent is not None and sent <= _end(span) and _belongs(span, kind, done, stage):
                    taken[kind].append(max(0.0, (_end(span) - max(sent, span.start_ns)) / 1e9))
    every = [seconds for values in taken.values() for seconds in values]
    return fmean(every) if every else 0.0


def _belongs(span: Span, kind: str, done: Mapping[tuple[str, int, int | None], int], stage: int) -> bool:
    """True if a message has this direction: it came before the computation of its kind had ended, after no other."""
    end = done.get((kind, stage, span.microbatch))
    forward = done.get(("forward", stage, span.microbatch))
    return (
        end is not None and (_end(span) <= end) and (kind == "forward" or forward is None or span.start_ns >= forward)
    )


_PREDICTIONS: dict[str, Callable[[Uniform, Dealing], float]] = {
    "data": _data_step,
    "tensor": _tensor_step,
    "pipeline": _pipeline_step,
}
