"""One model on every rank, each with a batch of its own, whose gradients are averaged: DDP and FSDP2.

    ddp   torch's DistributedDataParallel: every rank has all weights; gradients are averaged in buckets, each as soon
          as its last gradient is there, while the backward goes on (Li et al. 2020, "PyTorch Distributed")
    fsdp  torch's fully_shard (FSDP2): every rank has a part of each weight. A group of layers gathers its weights
          before it runs, again before its backward if it gave them up in between, and reduce-scatters its gradients
          (Rajbhandari et al. 2020, "ZeRO", stage 3)

Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from bench.measure.engine.rank import RankContext
from bench.parallelism.gradient_buckets import Wrapping, buckets, groups
from bench.parallelism.shapes import ModelShape
from bench.suite import Check, TimedCheck
from bench.workloads.model.llama import Llama, whole_model
from bench.workloads.model.numerics import SHORT_TYPE_MARGIN, float_tolerance, longer_dtype, relative_error, worst
from bench.workloads.model.output_sketch import Shape, spoil
from bench.workloads.model.timed_results import StepLooks, StepResults, nothing

MAX_EXACT = 256
"""Most ranks whose ones add up to their number in bfloat16."""
GROWN_TOLERANCE = 0.25
"""Relative error of a sum over the ranks that was summed again up to 31 times; one call too few halves it."""


@dataclass
class Messages:
    """The messages of a step by themselves, on buffers of zeros."""

    sends: list[Callable[[], object]]
    summed: list[Tensor]
    """Buffers that hold the sum over the ranks in the end."""
    num_ranks: int
    gathered: list[Tensor] = field(default_factory=list)

    def __call__(self) -> None:
        for send in self.sends:
            send()

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def arm(self) -> None:
        """Ones, of which every call leaves as many times as many as there are ranks."""
        spoil(self.gathered)
        for buffer in self.summed:
            buffer.fill_(1.0)

    def look(self, calls: int) -> Check:
        worst = max((self._error(buffer, calls) for buffer in self.summed if buffer.numel()), default=0.0)
        for buffer in (*self.summed, *self.gathered):
            buffer.zero_()
        return Check(worst, GROWN_TOLERANCE)

    def _error(self, buffer: Tensor, calls: int) -> float:
        found = [float(value) for value in buffer.aminmax()]
        if any(map(math.isnan, found)):
            return math.inf
        if self.num_ranks > MAX_EXACT:
            return float(min(found) <= 1.0)
        largest = float(torch.finfo(buffer.dtype).max)
        wanted = min(float(self.num_ranks) ** calls, largest)
        return max(abs(min(value, largest) - wanted) / wanted for value in found)


class Batch(NamedTuple):
    """Inputs and targets of one rank, [batch, sequence] each."""

    tokens: Tensor
    targets: Tensor


def batches(shape: ModelShape, batch: int, rank: RankContext) -> list[Batch]:
    """Every rank's batch, the same on all ranks."""
    generator = rank.generator(shape.num_layers + 2)
    size = (rank.world_size, 2, batch, shape.sequence)
    drawn = torch.randint(shape.vocabulary, size, device=rank.device, generator=generator)
    return [Batch(*both) for both in drawn]


