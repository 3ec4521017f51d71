"""A decoder-only transformer in the Llama style: the model that training steps and inference run.

    x + attention(norm(x))     causal, grouped-query, rotary positions, scaled_dot_product_attention
    x + mlp(norm(x))           SwiGLU: down(silu(gate(x)) * up(x))

between an embedding and a last norm with the output head (Touvron et al. 2023, "LLaMA"; Grattafiori et al.
2024, "The Llama 3 Herd of Models"). `Llama` holds any contiguous part of the layers, with or without
embedding and head, under the same names as the whole model has them: the stages of a pipeline. The numbers of
heads are read off the local projections, so that the same code runs on a rank's share of them.

A module is made without weights (meta device), moved with `to_empty(device=...)`, and given its weights by
`init_weights`: each layer's are drawn from a generator of its own number, so that a layer has the same weights
whatever the split. Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bench.parallelism.shapes import ModelShape
from bench.workloads.model.attention import grouped_attention

__all__ = ["KVCache", "Llama", "LlamaAttention", "LlamaLayer", "Rotary", "SwiGLU"]

META = torch.device("meta")
ROPE_THETA = 500_000.0
NORM_EPS = 1e-5
Generators = Callable[[int], torch.Generator]
"""Number of a part -> a generator of its own, equal on all ranks; `RankContext.generator` is one."""


class Rotary:
    """Cosines and sines of the rotary positions (Su et al. 2021, "RoFormer"), shared by all layers of a model.

    No module: nothing may cast its tables to a short type, in which far positions would fall together. Pairs are
    (i, i + head_dim / 2), not neighbours: the same model with its head's rows in another order.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        self.head_dim = head_dim
        self.theta = theta
        self.cos: Tensor | None = None
        self.sin: Tensor | None = None
        self._made: tuple[int, int, torch.device] | None = None

    def prepare(self, offset: int, length: int, device: torch.device) -> None:
        """Make the tables of positions offset to offset + length - 1, unless they are those already."""
        if self._made == (offset, length, device):
            return
        half = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        positions = torch.arange(offset, offset + length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, self.theta**-half)
        self.cos, self.sin = angles.cos(), angles.sin()
        self._made = (offset, length, device)

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, heads, length, head_dim] -> the same, turned; taken in float32."""
        assert self.cos is not None, "prepare() comes first"
        assert self.sin is not None
        first, second = x.float().chunk(2, dim=-1)
        turned = torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), dim=-1)
        return turned.to(x.dtype)


class KVCache:
    """Keys and values of the tokens so far, per layer [batch, key-value heads held here, max_length, head_dim]."""

    def __init__(
        self,
        layers: range,
        batch: int,
        num_kv_heads: int,
        max_length: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (batch, num_kv_heads, max_length, head_dim)
        self.keys = {index: torch.zeros(shape, device=device, dtype=dtype) for index in layers}
        self.values = {index: torch.zeros(shape, device=device, dtype=dtype) for index in layers}

    def append(self, layer: int, offset: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of positions `offset` on; returns all so far. Raises IndexError past `max_length`."""
        end = offset + key.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        if end > keys.shape[2]:
            raise IndexError(f"position {end - 1} is beyond the cache of {keys.shape[2]} tokens")
        keys[:, :, offset:end] = key
        values[:, :, offset:end] = value
        return keys[:, :, :end], values[:, :, :end]


