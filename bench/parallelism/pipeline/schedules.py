"""Table of torch's pipeline schedules: their requirements, placement of stages, and order of operations.

A new schedule of `torch.distributed.pipelining` is one new row. The orders are torch's own: those of
schedules with several stages per rank are read from torch's object, which is built on stand-ins for the
stages, with no process group. GPipe and 1F1B are those of `bench.parallelism.pipeline.orders`, as their
`_step_microbatches` in torch runs them; torch's published order of 1F1B numbers the last rank's forwards
from 1 (seen in torch 2.13), so it cannot be replayed.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from bench.core import torch_versions
from bench.parallelism.pipeline import orders
from bench.parallelism.pipeline.orders import Order, Step
from bench.parallelism.pipeline.replay import Computation

__all__ = ["SCHEDULES", "PipelineSchedule", "equal_seconds", "operations"]


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

    def torch_class(self) -> Any:
        """The class, or None if this torch has none of that name."""
        import torch.distributed.pipelining as pipelining

        return getattr(pipelining, self.class_name, None)

    def lack(self, backend: str) -> str | None:
        """Reason why this torch cannot run it over a backend; None if it can."""
        reasons = (torch_versions.skip_reason(name, backend) for name in self.needs)
        reason = next(filter(None, reasons), None)
        if reason is None and self.torch_class() is None:
            return f"this torch has no {self.class_name}; a newer one has"
        return reason


SCHEDULES: dict[str, PipelineSchedule] = {
    "gpipe": PipelineSchedule("ScheduleGPipe", 1, "loop", _any_number, orders.gpipe),
    "1f1b": PipelineSchedule("Schedule1F1B", 1, "loop", _one_a_rank, orders.one_f_one_b),
    "interleaved_1f1b": PipelineSchedule("ScheduleInterleaved1F1B", 2, "loop", _whole_rounds),
    "looped_bfs": PipelineSchedule("ScheduleLoopedBFS", 2, "loop", _any_number),
    "interleaved_zero_bubble": PipelineSchedule("ScheduleInterleavedZeroBubble", 2, "loop", _whole_rounds),
    "zbv_zero_bubble": PipelineSchedule("ScheduleZBVZeroBubble", 2, "v", _any_number, needs=("zbv_neighbours",)),
    "dual_pipe_v": PipelineSchedule("ScheduleDualPipeV", 2, "v", _one_a_stage, needs=("dual_pipe_v",)),
}


def equal_seconds(_stage: int, kind: str) -> float:
    """The textbook's durations: forward, input gradient and weight gradient take one unit each."""
    return 2.0 if kind == "backward" else 1.0


def operations(
    schedule: PipelineSchedule,
    num_ranks: int,
    num_microbatches: int,
    seconds: Callable[[int, str], float] = equal_seconds,
) -> list[Computation]:
    """All ranks' operations, each rank's in its order; `seconds(stage, kind)` gives the durations.

    `schedule` may be a row with other `stages_per_rank` than the table's, where torch's class allows that.
    Raises ValueError for numbers that the schedule objects to, or a schedule that this torch lacks.
    """
    objection = schedule.objection(num_ranks, num_microbatches)
    if objection is not None:
        raise ValueError(f"{schedule.class_name} {objection}")
    if schedule.order is None:
        return orders.computations(_torch_orders(schedule, num_ranks, num_microbatches), seconds)
    rank_orders = (schedule.order(rank, num_ranks, num_microbatches) for rank in range(num_ranks))
    return orders.computations(rank_orders, seconds)


_TORCH_KINDS = {
    "FORWARD": "forward",
    "FULL_BACKWARD": "backward",
    "BACKWARD_INPUT": "backward_input",
    "BACKWARD_WEIGHT": "backward_weight",
}


def _torch_orders(schedule: PipelineSchedule, num_ranks: int, num_microbatches: int) -> list[list[Step]]:
    """Each rank's steps as torch's schedule lists them.

    The object plans for all ranks when it is made, and asks of its stages only how many there are and on
    how many ranks, so that stand-ins with these attributes will do.
    """
    torch_class = schedule.torch_class()
    if torch_class is None:
        raise ValueError(f"this torch has no {schedule.class_name}; a newer one has")
    stages = [
        SimpleNamespace(num_stages=schedule.num_stages(num_ranks), group_size=num_ranks, group_rank=0, submod=None)
        for _ in range(schedule.stages_per_rank)
    ]
    planned = torch_class(stages, num_microbatches).pipeline_order
    return [list(_steps(planned[rank])) for rank in range(num_ranks)]


def _steps(actions: list[Any]) -> Iterator[Step]:
    """Flattens what torch lists: None for a pause, and DualPipeV's pairs of a forward and a backward.

    torch runs a pair's two parts one after the other, each as soon as its own input is there, and sends
    both results after the second (`_PipelineScheduleRuntime`, torch 2.13).
    """
    for action in actions:
        if action is None:
            continue
        parts = getattr(action, "sub_actions", None) or (action,)
        for number, part in enumerate(parts, start=1):
            kind = _TORCH_KINDS.get(part.computation_type.name)
            if kind is not None:
                yield Step(part.stage_index, part.microbatch_index, kind, number < len(parts))
