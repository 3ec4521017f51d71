"""Attention over a sequence that is split over the ranks, forward and backward, in two ways.

Each rank holds the queries, keys and values of its own pieces of the sequence (`bench.parallelism.sequence_chunks`),
and

    all_gather  gathers all keys and values once, then attends to them; the gradients of keys and values are summed and
                split again by one reduce-scatter (Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.3.2)
    ring        passes keys and values on from rank to rank while it attends to those at hand. Partial results are
                merged by their log-sum-exp, and in the backward the gradients of keys and values travel along with them
                (Liu et al. 2023, "Ring Attention with Blockwise Transformers for Near-Infinite Context")

The kernels are torch's own fused ones, which also give the log-sum-exp of each query's scores; given the *merged*
output and log-sum-exp, the backward kernel of a block gives just that block's share of the gradients. Partial results
are merged, and gradients added up, in float32. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from bench.parallelism.sequence_chunks import ORDERS, Pieces, blocks, num_pieces
from bench.workloads.parallel.tensor import Ranks

SEQUENCE_DIM = -2
KEY_VALUE_TAG, GRADIENT_TAG = 0, 1


class AttentionKernel(NamedTuple):
    """A device's fused attention, of [batch, heads, sequence, head_dim]; keys and values may have fewer heads."""

    forward: Callable[[Tensor, Tensor, Tensor, bool], tuple[Any, ...]]
    """(query, key, value, causal) -> output, log-sum-exp [batch, heads, sequence], and what the backward wants."""
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    """(gradient, query, key, value, output, log-sum-exp, rest of the forward's results, causal) -> three gradients."""


def _cpu_backward(*tensors: Tensor, rest: tuple[Any, ...], causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *tensors, 0.0, causal
    )
    return gradients


def _cuda_backward(*tensors: Tensor, rest: tuple[Any, ...], causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    sequences, random_state = rest[:4], rest[4:6]
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_backward(
        *tensors, *sequences, 0.0, causal, *random_state
    )
    return gradients


# The public scaled_dot_product_attention calls the same kernels, but keeps the log-sum-exp to itself.
KERNELS: dict[str, AttentionKernel] = {
    "cpu": AttentionKernel(
        lambda q, k, v, causal: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal),
        _cpu_backward,
    ),
    "cuda": AttentionKernel(
        lambda q, k, v, causal: torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal),
        _cuda_backward,
    ),
}


class SavedForBackward(NamedTuple):
    """A forward's result, and what its backward needs."""

    output: Tensor
    log_sum_exp: Tensor
    rests: list[tuple[Any, ...]]
    """Saved tensors of each kernel call, in order."""
    key_values: Tensor | None
    """All keys and values, if they were gathered."""


