"""Looks at what timed training steps leave: losses and gradients of the batch in turn, and the optimizer's state.

The learning rate is 0 while steps are timed, so that every step of a batch has to give the same losses and gradients.
The weights stay as they are, but not the state of AdamW: each step counts, and mixes the gradients into two moments.
Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from bench.suite import Check, TimedCheck
from bench.workloads.model.numerics import worst
from bench.workloads.model.output_sketch import (
    MISSING,
    SHORT_TYPE_TOLERANCE,
    TOLERANCE,
    OutputSketch,
    Shape,
    joined,
    local_part,
    some_elements,
    spoil,
    spoil_free_memory,
)
from bench.workloads.parallel.pipeline import receive_buffers
from bench.workloads.training.training_step import BETAS, NUM_BATCHES, TrainingStep

MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingLooks:
    """The looks at one training step on one rank."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.tolerance = TOLERANCE if step.treatment.dtype == "float32" else SHORT_TYPE_TOLERANCE
        self.sketches: dict[int, OutputSketch] = {}
        self.counts: list[float] = []
        self.moments: dict[str, list[Tensor]] = {}

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def learn_once(self) -> None:
        """Losses and gradients of each batch, from calls of their own outside the samples."""
        if self.sketches:
            return
        for _ in range(NUM_BATCHES):
            number = self.step.count % NUM_BATCHES
            self.step.accumulate()
            left = [tensor for tensor in self._left() if tensor is not None]
            assert len(left) == len(self.step.losses) + len(self.step.parameters), "a step leaves all gradients"
            self.sketches[number] = OutputSketch(left, self.tolerance)

    def _left(self) -> list[Tensor | None]:
        return [*self.step.losses, *(parameter.grad for parameter in self.step.parameters)]

    def arm(self) -> None:
        sketch = self.sketches[self.step.count % NUM_BATCHES]
        spoil(self._left())
        self.step.optimizer.zero_grad(set_to_none=True)
        self.step.losses.clear()
        spoil(receive_buffers(self.step.pipeline_stages))
        spoil_free_memory(sketch.shapes, _gathered_shapes(self.step))
        self.counts = self._counts()
        self.moments = {name: [at.clone() for at in self._moments(name)] for name in MOMENTS}

    def look(self, calls: int) -> Check:
        of_gradients = self.sketches[(self.step.count - 1) % NUM_BATCHES].check(self._left())
        counts = [before + calls for before in self.counts]
        of_counts = Check(0.0 if self._counts() == counts else MISSING, 0.0)
        if calls > 1 or of_gradients.error > of_gradients.tolerance:
            return worst([of_gradients, of_counts])
        return worst([of_gradients, of_counts, self._moment_check()])

    def _counts(self) -> list[float]:
        """Steps that the optimizer has taken with each parameter."""
        state = self.step.optimizer.state
        steps = [state[parameter]["step"] for parameter in self.step.parameters if state.get(parameter)]
        taken = torch.stack([torch.as_tensor(step).detach() for step in steps]).tolist() if steps else []
        return taken or [0.0] * len(self.step.parameters)

    def _compared(self) -> Iterator[torch.nn.Parameter]:
        """Parameters whose gradient is what the optimizer mixes in: not one that is still to be summed over ranks."""
        for parameter in self.step.parameters:
            gradient: Any = parameter.grad
            if not isinstance(gradient, DTensor) or gradient.placements == getattr(parameter, "placements", None):
                yield parameter

    def _moments(self, name: str) -> list[Tensor]:
        """Some elements of a moment of every parameter; zeros before the first step."""
        state = self.step.optimizer.state
        return [
            some_elements(local_part(state[parameter][name]))
            if state.get(parameter)
            else torch.zeros_like(some_elements(local_part(parameter)))
            for parameter in self.step.parameters
        ]

    def _moment_check(self) -> Check:
        """Hold both moments against what one step makes of the ones before and the gradients."""
        errors = [torch.zeros((), device=self.step.rank.device)]
        compared = {id(parameter) for parameter in self._compared()}
        gradients = [some_elements(local_part(p.grad)) for p in self.step.parameters if p.grad is not None]
        for name, beta, power in zip(MOMENTS, BETAS, (1, 2), strict=True):
            rows = zip(self.step.parameters, self.moments[name], self._moments(name), gradients, strict=True)
            for parameter, before, found, gradient in rows:
                if id(parameter) in compared and len(found):
                    wanted = beta * before + (1 - beta) * gradient**power
                    scale = wanted.abs().max().clamp_min(torch.finfo(wanted.dtype).tiny)
                    errors.append((found - wanted).abs().max() / scale)
        return Check(float(joined([error.reshape(1) for error in errors]).max()), self.tolerance)


def _gathered_shapes(step: TrainingStep) -> Sequence[Shape]:
    """Shapes of the weights that fully_shard gathers, one buffer for each of its units."""
    if step.layout.tp > 1:
        return ()
    units = [unit for stage in step.stages.values() for unit in stage.modules() if isinstance(unit, FSDPModule)]
    sizes = {sum(parameter.numel() for parameter in unit.parameters()) for unit in units[1:]}
    short = step.treatment.dtype != "float32" and step.treatment.data_mode == "shard"
    dtype = getattr(torch, step.treatment.dtype) if short else torch.float32
    return [((size,), dtype, step.rank.device) for size in sizes]
