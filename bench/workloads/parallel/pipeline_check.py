"""The model of the pipeline suite, as a pipeline and on one device, and the comparison of the two.

Every rank can build any layer, since a layer's weights depend on the run's seed and the layer's number
alone. So each rank compares its own stages with the same layers of a whole stack, run on its device with
the same microbatches. Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.measure.engine.rank import RankContext
from bench.parallelism.pipeline.schedules import PipelineSchedule
from bench.suite import Check
from bench.workloads.model.numerics import SHORT_TYPE_MARGIN, float_tolerance, longer_dtype, relative_error, worst
from bench.workloads.model.timed_results import nothing
from bench.workloads.model.transformer import TransformerLayer
from bench.workloads.parallel.pipeline import Loss, OneDeviceStep, PipelineStep

Seen = Callable[[], object]


@dataclass(frozen=True)
class Model:
    """A stack of transformer layers and the batch that one step trains on."""

    hidden: int
    num_heads: int
    num_layers: int
    sequence: int
    microbatch_size: int
    num_microbatches: int
    dtype: str

    def reduced(self) -> Model:
        """Return the model with the same stack, heads and microbatches, small enough for any device."""
        head_dim = min(16, self.hidden // self.num_heads)
        return replace(self, hidden=self.num_heads * head_dim, sequence=min(16, self.sequence), microbatch_size=1)

    def layers(self, indices: range, rank: RankContext) -> nn.Sequential:
        return nn.Sequential(
            *(
                TransformerLayer(
                    self.hidden,
                    self.num_heads,
                    generator=rank.generator(index),
                    device=rank.device,
                    dtype=getattr(torch, self.dtype),
                )
                for index in indices
            )
        )

    def data(self, rank: RankContext) -> tuple[Tensor, Tensor]:
        """Input and target, [batch, sequence, hidden] each, the same on all ranks."""
        shape = (self.num_microbatches * self.microbatch_size, self.sequence, self.hidden)
        generator = rank.generator(self.num_layers)
        batch, target = (
            torch.empty(shape, device=rank.device, dtype=getattr(torch, self.dtype)).normal_(generator=generator)
            for _ in range(2)
        )
        return batch, target

    def pipeline_step(self, schedule: PipelineSchedule, rank: RankContext) -> PipelineStep:
        per_stage = self.num_layers // schedule.num_stages(rank.world_size)
        modules = {
            stage: self.layers(range(stage * per_stage, (stage + 1) * per_stage), rank)
            for stage in schedule.stages_of(rank.index, rank.world_size)
        }
        loss = mean_square(self.num_microbatches)
        return PipelineStep(schedule, modules, rank, self.num_microbatches, loss, *self.data(rank))

    def one_device_step(self, rank: RankContext) -> OneDeviceStep:
        stack = self.layers(range(self.num_layers), rank)
        loss = mean_square(self.num_microbatches)
        return OneDeviceStep(stack, self.num_microbatches, loss, *self.data(rank))

    @property
    def num_terms(self) -> int:
        """Terms of the longest sum: over the inner width or, in a weight's gradient, over all tokens.

        Times the layers, through which rounding errors add up (by the square root, as over terms).
        """
        num_tokens = self.num_microbatches * self.microbatch_size * self.sequence
        return self.num_layers * max(4 * self.hidden, num_tokens)


def mean_square(num_microbatches: int) -> Loss:
    """A microbatch's share of the mean square error over the batch; taken in float32 at least."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        wide = torch.promote_types(output.dtype, torch.float32)
        return functional.mse_loss(output.to(wide), target.to(wide)) / num_microbatches

    return loss


def check_step(
    step: PipelineStep, whole: OneDeviceStep, model: Model, seen: tuple[Seen, Seen] = (nothing, nothing)
) -> Check:
    """Run both, and hold outputs, loss and the gradients of this rank's stages against those of one device.

    `seen` are called when the step's results, and those of one device, are there.

    Outputs and loss are there on the rank of the last stage only. All gradients are cleared before and after.
    """
    dtype: torch.dtype = getattr(torch, model.dtype)
    long_dtype = longer_dtype(dtype)
    expected = _whole_results(whole, step, seen[1])
    if long_dtype is None:
        tolerances = [float_tolerance(dtype, model.num_terms)] * len(expected)
    else:
        one_device, expected = expected, _whole_results(whole.to(long_dtype), step)
        tolerances = [SHORT_TYPE_MARGIN * relative_error(*pair) for pair in zip(one_device, expected, strict=True)]
    if step.has_last_stage:
        # One device's loss may be near the reference by chance, where its errors cancel; it cannot be
        # nearer by right than the outputs that it is made from.
        *_, outputs_tolerance, loss_tolerance = tolerances
        tolerances[-1] = max(outputs_tolerance, loss_tolerance)
    step.clear_gradients()
    step.run()
    seen[0]()
    results = _results(step.modules.values(), step.outputs, step.losses)
    step.clear_gradients()
    return worst(
        Check(relative_error(result, reference), tolerance)
        for result, reference, tolerance in zip(results, expected, tolerances, strict=True)
    )


def _whole_results(whole: OneDeviceStep, step: PipelineStep, seen: Seen = nothing) -> list[Tensor]:
    """Compute on one device the results of a rank's stages."""
    whole.clear_gradients()
    whole.run()
    seen()
    stack = list(whole.module.children())
    per_stage = len(stack) // step.num_stages
    layers = [layer for stage in step.modules for layer in stack[stage * per_stage : (stage + 1) * per_stage]]
    outputs, losses = (whole.outputs, whole.losses) if step.has_last_stage else (None, [])
    results = _results(layers, outputs, losses)
    whole.clear_gradients()
    return results


def _results(modules: Iterable[nn.Module], outputs: Tensor | None, losses: list[Tensor]) -> list[Tensor]:
    """The gradient of every parameter (zero if there is none); then outputs and loss, where they are."""
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for module in modules
        for parameter in module.parameters()
    ]
    if outputs is None:
        return gradients
    return [*gradients, outputs.detach(), torch.stack(losses).sum().detach()]
