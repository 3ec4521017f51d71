"""What a transformer is made of: by name from `bench/catalog/data/models.csv`, whose rows carry their source, or by
numbers.

Counts of parameters and model FLOPs are formulas of the shape alone; what a training step does with them is in
`bench.predict.model.layer`.
"""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import dataclass
from importlib import resources

from bench.errors import BenchError
from bench.parallelism.flops import ATTENTION_SHARE, BACKWARD_PER_FORWARD, DEFAULT_CONVENTION


@dataclass(frozen=True)
class Shape:
    """A decoder of equal layers. Sizes are numbers of elements."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_hidden: int
    gated: bool
    """The feed-forward block has three matrices (SwiGLU and its like) instead of two."""
    vocab: int
    tied: bool = False
    """The embedding is the output layer's matrix too."""
    experts: int = 1
    active_experts: int = 1
    expert_ffn_hidden: int = 0
    shared_ffn_hidden: int = 0
    dense_layers: int = 0
    """The first layers of a mixture of experts that have an ordinary feed-forward block."""
    sequence: int = 2048
    """The sequence that its authors trained with; what a command takes where none is given."""
    source: str = "given"

    @property
    def is_mixture(self) -> bool:
        return self.experts > 1

    @property
    def matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def attention_parameters(self) -> int:
        """Query, key, value and output projections of one layer."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def dense_ffn_parameters(self) -> int:
        return self.matrices * self.hidden * self.ffn_hidden

    @property
    def expert_parameters(self) -> int:
        """One expert of one layer."""
        return self.matrices * self.hidden * self.expert_ffn_hidden

    @property
    def shared_parameters(self) -> int:
        """What every token of a mixture's layer goes through beside its experts, with the router."""
        return self.matrices * self.hidden * self.shared_ffn_hidden + self.hidden * self.experts

    @property
    def mixture_layers(self) -> int:
        return self.layers - self.dense_layers if self.is_mixture else 0

    @property
    def embedding_parameters(self) -> int:
        """One matrix of the vocabulary; there are two where they are not tied."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, two norms a layer included."""
        dense = (self.layers - self.mixture_layers) * self.dense_ffn_parameters
        mixture = self.mixture_layers * (self.experts * self.expert_parameters + self.shared_parameters)
        rest = self.layers * (self.attention_parameters + 2 * self.hidden) + dense + mixture
        return rest + self.embedding_parameters * (1 if self.tied else 2)

    @property
    def active_parameters(self) -> int:
        """Parameters that a token is multiplied with, without the input embedding, which is looked up."""
        dense = (self.layers - self.mixture_layers) * self.dense_ffn_parameters
        mixture = self.mixture_layers * (self.active_experts * self.expert_parameters + self.shared_parameters)
        return self.layers * self.attention_parameters + dense + mixture + self.embedding_parameters

    def model_flops_per_token(self, sequence: int, convention: str = DEFAULT_CONVENTION) -> float:
        """Forward and backward, nothing recomputed: 6 N + 12 L H Q T (PaLM, appendix B), as in `flops`."""
        passes = 1 + BACKWARD_PER_FORWARD
        attention = 4 * self.layers * self.heads * self.head_dim * sequence * ATTENTION_SHARE[convention]
        return passes * (2 * self.active_parameters + attention)


@functools.cache
def models() -> dict[str, Shape]:
    """Name -> shape, of all rows of the data file."""
    text = (resources.files("bench.catalog.data") / "models.csv").read_text(encoding="utf-8")
    return {row["name"]: _shape(row) for row in csv.DictReader(io.StringIO(text))}


def find(name: str) -> Shape:
    """Raises BenchError for a name that is not in the data file."""
    known = models()
    if name.lower() not in known:
        raise BenchError(f"no model named {name!r}; there are: {', '.join(known)} - or give --layers, --hidden, ...")
    return known[name.lower()]


def _shape(row: dict[str, str]) -> Shape:
    def count(column: str, default: int = 0) -> int:
        return int(row[column]) if row[column] else default

    return Shape(
        name=row["name"],
        layers=count("layers"),
        hidden=count("hidden"),
        heads=count("heads"),
        kv_heads=count("kv_heads"),
        head_dim=count("head_dim"),
        ffn_hidden=count("ffn_hidden"),
        gated=row["gated"] == "true",
        vocab=count("vocab"),
        tied=row["tied"] == "true",
        experts=count("experts", 1),
        active_experts=count("active_experts", 1),
        expert_ffn_hidden=count("expert_ffn_hidden"),
        shared_ffn_hidden=count("shared_ffn_hidden"),
        dense_layers=count("dense_layers"),
        sequence=count("sequence", 2048),
        source=row["source"],
    )


def given(
    layers: int,
    hidden: int,
    heads: int,
    vocab: int,
    kv_heads: int | None = None,
    ffn_hidden: int | None = None,
    gated: bool = False,
    experts: int = 1,
    active_experts: int = 1,
    sequence: int = 2048,
    name: str = "given",
) -> Shape:
    """A shape from numbers; raises BenchError where heads do not divide, or a mixture has too few experts.

    Without `ffn_hidden` the feed-forward block is 4 x hidden wide. The experts of a mixture have that width each.
    """
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "vocabulary": vocab, "experts": experts}
    for what, size in sizes.items():
        if size < 1:
            raise BenchError(f"{what} {size}: has to be at least 1")
    kv = heads if kv_heads is None else kv_heads
    if hidden % heads or kv < 1 or heads % kv:
        raise BenchError(f"hidden {hidden}, heads {heads}, KV heads {kv}: each has to be a multiple of the next")
    if not 1 <= active_experts <= experts:
        raise BenchError(f"{active_experts} active of {experts} experts: has to be 1 to {experts}")
    ffn = 4 * hidden if ffn_hidden is None else ffn_hidden
    return Shape(
        name, layers, hidden, heads, kv, hidden // heads, ffn, gated, vocab,
        experts=experts, active_experts=active_experts, expert_ffn_hidden=ffn if experts > 1 else 0, sequence=sequence,
    )  # fmt: skip
