"""A rank's part of a pipeline: stages that record what they compute, and a step through a schedule.

Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage

from bench.measure.engine.rank import RankContext
from bench.parallelism.pipeline.bubble import LOSS
from bench.parallelism.pipeline.schedules import PipelineSchedule
from bench.workloads.model.output_sketch import spoil
from bench.workloads.model.timed_results import StepLooks, StepResults
from bench.workloads.parallel.torch_schedules import torch_class
from bench.workloads.trace import communication

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output, target) of a microbatch -> its share of the batch's loss; the shares are added up."""


class TracedStage(PipelineStage):
    """A PipelineStage with a span around each computation.

    In torch the schedules send, receive and wait outside these three methods, so that the spans hold
    computation only. No stage needs the input gradient of stage 0, so if the backward is split, torch does
    next to nothing in its `backward_input` and the whole backward in its `backward_weight`.
    """

    def __init__(
        self,
        module: nn.Module,
        stage_index: int,
        num_stages: int,
        rank: RankContext,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """`group`: the ranks of the pipeline; all of the run if it is None."""
        super().__init__(module, stage_index, num_stages, rank.device, group=group or rank.group)
        self._rank = rank

    def _get_init_p2p_neighbors_ops(self) -> list[dist.P2POp]:
        """Messages that open the connections before the first step, of torch 2.9 to 2.11, such as gloo takes them.

        2.9 sends an integer of 8 bytes into a float of 4; and where a rank's stages are neighbours (placement `v`), all
        of them send to the rank itself, which gloo refuses.
        """
        ops: list[dist.P2POp] = super()._get_init_p2p_neighbors_ops()
        for op in ops:
            op.tensor = op.tensor.to(torch.float32)
        return [op for op in ops if self._rank.backend != "gloo" or op.group_peer != self.group_rank]

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        with self._rank.span("forward", stage=self.stage_index, microbatch=fwd_chunk_id):
            return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Any = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        kind = "backward" if full_backward else "backward_input"
        with self._rank.span(kind, stage=self.stage_index, microbatch=bwd_chunk_id):
            super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        with self._rank.span("backward_weight", stage=self.stage_index, microbatch=bwd_chunk_id):
            super().backward_weight_one_chunk(bwd_chunk_id, last_backward)


def receive_buffers(stages: Iterable[PipelineStage]) -> list[Tensor]:
    """Tensors that torch's stages receive into, which stay from step to step: stale ones would be right.

    They are torch's own: a torch that keeps them elsewhere has none here.
    """
    found: list[Tensor] = []
    for stage in stages:
        for name in ("args_recv_info", "grad_recv_info"):
            for infos in getattr(stage, name, {}).values():
                found += [info.buffer for info in infos if isinstance(getattr(info, "buffer", None), Tensor)]
    return found


class PipelineStep:
    """Forward and backward of a batch through a schedule, on all ranks of `rank.group` together.

    `modules` are this rank's stages, by stage index. `batch` is the whole input and `target` what the
    output is compared with; their first dimension is cut into microbatches. Gradients add up in the modules'
    parameters until `clear_gradients`. After `run`, `outputs` and `losses` (one per microbatch) are those of
    the last stage on its rank, and None and empty on the others.
    """

    def __init__(
        self,
        schedule: PipelineSchedule,
        modules: Mapping[int, nn.Module],
        rank: RankContext,
        num_microbatches: int,
        loss: Loss,
        batch: Tensor,
        target: Tensor,
    ) -> None:
        self.num_stages = num_stages = schedule.num_stages(rank.world_size)
        stage_indices = schedule.stages_of(rank.index, rank.world_size)
        assert tuple(modules) == stage_indices, (
            f"rank {rank.index} has stages {stage_indices}, but got {tuple(modules)}"
        )
        self._rank = rank
        self._loss = loss
        self.modules = modules
        self.has_last_stage = num_stages - 1 in modules
        self._args = (batch,) if 0 in modules else ()
        self.outputs: Tensor | None = None
        self.losses: list[Tensor] = []
        self._target = {"target": target, "losses": self.losses} if self.has_last_stage else {}
        stages = [TracedStage(module, index, num_stages, rank) for index, module in modules.items()]
        # The shares of the loss are scaled already; torch's own scaling would pass over all gradients once
        # more.
        self.stages = stages
        self._schedule = torch_class(schedule)(
            stages if schedule.order is None else stages[0],
            num_microbatches,
            loss_fn=self._traced_loss,
            scale_grads=False,
        )

    def run(self) -> None:
        with communication.record_in_traced_pass(self._rank, {self._rank.group.group_name: "pipeline"}):
            self.outputs = self._schedule.step(*self._args, **self._target)

    def clear_gradients(self) -> None:
        for module in self.modules.values():
            module.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Removes all that a step leaves."""
        self.clear_gradients()
        self.outputs = None
        self.losses.clear()

    def results(self) -> StepResults:
        gradients = [parameter.grad for module in self.modules.values() for parameter in module.parameters()]
        return StepResults([self.outputs, *self.losses] if self.has_last_stage else [], gradients)

    def looks(self) -> StepLooks:
        return StepLooks(self.run, self.results, self.forget, before=lambda: spoil(receive_buffers(self.stages)))

    def _traced_loss(self, output: Tensor, target: Tensor) -> Tensor:
        with self._rank.span(LOSS, stage=self.num_stages - 1):
            return self._loss(output, target)


class OneDeviceStep:
    """A pipeline's step with all stages on one device, one microbatch after the other."""

    def __init__(self, module: nn.Module, num_microbatches: int, loss: Loss, batch: Tensor, target: Tensor) -> None:
        self.module = module
        self._loss = loss
        self._batches = batch.chunk(num_microbatches)
        self._targets = target.chunk(num_microbatches)
        self.outputs: Tensor | None = None
        self.losses: list[Tensor] = []

    def run(self) -> None:
        outputs = []
        self.losses.clear()
        for batch, target in zip(self._batches, self._targets, strict=True):
            output = self.module(batch)
            loss = self._loss(output, target)
            loss.backward()  # type: ignore[no-untyped-call]
            outputs.append(output.detach())
            self.losses.append(loss.detach())
        self.outputs = torch.cat(outputs)

    def to(self, dtype: torch.dtype) -> OneDeviceStep:
        """Copy the step in another type, without gradients."""
        self.clear_gradients()
        module = copy.deepcopy(self.module).to(dtype)
        batch, target = (torch.cat(parts).to(dtype) for parts in (self._batches, self._targets))
        return OneDeviceStep(module, len(self._batches), self._loss, batch, target)

    def clear_gradients(self) -> None:
        self.module.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Removes all that a step leaves."""
        self.clear_gradients()
        self.outputs = None
        self.losses.clear()

    def results(self) -> StepResults:
        return StepResults([self.outputs, *self.losses], [parameter.grad for parameter in self.module.parameters()])

    def looks(self) -> StepLooks:
        return StepLooks(self.run, self.results, self.forget)
