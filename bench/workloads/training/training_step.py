"""One rank's part of a training step of the Llama model, whatever the split, and the same on one device.

A step clears the gradients, runs forward and backward of every microbatch, and updates the weights with AdamW
(torch's fused kernel). Gradients are summed over the data ranks once per step, after the last microbatch. Importing
this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import loss_parallel
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from bench.core.torch_versions import known_arguments
from bench.measure.engine.rank import RankContext
from bench.parallelism.layout import Layout, MicrobatchedJob
from bench.parallelism.pipeline.schedules import SCHEDULES
from bench.workloads.parallel.pipeline import TracedStage
from bench.workloads.parallel.torch_schedules import torch_class
from bench.workloads.trace import communication
from bench.workloads.training.parallelize import MESH_AXES, Treatment, build_part, local_part, mesh_shape

CHECKED_LEARNING_RATE = 3e-4
"""Learning rate of the checked steps: Llama 3 8B's peak (Grattafiori et al. 2024, table 3)."""
BETAS, WEIGHT_DECAY = (0.9, 0.95), 0.1
"""Settings of Llama 2's training (Touvron et al. 2023, section 2.2)."""
NUM_BATCHES = 3
"""Batches of different tokens that the steps take in turn."""

_AXIS_OF = {"pipeline": "pipeline", "replicate": "data", "shard": "data", "tensor": "tensor"}


