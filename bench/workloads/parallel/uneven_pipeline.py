"""Training steps whose work is dealt out to the ranks in any whole numbers: by data, tensor and pipeline parallelism.

Each takes `shares`, the units of every rank: microbatches (data), blocks of an MLP's columns (tensor), layers
(pipeline, 1F1B). Whatever the shares, gradients add up to those of one device on the whole batch. Every part is marked:
computation by its kind, communication as such. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from bench.measure.engine.rank import RankContext
from bench.parallelism.pipeline.orders import one_f_one_b
from bench.parallelism.work_split import offsets
from bench.suite import COMMUNICATION, Check
from bench.workloads.model.numerics import float_tolerance, relative_error, worst
from bench.workloads.model.output_sketch import Shape
from bench.workloads.model.timed_results import StepLooks, StepResults, nothing
from bench.workloads.model.transformer import MLP, TransformerLayer


@dataclass(frozen=True)
class UnevenSizes:
    """The model and its batch, the same for every split."""

    hidden: int
    num_heads: int
    num_layers: int
    sequence: int
    num_microbatches: int
    ffn_blocks: int = 1
    """Blocks that an MLP's columns come in, of `ffn_hidden` / `ffn_blocks` columns each."""
    ffn_hidden: int = 0

    @property
    def num_terms(self) -> int:
        """Terms of the longest sum of a gradient, times the layers through which rounding adds up."""
        return self.num_layers * max(4 * self.hidden, self.ffn_hidden, self.num_microbatches * self.sequence)


@dataclass(frozen=True)
class Team:
    """The ranks that share a step, in order, and the groups that they talk in."""

    ranks: tuple[int, ...]
    group: dist.ProcessGroup
    back: dist.ProcessGroup
    """Group for the gradients of a pipeline: on NCCL two messages that cross on one group wait for each other."""

    def index(self, rank: RankContext) -> int | None:
        """Place of a rank in the team; None if it is not in it."""
        return self.ranks.index(rank.index) if rank.index in self.ranks else None


class UnevenStep(Protocol):
    """A step that the suite times and checks."""

    def run(self) -> None: ...
    def clear(self) -> None: ...
    def check(self, seen: Callable[[], object] = nothing) -> Check:
        """Run it and compare its gradients with one device's; `seen` is called when they are there."""
        ...

    def looks(self) -> StepLooks | None:
        """Looks at what a step leaves on this rank; None on a rank that has no part in it."""
        ...


def _layers(sizes: UnevenSizes, indices: range, rank: RankContext) -> nn.Sequential:
    def layer(index: int) -> nn.Module:
        return TransformerLayer(sizes.hidden, sizes.num_heads, generator=rank.generator(index), device=rank.device)

    return nn.Sequential(*map(layer, indices))


