"""Table of pipeline schedules: their classes in torch, requirements, placement of stages, and order of operations.

A new schedule of `torch.distributed.pipelining` is one new row. GPipe and 1F1B have the orders of
`bench.parallelism.pipeline.orders`, as their `_step_microbatches` in torch runs them; torch's published order of 1F1B
numbers the last rank's forwards from 1 (seen in torch 2.13), so it cannot be replayed. Orders of schedules with several
stages per rank are read from torch's own objects (`bench.workloads.parallel.torch_schedules`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.parallelism.pipeline import orders
from bench.parallelism.pipeline.orders import Order


def _any_number(_num_ranks: int, _num_microbatches: int) -> str | None:
    return None


def _one_a_rank(num_ranks: int, num_microbatches: int) -> str | None:
    if num_microbatches >= num_ranks:
        return None
    return f"needs at least as many microbatches as ranks, {num_ranks}; there are {num_microbatches}"


def _whole_rounds(num_ranks: int, num_microbatches: int) -> str | None:
    num_rounds = max(1, num_microbatches // num_ranks)
    if num_microbatches % num_rounds == 0:
        return None
    return f"{num_microbatches} microbatches do not divide into {num_rounds} rounds of at least {num_ranks}"


def _one_a_stage(num_ranks: int, num_microbatches: int) -> str | None:
    if num_microbatches >= 2 * num_ranks:
        return None
    return f"needs at least as many microbatches as stages, {2 * num_ranks}; there are {num_microbatches}"


@dataclass(frozen=True)
class PipelineSchedule:
    """One row: a schedule class of torch.distributed.pipelining."""

    class_name: str
    stages_per_rank: int
    placement: Literal["loop", "v"]
    """`loop`: rank r has stages r, r + p, ...; `v`: every second round runs backwards, so that the last
    stage is on the rank of the first."""
    objection: Callable[[int, int], str | None]
    """(ranks, microbatches) -> why it cannot run so, as torch would refuse it."""
    order: Order | None = None
    """None: read from torch's object."""
    needs: tuple[str, ...] = ()
    """Rows of `bench.core.torch_versions.FEATURES` without which it does not run."""

    def num_stages(self, num_ranks: int) -> int:
        return self.stages_per_rank * num_ranks

    def stages_of(self, rank: int, num_ranks: int) -> tuple[int, ...]:
        """The stages of a rank, in the order of the model."""
        turned = num_ranks - 1 - rank if self.placement == "v" else rank
        return tuple(turn * num_ranks + (turned if turn % 2 else rank) for turn in range(self.stages_per_rank))


SCHEDULES: dict[str, PipelineSchedule] = {
    "gpipe": PipelineSchedule("ScheduleGPipe", 1, "loop", _any_number, orders.gpipe),
    "1f1b": PipelineSchedule("Schedule1F1B", 1, "loop", _one_a_rank, orders.one_f_one_b),
    "interleaved_1f1b": PipelineSchedule("ScheduleInterleaved1F1B", 2, "loop", _whole_rounds),
    "looped_bfs": PipelineSchedule("ScheduleLoopedBFS", 2, "loop", _any_number),
    "interleaved_zero_bubble": PipelineSchedule("ScheduleInterleavedZeroBubble", 2, "loop", _whole_rounds),
    "zbv_zero_bubble": PipelineSchedule("ScheduleZBVZeroBubble", 2, "v", _any_number, needs=("zbv_neighbours",)),
    "dual_pipe_v": PipelineSchedule("ScheduleDualPipeV", 2, "v", _one_a_stage, needs=("dual_pipe_v",)),
}
