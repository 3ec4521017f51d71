"""A plain pre-norm transformer layer: the model code that the parallel suites run and check.

The layer is GPT-2's and Megatron-LM's (Shoeybi et al. 2019), without biases and dropout:

    x + attention(norm(x))     causal, multi-head, one fused projection for query, key and value
    x + mlp(norm(x))           two matrices with GELU between them (not SwiGLU)

and norm is a LayerNorm with a weight only. Every size that tensor parallelism splits is read off the local
weights, so the same modules serve a whole layer and a rank's share of one. Weights are drawn from a
generator that is passed in: generators in equal states give equal weights. Importing this module imports
torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _linear(
    num_in: int,
    num_out: int,
    generator: torch.Generator | None,
    device: torch.device | None,
    dtype: torch.dtype,
) -> nn.Linear:
    """A matrix [num_out, num_in] of variance 1 / num_in, which keeps activations at unit variance."""
    # By way of the meta device: nn.Linear's own initialisation would draw from the global generator.
    linear = nn.Linear(num_in, num_out, bias=False, device="meta", dtype=dtype)
    linear = linear.to_empty(device=device or torch.device("cpu"))
    if generator is not None:
        with torch.no_grad():
            linear.weight.normal_(0.0, num_in**-0.5, generator=generator)
    return linear


class MLP(nn.Module):
    """[..., hidden] -> [..., hidden]: `down(gelu(up(x)))`.

    `generator=None` leaves the weights uninitialised, for callers that copy their own into them.
    """

    def __init__(
        self,
        hidden: int,
        ffn_hidden: int,
        generator: torch.Generator | None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.up = _linear(hidden, ffn_hidden, generator, device, dtype)
        self.down = _linear(ffn_hidden, hidden, generator, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.down(functional.gelu(self.up(x)))
        return output


class Gpt2Attention(nn.Module):
    """[batch, sequence, hidden] -> the same: causal multi-head self-attention.

    The rows of `qkv` are ordered [head, (query, key, value), head_dim], as in Megatron-LM, so that a
    contiguous share of them is a share of the heads. `hidden` is the model's; `num_heads` are those held
    here. `generator` as in MLP.
    """

    def __init__(
        self,
        hidden: int,
        num_heads: int,
        head_dim: int,
        generator: torch.Generator | None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = _linear(hidden, 3 * num_heads * head_dim, generator, device, dtype)
        self.out = _linear(num_heads * head_dim, hidden, generator, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.qkv(x)
        batch, sequence, width = projected.shape
        # [batch, sequence, heads, 3, head_dim] -> three of [batch, heads, sequence, head_dim]
        by_head = projected.view(batch, sequence, width // (3 * self.head_dim), 3, self.head_dim)
        query, key, value = by_head.permute(3, 0, 2, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        output: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, sequence, width // 3))
        return output


class Residual(nn.Module):
    """[batch, sequence, hidden] -> the same: `x + block(norm(x))`, half a transformer layer."""

    def __init__(
        self,
        hidden: int,
        block: nn.Module,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, bias=False, device=device, dtype=dtype)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.block(self.norm(x))
        return output


class TransformerLayer(nn.Module):
    """[batch, sequence, hidden] -> the same: causal attention, then the MLP, each with norm and residual.

    `ffn_hidden` defaults to 4 x hidden. Raises ValueError if the heads do not divide `hidden`.
    """

    def __init__(
        self,
        hidden: int,
        num_heads: int,
        ffn_hidden: int | None = None,
        *,
        generator: torch.Generator | None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if hidden % num_heads:
            raise ValueError(f"hidden={hidden} is not a multiple of num_heads={num_heads}")
        attention = Gpt2Attention(hidden, num_heads, hidden // num_heads, generator, device, dtype)
        mlp = MLP(hidden, ffn_hidden or 4 * hidden, generator, device, dtype)
        self.attention = Residual(hidden, attention, device, dtype)
        self.mlp = Residual(hidden, mlp, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.mlp(self.attention(x))
        return output
