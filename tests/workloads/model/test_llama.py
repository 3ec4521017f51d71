"""The Llama-style model: counts against torch, parts equal to the whole, and decoding with a cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.parallelism import flops
from bench.parallelism.shapes import LLAMA_MODELS, ModelShape, find_model
from bench.workloads.model.llama import KVCache, Llama, whole_model

SHAPE = ModelShape(
    vocabulary=48, hidden=16, ffn_hidden=40, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=4, sequence=8
)
CPU = torch.device("cpu")


def _generators(part: int) -> torch.Generator:
    return torch.Generator().manual_seed(part)


def _tokens(batch: int = 2) -> torch.Tensor:
    return torch.randint(SHAPE.vocabulary, (batch, SHAPE.sequence), generator=_generators(100))


def test_published_sizes() -> None:
    """Parameters of the models as published; the 1B model's are without a head of its own, which it shares."""
    assert find_model("llama3-8b").num_parameters == 8_030_261_248
    assert find_model("llama3-70b").num_parameters == 70_553_706_496
    one = find_model("llama3-1b")
    assert one.num_parameters - one.vocabulary * one.hidden == 1_235_814_400


@pytest.mark.parametrize("name", LLAMA_MODELS)
def test_the_formula_counts_the_modules_parameters(name: str) -> None:
    shape = find_model(name)
    assert shape.objection() is None
    small = replace(shape, num_layers=min(2, shape.num_layers))
    assert sum(p.numel() for p in Llama(small).parameters()) == small.num_parameters


def test_no_such_model() -> None:
    assert "num_kv_heads=3 does not divide num_heads=4" in str(replace(SHAPE, num_kv_heads=3).objection())
    assert "not an even head size" in str(replace(SHAPE, num_heads=16, num_kv_heads=1).objection())
    assert "sequence=0 is less than 1" in str(replace(SHAPE, sequence=0).objection())


def test_flops_are_those_that_torch_counts() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model, tokens = whole_model(SHAPE, _generators, CPU), _tokens()
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            logits = model(tokens)
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
    assert forward.get_total_flops() == SHAPE.forward_flops(batch=2)
    assert forward.get_total_flops() + backward.get_total_flops() == SHAPE.step_flops(batch=2)


def test_flops_by_hand() -> None:
    # 2 sequences of 8 tokens. Projections: 16x16 twice, 16x8 twice; SwiGLU: 3 of 16x40; head: 16x48.
    layer = 2 * 16 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 40) + 2 * 2 * 2 * 8 * 8 * 16
    assert SHAPE.step_flops(2) == 3 * (3 * layer + 2 * 16 * 16 * 48)
    assert SHAPE.step_flops(2) - SHAPE.step_flops(2, "causal_half") == 3 * 3 * 2 * 2 * 8 * 8 * 16
    ungrouped = replace(SHAPE, num_kv_heads=SHAPE.num_heads)
    assert 2 * 16 * ungrouped.attention_parameters == flops.projections_forward(16, 16)


def test_stages_give_what_the_whole_gives() -> None:
    model = whole_model(SHAPE, _generators, CPU)
    x = _tokens()
    expected = model(x)
    for layers, first, last in ((range(1), True, False), (range(1, 3), False, True)):
        stage = Llama(SHAPE, layers, has_embedding=first, has_head=last).to_empty(device=CPU)
        stage.init_weights(_generators)
        assert {n for n, _ in stage.named_parameters()} <= {n for n, _ in model.named_parameters()}
        x = stage(x)
    assert torch.equal(x, expected)


def test_attention_is_causal_and_knows_positions() -> None:
    model, tokens = whole_model(SHAPE, _generators, CPU), _tokens()
    with torch.no_grad():
        logits = model(tokens)
        changed = tokens.clone()
        changed[:, -1] = (changed[:, -1] + 1) % SHAPE.vocabulary
        torch.testing.assert_close(model(changed)[:, :-1], logits[:, :-1])
        assert not torch.allclose(model(changed)[:, -1], logits[:, -1])
        # Without positions the last token would see the same set of tokens in another order.
        swapped = tokens[:, [1, 0, *range(2, SHAPE.sequence)]]
        assert not torch.allclose(model(swapped)[:, -1], logits[:, -1])


@pytest.mark.parametrize("pieces", [(5, 1, 1, 1), (3, 4, 1), (8,)])
def test_with_a_cache_tokens_can_come_in_pieces(pieces: tuple[int, ...]) -> None:
    model, tokens = whole_model(SHAPE, _generators, CPU), _tokens()
    cache = KVCache(range(3), 2, SHAPE.num_kv_heads, SHAPE.sequence, SHAPE.head_dim, CPU, torch.float32)
    offset, logits = 0, []
    with torch.no_grad():
        for length in pieces:
            logits.append(model(tokens[:, offset : offset + length], offset, cache))
            offset += length
        torch.testing.assert_close(torch.cat(logits, dim=1), model(tokens))
        with pytest.raises(IndexError, match="beyond the cache of 8 tokens"):
            model(tokens[:, :1], offset, cache)
