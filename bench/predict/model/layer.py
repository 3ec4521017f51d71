"""The operations of one layer for one microbatch on one device, and their time.

Matrix products by their shapes, attention by its kernel, everything else by the bytes that it moves. Units of
element-wise traffic are tensors of tokens x hidden in 2 bytes, counted from Megatron-LM's fused kernels: forward two
norms (2 each), two bias-dropout-residuals (3.5 each), the activation (2 x feed-forward width) and the attention's
transposes; backward twice that. An unfused attention also writes and reads its scores: 11 bytes per element forward, 17
backward (2 per matrix in fp16, 1 per dropout mask).
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.parallelism.shapes import ModelShape
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import Common, Stack, attention_flops_per_s
from bench.predict.rates.device import Device
from bench.predict.rates.matmul import Multiplier

RECOMPUTE: dict[str, tuple[float, float]] = {
    # name -> share of a forward's matrix products and element-wise work, and of its attention, that is done again
    "none": (0.0, 0.0),
    "selective": (0.0, 1.0),
    "half": (0.5, 0.0),
    "full": (1.0, 1.0),
}
"""selective: the attention's core only (arXiv 2205.05198); half: every other product or layer (torchtitan)."""

FLASH_BACKWARD = 2.5
"""A fused backward recomputes the scores: five products against the forward's two (arXiv 2307.08691)."""
SCORE_BYTES = {"forward": 11.0, "backward": 17.0}
LOSS_BYTES = {False: 14.0, True: 6.0}
"""Bytes moved per logit, forward or backward: eager, 2 written by the product, then 4 for each of the float32 copy, its
log-softmax and one read of it; compiled (bool), 2 written and read twice by one kernel."""
KERNELS = {"forward": 24, "backward": 40}
"""Kernels of one layer, for the host's time: Megatron-LM's, counted from its modules."""
ROUTING_KERNELS = {"forward": 60, "backward": 60}
"""Further kernels of a mixture: router, top-k, permutation, counts for the all-to-all; an assumption."""


@dataclass(frozen=True)
class Parts:
    """Seconds of device work of one layer, forward or backward, and how many kernels the host launches."""

    matmul: float
    attention: float
    memory: float
    kernels: float

    @property
    def seconds(self) -> float:
        return self.matmul + self.attention + self.memory

    def slower(self, factor: float) -> Parts:
        return Parts(self.matmul * factor, self.attention * factor, self.memory * factor, self.kernels)


@dataclass(frozen=True)
class LayerCost:
    """Seconds of one layer, or of all layers of a rank, for one microbatch in one direction."""

    compute_seconds: float = 0.0
    host_seconds: float = 0.0
    tensor_seconds: float = 0.0
    context_seconds: float = 0.0
    expert_seconds: float = 0.0
    pipeline_seconds: float = 0.0
    data_seconds: float = 0.0

    @property
    def total(self) -> float:
        return (
            self.compute_seconds + self.host_seconds + self.tensor_seconds + self.context_seconds
            + self.expert_seconds + self.pipeline_seconds + self.data_seconds
        )  # fmt: skip

    def plus(self, other: LayerCost, times: float = 1.0) -> LayerCost:
        return LayerCost(
            self.compute_seconds + times * other.compute_seconds,
            self.host_seconds + times * other.host_seconds,
            self.tensor_seconds + times * other.tensor_seconds,
            self.context_seconds + times * other.context_seconds,
            self.expert_seconds + times * other.expert_seconds,
            self.pipeline_seconds + times * other.pipeline_seconds,
            self.data_seconds + times * other.data_seconds,
        )


@dataclass(frozen=True)
class Slice:
    """The part of a layer that one device has."""

    tokens: int
    """Tokens of one microbatch, after context parallelism."""
    sequence: int
    """The whole sequence, over which attention goes."""
    tp: int
    ep: int
    expert_tp: int
    """Ranks that an expert is divided over; of tokens that go to whole ones, a rank brings its part of tp."""
    cp: int
    recompute: str


