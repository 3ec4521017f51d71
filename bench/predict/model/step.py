"""One training step, put together from its parts: from a job and a split to seconds, memory and what takes the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from statistics import fmean

from bench.parallelism.layout import Job
from bench.predict.model import pipeline, stragglers
from bench.predict.model.holdings import Holdings, Parameters
from bench.predict.model.layer import RECOMPUTE, LayerCost, LayerTimes, Parts, Slice
from bench.predict.model.overheads import Overheads, RankWork
from bench.predict.model.prediction import Prediction, TrainingStrategy, refuse
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import Common, Constants, Stack
from bench.predict.rates.device import Device, is_eight_bit
from bench.predict.rates.matmul import Multiplier
from bench.predict.rates.network import Network, NetworkGroup

OPTIMIZER_TRAFFIC_BYTES = 30.0
"""Adam in mixed precision, of one parameter: gradient, copy and two moments read, three written, 16 bits written."""
ACCUMULATE_BYTES = 8.0
"""A weight's gradient is read and written in float32 for every microbatch."""
MICROBATCH_PARTS = tuple(field.name for field in fields(LayerCost))
OWN_PARTS = ("compute_seconds", "host_seconds", "idle_seconds", "optimizer_seconds")
"""Parts in which ranks differ by chance: their own work, and the waiting for it. A link does not wait for a slow
core's."""