def _data(sizes: UnevenSizes, rank: RankContext) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and targets of all microbatches, [1, sequence, hidden] each, the same on all ranks."""
    shape = (sizes.num_microbatches, sizes.sequence, sizes.hidden)
    generator = rank.generator(10_007)
    first, second = (torch.empty(shape, device=rank.device).normal_(generator=generator) for _ in range(2))
    return first.split(1), second.split(1)  # type: ignore[no-untyped-call]


def _loss(output: Tensor, target: Tensor, sizes: UnevenSizes) -> Tensor:
    return functional.mse_loss(output, target) / sizes.num_microbatches


def _gradients(module: nn.Module) -> Iterator[Tensor]:
    for parameter in module.parameters():
        assert parameter.grad is not None
        yield parameter.grad


def _whole_step(model: nn.Module, sizes: UnevenSizes, rank: RankContext) -> None:
    for batch, target in zip(*_data(sizes, rank), strict=True):
        _loss(model(batch), target, sizes).backward()  # type: ignore[no-untyped-call]


def _compare(results: Sequence[Tensor], expected: Sequence[Tensor], sizes: UnevenSizes) -> Check:
    tolerance = float_tolerance(torch.float32, sizes.num_terms)
    return worst(Check(relative_error(a, b), tolerance) for a, b in zip(results, expected, strict=True))


def _gradient_looks(step: UnevenStep, model: nn.Module, fresh: Sequence[Shape] = ()) -> StepLooks:
    def results() -> StepResults:
        return StepResults(summed=[parameter.grad for parameter in model.parameters()])

    return StepLooks(step.run, results, step.clear, fresh=fresh)


class DataStep:
    """Every rank has the whole model and some of the microbatches; gradients are summed once, at the end."""

    def __init__(self, sizes: UnevenSizes, shares: Sequence[int], team: Team, rank: RankContext) -> None:
        self.sizes, self.rank, self.team = sizes, rank, team
        self.model = _layers(sizes, range(sizes.num_layers), rank)
        position = team.index(rank)
        rows = range(0) if position is None else offsets(shares)[position]
        batches, targets = _data(sizes, rank)
        self.own = [(number, batches[number], targets[number]) for number in rows]
        self.parameters = list(self.model.parameters())

    def run(self) -> None:
        if not self.own:
            return
        for number, batch, target in self.own:
            with self.rank.span("forward_backward", microbatch=number):
                _loss(self.model(batch), target, self.sizes).backward()  # type: ignore[no-untyped-call]
        with self.rank.span("pack"):
            flat = torch.cat([gradient.flatten() for gradient in _gradients(self.model)])
        with self.rank.span(COMMUNICATION):
            dist.all_reduce(flat, group=self.team.group)
        with self.rank.span("unpack"):
            first = 0
            for parameter in self.parameters:
                parameter.grad = flat[first : first + parameter.numel()].view_as(parameter)
                first += parameter.numel()

    def clear(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def looks(self) -> StepLooks | None:
        return _gradient_looks(self, self.model) if self.own else None

    def check(self, seen: Callable[[], object] = nothing) -> Check:
        if not self.own:
            return Check(0.0, 0.0)
        whole = _layers(self.sizes, range(self.sizes.num_layers), self.rank)
        _whole_step(whole, self.sizes, self.rank)
        self.clear()
        self.run()
        seen()
        check = _compare(list(_gradients(self.model)), list(_gradients(whole)), self.sizes)
        self.clear()
        return check


class TensorStep:
    """A stack of `x + mlp(x)` whose columns are dealt out: one sum a layer and direction (Shoeybi et al. 2019)."""

    def __init__(self, sizes: UnevenSizes, shares: Sequence[int], team: Team, rank: RankContext) -> None:
        self.sizes, self.rank, self.team = sizes, rank, team
        position = team.index(rank)
        self.is_in = position is not None
        width = sizes.ffn_hidden // sizes.ffn_blocks
        blocks = range(1) if position is None else offsets(shares)[position]
        self.columns = slice(blocks.start * width, blocks.stop * width)
        self.parts = [self._part(index) for index in range(sizes.num_layers)]
        batches, targets = _data(sizes, rank)
        self.batch, self.target = torch.cat(batches), torch.cat(targets)
        self.input_gradient: Tensor | None = None

    def _whole(self, index: int) -> MLP:
        return MLP(self.sizes.hidden, self.sizes.ffn_hidden, self.rank.generator(index), self.rank.device)

    def _part(self, index: int) -> MLP:
        whole = self._whole(index)
        part = MLP(self.sizes.hidden, self.columns.stop - self.columns.start, None, self.rank.device)
        with torch.no_grad():
            part.up.weight.copy_(whole.up.weight[self.columns])
            part.down.weight.copy_(whole.down.weight[:, self.columns])
        return part

    def run(self) -> None:
        if not self.is_in:
            return
        x = self.batch
        kept: list[tuple[Tensor, Tensor]] = []
        for layer, part in enumerate(self.parts):
            with self.rank.span("forward", stage=layer):
                leaf = x.detach().requires_grad_()
                partial = part(leaf)
                summed = partial.detach().clone()
            with self.rank.span(COMMUNICATION):
                dist.all_reduce(summed, group=self.team.group)
            x = x + summed
            kept.append((leaf, partial))
        gradient = 2.0 * (x - self.target) / x.numel()
        for layer, (leaf, partial) in reversed(list(enumerate(kept))):
            with self.rank.span("backward", stage=layer):
                partial.backward(gradient)  # type: ignore[no-untyped-call]
                assert leaf.grad is not None
                summed = leaf.grad
            with self.rank.span(COMMUNICATION):
                dist.all_reduce(summed, group=self.team.group)
            gradient = gradient + summed
        self.input_gradient = gradient

    def clear(self) -> None:
        self.input_gradient = None
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def results(self) -> StepResults:
        gradients = [parameter.grad for part in self.parts for parameter in part.parameters()]
        return StepResults([self.input_gradient], gradients)

    def looks(self) -> StepLooks | None:
        return StepLooks(self.run, self.results, self.clear) if self.is_in else None

    def check(self, seen: Callable[[], object] = nothing) -> Check:
        if not self.is_in:
            return Check(0.0, 0.0)
        leaf = self.batch.detach().requires_grad_()
        x, whole = leaf, [self._whole(index) for index in range(self.sizes.num_layers)]
        for layer in whole:
            x = x + layer(x)
        functional.mse_loss(x, self.target).backward()  # type: ignore[no-untyped-call]
        self.clear()
        self.run()
        seen()
        results, expected = [self.input_gradient], [leaf.grad]
        for part, layer in zip(self.parts, whole, strict=True):
            results += [part.up.weight.grad, part.down.weight.grad]
            up, down = layer.up.weight.grad, layer.down.weight.grad
            assert up is not None
            assert down is not None
            expected += [up[self.columns], down[:, self.columns]]
        self.clear()
        return _compare([t for t in results if t is not None], [t for t in expected if t is not None], self.sizes)


class UnevenPipelineStep:
    """Each rank has some of the layers; microbatches go through in the order of 1F1B, with plain messages."""

    def __init__(self, sizes: UnevenSizes, shares: Sequence[int], team: Team, rank: RankContext) -> None:
        self.sizes, self.rank, self.team = sizes, rank, team
        self.place = team.index(rank)
        self.num_stages = len(team.ranks)
        self.own = range(1) if self.place is None else offsets(shares)[self.place]
        self.model = _layers(sizes, self.own, rank)
        self.batches, self.targets = _data(sizes, rank)
        place, num_stages = self.place, self.num_stages
        self.order = [] if place is None else list(one_f_one_b(place, num_stages, sizes.num_microbatches))

    def run(self) -> None:
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        sent: list[tuple[Any, Tensor]] = []
        for _, microbatch, kind, _ in self.order:
            if kind == "forward":
                self._forward(microbatch, kept, sent)
            else:
                self._backward(microbatch, *kept.pop(microbatch), sent)
        for work, _ in sent:
            work.wait()

    def _peer(self, step: int) -> int | None:
        assert self.place is not None
        other = self.place + step
        return self.team.ranks[other] if 0 <= other < self.num_stages else None

    def _forward(self, number: int, kept: dict[int, tuple[Tensor, Tensor]], sent: list[tuple[Any, Tensor]]) -> None:
        source, target = self._peer(-1), self._peer(+1)
        x = self.batches[number]
        if source is not None:
            x = self._received(source, self.team.group, number)
        with self.rank.span("forward", stage=self.place, microbatch=number):
            leaf = x.detach().requires_grad_()
            output = self.model(leaf)
            if target is None:
                output = _loss(output, self.targets[number], self.sizes)
        kept[number] = (leaf, output)
        if target is not None:
            message = output.detach().contiguous()
            sent.append((dist.isend(message, target, group=self.team.group), message))

    def _backward(self, number: int, leaf: Tensor, output: Tensor, sent: list[tuple[Any, Tensor]]) -> None:
        source, target = self._peer(+1), self._peer(-1)
        gradient = None if source is None else self._received(source, self.team.back, number)
        with self.rank.span("backward", stage=self.place, microbatch=number):
            output.backward(gradient)  # type: ignore[no-untyped-call]
        if target is not None:
            assert leaf.grad is not None
            sent.append((dist.isend(leaf.grad, target, group=self.team.back), leaf.grad))

    def _received(self, source: int, group: dist.ProcessGroup, number: int) -> Tensor:
        message = torch.empty_like(self.batches[0])
        with self.rank.span(COMMUNICATION, stage=self.place, microbatch=number):
            work = dist.irecv(message, source, group=group)
            assert work is not None
            work.wait()
        return message

    def clear(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def looks(self) -> StepLooks | None:
        message = self.batches[0]
        received = [(message.shape, message.dtype, message.device)]
        return None if self.place is None else _gradient_looks(self, self.model, received)

    def check(self, seen: Callable[[], object] = nothing) -> Check:
        if self.place is None:
            return Check(0.0, 0.0)
        whole = _layers(self.sizes, range(self.sizes.num_layers), self.rank)
        _whole_step(whole, self.sizes, self.rank)
        self.clear()
        self.run()
        seen()
        expected = [g for index in self.own for g in _gradients(whole[index])]
        check = _compare(list(_gradients(self.model)), expected, self.sizes)
        self.clear()
        return check


STEPS: dict[str, Any] = {"data": DataStep, "tensor": TensorStep, "pipeline": UnevenPipelineStep}
