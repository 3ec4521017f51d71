"""The calls of the context-parallel suite: shared, by torch's own context_parallel, on one device; and their check.

Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.suite import Check
from bench.workloads.model.attention import grouped_attention
from bench.workloads.model.numerics import SHORT_TYPE_MARGIN, float_tolerance, longer_dtype, relative_error, worst
from bench.workloads.parallel.context import STRATEGIES, SplitAttention, rank_pieces
from bench.workloads.parallel.tensor import Ranks, Seen

Call = Callable[[], list[Tensor]]
"""One call: the output; with the backward, then the gradients of the query, and of keys and values together."""


@dataclass(frozen=True)
class AttentionProblem:
    """The whole problem, and how it is split."""

    op: str
    batch: int
    sequence: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    causal: bool
    order: str
    direction: str

    @property
    def backward(self) -> bool:
        return self.direction == "forward_backward"


@dataclass(frozen=True)
class Inputs:
    """The whole tensors, the same on all ranks; unit variance."""

    query: Tensor
    """[batch, heads, sequence, head_dim]"""
    key_value: Tensor
    """[2, batch, kv heads, sequence, head_dim]"""
    output_gradient: Tensor
    """Shaped as the query."""

    def to(self, dtype: torch.dtype) -> Inputs:
        return Inputs(self.query.to(dtype), self.key_value.to(dtype), self.output_gradient.to(dtype))


def inputs(of: AttentionProblem, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> Inputs:
    query = (of.batch, of.num_heads, of.sequence, of.head_dim)
    key_value = (2, of.batch, of.num_kv_heads, of.sequence, of.head_dim)
    return Inputs(
        *(
            torch.empty(shape, device=device, dtype=dtype).normal_(generator=generator)
            for shape in (query, key_value, query)
        )
    )


def one_device_call(whole: Inputs, of: AttentionProblem) -> Call:
    query, key_value = (tensor.detach().requires_grad_(of.backward) for tensor in (whole.query, whole.key_value))

    def call() -> list[Tensor]:
        output = grouped_attention(query, key_value[0], key_value[1], is_causal=of.causal)
        if not of.backward:
            return [output]
        return [output, *torch.autograd.grad(output, (query, key_value), whole.output_gradient)]

    return call


def split_attention(whole: Inputs, of: AttentionProblem, ranks: Ranks) -> SplitAttention:
    def own(tensor: Tensor) -> Tensor:
        return rank_pieces(tensor, of.order, ranks.index, ranks.size)

    return SplitAttention(
        own(whole.query), own(whole.key_value), own(whole.output_gradient), ranks, of.order, of.causal
    )


def bench_call(split: SplitAttention, of: AttentionProblem) -> Call:
    """The implementation of bench.workloads.parallel.context."""
    strategy, dtype = STRATEGIES[of.op], split.query.dtype

    def call() -> list[Tensor]:
        saved = strategy.forward(split)
        if not of.backward:
            return [saved.output]
        return [saved.output, *(gradient.to(dtype) for gradient in strategy.backward(split, saved))]

    return call


def torch_call(split: SplitAttention, of: AttentionProblem) -> Call:
    """torch.distributed.tensor.experimental.context_parallel around scaled_dot_product_attention.

    Entering it costs the host a little in every call: inside, all attention of the process is split, also that of the
    variant on one device. The buffer that it wants to split tells it the length of the sequence.
    """
    from torch.distributed.tensor.experimental import context_parallel
    from torch.distributed.tensor.experimental._attention import set_rotate_method

    mesh = split.ranks.mesh(split.query.device)
    query, key_value = (tensor.detach().requires_grad_(of.backward) for tensor in (split.query, split.key_value))
    positions = torch.empty(of.sequence, device=split.query.device)

    def call() -> list[Tensor]:
        set_rotate_method(STRATEGIES[of.op].torch_method)
        with (
            context_parallel(mesh, buffers=[positions], buffer_seq_dims=[0]),
            sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        ):
            output = functional.scaled_dot_product_attention(query, key_value[0], key_value[1], is_causal=of.causal)
            if not of.backward:
                return [output]
            return [output, *torch.autograd.grad(output, (query, key_value), split.output_gradient)]

    return call


IMPLEMENTATIONS: dict[str, Callable[[SplitAttention, AttentionProblem], Call]] = {
    "own": bench_call,
    "torch": torch_call,
}


def check_call(
    call: Call, whole: Inputs, of: AttentionProblem, ranks: Ranks, seen: tuple[Seen, Seen] | None = None
) -> Check:
    """Hold output and gradients of a rank's pieces against attention over the whole sequence on one device.

    `seen` are given the results of both as they were compared.
    """

    def parts(results: list[Tensor]) -> list[Tensor]:
        return [rank_pieces(result.detach(), of.order, ranks.index, ranks.size) for result in results]

    dtype = whole.query.dtype
    long_dtype = longer_dtype(dtype)
    whole_results = one_device_call(whole, of)()
    expected = parts(whole_results)
    if seen is not None:
        seen[1](whole_results)
    del whole_results
    if long_dtype is None:
        # A query's softmax has a term a key, and so has a key's gradient a term a query.
        tolerances = [float_tolerance(dtype, of.sequence)] * len(expected)
    else:
        one_device, expected = expected, parts(one_device_call(whole.to(long_dtype), of)())
        tolerances = [SHORT_TYPE_MARGIN * relative_error(*pair) for pair in zip(one_device, expected, strict=True)]
    results = call()
    if seen is not None:
        seen[0](results)
    return worst(
        Check(relative_error(result, reference), tolerance)
        for result, reference, tolerance in zip(results, expected, tolerances, strict=True)
    )
