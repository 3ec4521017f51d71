"""A mixture-of-experts layer whose experts are split over the ranks: dispatch, experts, combine; forward and backward.

Every rank has tokens of its own and an equal share of the experts. Each token goes to `top_k` of all experts, and their
outputs come back and are added up by the token's routing weights:

    dispatch  the rows are sorted by expert, the ranks tell each other how many come, all_to_all_single of uneven parts
    experts   a gated MLP (SwiGLU) each, one after the other
    combine   the same all_to_all_single backwards, and the weighted sum

No token is dropped and none is padded (Gale et al. 2022, "MegaBlocks"): a busy expert takes longer. The gradients go
the same way in the opposite direction. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from bench.parallelism.expert_routing import Routing
from bench.suite import Check
from bench.workloads.model.numerics import SHORT_TYPE_MARGIN, float_tolerance, longer_dtype, relative_error, worst
from bench.workloads.parallel.tensor import Ranks, Seen

Call = Callable[[], list[Tensor]]
"""One call: the output [tokens, hidden]; with the backward, then the gradients of tokens, routing weights and the two
matrices of the experts."""
Span = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Layer:
    """The tokens and experts of one rank, or of all ranks together."""

    tokens: Tensor
    """[tokens, hidden]"""
    choices: Tensor
    """[tokens, top_k]: numbers of experts."""
    weights: Tensor
    """[tokens, top_k]: a softmax over the chosen experts."""
    up: Tensor
    """[experts, hidden, 2 x ffn_hidden]: gate and up projection."""
    down: Tensor
    """[experts, ffn_hidden, hidden]"""
    output_gradient: Tensor
    """Shaped as the tokens."""

    @property
    def learned(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tensors that get a gradient."""
        return self.tokens, self.weights, self.up, self.down

    def to(self, dtype: torch.dtype) -> Layer:
        tokens, weights, up, down = (tensor.detach().to(dtype).requires_grad_() for tensor in self.learned)
        return Layer(tokens, self.choices, weights, up, down, self.output_gradient.to(dtype))


def whole_layer(
    routing: Routing,
    size: int,
    hidden: int,
    ffn_hidden: int,
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype,
) -> Layer:
    """Make all ranks' tokens and all experts, the same on every rank. Activations keep unit variance."""

    def normal(*shape: int, deviation: float = 1.0) -> Tensor:
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, deviation, generator=generator)

    num_tokens = size * routing.num_tokens
    one_rank = choose_experts(routing).to(device)
    orders = [torch.randperm(routing.num_tokens, device=device, generator=generator) for _ in range(size)]
    tokens, output_gradient = normal(num_tokens, hidden), normal(num_tokens, hidden)
    weights = normal(num_tokens, routing.top_k).softmax(-1)
    up = normal(routing.num_experts, hidden, 2 * ffn_hidden, deviation=hidden**-0.5)
    down = normal(routing.num_experts, ffn_hidden, hidden, deviation=ffn_hidden**-0.5)
    choices = torch.cat([one_rank[order] for order in orders])
    learned = (tensor.requires_grad_() for tensor in (tokens, weights, up, down))
    tokens, weights, up, down = learned
    return Layer(tokens, choices, weights, up, down, output_gradient)


def choose_experts(routing: Routing) -> Tensor:
    """The experts of one rank's tokens, [tokens, top_k], in the numbers of `Routing.loads`: expert 0 as often as asked
    for, the others in turn."""
    busy, top_k = routing.num_busy, routing.top_k
    in_turn = torch.arange(routing.num_tokens * top_k - busy) % (routing.num_experts - 1) + 1
    first, rest = in_turn[: busy * (top_k - 1)], in_turn[busy * (top_k - 1) :]
    chosen = torch.cat([torch.zeros(busy, 1, dtype=torch.long), first.view(busy, top_k - 1)], 1)
    return torch.cat([chosen, rest.view(-1, top_k)])


def rank_layer(whole: Layer, ranks: Ranks) -> Layer:
    """A rank's own tokens and experts."""

    def own(tensor: Tensor) -> Tensor:
        return tensor.detach().chunk(ranks.size)[ranks.index].clone()

    tokens, weights, up, down = (own(tensor).requires_grad_() for tensor in whole.learned)
    return Layer(tokens, own(whole.choices), weights, up, down, own(whole.output_gradient))