class LlamaAttention(nn.Module):
    """[batch, length, hidden] -> the same: causal grouped-query self-attention."""

    def __init__(self, shape: ModelShape, index: int, rotary: Rotary, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.index = index
        self.head_dim = shape.head_dim
        self.rotary = rotary
        self.query = _linear(shape.hidden, shape.hidden, dtype)
        self.key = _linear(shape.hidden, shape.kv_hidden, dtype)
        self.value = _linear(shape.hidden, shape.kv_hidden, dtype)
        self.out = _linear(shape.hidden, shape.hidden, dtype)

    def forward(self, x: Tensor, offset: int = 0, cache: KVCache | None = None) -> Tensor:
        query, key = self.rotary(self._heads(self.query(x))), self.rotary(self._heads(self.key(x)))
        value = self._heads(self.value(x))
        if cache is not None:
            key, value = cache.append(self.index, offset, key, value)
        length, num_keys = query.shape[2], key.shape[2]
        mask = None
        if 1 < length < num_keys:
            mask = torch.ones(length, num_keys, dtype=torch.bool, device=x.device).tril(num_keys - length)
        mixed = grouped_attention(
            query,
            key.to(query.dtype),
            value.to(query.dtype),
            is_causal=length > 1 and length == num_keys,
            mask=mask,
        )
        return cast("Tensor", self.out(mixed.transpose(1, 2).flatten(2)))

    def _heads(self, projected: Tensor) -> Tensor:
        """[batch, length, heads x head_dim] -> [batch, heads, length, head_dim]."""
        batch, length, _ = projected.shape
        return projected.view(batch, length, -1, self.head_dim).transpose(1, 2)


class SwiGLU(nn.Module):
    """[..., hidden] -> [..., hidden]: `down(silu(gate(x)) * up(x))` (Shazeer 2020)."""

    def __init__(self, shape: ModelShape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.gate = _linear(shape.hidden, shape.ffn_hidden, dtype)
        self.up = _linear(shape.hidden, shape.ffn_hidden, dtype)
        self.down = _linear(shape.ffn_hidden, shape.hidden, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.down(functional.silu(self.gate(x)) * self.up(x)))


class LlamaLayer(nn.Module):
    """[batch, length, hidden] -> the same: attention, then SwiGLU, each with its norm and residual.

    With `recompute` nothing inside is kept for the backward, which runs the forward once more.
    """

    recompute = False

    def __init__(self, shape: ModelShape, index: int, rotary: Rotary, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.hidden, NORM_EPS, device=META, dtype=dtype)
        self.attention = LlamaAttention(shape, index, rotary, dtype)
        self.mlp_norm = nn.RMSNorm(shape.hidden, NORM_EPS, device=META, dtype=dtype)
        self.mlp = SwiGLU(shape, dtype)

    def forward(self, x: Tensor, offset: int = 0, cache: KVCache | None = None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(self._forward, x, offset, cache, use_reentrant=False))
        return self._forward(x, offset, cache)

    def _forward(self, x: Tensor, offset: int, cache: KVCache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), offset=offset, cache=cache)
        return cast("Tensor", x + self.mlp(self.mlp_norm(x)))


class Llama(nn.Module):
    """The whole model, or the part of it that one stage of a pipeline has; all on the meta device at first.

    With `autocast_dtype` matrix products run in that type, on weights that stay as they are (torch.autocast).

    Takes tokens [batch, length] if it has the embedding, else hidden states [batch, length, hidden]; gives
    logits [batch, length, vocabulary] if it has the head, else hidden states. `layers` defaults to all.
    """

    autocast_dtype: torch.dtype | None = None

    def __init__(
        self,
        shape: ModelShape,
        layers: range | None = None,
        *,
        has_embedding: bool = True,
        has_head: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.rotary = Rotary(shape.head_dim, ROPE_THETA)
        indices = range(shape.num_layers) if layers is None else layers
        self.embedding = (
            nn.Embedding(shape.vocabulary, shape.hidden, device=META, dtype=dtype) if has_embedding else None
        )
        self.layers = nn.ModuleDict({str(i): LlamaLayer(shape, i, self.rotary, dtype) for i in indices})
        self.norm = nn.RMSNorm(shape.hidden, NORM_EPS, device=META, dtype=dtype) if has_head else None
        self.head = _linear(shape.hidden, shape.vocabulary, dtype) if has_head else None

    def forward(self, x: Tensor, offset: int = 0, cache: KVCache | None = None) -> Tensor:
        """`offset`: position of the first token given; the tokens before it are in `cache`."""
        # The shape's own length where the activations between the layers are a share of the sequence each.
        self.rotary.prepare(offset, x.shape[1] if self.embedding is not None else self._length(x, cache), x.device)
        if self.autocast_dtype is None:
            return self._forward(x, offset, cache)
        with torch.autocast(x.device.type, self.autocast_dtype):
            return self._forward(x, offset, cache)

    def _forward(self, x: Tensor, offset: int, cache: KVCache | None) -> Tensor:
        if self.embedding is not None:
            x = self.embedding(x)
        for layer in self.layers.values():
            x = layer(x, offset, cache)
        if self.norm is not None and self.head is not None:
            x = self.head(self.norm(x))
        return x

    def _length(self, x: Tensor, cache: KVCache | None) -> int:
        return self.shape.sequence if cache is None else x.shape[1]

    @torch.no_grad()
    def init_weights(self, generators: Generators) -> None:
        """Matrices of variance 1 / inputs, which keep activations near unit variance; norms of 1.

        The embedding draws from `generators(0)`, layer i from `generators(1 + i)`, the head from
        `generators(1 + num_layers)`: before the weights are split, as all of a matrix is drawn.
        """
        for name, layer in self.layers.items():
            init_layer(layer, generators(1 + int(name)))
        self.init_ends(generators)

    @torch.no_grad()
    def init_ends(self, generators: Generators) -> None:
        """The weights of embedding, last norm and head, if there are any here."""
        if self.embedding is not None:
            self.embedding.weight.normal_(generator=generators(0))
        if self.norm is not None and self.head is not None:
            self.norm.weight.fill_(1.0)
            _init_linear(self.head, generators(1 + self.shape.num_layers))


def init_layer(layer: nn.Module, generator: torch.Generator) -> None:
    """The weights of one LlamaLayer, in the order of its modules."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            _init_linear(module, generator)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)


def _linear(num_in: int, num_out: int, dtype: torch.dtype) -> nn.Linear:
    # On the meta device: nn.Linear's own initialisation would draw from the global generator.
    return nn.Linear(num_in, num_out, bias=False, device=META, dtype=dtype)


def _init_linear(linear: nn.Linear, generator: torch.Generator) -> None:
    nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5, generator=generator)


def whole_model(
    shape: ModelShape, generators: Generators, device: torch.device, dtype: torch.dtype = torch.float32
) -> Llama:
    """The model on one device, with its weights."""
    model = Llama(shape, dtype=dtype).to_empty(device=device)
    model.init_weights(generators)
    return model