class Predictor:
    """Predicts steps of one job on one kind of device; parts that several splits share are computed once."""

    def __init__(
        self,
        job: Job,
        device: Device,
        constants: Constants,
        stack: str,
        measured: BySize | None = None,
        network: Network | None = None,
        jitter_share: float | None = None,
        overheads: Overheads | None = None,
        core_share: float = 1.0,
        slowdown: BySize | None = None,
    ) -> None:
        """`core_share`: of a device that a rank has; `measured` and `network` are of that share. `slowdown`: what work
        takes longer than its rates say, by the tokens of a microbatch over tensor ranks.
        """
        self.job, self.device, self.constants = job, device, constants
        self.overheads, self.core_share = overheads, core_share
        self.common: Common = constants.common
        self.stack: Stack = constants.stack(stack)
        self.network = network or Network(device, self.common)
        self.holdings = Holdings(job, self.stack)
        half = "bf16" if is_eight_bit(job.precision) else job.precision
        multiplier = Multiplier(device, self.common, job.precision, measured)
        halves = Multiplier(device, self.common, half, measured)
        self.layers = LayerTimes(job.shape, device, self.common, self.stack, multiplier, halves, slowdown)
        self.bytes_per_s = device.memory_bytes_per_s * self.common.memory_share
        self.jitter_share = self.common.jitter_share if jitter_share is None else jitter_share
        self._layer_cache: dict[tuple[object, ...], tuple[LayerCost, LayerCost]] = {}

    @property
    def _gradient_bytes(self) -> float:
        return max(self.stack.gradient_bytes, self.job.element_bytes)

    def predict(self, strategy: TrainingStrategy, devices: int | None = None, replay: bool = True) -> Prediction:
        """Raises BenchError for a split that the job cannot have, or a network whose rates are not known."""
        refuse(self.job, strategy)
        counts = self.holdings.stage_layers(strategy)
        held = self.holdings.memory(strategy, counts)
        step, parts, method = self._time(strategy, counts, replay)
        fits = None if self.device.memory_bytes is None else held.total <= self.device.memory_bytes
        return Prediction(
            self.job, strategy, self.device, devices or strategy.world_size, step, parts, held, fits, method,
            self.constants.error_share, self.device.notes,
        )  # fmt: skip

    def seconds(self, strategy: TrainingStrategy, counts: list[int]) -> float:
        """Seconds of a step by the pipeline's formula, which a search compares."""
        return self._time(strategy, counts, replay=False)[0]

    def _time(self, strategy: TrainingStrategy, counts: list[int], replay: bool) -> tuple[float, dict[str, float], str]:
        kinds = [(count, rank == 0, rank == strategy.pp - 1) for rank, count in enumerate(counts)]
        costs = {kind: self._rank_cost(strategy, *kind) for kind in set(kinds)}
        ranks = [costs[kind] for kind in kinds]
        stages = pipeline.Stages(
            tuple(cost[0].total for cost in ranks),
            tuple(cost[1].total for cost in ranks),
            self.holdings.microbatches(strategy),
            strategy.interleave,
        )
        again = pipeline.replayed_seconds(strategy.schedule, stages) if replay and strategy.pp > 1 else None
        whole = pipeline.formula_seconds(strategy.schedule, stages) if again is None else again
        if self.core_share < 1.0:
            whole = self._shared_seconds(strategy, stages, whole)
        slowest = stages.totals.index(max(stages.totals))
        forward, backward = ranks[slowest]
        number = stages.microbatches
        busy = number * stages.totals[slowest]
        shown = number * min(1.0, whole / busy)
        parts = {name: shown * (getattr(forward, name) + getattr(backward, name)) for name in MICROBATCH_PARTS}
        parts["idle_seconds"] = max(0.0, whole - busy)
        hidden = ranks[0][1].total if strategy.pp > 1 else backward.total
        parts["data_seconds"] += self._gradient_seconds(strategy, counts, hidden) + number * self._end_seconds(strategy)
        parts["optimizer_seconds"] = self._optimizer_seconds(strategy, counts)
        if self.overheads is not None:
            parts["host_seconds"] += self.overheads.seconds(strategy, self.rank_work(strategy))
        share = stragglers.expected_maximum_share(strategy.world_size, self.jitter_share)
        parts["straggler_seconds"] = share * sum(parts[name] for name in OWN_PARTS)
        return sum(parts.values()), parts, "formula" if again is None else "replay"

    def _shared_seconds(self, strategy: TrainingStrategy, stages: pipeline.Stages, whole: float) -> float:
        """Ranks that share a core use what others leave idle, until all of its time is used; `whole`: with one each."""
        idle = pipeline.idle_cores(strategy.pp, self.core_share) / strategy.interleave
        return max(whole * self.core_share, fmean(stages.totals) * (stages.microbatches + idle))

    def rank_work(self, strategy: TrainingStrategy) -> RankWork:
        """Work of the busiest rank that its libraries add overheads to."""
        counts = self.holdings.stage_layers(strategy)
        return RankWork(
            max(counts), self.holdings.parameters(strategy, counts).total, self.holdings.microbatches(strategy)
        )

    def _rank_cost(
        self, strategy: TrainingStrategy, layers: int, first: bool, last: bool
    ) -> tuple[LayerCost, LayerCost]:
        """Forward and backward of one microbatch on one pipeline rank."""
        mixtures = self.holdings.mixtures(layers)
        kinds = {False: layers - mixtures, True: mixtures}
        sums = (LayerCost(), LayerCost())
        for mixture, number in kinds.items():
            if number:
                costs = self._layer_cost(strategy, mixture)
                sums = (sums[0].plus(costs[0], number), sums[1].plus(costs[1], number))
        part = self._slice(strategy)
        if last:
            ahead, back = self._cached_head(part)
            sums = (sums[0].plus(ahead), sums[1].plus(back))
        parameters = self.holdings.rank_parameters(strategy, layers).total
        accumulated = self._slowdown(strategy) * ACCUMULATE_BYTES * parameters / self.bytes_per_s
        sums = (sums[0], sums[1].plus(LayerCost(compute_seconds=accumulated)))
        ends = LayerCost(tensor_seconds=(first + last) * self._end_tensor_seconds(strategy))
        sums = (sums[0].plus(ends), sums[1].plus(ends))
        if strategy.pp > 1:
            sent = self._send_seconds(strategy)
            sums = (sums[0].plus(LayerCost(pipeline_seconds=sent)), sums[1].plus(LayerCost(pipeline_seconds=sent)))
        return sums

    def _slowdown(self, strategy: TrainingStrategy) -> float:
        return self.layers.slowdown(self._slice(strategy))

    def _slice(self, strategy: TrainingStrategy) -> Slice:
        tokens = strategy.microbatch * self.job.sequence // strategy.cp
        return Slice(
            tokens, self.job.sequence, strategy.tp, strategy.ep, strategy.expert_tp, strategy.cp, strategy.recompute
        )

    def _cached_head(self, part: Slice) -> tuple[LayerCost, LayerCost]:
        key = ("head", part)
        if key not in self._layer_cache:
            ahead, back = self.layers.head(part)
            self._layer_cache[key] = (self._with_host(ahead, LayerCost()), self._with_host(back, LayerCost()))
        return self._layer_cache[key]

    def _layer_cost(self, strategy: TrainingStrategy, mixture: bool) -> tuple[LayerCost, LayerCost]:
        sharded = (strategy.dp, self.holdings.zero(strategy)) if self.holdings.zero(strategy) >= 3 else (1, 0)
        key = (strategy.tp, strategy.cp, strategy.ep, strategy.microbatch, strategy.recompute, mixture, *sharded)
        if key not in self._layer_cache:
            part = self._slice(strategy)
            ahead, back = self.layers.forward(part, mixture), self.layers.backward(part, mixture)
            again = RECOMPUTE[strategy.recompute][0]
            self._layer_cache[key] = (
                self._with_host(ahead, self._transfers(strategy, ahead, 1.0, mixture, backward=False)),
                self._with_host(back, self._transfers(strategy, back, 1.0 + again, mixture, backward=True)),
            )
        return self._layer_cache[key]

    def _with_host(self, parts: Parts, transfers: LayerCost) -> LayerCost:
        """The host launches while the device works: whichever takes longer."""
        busy = parts.seconds + transfers.total
        waited = max(0.0, parts.kernels * self.stack.kernel_seconds - busy)
        return replace(transfers, compute_seconds=transfers.compute_seconds + parts.seconds, host_seconds=waited)

    def _transfers(
        self, strategy: TrainingStrategy, parts: Parts, rounds: float, mixture: bool, backward: bool
    ) -> LayerCost:
        """A layer's transfers that nothing hides."""
        shape, part = self.job.shape, self._slice(strategy)
        # Experts that are whole take the sequence's parts as they are: only attention gathers and scatters them.
        blocks = 1 if mixture and strategy.ep > 1 else 2
        tensor = blocks * self._tensor_seconds(strategy, part) * rounds * self.stack.tensor_exposed
        context = 0.0
        if strategy.cp > 1:
            sent = (
                2.0
                * self.job.element_bytes
                * part.tokens
                * shape.head_dim
                * shape.num_kv_heads
                / strategy.tp
                * (strategy.cp - 1)
            )
            hop = self.network.group(strategy.cp, strategy.tp)
            moved = sent * (2.0 if backward else 1.0) / self.network.bus_bytes_per_s(hop)
            hidden = min(moved, parts.attention) if self.device.overlaps else 0.0
            context = moved - hidden + self.common.overlap_tax * hidden
        expert = 0.0
        if mixture and strategy.ep > 1:
            group = self._expert_group(strategy)
            sent = self.job.element_bytes * part.tokens * shape.active_experts * shape.hidden / strategy.tp
            expert = 2.0 * rounds * self.network.all_to_all_seconds(sent, group)
        data, tax = 0.0, 0.0
        if self.holdings.zero(strategy) >= 3:
            per_parameter = [self.job.element_bytes, *([self._gradient_bytes] if backward else [])]
            moved = sum(
                self.network.gather_seconds(num_bytes * number, group)
                for number, group in self._replicated(strategy, self.holdings.layer_parameters(strategy, mixture))
                for num_bytes in per_parameter
            )
            hidden = min(moved, parts.seconds) if self.device.overlaps else 0.0
            data, tax = moved - hidden, self.common.overlap_tax * hidden
        return LayerCost(
            compute_seconds=0.0,
            tensor_seconds=tensor,
            context_seconds=context,
            expert_seconds=expert,
            data_seconds=data + tax,
        )

    def _tensor_seconds(self, strategy: TrainingStrategy, part: Slice) -> float:
        """Transfers of attention or a feed-forward block: an all-reduce of its output; with sequence parallelism an
        all-gather and a reduce-scatter.
        """
        if strategy.tp == 1:
            return 0.0
        num_bytes = self.job.element_bytes * part.tokens * self.job.shape.hidden
        group = self.network.group(strategy.tp)
        if self.stack.sequence_parallel:
            return 2.0 * self.network.gather_seconds(num_bytes, group)
        return self.network.all_reduce_seconds(num_bytes, group)

    def _end_tensor_seconds(self, strategy: TrainingStrategy) -> float:
        """Transfer of the embedding, divided by vocabulary, or the output layer, in either direction: a sum over the
        ranks along with which the sequence is split or joined (without sequence parallelism, an all-reduce in one of
        them).
        """
        if strategy.tp == 1:
            return 0.0
        num_bytes = self.job.element_bytes * self._slice(strategy).tokens * self.job.shape.hidden
        group = self.network.group(strategy.tp)
        if self.stack.sequence_parallel:
            return self.stack.tensor_exposed * self.network.gather_seconds(num_bytes, group)
        return 0.5 * self.stack.tensor_exposed * self.network.all_reduce_seconds(num_bytes, group)

    def _expert_group(self, strategy: TrainingStrategy) -> NetworkGroup:
        return self.network.group(strategy.ep, strategy.expert_tp)

    def _send_seconds(self, strategy: TrainingStrategy) -> float:
        """One boundary of a pipeline rank for one microbatch, times its stages."""
        part = self._slice(strategy)
        num_bytes = self.job.element_bytes * part.tokens * self.job.shape.hidden
        num_bytes /= strategy.tp if self.stack.sends_slices else 1
        crosses = (
            strategy.tp * strategy.cp * strategy.dp >= self.network.domain_size
            or strategy.world_size > self.network.domain_size
        )
        return strategy.interleave * self.stack.pipeline_exposed * self.network.send_seconds(num_bytes, crosses)

    def _gradient_seconds(self, strategy: TrainingStrategy, counts: list[int], hidden: float) -> float:
        """Gradients of the step, minus what one microbatch's backward hides of them."""
        if self.holdings.zero(strategy) >= 3:
            return 0.0
        held = self.holdings.parameters(strategy, counts)
        moved = sum(
            self._reduced_seconds(strategy, number, group) for number, group in self._replicated(strategy, held)
        )
        if not (self.stack.data_overlap and self.device.overlaps):
            return moved
        covered = min(moved, hidden)
        return moved - covered + self.common.overlap_tax * covered

    def _replicated(self, strategy: TrainingStrategy, held: Parameters) -> Iterator[tuple[float, NetworkGroup]]:
        """Numbers of parameters, and the devices that hold the same: experts have fewer replicas than the rest."""
        if strategy.dp * strategy.cp > 1:
            yield held.dense, self.network.group(strategy.dp * strategy.cp, strategy.tp)
        if held.expert and strategy.expert_replicas > 1:
            yield held.expert, self.network.group(strategy.expert_replicas, strategy.expert_tp * strategy.ep)

    def _end_seconds(self, strategy: TrainingStrategy) -> float:
        """Transfers at the ends of a microbatch: if parameters are sharded, embedding and output are gathered first,
        stay whole until its backward ends, and their gradients are scattered last: nothing is left to hide either.
        """
        replicas = strategy.dp * strategy.cp
        if replicas == 1 or self.holdings.zero(strategy) < 3:
            return 0.0
        group, whole = self.network.group(replicas, strategy.tp), self.holdings.end_parameters(strategy)
        gathered = self.network.gather_seconds(self.job.element_bytes * whole, group)
        return gathered + self.network.gather_seconds(self._gradient_bytes * whole, group)

    def _reduced_seconds(self, strategy: TrainingStrategy, parameters: float, group: NetworkGroup) -> float:
        gradients = self._gradient_bytes * parameters
        if self.holdings.zero(strategy) == 0:
            return self.network.all_reduce_seconds(gradients, group)
        gathered = self.network.gather_seconds(self.job.element_bytes * parameters, group)
        return self.network.gather_seconds(gradients, group) + gathered

    def _optimizer_seconds(self, strategy: TrainingStrategy, counts: list[int]) -> float:
        held = self.holdings.parameters(strategy, counts)
        sharded = held.total
        if self.holdings.zero(strategy) >= 1:
            sharded = held.dense / (strategy.dp * strategy.cp) + held.expert / strategy.expert_replicas
        seconds = self._slowdown(strategy) * OPTIMIZER_TRAFFIC_BYTES * sharded / self.bytes_per_s
        return self.stack.step_seconds + seconds