@dataclass
class SplitAttention:
    """A rank's share of attention. `query`, `key_value` ([2, batch, kv heads, local sequence, head_dim]) and
    `output_gradient` are its own pieces; a silent group makes the same code run without communication."""

    query: Tensor
    key_value: Tensor
    output_gradient: Tensor
    ranks: Ranks
    order: str
    causal: bool
    wide: torch.dtype = field(init=False)
    """Type in which partial results are added up."""

    def __post_init__(self) -> None:
        self.wide = torch.promote_types(self.query.dtype, torch.float32)
        self.kernel = KERNELS[self.query.device.type]
        self.own = ORDERS[self.order](self.ranks.index, self.ranks.size)
        self.piece = self.query.shape[SEQUENCE_DIM] // len(self.own)
        # The receive buffers are filled, so that a silent group leaves ordinary numbers in them.
        self._arrivals = [self.key_value.clone() for _ in range(2)]
        self._gradient_arrivals = [torch.zeros_like(self.key_value, dtype=self.wide) for _ in range(2)]

    def _range(self, pieces: tuple[int, int]) -> slice:
        return slice(pieces[0] * self.piece, pieces[1] * self.piece)

    def attend(self, pieces: Pieces, key_value: Tensor, output: Tensor, lse: Tensor) -> list[tuple[Any, ...]]:
        """Attend to some pieces, and merge the result into `output` and `lse` by the shares of their softmax."""
        rests = []
        for block in blocks(self.own, pieces, self.causal):
            rows, keys = self._range(block.queries), self._range(block.keys)
            key, value = key_value[..., keys, :]
            part, part_lse, *rest = self.kernel.forward(self.query[..., rows, :], key, value, block.causal)
            share = torch.sigmoid(part_lse - lse[..., rows])
            output[..., rows, :].lerp_(part.to(self.wide), share.unsqueeze(-1).to(self.wide))
            lse[..., rows] = torch.logaddexp(lse[..., rows], part_lse)
            rests.append(tuple(rest))
        return rests

    def gradients(
        self, pieces: Pieces, key_value: Tensor, saved: SavedForBackward, query_gradient: Tensor, gradient: Tensor
    ) -> None:
        """Add the gradients through some pieces to those of the query and of these pieces' keys and values."""
        for block in blocks(self.own, pieces, self.causal):
            rows, keys = self._range(block.queries), self._range(block.keys)
            slices = (self.output_gradient[..., rows, :], self.query[..., rows, :])
            done = (saved.output[..., rows, :], saved.log_sum_exp[..., rows].contiguous())
            parts = self.kernel.backward(
                *slices, *key_value[..., keys, :], *done, rest=saved.rests.pop(0), causal=block.causal
            )
            query_gradient[..., rows, :] += parts[0]
            gradient[0][..., keys, :] += parts[1]
            gradient[1][..., keys, :] += parts[2]

    def start(self) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp of no keys at all."""
        output = torch.zeros_like(self.query, dtype=self.wide)
        return output, torch.full(self.query.shape[:-1], -torch.inf, dtype=self.wide, device=self.query.device)

    # Ring: keys and values come past, those of the rank itself first.

    def _pass_on(self, sent: Tensor, arrival: Tensor, tag: int) -> list[dist.Work]:
        """Start to send to the next rank and to receive from the one before."""
        following, previous = ((self.ranks.index + step) % self.ranks.size for step in (1, -1))
        return dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, sent, group=self.ranks.group, tag=tag, group_peer=following),
                dist.P2POp(dist.irecv, arrival, group=self.ranks.group, tag=tag, group_peer=previous),
            ]
        )

    def ring(self) -> Iterator[tuple[Pieces, Tensor]]:
        """Pieces, and their keys and values; the next ones are on their way while the caller works on these."""
        current = self.key_value
        for step in range(self.ranks.size):
            arrival, pending = self._arrivals[step % 2], []
            if step < self.ranks.size - 1:
                pending = self._pass_on(current, arrival, KEY_VALUE_TAG)
            yield ORDERS[self.order]((self.ranks.index - step) % self.ranks.size, self.ranks.size), current
            _wait(pending)
            current = arrival

    def ring_forward(self) -> SavedForBackward:
        output, lse = self.start()
        rests = [rest for pieces, key_value in self.ring() for rest in self.attend(pieces, key_value, output, lse)]
        return SavedForBackward(output.to(self.query.dtype), lse, rests, None)

    def ring_backward(self, saved: SavedForBackward) -> tuple[Tensor, Tensor]:
        """Gradients of the query and of the own keys and values, which come home after a whole round."""
        query_gradient = torch.zeros_like(self.query, dtype=self.wide)
        pending: list[dist.Work] = []
        for step, (pieces, key_value) in enumerate(self.ring()):
            gradient = torch.zeros_like(key_value, dtype=self.wide)
            self.gradients(pieces, key_value, saved, query_gradient, gradient)
            _wait(pending)
            if step:
                gradient += self._gradient_arrivals[(step - 1) % 2]
            pending = self._pass_on(gradient, self._gradient_arrivals[step % 2], GRADIENT_TAG)
        _wait(pending)
        return query_gradient, self._gradient_arrivals[(self.ranks.size - 1) % 2]

    # All-gather: keys and values of all, in the order of the sequence.

    def gather(self) -> Tensor:
        """[2, batch, kv heads, sequence, head_dim]"""
        gathered = self.key_value.new_empty((self.ranks.size, *self.key_value.shape))
        _all_gather(gathered, self.key_value, self.ranks.group)
        return join_pieces(list(gathered), self.order)

    def gather_forward(self) -> SavedForBackward:
        output, lse = self.start()
        key_value = self.gather()
        rests = self.attend(self._all_pieces, key_value, output, lse)
        return SavedForBackward(output.to(self.query.dtype), lse, rests, key_value)

    def gather_backward(self, saved: SavedForBackward) -> tuple[Tensor, Tensor]:
        assert saved.key_values is not None
        query_gradient = torch.zeros_like(self.query, dtype=self.wide)
        gradient = torch.zeros_like(saved.key_values, dtype=self.wide)
        self.gradients(self._all_pieces, saved.key_values, saved, query_gradient, gradient)
        return query_gradient, self.scatter(gradient)

    def scatter(self, gradient: Tensor) -> Tensor:
        """The sum over the ranks of the gradients of the own keys and values."""
        by_rank = [rank_pieces(gradient, self.order, rank, self.ranks.size) for rank in range(self.ranks.size)]
        piece = torch.zeros_like(by_rank[0])
        _reduce_scatter(piece, torch.stack(by_rank), self.ranks.group)
        return piece

    @property
    def _all_pieces(self) -> Pieces:
        return tuple(range(num_pieces(self.order, self.ranks.size)))

    # The same messages with nothing between them.

    def ring_messages(self, backward: bool) -> list[Tensor]:
        """What has arrived last; the gradients that are sent are those of keys and values in another type."""
        for _ in self.ring():
            pass
        if not backward:
            return [self._arrivals[0]]
        gradient = self._gradient_arrivals[0]
        for _pieces, _key_value in self.ring():
            _wait(self._pass_on(gradient, self._gradient_arrivals[1], GRADIENT_TAG))
        return [self._arrivals[0], self._gradient_arrivals[1]]

    def spoil_messages(self) -> None:
        """Numbers that no message leaves in the buffers of `ring_messages`, and known ones in what it sends."""
        for buffer in (*self._arrivals, self._gradient_arrivals[1]):
            buffer.fill_(torch.nan)
        self._gradient_arrivals[0].fill_(1.0)

    def gather_messages(self, backward: bool) -> list[Tensor]:
        key_value = self.gather()
        return [key_value, self.scatter(key_value.to(self.wide))] if backward else [key_value]


def _wait(pending: list[dist.Work]) -> None:
    for work in pending:
        work.wait()


def _all_gather(output: Tensor, piece: Tensor, group: dist.ProcessGroup) -> None:
    # torch 2.14 renamed both, and warns at every call under the old name.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(output.view(-1), piece.view(-1), group=group)


def _reduce_scatter(piece: Tensor, parts: Tensor, group: dist.ProcessGroup) -> None:
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    scatter(piece.view(-1), parts.view(-1), group=group)


def rank_pieces(whole: Tensor, order: str, rank: int, size: int) -> Tensor:
    """A rank's pieces of [..., sequence, head_dim]."""
    parts = whole.chunk(num_pieces(order, size), SEQUENCE_DIM)
    return torch.cat([parts[piece] for piece in ORDERS[order](rank, size)], SEQUENCE_DIM)


