"""Splits of a training job over its ranks: pipeline x data x tensor, and what stands against one.

Ranks are numbered with the tensor axis innermost, since its messages are the most and the largest and belong
inside a node, then data, then pipeline: as in Megatron-LM (Narayanan et al. 2021, section 3) and torchtitan.
Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.parallelism.pipeline.schedules import SCHEDULES
from bench.parallelism.shapes import LlamaShape

AXES = ("pipeline", "data", "tensor")


class Coordinates(NamedTuple):
    """A rank's place along each axis."""

    pipeline: int
    data: int
    tensor: int


class Split(NamedTuple):
    """Ranks along each axis; their product is the world size."""

    pipeline: int
    data: int
    tensor: int

    @property
    def world_size(self) -> int:
        return self.pipeline * self.data * self.tensor

    def coordinates(self, rank: int) -> Coordinates:
        rest, tensor = divmod(rank, self.tensor)
        pipeline, data = divmod(rest, self.data)
        return Coordinates(pipeline, data, tensor)

    def rank(self, at: Coordinates) -> int:
        return (at.pipeline * self.data + at.data) * self.tensor + at.tensor

    def peers(self, rank: int, axis: str) -> tuple[int, ...]:
        """The ranks that differ from `rank` along one axis only, itself among them: a group of that axis."""
        at = self.coordinates(rank)
        return tuple(self.rank(at._replace(**{axis: i})) for i in range(getattr(self, axis)))


class Job(NamedTuple):
    """What is split: the model, its layers, and the batch of one step."""

    shape: LlamaShape
    batch: int
    """Sequences of one step, over all ranks."""
    num_microbatches: int
    """Of each data rank's share of the batch: gradient accumulation, or the pipeline's microbatches."""
    schedule: str

    def layers_of(self, split: Split, pipeline_index: int) -> dict[int, range]:
        """Stage -> its layers, for the stages of one place along the pipeline."""
        if split.pipeline == 1:
            return {0: range(self.shape.num_layers)}
        schedule = SCHEDULES[self.schedule]
        per_stage = self.shape.num_layers // schedule.num_stages(split.pipeline)
        stages = schedule.stages_of(pipeline_index, split.pipeline)
        return {stage: range(stage * per_stage, (stage + 1) * per_stage) for stage in stages}

    def num_stages(self, split: Split) -> int:
        return 1 if split.pipeline == 1 else SCHEDULES[self.schedule].num_stages(split.pipeline)

    def microbatch_size(self, split: Split) -> int:
        return self.batch // split.data // self.num_microbatches

    def objection(self, split: Split) -> str | None:
        """Why the job cannot be split so, with the numbers; None where it can."""
        shape = self.shape
        objection = shape.objection()
        if objection is not None:
            return objection
        divided = (
            ("num_heads", shape.num_heads, "tp", split.tensor),
            ("num_kv_heads", shape.num_kv_heads, "tp", split.tensor),
            ("ffn_hidden", shape.ffn_hidden, "tp", split.tensor),
            ("vocabulary", shape.vocabulary, "tp", split.tensor),
            ("sequence", shape.sequence, "tp", split.tensor),
            ("num_layers", shape.num_layers, "stages", self.num_stages(split)),
            ("batch", self.batch, "dp x microbatches", split.data * self.num_microbatches),
        )
        for name, value, what, parts in divided:
            if parts < 1 or value % parts:
                return f"{name}={value} cannot be split evenly over {what}={parts}"
        return self._schedule_objection(split)

    def _schedule_objection(self, split: Split) -> str | None:
        if split.pipeline == 1:
            return None
        schedule = SCHEDULES[self.schedule]
        objection = schedule.objection(split.pipeline, self.num_microbatches)
        return None if objection is None else f"{schedule.class_name} {objection}"


def split_of(world_size: int, tp: int, pp: int) -> Split | str:
    """The split with data ranks for the rest of the world, or why there is none, with the numbers."""
    if tp < 1 or pp < 1:
        return f"tp={tp}, pp={pp}: each is at least 1"
    if world_size % (tp * pp):
        return f"tp={tp} x pp={pp} = {tp * pp} does not divide the {world_size} ranks"
    return Split(pp, world_size // (tp * pp), tp)


def all_splits(world_size: int) -> Iterator[Split]:
    """Every pipeline x data x tensor whose product is the world size; data alone first, then tensor, then pipeline."""
    divisors = [n for n in range(1, world_size + 1) if world_size % n == 0]
    for pipeline in divisors:
        for tensor in divisors:
            if world_size % (pipeline * tensor) == 0:
                yield Split(pipeline, world_size // (pipeline * tensor), tensor)
