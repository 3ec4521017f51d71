"""Layout of a training job over its ranks: sizes of the parallel axes, the ranks' places along them, and the job.

Ranks are numbered with the tensor axis innermost, since its messages are the most and the largest and belong
inside a node, then context, data, and pipeline outermost: as in Megatron-LM (Narayanan et al. 2021, section 3;
megatron/core/parallel_state.py) and torchtitan. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bench.parallelism.pipeline.schedules import SCHEDULES
from bench.parallelism.shapes import ModelShape

AXES = {"pipeline": "pp", "data": "dp", "tensor": "tp"}
"""Axis of a rank's coordinates -> its size in a layout."""


class Coordinates(NamedTuple):
    """A rank's place along each axis, in a layout without context parallelism."""

    pipeline: int
    data: int
    tensor: int


@dataclass(frozen=True)
class Layout:
    """Ranks along each axis: `dp` replicas, each of tp x cp x pp ranks.

    Experts are whole, and spread over ep of a stage's tp x cp x dp ranks (Megatron-LM's folding: expert tensor
    parallelism of 1, megatron/core/parallel_state.py); with an ep of 1 every rank has its tp-th part of all experts.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1

    @property
    def world_size(self) -> int:
        return self.stage_ranks * self.pp

    @property
    def stage_ranks(self) -> int:
        return self.tp * self.dp * self.cp

    @property
    def expert_tp(self) -> int:
        return self.tp if self.ep == 1 else 1

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same part of the same experts."""
        return max(1, self.stage_ranks // (self.ep * self.expert_tp))

    def coordinates(self, rank: int) -> Coordinates:
        rest, tensor = divmod(rank, self.tp)
        pipeline, data = divmod(rest, self.dp)
        return Coordinates(pipeline, data, tensor)

    def rank(self, at: Coordinates) -> int:
        return (at.pipeline * self.dp + at.data) * self.tp + at.tensor

    def peers(self, rank: int, axis: str) -> tuple[int, ...]:
        """The ranks that differ from `rank` along one axis only, itself among them: a group of that axis."""
        at = self.coordinates(rank)
        return tuple(self.rank(at._replace(**{axis: i})) for i in range(getattr(self, AXES[axis])))


@dataclass(frozen=True)
class Job:
    """Training of a model, whose `shape.sequence` is the length of a sequence."""

    shape: ModelShape
    global_batch: int
    """Sequences of one step, over all ranks."""
    precision: str = "bf16"
    """Number format of matrix products: fp32, fp16, bf16, fp8, fp8-rowwise."""

    @property
    def sequence(self) -> int:
        return self.shape.sequence

    @property
    def tokens(self) -> int:
        """Tokens of one step, over all ranks."""
        return self.sequence * self.global_batch

    @property
    def element_bytes(self) -> float:
        """Bytes of an activation, and of a parameter in a product's input; fp8 is for the products only."""
        return 4.0 if self.precision == "fp32" else 2.0


@dataclass(frozen=True)
class MicrobatchedJob(Job):
    """A job whose batch is computed in microbatches, in a pipeline by a schedule of the table."""

    num_microbatches: int = 1
    """Parts of each data rank's share of the batch: gradient accumulation, or the pipeline's microbatches."""
    schedule: str = "1f1b"

    def layers_of(self, layout: Layout, pipeline_index: int) -> dict[int, range]:
        """Stage -> its layers, for the stages of one place along the pipeline."""
        if layout.pp == 1:
            return {0: range(self.shape.num_layers)}
        schedule = SCHEDULES[self.schedule]
        per_stage = self.shape.num_layers // schedule.num_stages(layout.pp)
        stages = schedule.stages_of(pipeline_index, layout.pp)
        return {stage: range(stage * per_stage, (stage + 1) * per_stage) for stage in stages}

    def num_stages(self, layout: Layout) -> int:
        return 1 if layout.pp == 1 else SCHEDULES[self.schedule].num_stages(layout.pp)

    def microbatch_size(self, layout: Layout) -> int:
        return self.global_batch // layout.dp // self.num_microbatches

    def objection(self, layout: Layout) -> str | None:
        """Reason why the job cannot run in the layout, with the numbers; None if it can."""
        shape = self.shape
        objection = shape.objection()
        if objection is not None:
            return objection
        divided = (
            ("num_heads", shape.num_heads, "tp", layout.tp),
            ("num_kv_heads", shape.num_kv_heads, "tp", layout.tp),
            ("ffn_hidden", shape.ffn_hidden, "tp", layout.tp),
            ("vocabulary", shape.vocabulary, "tp", layout.tp),
            ("sequence", shape.sequence, "tp", layout.tp),
            ("num_layers", shape.num_layers, "stages", self.num_stages(layout)),
            ("batch", self.global_batch, "dp x microbatches", layout.dp * self.num_microbatches),
        )
        for name, value, axis, parts in divided:
            if parts < 1 or value % parts:
                return f"{name}={value} cannot be split evenly over {axis}={parts}"
        return self._schedule_objection(layout)

    def _schedule_objection(self, layout: Layout) -> str | None:
        if layout.pp == 1:
            return None
        schedule = SCHEDULES[self.schedule]
        objection = schedule.objection(layout.pp, self.num_microbatches)
        return None if objection is None else f"{schedule.class_name} {objection}"


def layout_of(world_size: int, tp: int, pp: int) -> Layout | str:
    """The layout with data ranks for the rest of the world, or why there is none, with the numbers."""
    if tp < 1 or pp < 1:
        return f"tp={tp}, pp={pp}: each is at least 1"
    if world_size % (tp * pp):
        return f"tp={tp} x pp={pp} = {tp * pp} does not divide the {world_size} ranks"
    return Layout(tp=tp, pp=pp, dp=world_size // (tp * pp))


def all_layouts(world_size: int) -> Iterator[Layout]:
    """Every pipeline x data x tensor whose product is the world size; data alone first, then tensor, then pipeline."""
    divisors = [n for n in range(1, world_size + 1) if world_size % n == 0]
    for pp in divisors:
        for tp in divisors:
            if world_size % (pp * tp) == 0:
                yield Layout(tp=tp, pp=pp, dp=world_size // (pp * tp))
