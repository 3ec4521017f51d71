"""Three implementations of one tensor-parallel block, each fit to be timed and compared with the whole block.

The block is half a transformer layer (`bench.workloads.model.transformer.Residual`): `x + mlp(norm(x))` or `x +
attention(norm(x))`. Its first matrix is split by columns (for attention: by heads), its second by rows, so
that each rank computes a share and one sum over the ranks makes the output (Shoeybi et al. 2019,
"Megatron-LM"):

    manual    local matrices between the operators f and g of that paper, written as autograd functions
    dtensor   torch's parallelize_module with ColwiseParallel and RowwiseParallel
    sequence  the same, and norm and residual split along the sequence (Korthikanti et al. 2022): an
              all-gather and a reduce-scatter take the place of the all-reduce

Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from bench.suite import COMMUNICATION, Check
from bench.workloads.model.numerics import (
    float_tolerance,
    inner_product_error,
    longer_dtype,
    relative_error,
    summed_margin,
    worst,
)
from bench.workloads.model.transformer import MLP, Gpt2Attention, Residual

SEQUENCE_DIM = 1
WEIGHT_SPLITS: tuple[int | None, ...] = (None, 0, 1)
"""Dimension along which each parameter is split, as `parameters()` orders them: norm, two matrices."""


@dataclass(frozen=True)
class BlockSizes:
    """The whole block: `width` is its inner width, ffn_hidden for the MLP, 3 x hidden for attention."""

    op: str
    hidden: int
    width: int
    num_heads: int
    """1 for the MLP, which has none."""
    batch: int
    sequence: int


Mark = Callable[[str], AbstractContextManager[None]]
"""Marks a part of the work by its kind, as `RankContext.span` does."""


def no_mark(_kind: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Ranks:
    """The ranks that share a block; a silent group makes the same code run without communication."""

    group: dist.ProcessGroup
    index: int
    size: int
    axis: str
    """Name of the mesh axis, of its own for every group: DTensor caches its plans by mesh, and meshes that
    differ in only the group compare equal, so that one group would be used for the other."""
    mark: Mark = no_mark
    """Marks around a call's forward and backward and, for `manual`, its sums."""

    def mesh(self, device: torch.device) -> DeviceMesh:
        return DeviceMesh.from_group(self.group, device.type, mesh_dim_names=(self.axis,))


def silent_group() -> dist.ProcessGroup:
    """A group of all ranks whose collectives return at once: nothing is sent.

    An all-reduce leaves its tensor as it is; a gather or scatter still fills its output, from local data.
    Every rank must call this, since making a group is collective. It is torch's own test backend, `fake`,
    which costs the host what a real collective's call costs it.
    """
    from torch.testing._internal.distributed import fake_pg

    assert fake_pg is not None  # imported for its side effect: it registers the backend
    group: dist.ProcessGroup = dist.new_group(backend="fake")
    return group


def is_filled_by(group: dist.ProcessGroup, size: int) -> bool:
    """Return True if a silent group fills all outputs: older torch leaves that of a reduce-scatter as it was."""
    output = torch.full((1,), torch.nan)
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    scatter(output, torch.zeros(size), group=group)
    return not bool(output.isnan())