class TrainingStep:
    """Parts of the model on this rank, its optimizer and its share of the batch."""

    def __init__(
        self,
        job: MicrobatchedJob,
        layout: Layout,
        treatment: Treatment,
        rank: RankContext,
        *,
        is_restorable: bool = True,
    ) -> None:
        """True: the step runs on one device, with a `layout` of product 1, without regard to other ranks.

        `is_restorable`: the first weights are kept in the host's memory, for `restore`.
        """
        self.job, self.layout, self.treatment, self.rank = job, layout, treatment, rank
        is_alone = layout.world_size == 1
        self.mesh: DeviceMesh | None = (
            None if is_alone else rank.mesh(mesh_shape(layout, treatment.data_mode), MESH_AXES)
        )
        self.at = layout.coordinates(0 if is_alone else rank.index)
        self.stages: dict[int, nn.Module] = {
            stage: build_part(job.shape, layers, layout, self.mesh, treatment, rank.generator, rank.device)
            for stage, layers in job.layers_of(layout, self.at.pipeline).items()
        }
        self.parameters = [parameter for part in self.stages.values() for parameter in part.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
        kept = self.parameters if is_restorable else []
        self.initial = [local_part(parameter.detach()).to("cpu", copy=True) for parameter in kept]
        self.num_stages = job.num_stages(layout)
        self.has_loss = self.num_stages - 1 in self.stages
        self.losses: list[Tensor] = []
        self.batches = [self._own_share(number) for number in range(NUM_BATCHES)]
        self.count = 0
        self.pipeline_stages: list[TracedStage] = []
        self._axes = self._group_axes()
        self._accumulate = self._microbatches if layout.pp == 1 else self._pipeline()

    def _own_share(self, number: int) -> tuple[Tensor, Tensor]:
        """Tokens and what follows each, [batch of this data rank, sequence]: the same tokens whatever the split."""
        shape = self.job.shape
        generator = self.rank.generator(shape.num_layers + 2 + number)
        size = (self.job.global_batch, shape.sequence + 1)
        tokens = torch.randint(shape.vocabulary, size, generator=generator, device=self.rank.device)
        tokens_here = tokens.chunk(self.layout.dp)[self.at.data]
        return tokens_here[:, :-1].contiguous(), tokens_here[:, 1:].contiguous()

    def _group_axes(self) -> dict[str, str]:
        if self.mesh is None:
            return {}
        return {self.mesh.get_group(name).group_name: axis for name, axis in _AXIS_OF.items()}

    def run(self) -> None:
        """One step: what is timed."""
        with communication.record_in_traced_pass(self.rank, self._axes) as trace:
            self.accumulate(trace)
            with self.rank.span("optimizer"):
                self.optimizer.step()

    def accumulate(self, trace: communication.CommunicationTrace | None = None) -> None:
        """Gradients and losses of the next batch, in place of the last one's."""
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.clear()
        tokens, targets = self.batches[self.count % NUM_BATCHES]
        self.count += 1
        with loss_parallel() if self.layout.tp > 1 else nullcontext():
            self._accumulate(tokens, targets, trace)

    def restore(self, learning_rate: float) -> None:
        """Weights, optimizer and batches as they were at first."""
        with torch.no_grad():
            for parameter, initial in zip(self.parameters, self.initial, strict=True):
                local_part(parameter).copy_(initial)
        self.optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.count = 0

    def _microbatches(self, tokens: Tensor, targets: Tensor, trace: communication.CommunicationTrace | None) -> None:
        """Run one microbatch after the other, without a pipeline."""
        model, count = self.stages[0], self.job.num_microbatches
        pairs = zip(tokens.chunk(count), targets.chunk(count), strict=True)
        for index, (some, following) in enumerate(pairs):
            is_last = index == count - 1
            with self._sums(model, is_last):
                with self.rank.span("forward", stage=0, microbatch=index):
                    output = model(some)
                with self.rank.span("loss", stage=0, microbatch=index):
                    loss = self._loss(output, following)
                    self.losses.append(loss.detach())
                with ExitStack() as stack:
                    stack.enter_context(self.rank.span("backward", stage=0, microbatch=index))
                    if trace is not None and is_last and isinstance(model, DistributedDataParallel):
                        num_bytes = sum(p.numel() * p.element_size() for p in self.parameters)
                        stack.enter_context(communication.last_gradient(trace, model, "data", num_bytes))
                    loss.backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def _sums(self, model: nn.Module, is_last: bool) -> Iterator[None]:
        """Gradients are summed over the data ranks after the last microbatch only."""
        if isinstance(model, FSDPModule):
            model.set_is_last_backward(is_last)
            model.set_requires_gradient_sync(is_last)
            yield
        elif isinstance(model, DistributedDataParallel) and not is_last:
            with model.no_sync():
                yield
        else:
            yield

    def _pipeline(self) -> Callable[[Tensor, Tensor, Any], None]:
        assert self.mesh is not None
        row = SCHEDULES[self.job.schedule]
        group = self.mesh.get_group("pipeline")
        stages = self.pipeline_stages = [
            TracedStage(module, index, self.num_stages, self.rank, group) for index, module in self.stages.items()
        ]
        schedule = torch_class(row)(
            stages if row.order is None else stages[0],
            self.job.num_microbatches,
            loss_fn=self._pipeline_loss,
            scale_grads=False,
        )
        # Older than 2.10 it would hand the argument on to the model.
        quiet = known_arguments(schedule.step, return_outputs=False)

        def accumulate(tokens: Tensor, targets: Tensor, _trace: Any) -> None:
            arguments = (tokens,) if 0 in self.stages else ()
            named: dict[str, Any] = {"target": targets, "losses": self.losses} if self.has_loss else {}
            schedule.step(*arguments, **quiet, **named)

        return accumulate

    def _pipeline_loss(self, output: Tensor, targets: Tensor) -> Tensor:
        with self.rank.span("loss", stage=self.num_stages - 1):
            return self._loss(output, targets)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A microbatch's share of the mean cross-entropy of this data rank's tokens; taken in float32.

        With a tensor axis over logits that are split by vocabulary: no rank has a token's logits whole.
        """
        logits, targets = logits.flatten(0, 1).float(), targets.flatten()
        if self.mesh is not None and self.layout.tp > 1:
            mesh = self.mesh["tensor"]
            logits = DTensor.from_local(logits, mesh, [Shard(1)], run_check=False)
            targets = DTensor.from_local(targets, mesh, [Replicate()], run_check=False)
        loss = functional.cross_entropy(logits, targets) / self.job.num_microbatches
        return loss.to_local() if isinstance(loss, DTensor) else loss

    @torch.no_grad()
    def facts(self) -> tuple[float, float]:
        """Loss and gradient norm of the whole batch and the whole model; all ranks of the split ask together."""
        loss = float(torch.stack(self.losses).sum()) / (self.layout.dp * self.layout.tp) if self.losses else 0.0
        total = torch.tensor([loss, self._own_squares()], dtype=torch.float64)
        if self.mesh is not None:
            dist.all_reduce(total, group=self.rank.control)
        return float(total[0]), float(total[1]) ** 0.5

    def _own_squares(self) -> float:
        """Sum of the squares of this rank's gradients, each over the number of ranks that have it as well."""
        in_stage = self.layout.dp * self.layout.tp
        total = 0.0
        for parameter in self.parameters:
            gradient, parts = parameter.grad, 1
            if gradient is None:
                continue
            if isinstance(gradient, DTensor):
                if any(isinstance(placement, Partial) for placement in gradient.placements):
                    gradient = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
                sizes = zip(gradient.placements, gradient.device_mesh.shape, strict=True)
                for placement, size in sizes:
                    parts *= 1 if placement.is_replicate() else size
            total += float(local_part(gradient).double().square().sum()) * parts / in_stage
        return total


def first_steps(step: TrainingStep) -> list[tuple[float, float]]:
    """Loss and gradient norm of the first steps from the first weights; afterwards the weights no longer change.

    The learning rate is 0 then: a step does all it does, and every one is the same work on the same numbers.
    """
    step.restore(CHECKED_LEARNING_RATE)
    facts = []
    for _ in range(NUM_BATCHES):
        step.accumulate()
        facts.append(step.facts())
        step.optimizer.step()
    step.restore(0.0)
    return facts


def one_device_job(job: MicrobatchedJob, layout: Layout) -> MicrobatchedJob:
    """Return the batch in its microbatches on one device: those of all data ranks, one after the other."""
    return replace(job, num_microbatches=job.num_microbatches * layout.dp)