def compute_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross entropy of the next tokens, taken in float32 at least."""
    logits = model(batch.tokens).flatten(0, 1)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return functional.cross_entropy(logits.to(wide), batch.targets.flatten())


@dataclass
class DataParallelStep:
    """Forward and backward of a rank's batch; gradients add up in the model until `clear`."""

    model: nn.Module
    batch: Batch
    loss: Tensor | None = None
    fresh: tuple[Shape, ...] = ()
    """Shapes of the gathered weights, which are fresh tensors in every call."""

    def __call__(self) -> None:
        loss = compute_loss(self.model, self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.loss = loss.detach()

    def clear(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Removes all that a step leaves."""
        self.clear()
        self.loss = None

    def results(self) -> StepResults:
        return StepResults([self.loss], [parameter.grad for parameter in self.model.parameters()])

    def looks(self) -> StepLooks:
        return StepLooks(self, self.results, self.forget, fresh=self.fresh)


def make_ddp(model: Llama, wrapping: Wrapping, rank: RankContext) -> nn.Module:
    return DistributedDataParallel(
        model, process_group=rank.group, bucket_cap_mb=wrapping.bucket_mb, gradient_as_bucket_view=True
    )


def make_fsdp(model: Llama, wrapping: Wrapping, rank: RankContext) -> nn.Module:
    """Groups of layers, and what is left (embedding, last norm, head) in a group of the whole model's own.

    The last is needed again as soon as the backward begins, so that it stays gathered, as torch does by itself; where
    the model is one group, it does as asked for.
    """
    mesh = rank.mesh((rank.world_size,), ("data",))
    layers = list(model.layers.values())
    for indices in groups(len(layers), wrapping.layers_per_group):
        fully_shard([layers[i] for i in indices], mesh=mesh, reshard_after_forward=wrapping.reshard_after_forward)
    is_one_group = not wrapping.layers_per_group
    fully_shard(model, mesh=mesh, reshard_after_forward=wrapping.reshard_after_forward if is_one_group else False)
    return model


MAKE: dict[str, Callable[[Llama, Wrapping, RankContext], nn.Module]] = {"ddp": make_ddp, "fsdp": make_fsdp}


def ddp_messages(model: Llama, wrapping: Wrapping, rank: RankContext) -> Messages:
    """The sums of a step, a bucket each, in the order of the backward."""
    parameters = list(model.parameters())[::-1]
    item = parameters[0].element_size()
    sizes = buckets([p.numel() * item for p in parameters], wrapping.bucket_mb * 2**20)
    room = [torch.zeros(size // item, device=rank.device, dtype=parameters[0].dtype) for size in sizes]
    return Messages([_all_reduce(buffer, rank.group) for buffer in room], room, rank.world_size)


def fsdp_messages(model: Llama, wrapping: Wrapping, rank: RankContext) -> Messages:
    """The gathers of the forward; those of the backward, if weights were given up; and the reduce-scatters."""
    layers = list(model.layers.values())
    sharded = [
        [p for index in indices for p in layers[index].parameters()]
        for indices in groups(len(layers), wrapping.layers_per_group)
    ]
    in_groups = {id(p) for group in sharded for p in group}
    rest = [p for p in model.parameters() if id(p) not in in_groups]
    pairs = [_sharded(group, rank) for group in sharded]
    root = _sharded(rest, rank)
    again = pairs if sharded else [root]
    gathered = [root, *pairs, *(again[::-1] if wrapping.reshard_after_forward else [])]
    sends = [
        *(_gather(*pair, rank.group) for pair in gathered),
        *(_scatter(*p, rank.group) for p in [*pairs[::-1], root]),
    ]
    wholes, shares = ([pair[part] for pair in (root, *pairs)] for part in range(2))
    return Messages(sends, shares, rank.world_size, wholes)


def _sharded(parameters: Iterable[nn.Parameter], rank: RankContext) -> tuple[Tensor, Tensor]:
    """Whole and own part of a group, with each parameter's first dimension filled up to a multiple of the ranks."""
    num_elements, dtype = 0, torch.float32
    for parameter in parameters:
        rows = -(-parameter.shape[0] // rank.world_size)
        num_elements += rows * (parameter.numel() // parameter.shape[0])
        dtype = parameter.dtype
    whole = torch.zeros(num_elements * rank.world_size, device=rank.device, dtype=dtype)
    return whole, torch.zeros(num_elements, device=rank.device, dtype=dtype)


def _all_reduce(buffer: Tensor, group: dist.ProcessGroup) -> Callable[[], object]:
    return lambda: dist.all_reduce(buffer, group=group)


def _gather(whole: Tensor, shard: Tensor, group: dist.ProcessGroup) -> Callable[[], object]:
    # torch 2.14 renamed both, and warns at every call under the old name.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return lambda: gather(whole, shard, group=group)


def _scatter(whole: Tensor, shard: Tensor, group: dist.ProcessGroup) -> Callable[[], object]:
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return lambda: scatter(shard, whole, group=group)


MESSAGES: dict[str, Callable[[Llama, Wrapping, RankContext], Messages]] = {
    "ddp": ddp_messages,
    "fsdp": fsdp_messages,
}


@dataclass
class Trained:
    """The three variants of a case."""

    full: DataParallelStep
    plain: DataParallelStep
    """The model without a wrapper."""
    messages: Messages
    everyone: list[Batch]

    def clear(self) -> None:
        self.full.clear()
        self.plain.clear()


def make_trained(shape: ModelShape, batch: int, dtype: torch.dtype, wrapping: Wrapping, rank: RankContext) -> Trained:
    everyone = batches(shape, batch, rank)
    rank_batch = everyone[rank.index]
    plain = whole_model(shape, rank.generator, rank.device, dtype)
    messages = MESSAGES[wrapping.op](plain, wrapping, rank)
    wrapped = MAKE[wrapping.op](whole_model(shape, rank.generator, rank.device, dtype), wrapping, rank)
    gathered = tuple((buffer.shape, buffer.dtype, buffer.device) for buffer in messages.gathered)
    full, alone = DataParallelStep(wrapped, rank_batch, fresh=gathered), DataParallelStep(plain, rank_batch)
    return Trained(full, alone, messages, everyone)


def check_step(trained: Trained, shape: ModelShape, seen: Callable[[], object] = nothing) -> Check:
    """Hold the loss and all averaged gradients against one device that goes through every rank's batch.

    `seen` is called when they are there.
    """
    parameter = next(trained.plain.model.parameters())
    long_dtype = longer_dtype(parameter.dtype)
    expected = _one_device(trained.plain.model, trained)
    if long_dtype is None:
        num_tokens = len(trained.everyone) * trained.full.batch.tokens.numel()
        longest = shape.num_layers * max(num_tokens, shape.ffn_hidden, shape.vocabulary)
        tolerances = [float_tolerance(parameter.dtype, longest)] * len(expected)
    else:
        long_model = copy.deepcopy(trained.plain.model).to(long_dtype)
        one_device, expected = expected, _one_device(long_model, trained)
        tolerances = [SHORT_TYPE_MARGIN * relative_error(*pair) for pair in zip(one_device, expected, strict=True)]
        # One device's loss may be near the reference by chance, where its errors cancel.
        tolerances[0] = max(tolerances[0], float(torch.finfo(parameter.dtype).eps))
    trained.clear()
    trained.full()
    seen()
    assert trained.full.loss is not None
    results = [trained.full.loss, *(_whole(p) for p in trained.full.model.parameters())]
    trained.clear()
    return worst(
        Check(relative_error(result, reference), tolerance)
        for result, reference, tolerance in zip(results, expected, tolerances, strict=True)
    )


def _one_device(model: nn.Module, trained: Trained) -> list[Tensor]:
    """The loss of this rank's batch, and the gradients of the mean loss over all batches."""
    model.zero_grad(set_to_none=True)
    rank_batch = trained.full.batch
    own_loss = rank_batch.tokens.new_zeros(())
    for batch in trained.everyone:
        loss = compute_loss(model, batch)
        (loss / len(trained.everyone)).backward()  # type: ignore[no-untyped-call]
        own_loss = loss.detach() if batch is rank_batch else own_loss
    gradients = [cast("Tensor", p.grad).clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return [own_loss, *gradients]


def _whole(parameter: nn.Parameter) -> Tensor:
    """A parameter's gradient; put together from all ranks if they share it."""
    gradient = parameter.grad
    assert gradient is not None
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient.clone()
