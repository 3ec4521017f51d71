"""Shapes of Llama-style models: sizes with their sources, numbers of parameters and FLOPs.

Importing this module does not import torch: listing and reading need the sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.parallelism import flops

__all__ = ["SHAPES", "LlamaShape"]


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a decoder-only transformer: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU.

    The output head has weights of its own (Llama 3.2 1B shares them with the embedding, which a pipeline that
    has the two on different ranks cannot do without further communication).
    """

    vocabulary: int
    hidden: int
    ffn_hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    sequence: int
    """Tokens of one training sequence."""
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden // self.num_heads

    @property
    def kv_hidden(self) -> int:
        """Width of the keys, and of the values: all key-value heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Query and output, key and value, the three matrices of SwiGLU, two norms."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_hidden
        return attention + 3 * self.hidden * self.ffn_hidden + 2 * self.hidden

    @property
    def num_parameters(self) -> int:
        """All layers, embedding and head, and the last norm."""
        return self.num_layers * self.layer_parameters + 2 * self.vocabulary * self.hidden + self.hidden

    def with_layers(self, num_layers: int) -> LlamaShape:
        return replace(self, num_layers=num_layers)

    def layer_forward_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """One layer's forward of `batch` sequences."""
        return flops.llama_layer_forward(batch, self.sequence, self.hidden, self.kv_hidden, self.ffn_hidden, convention)

    def head_forward_flops(self, batch: int) -> float:
        return flops.output_head_forward(batch * self.sequence, self.hidden, self.vocabulary)

    def forward_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """The whole model's forward of `batch` sequences; the embedding is a look-up and has none."""
        return self.num_layers * self.layer_forward_flops(batch, convention) + self.head_forward_flops(batch)

    def step_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """Model FLOPs of a training step on `batch` sequences: forward and backward, nothing recomputed."""
        return self.forward_flops(batch, convention) * flops.PER_FORWARD["forward_backward"]

    def recomputed_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """What one layer's backward computes once more with torch.utils.checkpoint: its forward without the last
        matrix, whose output no gradient needs (the recomputation stops before it)."""
        last = flops.matmul(batch * self.sequence, self.hidden, self.ffn_hidden)
        return self.layer_forward_flops(batch, convention) - last

    def objection(self) -> str | None:
        """Why there is no such model, with the numbers; None where there is."""
        for name in ("vocabulary", "hidden", "ffn_hidden", "num_layers", "num_heads", "num_kv_heads", "sequence"):
            if getattr(self, name) < 1:
                return f"{name}={getattr(self, name)} is less than 1"
        if self.hidden % self.num_heads or self.head_dim % 2:
            return f"hidden={self.hidden} over num_heads={self.num_heads} is no even head size"
        if self.num_heads % self.num_kv_heads:
            return f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}"
        return None


SHAPES: dict[str, LlamaShape] = {
    # Small enough for a smoke run on a CPU; of the proportions below.
    "tiny": LlamaShape(512, 64, 192, 4, 4, 2, 64),
    "small": LlamaShape(2048, 256, 768, 4, 8, 4, 128),
    # Llama 3.2 1B: its published config.json (hidden_size, intermediate_size, num_hidden_layers, ...).
    "llama3-1b": LlamaShape(128256, 2048, 8192, 16, 32, 8, 4096),
    # Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 3.
    "llama3-8b": LlamaShape(128256, 4096, 14336, 32, 32, 8, 8192),
    "llama3-70b": LlamaShape(128256, 8192, 28672, 80, 64, 8, 8192),
}
