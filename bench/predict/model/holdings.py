"""Shares of a job on the devices of a strategy: layers, parameters, microbatches, and the bytes of the fullest
device."""

from __future__ import annotations

import math
from typing import NamedTuple

from bench.parallelism.layout import Job
from bench.predict.model import pipeline
from bench.predict.model.memory import Held, Memory, held_bytes
from bench.predict.model.prediction import TrainingStrategy
from bench.predict.rates.constants import Stack
from bench.predict.rates.device import is_eight_bit


class Parameters(NamedTuple):
    """Numbers of parameters on one device: of experts, and of all else, which has other replicas."""

    dense: float
    expert: float

    @property
    def total(self) -> float:
        return self.dense + self.expert


class Holdings:
    """Shares of one job with one kind of software, by strategy."""

    def __init__(self, job: Job, stack: Stack) -> None:
        self.job, self.stack = job, stack
        # A search asks for the same few of these hundreds of thousands of times.
        self._layers: dict[tuple[int, int, bool], Parameters] = {}
        self._ranks: dict[tuple[int, int, int], Parameters] = {}

    def zero(self, strategy: TrainingStrategy) -> int:
        """Stage of ZeRO that is run. With a pipeline, parameters and gradients stay whole for all microbatches:
        gathering them for each would cost more than it saves (torchtitan's FSDP does not reshard then). The optimizer's
        stay divided.
        """
        return 1 if strategy.zero >= 3 and strategy.pp > 1 else strategy.zero

    def microbatches(self, strategy: TrainingStrategy) -> int:
        """Microbatches of the replica that has most: batches that do not divide leave some replicas with one less."""
        return max(1, math.ceil(self.job.global_batch / (strategy.dp * strategy.microbatch)))

    def stage_layers(self, strategy: TrainingStrategy) -> list[int]:
        """Layers of each pipeline rank; left-over ones go to the middle, away from embedding and output layer."""
        base, left = divmod(self.job.shape.num_layers, strategy.pp)
        counts = [base] * strategy.pp
        for place in range(left):
            counts[(strategy.pp - left) // 2 + place] += 1
        return counts

    def memory(self, strategy: TrainingStrategy, layers: list[int] | None = None) -> Memory:
        """Memory of the first, the last or the fullest pipeline rank, whichever holds most."""
        counts = self.stage_layers(strategy) if layers is None else layers
        held = pipeline.formula(strategy.schedule).held(strategy.pp, self.microbatches(strategy), strategy.interleave)
        ranks = {place: max(1.0, held - place) for place in (0, counts.index(max(counts)), strategy.pp - 1)}
        if strategy.schedule == "zb2p":
            ranks = dict.fromkeys(ranks, held)
        return max((self.rank_memory(strategy, counts, rank, number) for rank, number in ranks.items()), key=sum)

    def rank_memory(self, strategy: TrainingStrategy, counts: list[int], rank: int, held: float) -> Memory:
        shape, last = self.job.shape, rank == strategy.pp - 1
        embedding = shape.embedding_parameters * ((rank == 0) + (last and not (shape.tied and strategy.pp == 1)))
        parameters = self.rank_parameters(strategy, counts[rank])
        tokens = strategy.microbatch * self.job.sequence // strategy.cp
        whole = Held(
            dense=parameters.dense + embedding / strategy.tp,
            expert=parameters.expert,
            layer_parameters=self.layer_parameters(strategy, parameters.expert > 0).total,
            dp=strategy.dp * strategy.cp,
            expert_dp=strategy.expert_replicas,
            layers=counts[rank],
            microbatches_held=1.0 if strategy.pp == 1 else held,
            boundaries=0 if strategy.pp == 1 else strategy.interleave * self.microbatches(strategy),
            tokens=tokens,
            sequence=self.job.sequence,
            tp=strategy.tp,
            expert_tp=strategy.expert_tp,
            eight_bit=is_eight_bit(self.job.precision) and self.stack.eight_bit_inputs,
            recompute=strategy.recompute,
            logits=tokens * shape.vocabulary / strategy.tp if last else 0.0,
        )
        return held_bytes(whole, shape, self.stack, self.zero(strategy), self.job.element_bytes)

    def mixtures(self, layers: float) -> int:
        shape = self.job.shape
        return round(layers * shape.mixture_layers / shape.num_layers)

    def layer_parameters(self, strategy: TrainingStrategy, mixture: bool) -> Parameters:
        """Parameters of one layer on one device, not sharded."""
        key = strategy.tp, strategy.ep, mixture
        if key not in self._layers:
            shape = self.job.shape
            dense = shape.attention_parameters + (shape.shared_parameters if mixture else shape.dense_ffn_parameters)
            expert = shape.num_experts * shape.expert_parameters / strategy.ep / strategy.expert_tp if mixture else 0.0
            self._layers[key] = Parameters(dense / strategy.tp, expert)
        return self._layers[key]

    def rank_parameters(self, strategy: TrainingStrategy, layers: int) -> Parameters:
        """Parameters of `layers` layers on one device, not sharded."""
        key = strategy.tp, strategy.ep, layers
        if key not in self._ranks:
            mixtures = self.mixtures(layers)
            mixed, plain = self.layer_parameters(strategy, True), self.layer_parameters(strategy, False)
            dense = mixtures * mixed.dense + (layers - mixtures) * plain.dense
            self._ranks[key] = Parameters(dense, mixtures * mixed.expert)
        return self._ranks[key]

    def end_parameters(self, strategy: TrainingStrategy) -> float:
        """Parameters of the embedding and the output layer, on the device that has most of them."""
        both = strategy.pp == 1 and not self.job.shape.tied
        return self.job.shape.embedding_parameters * (2 if both else 1) / strategy.tp

    def parameters(self, strategy: TrainingStrategy, counts: list[int]) -> Parameters:
        """Parameters of the fullest rank, not sharded."""
        dense, expert = self.rank_parameters(strategy, max(counts))
        return Parameters(dense + self.end_parameters(strategy), expert)