class CopyToRanks(torch.autograd.Function):
    """Megatron-LM's f: the input as it is; the gradient, of which each rank has a term, summed over them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # In place: it is the fresh product of the first matrix's backward, which nothing else holds.
        total = gradients[0].contiguous()
        with ctx.ranks.mark(COMMUNICATION):
            dist.all_reduce(total, group=ctx.ranks.group)
        return total, None


class SumOverRanks(torch.autograd.Function):
    """Megatron-LM's g: the sum over the ranks; the gradient as it is, since every rank has all of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        with ranks.mark(COMMUNICATION):
            dist.all_reduce(x, group=ranks.group)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Share(nn.Module):
    """A rank's share of a block between f and g: replicated input, replicated output."""

    def __init__(self, local: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.local = local
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        copied = CopyToRanks.apply(x, self.ranks)  # type: ignore[no-untyped-call]
        output: Tensor = SumOverRanks.apply(self.local(copied), self.ranks)  # type: ignore[no-untyped-call]
        return output


# Operation -> its block, `share`-th part of it: (sizes, number of parts, generator, device, dtype).
_Inner = Callable[[BlockSizes, int, torch.Generator | None, torch.device, torch.dtype], nn.Module]
INNER: dict[str, _Inner] = {
    "mlp": lambda s, parts, *rest: MLP(s.hidden, s.width // parts, *rest),
    "attention": lambda s, parts, *rest: Gpt2Attention(s.hidden, s.num_heads // parts, s.hidden // s.num_heads, *rest),
}
# Operation -> its matrices, split by columns and by rows.
MATRICES: dict[str, tuple[str, str]] = {"mlp": ("up", "down"), "attention": ("qkv", "out")}


def _manual(sizes: BlockSizes, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> nn.Module:
    local = INNER[sizes.op](sizes, ranks.size, None, device, dtype)
    return Residual(sizes.hidden, Share(local, ranks), device, dtype)


def _parallelize(
    sizes: BlockSizes, ranks: Ranks, device: torch.device, dtype: torch.dtype, styles: list[ParallelStyle]
) -> nn.Module:
    # On the meta device, so that no rank holds a second whole block while its share is made.
    meta = torch.device("meta")
    block = Residual(sizes.hidden, INNER[sizes.op](sizes, 1, None, meta, dtype), meta, dtype)
    column, row = (f"block.{name}" for name in MATRICES[sizes.op])
    plan = dict(zip((column, row, "norm"), styles, strict=False))
    # src_data_rank=None: there is nothing to send yet.
    return parallelize_module(block, ranks.mesh(device), plan, src_data_rank=None).to_empty(device=device)


def _dtensor(sizes: BlockSizes, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> nn.Module:
    return _parallelize(sizes, ranks, device, dtype, [ColwiseParallel(), RowwiseParallel()])


def _sequence(sizes: BlockSizes, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> nn.Module:
    split = Shard(SEQUENCE_DIM)
    styles = [ColwiseParallel(input_layouts=split), RowwiseParallel(output_layouts=split), SequenceParallel()]
    return _parallelize(sizes, ranks, device, dtype, styles)


@dataclass(frozen=True)
class Implementation:
    """A row: how a rank's share is built, and whether its input and output are split along the sequence."""

    build: Callable[[BlockSizes, Ranks, torch.device, torch.dtype], nn.Module]
    activation_split: int | None


IMPLEMENTATIONS: dict[str, Implementation] = {
    "manual": Implementation(_manual, None),
    "dtensor": Implementation(_dtensor, None),
    "sequence": Implementation(_sequence, SEQUENCE_DIM),
}


def rank_part(tensor: Tensor, dim: int | None, ranks: Ranks) -> Tensor:
    """A rank's part of a tensor that is split along `dim`, or all of it."""
    return tensor if dim is None else tensor.chunk(ranks.size, dim)[ranks.index]


def _complete(gradient: Tensor) -> Tensor:
    """A gradient of which each rank has a term (the norm's, with the sequence split), summed over the
    ranks."""
    if not isinstance(gradient, DTensor):
        return gradient
    if any(isinstance(placement, Partial) for placement in gradient.placements):
        gradient = gradient.redistribute(placements=[Replicate()])
    local: Tensor = gradient.to_local()
    return local


@dataclass
class Call:
    """The timed and checked unit: one call of a block, forward alone or with all its gradients.

    The gradients are returned, not stored in `.grad`, so that no call adds to the last one's.
    """

    block: nn.Module
    x: Tensor
    output_gradient: Tensor
    """Gradient of the loss, which is <output, output_gradient>."""
    direction: str
    mark: Mark = no_mark

    def __post_init__(self) -> None:
        self.wanted: tuple[Tensor, ...] = (self.x, *self.block.parameters())

    def __call__(self) -> list[Tensor]:
        """The output; with the backward, then the gradients of the input and each parameter (local parts)."""
        if self.direction == "forward":
            with torch.no_grad(), self.mark("forward"):
                return [self.block(self.x)]
        with self.mark("forward"):
            output = self.block(self.x)
        with self.mark("backward"):
            gradients = torch.autograd.grad(output, self.wanted, self.output_gradient)
            return [output, *map(_complete, gradients)]

    def to(self, dtype: torch.dtype, make_block: Callable[[torch.dtype], nn.Module]) -> Call:
        """Copy the call in another type; `make_block` gives an empty block for its weights."""
        block = make_block(dtype)
        copy_weights(block, list(self.block.parameters()))
        x = self.x.detach().to(dtype).requires_grad_()
        return Call(block, x, self.output_gradient.to(dtype), self.direction)


@torch.no_grad()
def copy_weights(block: nn.Module, weights: list[Tensor]) -> None:
    for parameter, weight in zip(block.parameters(), weights, strict=True):
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        local.copy_(weight)


def whole_block(
    sizes: BlockSizes, generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    return Residual(sizes.hidden, INNER[sizes.op](sizes, 1, generator, device, dtype), device, dtype)


def whole_call(
    sizes: BlockSizes, direction: str, generator: torch.Generator, device: torch.device, dtype: torch.dtype
) -> Call:
    """The whole block on one device, with inputs of unit variance [batch, sequence, hidden]."""
    shape = (sizes.batch, sizes.sequence, sizes.hidden)
    block = whole_block(sizes, generator, device, dtype)
    x, output_gradient = (torch.empty(shape, device=device, dtype=dtype).normal_(generator=generator) for _ in range(2))
    return Call(block, x.requires_grad_(), output_gradient, direction)


def shared_call(whole: Call, sizes: BlockSizes, implementation: str, ranks: Ranks) -> Call:
    """A rank's share of a whole call: the same weights and inputs, split as the implementation does it."""
    row = IMPLEMENTATIONS[implementation]
    block = row.build(sizes, ranks, whole.x.device, whole.x.dtype)
    weights = list(whole.block.parameters())
    copy_weights(block, [rank_part(w, dim, ranks) for w, dim in zip(weights, WEIGHT_SPLITS, strict=True)])
    x, output_gradient = (
        rank_part(tensor.detach(), row.activation_split, ranks).clone() for tensor in (whole.x, whole.output_gradient)
    )
    return Call(block, x.requires_grad_(), output_gradient, whole.direction, ranks.mark)


Seen = Callable[[list[Tensor]], object]


def check_call(
    call: Call,
    whole: Call,
    sizes: BlockSizes,
    implementation: str,
    ranks: Ranks,
    seen: tuple[Seen, Seen] | None = None,
) -> Check:
    """Hold output, loss and all gradients of a rank's share against the whole block's on one device.

    `seen` are given the results of the two as they were compared.
    """
    activation_split = IMPLEMENTATIONS[implementation].activation_split
    splits = [activation_split, activation_split, *WEIGHT_SPLITS]

    def parts(results: list[Tensor]) -> list[Tensor]:
        return [rank_part(r.detach(), dim, ranks) for r, dim in zip(results, splits, strict=False)]

    dtype = whole.x.dtype
    reference_dtype = longer_dtype(dtype)
    whole_results = whole()
    expected = parts(whole_results)
    if reference_dtype is None:
        num_terms = max(sizes.hidden, sizes.width, sizes.batch * sizes.sequence)
        tolerances = [float_tolerance(dtype, num_terms)] * len(expected)
    else:
        long = whole.to(reference_dtype, lambda t: whole_block(sizes, None, whole.x.device, t))
        one_device, expected = expected, parts(long())
        errors = map(relative_error, one_device, expected)
        tolerances = [summed_margin(ranks.size) * error for error in errors]
    results = call()
    if seen is not None:
        for learn, found in zip(seen, (results, whole_results), strict=True):
            learn(found)
    checks = [
        Check(relative_error(result, reference), tolerance)
        for result, reference, tolerance in zip(results, expected, tolerances, strict=True)
    ]
    loss_error = inner_product_error(results[0], expected[0], call.output_gradient)
    return worst([*checks, Check(loss_error, tolerances[0])])
