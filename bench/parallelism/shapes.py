"""Sizes of transformer models with their sources, their numbers of parameters, and their model FLOPs.

`bench/catalog/data/models.csv` has one row per model, with its source. Parameters and FLOPs are formulas of the sizes,
counted here for suites and predictions alike. Importing this module does not import torch.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from bench.errors import BenchError
from bench.parallelism import flops

LLAMA_MODELS = ("tiny", "small", "llama3-1b", "llama3-8b", "llama3-70b")
"""Models that suites build and run: all layers alike, SwiGLU, grouped-query attention, an output head of its own."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. Sizes are numbers of elements."""

    name: str = "given"
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_hidden: int
    vocabulary: int
    gated: bool = True
    """The feed-forward block has three matrices (SwiGLU and its like) instead of two."""
    tied: bool = False
    """The output head shares the embedding's matrix."""
    num_experts: int = 1
    active_experts: int = 1
    expert_ffn_hidden: int = 0
    shared_ffn_hidden: int = 0
    dense_layers: int = 0
    """Layers at the start of a mixture of experts that have an ordinary feed-forward block."""
    sequence: int = 2048
    """Tokens of one training sequence; in the table, those that the model's authors trained with."""
    source: str = "given"

    @property
    def is_mixture(self) -> bool:
        return self.num_experts > 1

    @property
    def num_ffn_matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def mixture_layers(self) -> int:
        return self.num_layers - self.dense_layers if self.is_mixture else 0

    @property
    def kv_hidden(self) -> int:
        """Width of the keys, and of the values: all key-value heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def attention_hidden(self) -> int:
        """Width of the queries: all heads together."""
        return self.num_heads * self.head_dim

    @property
    def attention_parameters(self) -> int:
        """Query, key, value and output projections of one layer (grouped queries: Ainslie et al. 2023)."""
        return 2 * self.hidden * (self.attention_hidden + self.kv_hidden)

    @property
    def dense_ffn_parameters(self) -> int:
        return self.num_ffn_matrices * self.hidden * self.ffn_hidden

    @property
    def expert_parameters(self) -> int:
        """One expert of one layer."""
        return self.num_ffn_matrices * self.hidden * self.expert_ffn_hidden

    @property
    def shared_parameters(self) -> int:
        """Shared expert and router of one mixture layer, which every token goes through."""
        return self.num_ffn_matrices * self.hidden * self.shared_ffn_hidden + self.hidden * self.num_experts

    @property
    def layer_parameters(self) -> int:
        """Matrices and two norms of one layer that is not a mixture."""
        return self.attention_parameters + self.dense_ffn_parameters + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """One matrix of the vocabulary; there are two if they are not tied."""
        return self.vocabulary * self.hidden

    @property
    def num_parameters(self) -> int:
        """All layers, embedding, head, and the last norm."""
        mixture = self.num_experts * self.expert_parameters + self.shared_parameters - self.dense_ffn_parameters
        layers = self.num_layers * self.layer_parameters + self.mixture_layers * mixture
        return layers + self.embedding_parameters * (1 if self.tied else 2) + self.hidden

    @property
    def active_parameters(self) -> int:
        """Parameters that a token is multiplied with: no norms, and no input embedding, which is looked up."""
        dense = (self.num_layers - self.mixture_layers) * self.dense_ffn_parameters
        mixture = self.mixture_layers * (self.active_experts * self.expert_parameters + self.shared_parameters)
        return self.num_layers * self.attention_parameters + dense + mixture + self.embedding_parameters

    def layer_forward_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """Forward of `batch` sequences through one layer that is not a mixture."""
        matrices = 2 * batch * self.sequence * (self.attention_parameters + self.dense_ffn_parameters)
        return matrices + flops.attention_products_forward(batch, self.sequence, self.attention_hidden, convention)

    def layer_decode_flops(self, batch: int) -> float:
        """One layer for one new token of each sequence, which attends to `sequence` keys, its own among them: 2 per
        weight and token, and two products of attention (Pope et al. 2022, "Efficiently Scaling Transformer
        Inference", section 2). No convention: no mask leaves any of it out."""
        products = 2 * batch * flops.matmul(1, self.sequence, self.attention_hidden)
        return 2 * batch * (self.attention_parameters + self.dense_ffn_parameters) + products

    def head_forward_flops(self, num_tokens: int) -> int:
        """Logits of every token."""
        return flops.matmul(num_tokens, self.vocabulary, self.hidden)

    def forward_flops_per_token(self, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """2 N + 4 L H Q T, a third of the training FLOPs of PaLM, appendix B; the embedding, a look-up, has none."""
        attention = 4 * self.num_layers * self.attention_hidden * self.sequence * flops.ATTENTION_SHARE[convention]
        return 2 * self.active_parameters + attention

    def step_flops_per_token(self, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """Forward and backward, nothing recomputed: 6 N + 12 L H Q T (PaLM, appendix B)."""
        return flops.PER_FORWARD["forward_backward"] * self.forward_flops_per_token(convention)

    def forward_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        return batch * self.sequence * self.forward_flops_per_token(convention)

    def step_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """Model FLOPs of a training step on `batch` sequences."""
        return batch * self.sequence * self.step_flops_per_token(convention)

    def recomputed_flops(self, batch: int, convention: str = flops.DEFAULT_CONVENTION) -> float:
        """FLOPs that one layer's backward repeats under torch.utils.checkpoint: its forward without the last matrix,
        whose output no gradient needs (the recomputation stops before it)."""
        last = flops.matmul(batch * self.sequence, self.hidden, self.ffn_hidden)
        return self.layer_forward_flops(batch, convention) - last

    def objection(self) -> str | None:
        """Reason why suites cannot build the model, with the numbers; None if they can."""
        for name in ("vocabulary", "hidden", "ffn_hidden", "num_layers", "num_heads", "num_kv_heads", "sequence"):
            if getattr(self, name) < 1:
                return f"{name}={getattr(self, name)} is less than 1"
        if self.hidden != self.attention_hidden or self.head_dim % 2:
            return f"hidden={self.hidden} over num_heads={self.num_heads} is not an even head size"
        if self.num_heads % self.num_kv_heads:
            return f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}"
        return None


@functools.cache
def models() -> dict[str, ModelShape]:
    """Name -> shape, of all rows of the table."""
    text = (resources.files("bench.catalog.data") / "models.csv").read_text(encoding="utf-8")
    return {row["name"]: _shape(row) for row in csv.DictReader(io.StringIO(text))}


def find_model(name: str) -> ModelShape:
    """Raises BenchError for a name that is not in the table."""
    known = models()
    if name.lower() not in known:
        raise BenchError(f"no model named {name!r}; there are: {', '.join(known)} - or give --layers, --hidden, ...")
    return known[name.lower()]


def _shape(row: dict[str, str]) -> ModelShape:
    """An empty cell is the field's default."""
    parsers: dict[str, Callable[[str], object]] = {"str": str, "int": int, "bool": "true".__eq__}
    values: dict[str, Any] = {
        field.name: parsers[str(field.type)](row[field.name]) for field in fields(ModelShape) if row[field.name]
    }
    return ModelShape(**values)


def shape_of_sizes(
    num_layers: int,
    hidden: int,
    num_heads: int,
    vocabulary: int,
    num_kv_heads: int | None = None,
    ffn_hidden: int | None = None,
    gated: bool = False,
    num_experts: int = 1,
    active_experts: int = 1,
) -> ModelShape:
    """A shape from numbers; raises BenchError if heads do not divide, or a mixture has too few experts.

    Without `ffn_hidden` the feed-forward block is 4 x hidden wide. The experts of a mixture have that width each.
    """
    sizes = {"layers": num_layers, "hidden": hidden, "heads": num_heads, "vocabulary": vocabulary,
             "experts": num_experts}  # fmt: skip
    for name, size in sizes.items():
        if size < 1:
            raise BenchError(f"{name} {size}: has to be at least 1")
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if hidden % num_heads or kv_heads < 1 or num_heads % kv_heads:
        raise BenchError(
            f"hidden {hidden}, heads {num_heads}, KV heads {kv_heads}: each has to be a multiple of the next"
        )
    if not 1 <= active_experts <= num_experts:
        raise BenchError(f"{active_experts} active of {num_experts} experts: has to be 1 to {num_experts}")
    ffn_hidden = 4 * hidden if ffn_hidden is None else ffn_hidden
    return ModelShape(
        num_layers=num_layers,
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=hidden // num_heads,
        ffn_hidden=ffn_hidden,
        vocabulary=vocabulary,
        gated=gated,
        num_experts=num_experts,
        active_experts=active_experts,
        expert_ffn_hidden=ffn_hidden if num_experts > 1 else 0,
    )
