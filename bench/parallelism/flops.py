"""Model FLOPs: pure formulas, each with its source. Importing this module does not import torch.

A multiplication and an addition are two operations. Only matrix products are counted (not norms,
activations, softmax), and nothing that is recomputed. Two conventions are published for causal attention,
12% apart on Llama-3 8B at a sequence of 8192, so the name of the convention is given with every number:

    full         every query against every key: PaLM (Chowdhery et al. 2022, appendix B), torchtitan
    causal_half  only the half that a causal mask keeps: current Megatron-LM

`full` is the default here.
"""

from __future__ import annotations

ATTENTION_SHARE: dict[str, float] = {"full": 1.0, "causal_half": 0.5}
"""Convention -> share of the sequence x sequence products that is counted."""

DEFAULT_CONVENTION = "full"

BACKWARD_PER_FORWARD = 2
"""Each product Y = X W' needs two of its size on the way back, dX = dY W and dW = dY' X (Kaplan et al. 2020,
"Scaling Laws for Neural Language Models", section 2.1)."""

MOST_REFERENCE_FLOPS: dict[str, float] = {"cpu": 2e12, "cuda": 2e14}
"""Device type -> the most FLOPs that a check spends on a float32 reference at full size: about 20 s on a few cores, 5 s
on a GPU without TF32. The same code is checked at a reduced size beyond it."""

PER_FORWARD: dict[str, int] = {"forward": 1, "forward_backward": 1 + BACKWARD_PER_FORWARD}
"""Pass of one call -> its FLOPs as a multiple of the forward's."""


def matmul(m: int, n: int, k: int) -> int:
    """[m, k] times [k, n]: k multiplications and k additions for each of m x n results."""
    return 2 * m * n * k


def mlp_forward(num_tokens: int, hidden: int, ffn_hidden: int, num_matrices: int = 2) -> int:
    """The feed-forward block: 2 matrices hidden x ffn_hidden (GELU), or 3 (gated, such as SwiGLU)."""
    return num_matrices * matmul(num_tokens, ffn_hidden, hidden)


def moe_forward(num_tokens: int, top_k: int, hidden: int, ffn_hidden: int) -> int:
    """A mixture of gated experts: each token goes through `top_k` of them, so that only active parameters count (Jiang
    et al. 2024, "Mixtral of Experts", section 2). The router is not counted."""
    return mlp_forward(num_tokens * top_k, hidden, ffn_hidden, num_matrices=3)


def projections_forward(num_tokens: int, hidden: int) -> int:
    """Query, key, value and output projections of multi-head attention: 4 matrices hidden x hidden."""
    return 4 * matmul(num_tokens, hidden, hidden)


def attention_products_forward(batch: int, sequence: int, hidden: int, convention: str = DEFAULT_CONVENTION) -> float:
    """Scores = query x key' and output = scores x value, over all heads; `hidden` = heads x head size.

    In full 4 x sequence x hidden a token, and 12 with the backward: the 12 H Q T of PaLM, appendix B.
    Raises KeyError for an unknown convention.
    """
    return 2 * batch * matmul(sequence, sequence, hidden) * ATTENTION_SHARE[convention]


def attention_forward(batch: int, sequence: int, hidden: int, convention: str = DEFAULT_CONVENTION) -> float:
    """A whole attention block: the four projections and the two products."""
    products = attention_products_forward(batch, sequence, hidden, convention)
    return projections_forward(batch * sequence, hidden) + products


def layer_forward(
    batch: int, sequence: int, hidden: int, ffn_hidden: int, convention: str = DEFAULT_CONVENTION
) -> float:
    """A transformer layer as in bench.workloads.model.transformer: attention, and an MLP of two matrices."""
    mlp = mlp_forward(batch * sequence, hidden, ffn_hidden)
    return attention_forward(batch, sequence, hidden, convention) + mlp


def backward(forward: float) -> float:
    """Gradients of weights and inputs together."""
    return BACKWARD_PER_FORWARD * forward
