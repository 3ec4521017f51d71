"""torch's pipeline schedules: the class of a row, whether this torch can run it, and the order of its operations.

Orders are read from torch's object, which is built on stand-ins for the stages, with no process group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch.distributed.pipelining

from bench.core import torch_versions
from bench.parallelism.pipeline import orders
from bench.parallelism.pipeline.orders import Step
from bench.parallelism.pipeline.replay import Computation
from bench.parallelism.pipeline.schedules import PipelineSchedule

__all__ = ["equal_seconds", "lack", "operations", "torch_class"]


def torch_class(schedule: PipelineSchedule) -> Any:
    """The class of a schedule, or None if this torch has none of that name."""
    return getattr(torch.distributed.pipelining, schedule.class_name, None)


def lack(schedule: PipelineSchedule, backend: str) -> str | None:
    """Reason why this torch cannot run a schedule over a backend; None if it can."""
    reasons = (torch_versions.skip_reason(name, backend) for name in schedule.needs)
    reason = next(filter(None, reasons), None)
    if reason is None and torch_class(schedule) is None:
        return f"this torch has no {schedule.class_name}; a newer one has"
    return reason


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

    `schedule` may be a row with other `stages_per_rank` than the table's, if torch's class allows that.
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
    build = torch_class(schedule)
    if build is None:
        raise ValueError(f"this torch has no {schedule.class_name}; a newer one has")
    stages = [
        SimpleNamespace(num_stages=schedule.num_stages(num_ranks), group_size=num_ranks, group_rank=0, submod=None)
        for _ in range(schedule.stages_per_rank)
    ]
    planned = build(stages, num_microbatches).pipeline_order
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
