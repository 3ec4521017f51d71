"""What the devices of a split have of a job: layers, parameters, microbatches, and the bytes of the fullest one."""

from __future__ import annotations

import math
from typing import NamedTuple

from bench.predict.model import pipeline
from bench.predict.model.job import Job, Split
from bench.predict.model.memory import Held, Memory, held_bytes
from bench.predict.rates.constants import Stack


class Parameters(NamedTuple):
    """Numbers of them on one device: of experts, and of all else, which has other replicas."""

    dense: float
    expert: float

    @property
    def total(self) -> float:
        return self.dense + self.expert


class Holdings:
    """Of one job with one kind of software, whatever the split."""

    def __init__(self, job: Job, stack: Stack) -> None:
        self.job, self.stack = job, stack

    def zero(self, split: Split) -> int:
        """With a pipeline, parameters and gradients stay whole from the first microbatch to the last: gathering them
        for each would cost more than it saves (torchtitan's FSDP does not reshard then). The optimizer's stay divided.
        """
        return 1 if split.zero >= 3 and split.pp > 1 else split.zero

    def microbatches(self, split: Split) -> int:
        """Of the replica that has most: batches that do not divide leave some replicas with one less."""
        return max(1, math.ceil(self.job.global_batch / (split.dp * split.microbatch)))

    def stage_layers(self, split: Split) -> list[int]:
        """Layers of each pipeline rank; what is left over goes to the middle, away from embedding and output layer."""
        base, left = divmod(self.job.shape.layers, split.pp)
        counts = [base] * split.pp
        for place in range(left):
            counts[(split.pp - left) // 2 + place] += 1
        return counts

    def memory(self, split: Split, layers: list[int] | None = None) -> Memory:
        """Of the first or the last pipeline rank, whichever holds more."""
        counts = self.stage_layers(split) if layers is None else layers
        held = pipeline.schedule(split.schedule).held(split.pp, self.microbatches(split), split.interleave)
        ranks = {place: max(1.0, held - place) for place in (0, counts.index(max(counts)), split.pp - 1)}
        if split.schedule == "zb2p":
            ranks = dict.fromkeys(ranks, held)
        return max((self.rank_memory(split, counts, rank, number) for rank, number in ranks.items()), key=sum)

    def rank_memory(self, split: Split, counts: list[int], rank: int, held: float) -> Memory:
        shape, last = self.job.shape, rank == split.pp - 1
        embedding = shape.embedding_parameters * ((rank == 0) + (last and not (shape.tied and split.pp == 1)))
        own = self.rank_parameters(split, counts[rank])
        tokens = split.microbatch * self.job.sequence // split.cp
        whole = Held(
            dense=own.dense + embedding / split.tp,
            expert=own.expert,
            layer_parameters=self.layer_parameters(split, own.expert > 0).total,
            dp=split.dp * split.cp,
            expert_dp=split.expert_replicas,
            layers=counts[rank],
            microbatches_held=1.0 if split.pp == 1 else held,
            boundaries=0 if split.pp == 1 else split.interleave * self.microbatches(split),
            tokens=tokens,
            sequence=self.job.sequence,
            tp=split.tp,
            expert_tp=split.expert_tp,
            eight_bit=self.job.is_eight_bit and self.stack.eight_bit_inputs,
            recompute=split.recompute,
            logits=tokens * shape.vocab / split.tp if last else 0.0,
        )
        return held_bytes(whole, shape, self.stack, self.zero(split), self.job.element_bytes)

    def mixtures(self, layers: float) -> int:
        shape = self.job.shape
        return round(layers * shape.mixture_layers / shape.layers)

    def layer_parameters(self, split: Split, mixture: bool) -> Parameters:
        """Of one layer, on one device, whole."""
        shape = self.job.shape
        dense = shape.attention_parameters + (shape.shared_parameters if mixture else shape.dense_ffn_parameters)
        expert = shape.experts * shape.expert_parameters / split.ep / split.expert_tp if mixture else 0.0
        return Parameters(dense / split.tp, expert)

    def rank_parameters(self, split: Split, layers: int) -> Parameters:
        """Of so many layers, on one device, whole."""
        mixtures = self.mixtures(layers)
        mixed, plain = self.layer_parameters(split, True), self.layer_parameters(split, False)
        return Parameters(mixtures * mixed.dense + (layers - mixtures) * plain.dense, mixtures * mixed.expert)

    def end_parameters(self, split: Split) -> float:
        """Of the embedding and the output layer, on the device that has most of them."""
        both = split.pp == 1 and not self.job.shape.tied
        return self.job.shape.embedding_parameters * (2 if both else 1) / split.tp

    def parameters(self, split: Split, counts: list[int]) -> Parameters:
        """Of the fullest rank, whole replicas."""
        dense, expert = self.rank_parameters(split, max(counts))
        return Parameters(dense + self.end_parameters(split), expert)