class LayerTimes:
    """Times layers of one shape on one device with one software stack."""

    def __init__(
        self,
        shape: ModelShape,
        device: Device,
        common: Common,
        stack: Stack,
        multiplier: Multiplier,
        half_multiplier: Multiplier,
        slowdown: BySize | None = None,
    ) -> None:
        """`slowdown`: what all work takes longer than its rates say, by tokens of a microbatch over tensor ranks."""
        self.shape, self.stack, self.multiplier, self.half = shape, stack, multiplier, half_multiplier
        self._slowdown = slowdown
        self.bytes_per_s = device.memory_bytes_per_s * common.memory_share
        self.ring_share = common.ring_share
        fused = attention_flops_per_s(stack.attention, device.name, device.reached_bf16_flops_per_s)
        self.attention_rate = fused * device.clock_share * common.attention_share * min(1.0, 0.5 + shape.head_dim / 256)

    def slowdown(self, part: Slice) -> float:
        """Tensor parallelism makes the work of a microbatch as much smaller as fewer tokens do."""
        return 1.0 if self._slowdown is None else self._slowdown.at(part.tokens / part.tp)

    def forward(self, part: Slice, mixture: bool) -> Parts:
        return self._forward(part, mixture).slower(self.slowdown(part))

    def _forward(self, part: Slice, mixture: bool) -> Parts:
        shape, tokens = self.shape, part.tokens
        width = shape.head_dim * (shape.num_heads + 2 * shape.num_kv_heads) / part.tp
        attended = shape.head_dim * shape.num_heads / part.tp
        seconds = self.multiplier.seconds
        matmul = seconds(tokens, width, shape.hidden) + seconds(tokens, shape.hidden, attended)
        ffn_width = shape.ffn_hidden
        if mixture:
            matmul += self._experts(part)
            ffn_width = shape.active_experts * shape.expert_ffn_hidden + shape.shared_ffn_hidden
        else:
            up = (shape.num_ffn_matrices - 1) * shape.ffn_hidden / part.tp
            matmul += seconds(tokens, up, shape.hidden) + seconds(tokens, shape.hidden, shape.ffn_hidden / part.tp)
        return Parts(
            matmul,
            self._attention(part, "forward"),
            self._memory(part, ffn_width, mixture, 1.0),
            _kernels("forward", mixture),
        )

    def backward(self, part: Slice, mixture: bool) -> Parts:
        """Gradients of inputs and weights, and what is computed again."""
        ahead = self._forward(part, mixture)
        again, attention_again = RECOMPUTE[part.recompute]
        # A fused kernel keeps no scores: there is nothing to save by computing the core again.
        if self.stack.attention != "unfused" and part.recompute == "selective":
            attention_again = 0.0
        attention = self._attention(part, "backward") + attention_again * ahead.attention
        kernels = _kernels("backward", mixture) + _kernels("forward", mixture) * max(again, attention_again / 4)
        parts = Parts((2.0 + again) * ahead.matmul, attention, (2.0 + again) * ahead.memory, kernels)
        return parts.slower(self.slowdown(part))

    def _experts(self, part: Slice) -> float:
        """The experts of this device: each gets its share of the tokens of the whole expert-parallel group, of whose
        devices each brings its tp-th part of the microbatch; without such a group, the tp-th part of every expert.
        """
        shape, seconds = self.shape, self.multiplier.seconds
        local = max(1.0, shape.num_experts / part.ep)
        brought = part.tokens * part.ep * part.expert_tp / part.tp
        rows = max(1.0, brought * shape.active_experts / shape.num_experts)
        width = shape.expert_ffn_hidden / part.expert_tp
        total = seconds(rows, (shape.num_ffn_matrices - 1) * width, shape.hidden, local) + seconds(
            rows, shape.hidden, width, local
        )
        if shape.shared_ffn_hidden:
            shared = shape.shared_ffn_hidden / part.tp
            total += seconds(part.tokens, (shape.num_ffn_matrices - 1) * shared, shape.hidden)
            total += seconds(part.tokens, shape.hidden, shared)
        return total

    def _attention(self, part: Slice, direction: str) -> float:
        shape = self.shape
        heads = shape.num_heads / part.tp
        products = 4.0 * part.tokens * part.sequence * shape.head_dim * heads
        if self.stack.attention == "unfused":
            scores = part.tokens * part.sequence * heads
            twice = 1.0 if direction == "forward" else 2.0
            return twice * products / self.half.rate + SCORE_BYTES[direction] * scores / self.bytes_per_s
        # A fused kernel skips the half that a causal mask hides.
        factor = 0.5 if direction == "forward" else 0.5 * FLASH_BACKWARD
        share = self.ring_share if part.cp > 1 else 1.0
        return factor * products / (share * self.attention_rate)

    def _memory(self, part: Slice, ffn_width: float, mixture: bool, factor: float) -> float:
        shape, sharded = self.shape, part.tp if self.stack.sequence_parallel else 1
        around = 11.0 * shape.hidden / sharded
        inside = (
            shape.num_ffn_matrices * ffn_width + 3.0 * shape.head_dim * (shape.num_heads + shape.num_kv_heads)
        ) / part.tp
        permuted = 4.0 * shape.active_experts * shape.hidden * part.expert_tp / part.tp if mixture else 0.0
        return factor * self.stack.traffic * 2.0 * part.tokens * (around + inside + permuted) / self.bytes_per_s

    def head(self, part: Slice) -> tuple[Parts, Parts]:
        """Output layer with the loss, forward and backward: the logits pass memory several times, in float32; fewer
        times if the loss is compiled.
        """
        shape = self.shape
        columns = shape.vocabulary / part.tp
        matmul = self.half.seconds(part.tokens, columns, shape.hidden)
        passed = LOSS_BYTES[self.stack.compiled_loss]
        memory = passed * self.stack.traffic * part.tokens * columns / self.bytes_per_s
        factor = self.slowdown(part)
        return Parts(matmul, 0.0, memory, 12).slower(factor), Parts(2.0 * matmul, 0.0, memory, 16).slower(factor)


def _kernels(direction: str, mixture: bool) -> int:
    return KERNELS[direction] + (ROUTING_KERNELS[direction] if mixture else 0)
