"""Attention with fewer key-value heads: which calls fused kernels take, and that repeated heads mean the same."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from bench.workloads.model import attention
from bench.workloads.model.attention import grouped_attention


def _inputs(
    device: str, dtype: torch.dtype, kv_heads: int = 2, length: int = 8
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query = torch.randn(1, 4, length, 16, device=device, dtype=dtype)
    key, value = (torch.randn(1, kv_heads, length, 16, device=device, dtype=dtype) for _ in range(2))
    return query, key, value


@pytest.mark.parametrize(
    ("dtype", "is_masked", "is_grouped"),
    [
        (torch.bfloat16, False, True),
        (torch.float16, False, True),
        (torch.float32, False, False),
        (torch.float64, False, False),
        (torch.bfloat16, True, False),
    ],
)
def test_on_cuda_only_what_a_fused_kernel_takes_is_grouped(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, is_masked: bool, is_grouped: bool
) -> None:
    """Others fall back to the kernel that keeps all scores: 128 GiB for 32 heads of 32768 tokens."""
    asked: list[tuple[bool, int]] = []

    def spy(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, enable_gqa: bool, **_: object
    ) -> torch.Tensor:
        assert key.device.type == "cuda"
        asked.append((enable_gqa, key.shape[1]))
        return query

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    with FakeTensorMode():
        mask = torch.ones(8, 8, dtype=torch.bool, device="cuda") if is_masked else None
        grouped_attention(*_inputs("cuda", dtype), is_causal=not is_masked, mask=mask)
    assert asked == [(is_grouped, 2 if is_grouped else 4)]


def test_repeated_heads_mean_the_same_as_grouped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = _inputs("cpu", torch.float32)
    grouped = grouped_attention(query, key, value, is_causal=True)
    monkeypatch.setattr(attention, "_takes_groups", lambda query, mask: False)
    torch.testing.assert_close(grouped_attention(query, key, value, is_causal=True), grouped)


def test_as_many_heads_are_never_repeated() -> None:
    query, key, value = _inputs("cpu", torch.float32, kv_heads=4)
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(grouped_attention(query, key, value), expected)