def join_pieces(by_rank: list[Tensor], order: str) -> Tensor:
    """The whole sequence from the pieces of each rank: the inverse of `rank_pieces` over all ranks."""
    size = len(by_rank)
    parts: dict[int, Tensor] = {}
    for rank, tensor in enumerate(by_rank):
        pieces = ORDERS[order](rank, size)
        parts |= dict(zip(pieces, tensor.chunk(len(pieces), SEQUENCE_DIM), strict=True))
    return torch.cat([parts[piece] for piece in sorted(parts)], SEQUENCE_DIM)


class Strategy(NamedTuple):
    """A row: how keys and values reach the queries."""

    forward: Callable[[SplitAttention], SavedForBackward]
    backward: Callable[[SplitAttention, SavedForBackward], tuple[Tensor, Tensor]]
    messages: Callable[[SplitAttention, bool], list[Tensor]]
    torch_method: str
    """Name in torch's own context_parallel."""


STRATEGIES: dict[str, Strategy] = {
    "ring": Strategy(
        SplitAttention.ring_forward, SplitAttention.ring_backward, SplitAttention.ring_messages, "alltoall"
    ),
    "all_gather": Strategy(
        SplitAttention.gather_forward, SplitAttention.gather_backward, SplitAttention.gather_messages, "allgather"
    ),
}