class AllToAll(torch.autograd.Function):
    """Rows to the ranks, in uneven parts; their gradients go back the way that the rows came."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, exchange: Exchange, sent: list[int], received: list[int], kind: str) -> Tensor:
        ctx.exchange, ctx.sent, ctx.received, ctx.kind = exchange, sent, received, kind
        return exchange.swap(rows, sent, received, kind)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        returned = ctx.exchange.swap(gradients[0].contiguous(), ctx.received, ctx.sent, ctx.kind)
        return returned, None, None, None, None


@dataclass
class Exchange:
    """Exchange of rows between the ranks; over a silent group nothing is sent."""

    ranks: Ranks
    span: Span
    silent: bool = False

    def __post_init__(self) -> None:
        self._standing: dict[int, Tensor] = {}

    def _room(self, rows: Tensor, count: int) -> Tensor:
        """Allocate room for `count` arriving rows; for a silent group ordinary numbers: others can be slow to use."""
        if not self.silent:
            return rows.new_empty((count, rows.shape[1]))
        if count not in self._standing:
            room = rows.new_empty((count, rows.shape[1]))
            self._standing[count] = room.normal_(generator=torch.Generator(rows.device).manual_seed(count))
        return self._standing[count]

    def swap(self, rows: Tensor, sent: list[int], received: list[int], kind: str) -> Tensor:
        with self.span(kind):
            output = self._room(rows, sum(received))
            dist.all_to_all_single(output, rows, received, sent, group=self.ranks.group)
            return output

    def tell_counts(self, sent: Tensor, expected: Tensor) -> Tensor:
        """[ranks, own experts]: how many rows each rank sends here. `expected` is what a silent group leaves."""
        received = expected.clone()
        dist.all_to_all_single(received, sent, group=self.ranks.group)
        return received


def experts_forward(rows: Tensor, counts: list[int], up: Tensor, down: Tensor) -> Tensor:
    """The rows of each expert, one after the other, through its gated MLP."""
    outputs = []
    for part, own_up, own_down in zip(torch.split(rows, counts), up, down, strict=True):
        gate, value = (part @ own_up).chunk(2, -1)
        outputs.append((functional.silu(gate) * value) @ own_down)
    return torch.cat(outputs)


def weighted_sum(rows: Tensor, order: Tensor, layer: Layer) -> Tensor:
    """Rows sorted by expert (`order` sorts them) back to their tokens."""
    num_tokens, top_k = layer.choices.shape
    scaled = rows * layer.weights.flatten()[order].unsqueeze(-1)
    return torch.zeros_like(layer.tokens).index_add(0, order // top_k, scaled).view(num_tokens, -1)


@dataclass(frozen=True)
class SplitLayer:
    """A rank's share of the layer, as one call."""

    own: Layer
    exchange: Exchange
    expected: Tensor
    """[ranks, own experts]: rows that each rank sends here, which the routing fixes."""
    backward: bool

    def __call__(self) -> list[Tensor]:
        if not self.backward:
            with torch.no_grad():
                return [self.forward()]
        output = self.forward()
        return [output, *torch.autograd.grad(output, self.own.learned, self.own.output_gradient)]

    def forward(self) -> Tensor:
        own, size = self.own, self.exchange.ranks.size
        flat = own.choices.flatten()
        order = flat.argsort(stable=True)
        sent = torch.bincount(flat, minlength=size * len(own.up)).view(size, -1)
        received = self.exchange.tell_counts(sent, self.expected)
        sent_rows, received_rows = sent.sum(1).tolist(), received.sum(1).tolist()
        rows = own.tokens[order // own.choices.shape[1]]
        arrived = _swap(rows, self.exchange, sent_rows, received_rows, "dispatch")
        by_expert = _by_expert(received)
        outputs = experts_forward(arrived[by_expert], received.sum(0).tolist(), own.up, own.down)
        # Back to the order of arrival, by ranks.
        in_order = torch.empty_like(outputs).index_copy(0, by_expert, outputs)
        returned = _swap(in_order, self.exchange, received_rows, sent_rows, "combine")
        return weighted_sum(returned, order, own)

    def messages(self) -> list[Tensor]:
        """Only what is sent: counts and rows, there and back; with the backward, rows twice more. Rows come home."""
        sent = torch.bincount(self.own.choices.flatten(), minlength=self.expected.numel()).view_as(self.expected)
        received = self.exchange.tell_counts(sent, self.expected)
        sent_rows, received_rows = sent.sum(1).tolist(), received.sum(1).tolist()
        rows = self.own.tokens.detach().repeat(self.own.choices.shape[1], 1)
        returned = rows
        for _ in range(2 if self.backward else 1):
            arrived = self.exchange.swap(rows, sent_rows, received_rows, "dispatch")
            returned = self.exchange.swap(arrived, received_rows, sent_rows, "combine")
        return [returned]

    @property
    def room_shapes(self) -> list[tuple[tuple[int, ...], torch.dtype, torch.device]]:
        """Shapes of what arrives: rows for the own experts, and the own rows again."""
        tokens = self.own.tokens
        counts = int(self.expected.sum()), self.own.choices.numel()
        return [((count, tokens.shape[1]), tokens.dtype, tokens.device) for count in counts]


def _swap(rows: Tensor, exchange: Exchange, sent: list[int], received: list[int], kind: str) -> Tensor:
    swapped: Tensor = AllToAll.apply(rows, exchange, sent, received, kind)  # type: ignore[no-untyped-call]
    return swapped


def _by_expert(received: Tensor) -> Tensor:
    """Rows come sorted by rank, and within it by expert: what sorts them by expert alone."""
    size, num_experts = received.shape
    experts = torch.arange(num_experts, device=received.device).repeat(size)
    return experts.repeat_interleave(received.flatten()).argsort(stable=True)


def split_layer(layer: Layer, routing: Routing, exchange: Exchange, backward: bool) -> SplitLayer:
    ranks = exchange.ranks
    loads = torch.tensor(routing.loads()).chunk(ranks.size)[ranks.index]
    return SplitLayer(layer, exchange, loads.repeat(ranks.size, 1).to(layer.tokens.device), backward)


def one_device_call(whole: Layer, backward: bool) -> Call:
    """The whole layer on one device: all tokens, each expert picks its own."""

    def forward() -> Tensor:
        output = torch.zeros_like(whole.tokens)
        for expert, (up, down) in enumerate(zip(whole.up, whole.down, strict=True)):
            tokens, slots = (whole.choices == expert).nonzero(as_tuple=True)
            gate, value = (whole.tokens[tokens] @ up).chunk(2, -1)
            rows = (functional.silu(gate) * value) @ down
            output = output.index_add(0, tokens, rows * whole.weights[tokens, slots].unsqueeze(-1))
        return output

    def call() -> list[Tensor]:
        if not backward:
            with torch.no_grad():
                return [forward()]
        output = forward()
        return [output, *torch.autograd.grad(output, whole.learned, whole.output_gradient)]

    return call


def check_call(call: SplitLayer, whole: Layer, ranks: Ranks, seen: tuple[Seen, Seen] | None = None) -> Check:
    """Hold output and gradients of a rank's own tokens and experts against the whole layer on one device.

    `seen` are given the results of both as they were compared.
    """

    def parts(results: list[Tensor]) -> list[Tensor]:
        return [result.detach().chunk(ranks.size)[ranks.index] for result in results]

    dtype = whole.tokens.dtype
    long_dtype = longer_dtype(dtype)
    whole_results = one_device_call(whole, call.backward)()
    expected = parts(whole_results)
    if seen is not None:
        seen[1](whole_results)
    del whole_results
    if long_dtype is None:
        longest = max(len(whole.tokens), whole.tokens.shape[1], whole.up.shape[2])
        tolerances = [float_tolerance(dtype, longest)] * len(expected)
    else:
        one_device, expected = expected, parts(one_device_call(whole.to(long_dtype), call.backward)())
        tolerances = [SHORT_TYPE_MARGIN * relative_error(*pair) for pair in zip(one_device, expected, strict=True)]
    results = call()
    if seen is not None:
        seen[0](results)
    return worst(
        Check(relative_error(result, reference), tolerance)
        for result, reference, tolerance in zip(results, expected, tolerances, strict=True)
    )
