"""Prefill and decode of a Llama-style model with a key-value cache, split over the ranks or whole on each.

Split as in Megatron-LM (Shoeybi et al. 2019) and the serving systems that followed: query, key, value, gate and up by
columns, that is by heads. Out and down by rows, with one all-reduce after each; the output head by words, whose logits
are gathered. The embedding is on every rank. Importing this module imports torch: the suite imports it inside
`prepare`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from bench.parallelism.shapes import ModelShape
from bench.suite import Check
from bench.workloads.model.llama import Generators, KVCache, Llama, LlamaLayer, init_layer
from bench.workloads.model.numerics import SHORT_TYPE_MARGIN, float_tolerance, longer_dtype, relative_error, worst
from bench.workloads.model.output_sketch import spoil
from bench.workloads.model.timed_results import KeptResults
from bench.workloads.parallel.tensor import Ranks

MOST_POSITIONS = 16
"""Positions of the cache whose keys and values a look compares."""
CHECKED_TOKENS = 4
"""Greedy tokens that the check generates one after the other; the cache has room for them."""

COLUMNS = ("attention.query", "attention.key", "attention.value", "mlp.gate", "mlp.up")
"""Matrices of a layer of which a rank has some of the outputs."""
ROWS = ("attention.out", "mlp.down")
"""Layers of which a rank has some of the inputs: their outputs are summed over the ranks."""


class RowLinear(nn.Module):
    """[..., own inputs] -> [..., outputs]: a share of a product, summed over the ranks."""

    def __init__(self, weight: Tensor, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        output = functional.linear(x, self.weight)
        dist.all_reduce(output, group=self.group)
        return output


class GatheredLinear(nn.Module):
    """[tokens, inputs] -> [tokens, all outputs]: each rank has some of the outputs, and all get all."""

    def __init__(self, weight: Tensor, ranks: Ranks) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        part = functional.linear(x, self.weight)
        parts = part.new_empty((self.ranks.size, *part.shape))
        # torch 2.14 renamed it, and warns at every call under the old name.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        gather(parts.view(-1), part.view(-1), group=self.ranks.group)
        return parts.movedim(0, -2).flatten(-2)


def split_model(
    shape: ModelShape, ranks: Ranks, generators: Generators, device: torch.device, dtype: torch.dtype
) -> Llama:
    """A rank's share of the model, with the weights that the whole one has; no more than a layer is whole at a time."""
    model = Llama(shape, dtype=dtype)
    assert model.embedding is not None
    assert model.head is not None
    assert model.norm is not None

    def own(weight: Tensor, dim: int) -> Tensor:
        return weight.detach().chunk(ranks.size, dim)[ranks.index].clone()

    for name in list(model.layers):
        layer = LlamaLayer(shape, int(name), model.rotary, dtype).to_empty(device=device)
        init_layer(layer.requires_grad_(False), generators(1 + int(name)))
        for path in COLUMNS:
            linear = cast("nn.Linear", layer.get_submodule(path))
            linear.weight = nn.Parameter(own(linear.weight, 0), requires_grad=False)
        for path in ROWS:
            whole = cast("nn.Linear", layer.get_submodule(path)).weight
            layer.set_submodule(path, RowLinear(own(whole, 1), ranks.group))
        model.layers[name] = layer
    model.embedding.to_empty(device=device).requires_grad_(False).weight.normal_(generator=generators(0))
    model.norm.to_empty(device=device).requires_grad_(False).weight.fill_(1.0)
    head = model.head.to_empty(device=device).requires_grad_(False)
    head.weight.normal_(0.0, shape.hidden**-0.5, generator=generators(1 + shape.num_layers))
    model.head = cast("nn.Linear", GatheredLinear(own(head.weight, 0), ranks))
    return model


