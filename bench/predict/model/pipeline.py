"""A pipeline's time from the time of its stages: a formula for the search, replay of the schedule for one prediction.

With p ranks, m microbatches, v stages a rank, and t_r the work of rank r on one microbatch (forward and backward), the
slowest rank sets the pace, and filling and draining adds what the others need once, a v-th of it where stages are
interleaved (arXiv 2104.04473, section 2.2; with equal t the bubble is (p - 1)(t) / v):

    T = m max(t) + (sum(t) - max(t)) / v          gpipe, 1f1b, interleaved

Zero-bubble schedules put weight gradients w into the bubble (arXiv 2401.10241, section 3): with forward f, input
gradient b and weight gradient w a microbatch, `zb1p` leaves (p - 1)(f + b - 2 w), never less than zero, at the memory
of 1F1B; `zb2p`, with twice that, leaves none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.parallelism.pipeline.replay import Computation, replay

MAX_REPLAYED = 20_000
"""Operations of a schedule that one prediction replays: more take longer than the prediction may."""


@dataclass(frozen=True)
class Stages:
    """Of each rank: seconds of one microbatch, all its stages together."""

    forward: tuple[float, ...]
    backward: tuple[float, ...]
    microbatches: int
    stages_per_rank: int = 1

    @property
    def ranks(self) -> int:
        return len(self.forward)

    @property
    def totals(self) -> list[float]:
        return [f + b for f, b in zip(self.forward, self.backward, strict=True)]


def _filled_and_drained(stages: Stages) -> float:
    totals = stages.totals
    return stages.microbatches * max(totals) + (sum(totals) - max(totals)) / stages.stages_per_rank


def _zero_bubble_1p(stages: Stages) -> float:
    """A backward is half input gradient and half weight gradient."""
    totals = stages.totals
    slowest = totals.index(max(totals))
    share = max(0.0, stages.forward[slowest] - 0.5 * stages.backward[slowest]) / max(totals)
    return stages.microbatches * max(totals) + share * (sum(totals) - max(totals))


def _no_bubble(stages: Stages) -> float:
    return stages.microbatches * max(stages.totals)


@dataclass(frozen=True)
class PipelineSchedule:
    """One row: how long it takes, and how many microbatches' activations the first rank holds at most."""

    seconds: Callable[[Stages], float]
    held: Callable[[int, int, int], float]
    """(ranks, microbatches, stages a rank) -> microbatches whose activations of all its layers a rank holds."""
    needs_interleave: bool | None = False
    """True: several stages a rank, False: one, None: either."""


def _held_all(_ranks: int, microbatches: int, _stages: int) -> float:
    return float(microbatches)


def _held_1f1b(ranks: int, microbatches: int, _stages: int) -> float:
    return float(min(microbatches, ranks))


def _held_interleaved(ranks: int, microbatches: int, stages: int) -> float:
    """arXiv 2104.04473, section 2.2: 1F1B's, and (p - 1) / (p v) of it more."""
    return min(float(microbatches), ranks * (1.0 + (ranks - 1) / (ranks * stages)))


SCHEDULES: dict[str, PipelineSchedule] = {
    "gpipe": PipelineSchedule(_filled_and_drained, _held_all),
    "1f1b": PipelineSchedule(_filled_and_drained, _held_1f1b),
    "interleaved": PipelineSchedule(_filled_and_drained, _held_interleaved, True),
    "zb1p": PipelineSchedule(_zero_bubble_1p, _held_1f1b),
    "zb2p": PipelineSchedule(_no_bubble, lambda p, m, v: 2.0 * _held_1f1b(p, m, v)),
}


def schedule(name: str) -> PipelineSchedule:
    if name not in SCHEDULES:
        raise BenchError(f"no schedule named {name!r}; there are: {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def seconds(name: str, stages: Stages) -> float:
    """By the formula."""
    return schedule(name).seconds(stages)


def idle_cores(ranks: int, core_share: float) -> float:
    """Microbatches that the cores of one pipeline could do while it fills and drains, where ranks share them.

    In its first and last steps fewer ranks than cores are at work; one that has a core alone is the faster, by what it
    has of it else.
    """
    cores = ranks * core_share
    steps = range(1, math.ceil(cores))
    return core_share * sum(cores - busy for busy in steps) / cores


def replayed_seconds(name: str, stages: Stages) -> float | None:
    """By replay of the schedule's own order; None where it has none here, or has too many operations."""
    order = ORDERS.get(name)
    count = 2 * stages.ranks * stages.microbatches * stages.stages_per_rank
    if order is None or count > MAX_REPLAYED:
        return None
    if name == "interleaved" and stages.microbatches % stages.ranks:
        return None
    operations = [
        Computation(rank, stage, microbatch, kind, seconds / stages.stages_per_rank)
        for rank in range(stages.ranks)
        for stage, microbatch, kind in order(rank, stages)
        for seconds in [(stages.forward if kind == "forward" else stages.backward)[rank]]
    ]
    return replay(operations).makespan_seconds


Step = tuple[int, int, str]


def _in_turn(forwards: Sequence[tuple[int, int]], backwards: Sequence[tuple[int, int]], ahead: int) -> Iterator[Step]:
    """Forwards first, then a forward and a backward in turn, then the backwards that are left."""
    for stage, microbatch in forwards[:ahead]:
        yield stage, microbatch, "forward"
    for place, (stage, microbatch) in enumerate(backwards):
        if ahead + place < len(forwards):
            yield *forwards[ahead + place], "forward"
        yield stage, microbatch, "backward"


def _1f1b_order(rank: int, stages: Stages) -> Iterator[Step]:
    turns = [(rank, microbatch) for microbatch in range(stages.microbatches)]
    return _in_turn(turns, turns, min(stages.microbatches, stages.ranks - rank - 1))


def _gpipe_order(rank: int, stages: Stages) -> Iterator[Step]:
    turns = [(rank, microbatch) for microbatch in range(stages.microbatches)]
    return _in_turn(turns, turns, len(turns))


def _interleaved_order(rank: int, stages: Stages) -> Iterator[Step]:
    """Megatron-LM's: rounds of p microbatches through each of a rank's stages (pipeline_parallel/schedules.py)."""
    p, v, m = stages.ranks, stages.stages_per_rank, stages.microbatches

    def turns(backward: bool) -> list[tuple[int, int]]:
        rows = []
        for turn in range(m * v):
            first, inside = divmod(turn, p * v)
            chunk = inside // p
            rows.append(((v - 1 - chunk if backward else chunk) * p + rank, first * p + inside % p))
        return rows

    ahead = m * v if m == p else min(m * v, 2 * (p - rank - 1) + (v - 1) * p)
    return _in_turn(turns(False), turns(True), ahead)


ORDERS: dict[str, Callable[[int, Stages], Iterator[Step]]] = {
    "gpipe": _gpipe_order,
    "1f1b": _1f1b_order,
    "interleaved": _interleaved_order,
}
