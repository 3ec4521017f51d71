"""Bytes that the fullest device holds, by part.

Mixed precision with Adam: 2 bytes a parameter, the gradient's 2 or 4, 12 of optimizer states (a float32 copy and two
moments; arXiv 1910.02054, section 3). ZeRO divides them over the data-parallel ranks. Activations are counted matrix by
matrix: for a GPT layer in 16 bits they come to the 34 s b h (+ 5 a s^2 b unless the scores are never kept) of arXiv
2205.05198, section 4. Of these, 10 s b h are not divided by tensor parallelism without sequence parallelism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bench.parallelism.shapes import ModelShape
from bench.predict.rates.constants import Stack

OPTIMIZER_BYTES = 12
LOGIT_BYTES = {False: 12.0, True: 4.0}
"""Bytes per logit in the loss: 2 in 16 bits, 4 in float32, 4 of its log-softmax, and 2 of its gradient; of
a compiled loss (True) the first and the last."""
GATHERED_LAYERS = 2
"""Layers that are whole at a time if parameters are sharded: one and the next."""
GATHERED_TENSORS = 4
"""Tensors of tokens x hidden, whole, in the backward of a layer that DTensor splits: the gathered gradient of its
output, that of its input as partial sums from two matrices, and their sum."""
BOUNDARY_BUFFERS = 3
"""Buffers of each microbatch in torch's pipelining (torch/distributed/pipelining/stage.py): input, output, a
gradient."""
RESERVED_BYTES = 3.0e9
"""The driver's context, the communicators' buffers and what an allocator cannot use: an assumption."""


class Memory(NamedTuple):
    """Bytes by part, of the device that holds most."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    reserved: float

    @property
    def total(self) -> float:
        return sum(self)


@dataclass(frozen=True)
class Held:
    """Share of a job on the fullest device. `dense` and `expert` are its parameters, `dp` and `expert_dp` their
    replicas."""

    dense: float
    expert: float
    layer_parameters: float
    """Parameters of one layer on this device, not sharded."""
    dp: int
    expert_dp: int
    layers: float
    microbatches_held: float
    boundaries: int
    """Boundaries of microbatches between stages of this rank and others; 0 without a pipeline."""
    tokens: int
    sequence: int
    tp: int
    expert_tp: int
    """Ranks that an expert is divided over; of tokens that go to whole ones, a rank keeps its part of tp."""
    eight_bit: bool
    """Inputs of products are kept in one byte."""
    recompute: str
    logits: float
    """Tokens x columns of the output layer on this device; 0 if it has none."""


def held_bytes(held: Held, shape: ModelShape, stack: Stack, zero: int, element_bytes: float = 2.0) -> Memory:
    """Bytes by part. With elements of 4 bytes the optimizer needs no further float32 copy."""
    dense, expert = held.dense, held.expert

    def sharded(stage: int, per_parameter: float) -> float:
        if zero < stage:
            return per_parameter * (dense + expert)
        return per_parameter * (dense / held.dp + expert / held.expert_dp)

    parameters = sharded(3, element_bytes)
    if zero >= 3:
        parameters += GATHERED_LAYERS * element_bytes * held.layer_parameters
    gradients = sharded(2, max(stack.gradient_bytes, element_bytes))
    optimizer = sharded(1, OPTIMIZER_BYTES if element_bytes < 4.0 else OPTIMIZER_BYTES - 4)
    activations = (
        held.layers * held.microbatches_held * layer_activation_bytes(held, shape, stack) * element_bytes / 2.0
    )
    if held.recompute == "full":
        # While a layer is computed again, its own activations are there once.
        activations += _whole_layer(held, shape, stack, True) * element_bytes / 2.0
    if stack.torch_parallel:
        boundary = element_bytes * held.tokens * shape.hidden
        activations += GATHERED_TENSORS * boundary * (1.0 - 1.0 / held.tp)
        activations += BOUNDARY_BUFFERS * boundary / held.tp * held.boundaries
    activations += max(LOGIT_BYTES[stack.compiled_loss], 2.0 * element_bytes) * held.logits
    return Memory(parameters, gradients, optimizer, activations, RESERVED_BYTES)


def layer_activation_bytes(held: Held, shape: ModelShape, stack: Stack) -> float:
    """Bytes that one layer keeps of one microbatch until its backward."""
    sharded = held.tp if stack.sequence_parallel else 1
    if held.recompute == "full":
        return 2.0 * held.tokens * shape.hidden / sharded
    whole = _whole_layer(held, shape, stack, held.recompute == "none")
    return 0.5 * whole if held.recompute == "half" else whole


def _whole_layer(held: Held, shape: ModelShape, stack: Stack, scores: bool) -> float:
    tokens, tp = held.tokens, held.tp
    sharded = tp if stack.sequence_parallel else 1
    ffn = shape.ffn_hidden
    if shape.is_mixture:
        ffn = shape.active_experts * shape.expert_ffn_hidden + shape.shared_ffn_hidden
    around = 10.0 * shape.hidden
    attention = 2.0 * shape.head_dim * (2 * shape.num_heads + 2 * shape.num_kv_heads)
    feed_forward = 2.0 * ffn * shape.num_ffn_matrices
    routed = 4.0 * shape.active_experts * shape.hidden if shape.is_mixture else 0.0
    if held.eight_bit:
        # Kept in 16 bits: what the norms, the attention and the activation function took in, and attention gave; in 8:
        # the inputs of the products (transformer_engine/pytorch/module/linear.py, layernorm_linear.py).
        around = (6.0 + shape.is_mixture) * shape.hidden
        attention = shape.head_dim * (5.0 * shape.num_heads + 4.0 * shape.num_kv_heads)
        feed_forward = (2.0 * (shape.num_ffn_matrices - 1) + 1.0) * ffn
        routed /= 4.0
    if stack.torch_parallel:
        around += 4.0 * shape.hidden * (tp - 1)  # two of the inputs, whole
    routed *= held.expert_tp / tp
    total = tokens * (around / sharded + (attention + feed_forward) / tp + routed)
    if scores and stack.attention == "unfused":
        total += 5.0 * tokens * held.sequence * shape.num_heads / tp
    return total
