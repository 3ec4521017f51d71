"""A pipeline's time from the time of its stages: a formula for the search, replay of the schedule for one prediction.

With p ranks, m microbatches, v stages per rank, and t_r the work of rank r on one microbatch (forward and backward),
the slowest rank sets the pace. Filling and draining adds the time that the others need once, a v-th of it if stages are
interleaved (arXiv 2104.04473, section 2.2; with equal t the bubble is (p - 1)(t) / v):

    T = m max(t) + (sum(t) - max(t)) / v          gpipe, 1f1b, interleaved

Zero-bubble schedules put weight gradients w into the bubble (arXiv 2401.10241, section 3): with forward f, input
gradient b and weight gradient w per microbatch, `zb1p` leaves (p - 1)(f + b - 2 w), never less than zero, at the memory
of 1F1B. `zb2p`, with twice that, leaves none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.errors import BenchError
from bench.parallelism.pipeline import orders
from bench.parallelism.pipeline.orders import Order
from bench.parallelism.pipeline.replay import replay

MAX_REPLAYED = 20_000
"""Operations of a schedule that one prediction replays: more take longer than the prediction may."""


@dataclass(frozen=True)
class Stages:
    """Seconds of one microbatch on each rank, all stages of the rank together."""

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
class PipelineFormula:
    """One schedule: how long it takes, and how many microbatches' activations the first rank holds at most."""

    seconds: Callable[[Stages], float]
    held: Callable[[int, int, int], float]
    """(ranks, microbatches, stages a rank) -> microbatches whose activations of all its layers a rank holds."""
    order: Order | None = None
    """None: a schedule that is not replayed."""


def _held_all(_ranks: int, microbatches: int, _stages: int) -> float:
    return float(microbatches)


def _held_1f1b(ranks: int, microbatches: int, _stages: int) -> float:
    return float(min(microbatches, ranks))


def _held_interleaved(ranks: int, microbatches: int, stages: int) -> float:
    """arXiv 2104.04473, section 2.2: 1F1B's, and (p - 1) / (p v) of it more."""
    return min(float(microbatches), ranks * (1.0 + (ranks - 1) / (ranks * stages)))


FORMULAS: dict[str, PipelineFormula] = {
    "gpipe": PipelineFormula(_filled_and_drained, _held_all, orders.gpipe),
    "1f1b": PipelineFormula(_filled_and_drained, _held_1f1b, orders.one_f_one_b),
    "interleaved": PipelineFormula(_filled_and_drained, _held_interleaved, orders.interleaved),
    "zb1p": PipelineFormula(_zero_bubble_1p, _held_1f1b),
    "zb2p": PipelineFormula(_no_bubble, lambda p, m, v: 2.0 * _held_1f1b(p, m, v)),
}


def formula(schedule: str) -> PipelineFormula:
    if schedule not in FORMULAS:
        raise BenchError(f"no schedule named {schedule!r}; there are: {', '.join(FORMULAS)}")
    return FORMULAS[schedule]


def formula_seconds(schedule: str, stages: Stages) -> float:
    return formula(schedule).seconds(stages)


def idle_cores(ranks: int, core_share: float) -> float:
    """Microbatches that the cores of one pipeline could do while it fills and drains, where ranks share them.

    In its first and last steps fewer ranks than cores are at work; one that has a core alone is the faster, by what it
    has of it else.
    """
    cores = ranks * core_share
    steps = range(1, math.ceil(cores))
    return core_share * sum(cores - busy for busy in steps) / cores


def replayed_seconds(schedule: str, stages: Stages) -> float | None:
    """Seconds by replay of the schedule's order; None if it has none, or too many operations."""
    order, ranks, microbatches = FORMULAS[schedule].order, stages.ranks, stages.microbatches
    if order is None or 2 * ranks * microbatches * stages.stages_per_rank > MAX_REPLAYED:
        return None
    if schedule == "interleaved" and microbatches % ranks:
        return None

    def seconds(stage: int, kind: str) -> float:
        of_rank = stages.forward if kind == "forward" else stages.backward
        return of_rank[stage % ranks] / stages.stages_per_rank

    rank_orders = (order(rank, ranks, microbatches, stages.stages_per_rank) for rank in range(ranks))
    return replay(orders.computations(rank_orders, seconds)).makespan_seconds
