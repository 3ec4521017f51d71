"""The formulas against hand-computed values and against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.parallelism import flops

BATCH, SEQUENCE, HIDDEN, FFN, HEADS = 2, 8, 16, 48, 4
TOKENS = BATCH * SEQUENCE


def _counted(make_module: Callable[..., object]) -> tuple[int, int]:
    """Forward and backward FLOPs that torch counts, over a module's input and weights."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    generator = torch.Generator().manual_seed(0)
    module = make_module(generator)
    x = torch.randn(BATCH, SEQUENCE, HIDDEN, generator=generator, requires_grad=True)
    # The counter has no formula for the CPU's fused attention, and counts fused backwards 2.5 x.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            output = module(x)  # type: ignore[operator]
        with FlopCounterMode(display=False) as backward:
            output.backward(torch.ones_like(output))
    return forward.get_total_flops(), backward.get_total_flops()


def test_known_values() -> None:
    assert flops.matmul(3, 5, 7) == 210
    assert flops.mlp_forward(10, 4, 16) == 2 * 2 * 10 * 4 * 16
    assert flops.mlp_forward(10, 4, 16, num_matrices=3) == 3 * 2 * 10 * 4 * 16
    assert flops.projections_forward(10, 4) == 8 * 10 * 4 * 4
    assert flops.attention_products_forward(1, 8, 4) == 4 * 8 * 8 * 4
    assert flops.PER_FORWARD == {"forward": 1, "forward_backward": 3}


def test_palm_appendix_b() -> None:
    """6 N + 12 L H Q T a token, forward and backward, here for one layer of N weights."""
    num_weights = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN
    a_token = 6 * num_weights + 12 * HIDDEN * SEQUENCE
    forward = flops.layer_forward(BATCH, SEQUENCE, HIDDEN, FFN)
    assert forward + flops.backward(forward) == TOKENS * a_token


def test_conventions_differ_by_half_of_the_products_only() -> None:
    full, half = (flops.attention_forward(BATCH, SEQUENCE, HIDDEN, name) for name in ("full", "causal_half"))
    assert full - half == 2 * BATCH * SEQUENCE * SEQUENCE * HIDDEN
    with pytest.raises(KeyError, match="halved"):
        flops.attention_forward(BATCH, SEQUENCE, HIDDEN, "halved")


def test_the_conventions_are_12_percent_apart_on_llama_3_8b() -> None:
    """32 layers of 4096, three matrices of 14336, 8 of 32 heads for key and value, 128256 words, at 8192."""
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    weights = 2 * (32 * layer + 4096 * 128256)
    full, half = (
        weights + 32 * flops.attention_products_forward(1, 8192, 4096, name) / 8192 for name in ("full", "causal_half")
    )
    assert full / half == pytest.approx(1.12, abs=0.01)


@pytest.mark.parametrize("block", ["mlp", "attention", "layer"])
def test_torch_counts_the_same(block: str) -> None:
    from bench.workloads.model.transformer import MLP, Gpt2Attention, TransformerLayer

    made, formula = {
        "mlp": (lambda g: MLP(HIDDEN, FFN, g), flops.mlp_forward(TOKENS, HIDDEN, FFN)),
        "attention": (
            lambda g: Gpt2Attention(HIDDEN, HEADS, HIDDEN // HEADS, g),
            flops.attention_forward(BATCH, SEQUENCE, HIDDEN),
        ),
        "layer": (
            lambda g: TransformerLayer(HIDDEN, HEADS, FFN, generator=g),
            flops.layer_forward(BATCH, SEQUENCE, HIDDEN, FFN),
        ),
    }[block]
    assert _counted(made) == (formula, flops.backward(formula))


def test_a_matmul_is_counted_the_same() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.ones(3, 7) @ torch.ones(7, 5)
    assert counter.get_total_flops() == flops.matmul(3, 5, 7)