@dataclass
class Server:
    """A model with its cache and the prompts that it answers, [batch, sequence]."""

    model: Llama
    prompts: Tensor
    cache: KVCache

    @property
    def length(self) -> int:
        return self.prompts.shape[1]

    @torch.inference_mode()
    def logits(self, tokens: Tensor, offset: int) -> Tensor:
        """Run tokens [batch, some] from position `offset` on: logits of the last, [batch, vocabulary]."""
        return last_logits(self.model, tokens, offset, self.cache)

    def prefill(self) -> list[Tensor]:
        """The whole prompt at once: the first new token of each sequence, [batch], and its logits."""
        logits = self.logits(self.prompts, 0)
        return [logits.argmax(-1), logits]

    def fill(self) -> None:
        """Take in all of the prompt but its last token, which `decode` takes."""
        self.logits(self.prompts[:, :-1], 0)

    def decode(self) -> list[Tensor]:
        """The prompt's last token against the cache of those before it: the next token of each sequence, [batch], and
        its logits.

        Called again it does the same again: the context stays as long as it is.
        """
        logits = self.logits(self.prompts[:, -1:], self.length - 1)
        return [logits.argmax(-1), logits]

    def written(self, op: str, most: int | None = None) -> list[Tensor]:
        """Keys and values of the positions that a call writes, or of `most` of them, spread over the prompt."""
        first = 0 if op == "prefill" else self.length - 1
        step = 1 if most is None else -(-(self.length - first) // most)
        both = (*self.cache.keys.values(), *self.cache.values.values())
        return [tensor[:, :, first : self.length : step] for tensor in both]

    def generate(self, op: str) -> tuple[list[Tensor], list[Tensor]]:
        """CHECKED_TOKENS greedy tokens, the first by the call that is timed: logits and tokens, one after the other."""
        if op == "decode":
            self.fill()
        given = {"prefill": (self.prompts, 0), "decode": (self.prompts[:, -1:], self.length - 1)}[op]
        all_logits, tokens = [self.logits(*given)], []
        for step in range(1, CHECKED_TOKENS):
            tokens.append(all_logits[-1].argmax(-1))
            all_logits.append(self.logits(tokens[-1].unsqueeze(1), self.length + step - 1))
        return all_logits, [*tokens, all_logits[-1].argmax(-1)]


def last_logits(model: Llama, tokens: Tensor, offset: int = 0, cache: KVCache | None = None) -> Tensor:
    """Logits after the last of the tokens, [batch, vocabulary]: of a prompt no other is needed."""
    return _head(model, _hidden(model, tokens, offset, cache)[:, -1])


def _hidden(model: Llama, tokens: Tensor, offset: int, cache: KVCache | None) -> Tensor:
    """Compute the output head's input for each token, [batch, some, hidden]."""
    assert model.embedding is not None
    assert model.norm is not None
    model.rotary.prepare(offset, tokens.shape[1], tokens.device)
    x = model.embedding(tokens)
    for layer in model.layers.values():
        x = layer(x, offset, cache)
    normed: Tensor = model.norm(x)
    return normed


def _head(model: Llama, x: Tensor) -> Tensor:
    assert model.head is not None
    logits: Tensor = model.head(x)
    return logits


def server(model: Llama, shape: ModelShape, prompts: Tensor, num_kv_heads: int, dtype: torch.dtype) -> Server:
    """Make a server with an empty cache for the prompts and the tokens that the check generates."""
    batch, length = prompts.shape
    layers, room = range(shape.num_layers), length + CHECKED_TOKENS
    cache = KVCache(layers, batch, num_kv_heads, room, shape.head_dim, prompts.device, dtype)
    return Server(model.requires_grad_(False).eval(), prompts, cache)


def draw_prompts(shape: ModelShape, batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(shape.vocabulary, (batch, shape.sequence), device=device, generator=generator)


def reduce_shape(shape: ModelShape, num_ranks: int) -> ModelShape:
    """Return a shape with the same heads, small enough for any device."""
    return replace(
        shape,
        vocabulary=64 * num_ranks,
        hidden=16 * shape.num_heads,
        head_dim=16,
        ffn_hidden=32 * num_ranks,
        num_layers=min(2, shape.num_layers),
        sequence=min(16, shape.sequence),
    )


def check_server(tested: Server, op: str, whole: Llama) -> Check:
    """Generate greedily with the cache, and compare logits and tokens with the whole model on one device, which goes
    through prompt and generated tokens at once, without a cache.

    A token may differ only if the reference's two best are nearer than both errors that are allowed.
    """
    all_logits, tokens = tested.generate(op)
    results = torch.stack(all_logits, 1)
    text = torch.cat([tested.prompts, torch.stack(tokens[:-1], 1)], 1)
    expected = _reference(whole, text)
    long_dtype = longer_dtype(results.dtype)
    if long_dtype is None:
        shape = whole.shape
        longest = shape.num_layers * max(shape.hidden, shape.ffn_hidden, text.shape[1])
        tolerance = float_tolerance(results.dtype, longest)
    else:
        one_device, expected = expected, _reference(copy.deepcopy(whole).to(long_dtype), text)
        tolerance = SHORT_TYPE_MARGIN * relative_error(one_device, expected)
    best = expected.topk(2, -1).values
    is_clear = best[..., 0] - best[..., 1] > 2 * tolerance * expected.abs().max()
    num_wrong = int(((expected.argmax(-1) != torch.stack(tokens, 1)) & is_clear).sum())
    return worst([Check(relative_error(results, expected), tolerance), Check(float(num_wrong), 0.0)])


@torch.inference_mode()
def _reference(whole: Llama, text: Tensor) -> Tensor:
    """Logits after the prompt and after each generated token but the last, [batch, CHECKED_TOKENS, vocabulary]."""
    return _head(whole, _hidden(whole, text, 0, None)[:, -CHECKED_TOKENS:])


CALLS: dict[str, Callable[[Server], Callable[[], list[Tensor]]]] = {
    "prefill": lambda s: s.prefill,
    "decode": lambda s: s.decode,
}


def served_call(of: Server, op: str, compares: bool = True) -> KeptResults:
    """The timed call of a server, which is looked at with the keys and values that it writes.

    The activations that are summed and gathered over ranks are fresh in every call.
    """
    shape, keys = of.model.shape, next(iter(of.cache.keys.values()))
    batch, length = of.prompts.shape
    rows = batch * (length if op == "prefill" else 1)
    return KeptResults(
        CALLS[op](of),
        before=lambda: spoil(of.written(op)),
        left=lambda: of.written(op, MOST_POSITIONS),
        fresh=[(size, keys.dtype, keys.device) for size in ((rows, shape.hidden), (batch, shape.vocabulary))],
        compares=compares,
    )
