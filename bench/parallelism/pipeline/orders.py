"""Orders in which the ranks of a pipeline run their forwards and backwards, from the schedule's rule alone.

Orders follow Megatron-LM (megatron/core/pipeline_parallel/schedules.py). torch runs GPipe and 1F1B in the same order.
Its interleaved 1F1B differs if there are as many microbatches as ranks: Megatron-LM then runs all forwards first, so
the table of torch's schedules reads that order from torch (`bench.parallelism.pipeline.schedules`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bench.parallelism.pipeline.replay import Computation


class Step(NamedTuple):
    """One operation in a rank's order."""

    stage: int
    microbatch: int
    kind: str
    sends_with_next: bool = False
    """See `Computation`."""


Order = Callable[..., Iterator[Step]]
"""(rank, ranks, microbatches, stages per rank = 1) -> the rank's steps."""


def gpipe(rank: int, _num_ranks: int, num_microbatches: int, _stages_per_rank: int = 1) -> Iterator[Step]:
    """All forwards, then all backwards (Huang et al. 2019)."""
    turns = [(rank, microbatch) for microbatch in range(num_microbatches)]
    return _interleave(turns, turns, num_microbatches)


def one_f_one_b(rank: int, num_ranks: int, num_microbatches: int, _stages_per_rank: int = 1) -> Iterator[Step]:
    """Forwards until the first gradient can be back, then a backward and a forward in turn."""
    turns = [(rank, microbatch) for microbatch in range(num_microbatches)]
    return _interleave(turns, turns, min(num_microbatches, num_ranks - rank - 1))


def interleaved(rank: int, num_ranks: int, num_microbatches: int, stages_per_rank: int = 1) -> Iterator[Step]:
    """Rounds of as many microbatches as ranks, through each of a rank's stages in turn. The number of ranks divides
    the number of microbatches."""

    def turns(backward: bool) -> Iterator[tuple[int, int]]:
        for turn in range(num_microbatches * stages_per_rank):
            first, inside = divmod(turn, num_ranks * stages_per_rank)
            chunk = inside // num_ranks
            chunk = stages_per_rank - 1 - chunk if backward else chunk
            yield chunk * num_ranks + rank, first * num_ranks + inside % num_ranks

    total = num_microbatches * stages_per_rank
    ahead = min(total, 2 * (num_ranks - rank - 1) + (stages_per_rank - 1) * num_ranks)
    return _interleave(list(turns(False)), list(turns(True)), total if num_microbatches == num_ranks else ahead)


def _interleave(
    forwards: Sequence[tuple[int, int]], backwards: Sequence[tuple[int, int]], ahead: int
) -> Iterator[Step]:
    """Forwards `ahead` of all backwards, then a forward and a backward in turn, then the backwards that are left."""
    for stage, microbatch in forwards[:ahead]:
        yield Step(stage, microbatch, "forward")
    for place, (stage, microbatch) in enumerate(backwards):
        if ahead + place < len(forwards):
            yield Step(*forwards[ahead + place], "forward")
        yield Step(stage, microbatch, "backward")


def computations(orders: Iterable[Iterable[Step]], seconds: Callable[[int, str], float]) -> list[Computation]:
    """All ranks' operations, each rank's in its order; `seconds(stage, kind)` gives the durations."""
    return [
        Computation(rank, stage, microbatch, kind, seconds(stage, kind), sends_with_next)
        for rank, order in enumerate(orders)
        for stage, microbatch, kind, sends_with_next in order
    ]
