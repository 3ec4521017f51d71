"""Inference: prefill and decode of a Llama-style model, split over the ranks or as independent replicas.

What is measured: the time to answer a batch of prompts with one token (`prefill`: the whole prompt at once), and that
of each further token (`decode`: one new token per sequence against a key-value cache). Why: serving asks other things
of a machine than training does. Prefill is bound by computation, decode by memory bandwidth: each token reads all
weights and the cache. With `parallel=tensor` all ranks share one model and one batch, and wait for each other in every
layer; with `parallel=replicas` each has its own model and batch, and waits for no other. How to read it:

    time_to_first_token_seconds    prefill: one call, of the slowest rank
    time_per_output_token_seconds  decode: one call, of the slowest rank
    served_tokens_per_s            prompt tokens (prefill) or new tokens (decode) a second, of all ranks together, each
                                   replica at its own pace
    served_over_synchronous        served_tokens_per_s / what the same ranks would serve if all kept the pace of the
                                   slowest, as they must in training: above 1 if ranks differ, or their times vary

A machine of different ranks can train poorly and serve well: `served_over_synchronous` is what serving regains of it,
and what `parallel=replicas` serves more than `parallel=tensor` is the price of the waiting and of the communication.

`decode` is one token per call, always at the same length of context, so that a sample is the time per token there;
`timing=streamed` takes tokens back to back. No CUDA graph is used: the host's launches are in the number. Variants:
`compute_only` (tensor: over a group whose collectives return at once), `one_device` (tensor: the whole model and batch,
which every rank runs by itself at the same time). The timed work is checked: logits, and greedy tokens
generated with the cache, against one device without a cache. Machinery: bench/workloads/training/inference.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bench.parallelism import flops
from bench.parallelism.shapes import LLAMA_MODELS, ModelShape, find_model
from bench.suite import ITEM_BYTES, Check, Machine, Observed, Params, Presets, SuiteMetric, Work, skip_if

if TYPE_CHECKING:
    import torch.distributed as dist

    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.llama import Llama
    from bench.workloads.model.timed_results import KeptResults
    from bench.workloads.training.inference import Server

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {"dtype": "float32", "timing": "aligned"}
CHOICES = {
    "op": ("prefill", "decode"),
    "parallel": ("tensor", "replicas"),
    "model": LLAMA_MODELS,
    "dtype": ("float32", "bfloat16", "float16"),
    "timing": ("aligned", "streamed"),
}
TIMES = {"prefill": "time_to_first_token_seconds", "decode": "time_per_output_token_seconds"}
METRICS = {
    TIMES["prefill"]: SuiteMetric("s", "lower", "Time of one call of prefill on the slowest rank."),
    TIMES["decode"]: SuiteMetric("s", "lower", "Time of one call of decode on the slowest rank."),
    "served_tokens_per_s": SuiteMetric(
        "tokens/s",
        "higher",
        "Prompt tokens (prefill) or new tokens (decode) of all ranks per second, each replica at its own pace.",
    ),
    "served_over_synchronous": SuiteMetric(
        "x", "neither", "Served tokens over those that the same ranks would serve if all kept the pace of the slowest."
    ),
}

BASE: Presets[Params] = Presets(
    cpu={
        "smoke": {"model": "tiny", "num_layers": 4, "sequence": 64, "batch": 1},
        "standard": {"model": "small", "num_layers": 4, "sequence": 256, "batch": 1},
    },
    cuda={
        "smoke": {"model": "llama3-1b", "num_layers": 16, "sequence": 1024, "batch": 1, "dtype": "bfloat16"},
        "standard": {"model": "llama3-8b", "num_layers": 32, "sequence": 2048, "batch": 1, "dtype": "bfloat16"},
    },
)
Change = tuple[str, str, Params]
"""Operation, way of splitting, and what differs from the base point."""
BATCHES = {"cpu": (8, 32), "cuda": (8, 32, 128)}
FIRST: tuple[Change, ...] = (
    ("decode", "tensor", {}),
    ("decode", "replicas", {}),
    ("prefill", "tensor", {}),
    ("prefill", "replicas", {}),
)
FULL: dict[str, tuple[Change, ...]] = {
    "cpu": (
        ("prefill", "tensor", {"batch": 8}),
        ("prefill", "replicas", {"batch": 8}),
        ("decode", "tensor", {"dtype": "bfloat16"}),
        ("decode", "replicas", {"dtype": "bfloat16"}),
        ("decode", "tensor", {"sequence": 1024}),
        ("decode", "replicas", {"sequence": 1024}),
    ),
    "cuda": (
        ("prefill", "tensor", {"batch": 8}),
        ("prefill", "replicas", {"batch": 8}),
        ("decode", "tensor", {"model": "llama3-70b", "num_layers": 80, "batch": 8}),
        ("prefill", "tensor", {"model": "llama3-70b", "num_layers": 80}),
        ("decode", "tensor", {"sequence": 32768}),
        ("decode", "replicas", {"sequence": 32768}),
    ),
}

NOTES = {
    "tensor": (
        "one_device: every rank runs the whole model by itself, all at the same time",
        "compute_only: the same code over a group whose collectives send nothing",
    ),
    "replicas": ("each rank has a model and a batch of its own; the time shown is that of the slowest",),
}
OP_NOTES = {
    "prefill": f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B), and the "
    "output head for the last token alone",
    "decode": "one token per call, always at the same length of context",
}


def cases(machine: Machine) -> Iterator[Params]:
    """Both operations in both ways, then decode over batch sizes; smoke has one small case.

    A single rank has replicas only.
    """
    base, device, is_smoke = BASE.at(machine), machine.device_type, machine.preset == "smoke"
    smoke = FIRST[:1] if machine.world_size > 1 else FIRST
    changes = smoke if is_smoke else FIRST
    if not is_smoke:
        changes += tuple(
            ("decode", parallel, {"batch": batch}) for batch in BATCHES[device] for parallel in CHOICES["parallel"]
        )
        changes += (("decode", "tensor", {"timing": "streamed"}), ("decode", "replicas", {"timing": "streamed"}))
    if machine.preset == "full":
        changes += FULL[device]
    for op, parallel, change in changes:
        if machine.world_size == 1 and parallel == "tensor":
            continue
        yield {"op": op, "parallel": parallel, **base, **change}


def _shape(params: Params) -> ModelShape:
    shape = find_model(str(params["model"]))
    return replace(shape, num_layers=int(params["num_layers"]), sequence=int(params["sequence"]))


def _skip_reason(params: Params, num_ranks: int) -> str | None:
    shape = _shape(params)
    if int(params["batch"]) < 1 or shape.sequence < 2:
        return f"batch={params['batch']}, sequence={shape.sequence}: at least one prompt of two tokens"
    if params["parallel"] == "replicas":
        return shape.objection()
    if num_ranks == 1:
        return "one rank: there is nothing to split; take parallel=replicas"
    must_divide = {
        "num_kv_heads": shape.num_kv_heads,
        "ffn_hidden": shape.ffn_hidden,
        "vocabulary": shape.vocabulary,
    }
    for name, value in must_divide.items():
        if value % num_ranks:
            return f"{name}={value} of model={params['model']} cannot be split evenly over {num_ranks} ranks"
    return shape.objection()


def _split(params: Params, num_ranks: int) -> int:
    """Number of ranks that a model is split over."""
    return num_ranks if params["parallel"] == "tensor" else 1


def _weights_and_cache(params: Params, parts: int) -> tuple[int, int]:
    """Elements that a rank holds of the weights (without the embedding, of which a token reads one row), and of the
    keys and values of a whole context."""
    shape = _shape(params)
    weights = shape.num_layers * shape.layer_parameters + shape.vocabulary * shape.hidden
    return weights // parts, cache_elements(shape, int(params["batch"]), shape.sequence) // parts


def cache_elements(shape: ModelShape, batch: int, length: int) -> int:
    """Numbers in the keys and values of all layers."""
    return 2 * shape.num_layers * batch * length * shape.kv_hidden


def _bytes_needed(params: Params, num_ranks: int, one_device: bool) -> int:
    """Bytes that a rank holds at the worst moment: weights and cache, the embedding, a layer that is drawn in full,
    the activations of one layer of a prefill, and the logits. `parallel=tensor` has weights and cache twice (full and
    compute_only), and with `one_device` the whole besides. The check of a short type has a float32 model besides."""
    shape, parts = _shape(params), _split(params, num_ranks)
    item, batch = ITEM_BYTES[str(params["dtype"])], int(params["batch"])
    embedding, tokens = shape.vocabulary * shape.hidden, batch * shape.sequence
    activations = tokens * (8 * shape.hidden + 3 * shape.ffn_hidden)
    held = sum(_weights_and_cache(params, parts)) + embedding
    held = held * (2 if parts > 1 else 1) + shape.layer_parameters + embedding + activations
    held += 8 * batch * shape.vocabulary
    if not one_device:
        return item * held
    whole = sum(_weights_and_cache(params, 1)) + embedding if parts > 1 else 0
    reference = 4 * (shape.num_parameters + activations) if item < 4 else 0
    return item * (held + whole) + reference


def memory(params: Params, machine: Machine) -> int:
    """Without the variant and the check on one device, which are left out if there is no room for them."""
    return _bytes_needed(params, machine.world_size, one_device=False)


def _model_flops(params: Params, num_batches: int) -> float:
    shape, batch = _shape(params), int(params["batch"])
    layer: Callable[[], float] = {
        "prefill": partial(shape.layer_forward_flops, batch),
        "decode": partial(shape.layer_decode_flops, batch),
    }[str(params["op"])]
    head = shape.head_forward_flops(batch)
    return num_batches * (shape.num_layers * layer() + head)


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip if the ranks do not divide the model, and for sizes that make none."""
    skip_if(_skip_reason(params, rank.world_size))
    from bench.workloads.model.timed_results import checked_with

    op, parts = str(params["op"]), _split(params, rank.world_size)
    num_batches = rank.world_size // parts
    num_tokens = int(params["batch"]) * (int(params["sequence"]) if op == "prefill" else 1)
    weights, cache = _weights_and_cache(params, parts)
    variants, check, close, notes = (_tensor if parts > 1 else _replica)(params, rank)
    return Work(
        variants=dict(variants),
        check=checked_with(variants.values(), check),
        timed_checks={name: kept.timed_check for name, kept in variants.items()},
        clock="host",
        close=close,
        memory_traffic_bytes=(weights + cache) * ITEM_BYTES[str(params["dtype"])] if op == "decode" else None,
        flops=_model_flops(params, num_batches),
        flops_dtype=str(params["dtype"]),
        tokens=num_batches * num_tokens,
        derive=partial(served, op=op, num_tokens=num_tokens, replicas=parts == 1),
        notes=(*notes, OP_NOTES[op]),
    )


def served(observed: Observed, *, op: str, num_tokens: int, replicas: bool) -> Mapping[str, float | None]:
    """The suite's metrics: replicas serve at their own pace, ranks that share a model at that of the slowest."""
    seconds = observed.seconds["full"]
    rates = [num_tokens / alone for alone in observed.rank_seconds["full"] if alone > 0] if replicas else []
    synchronous = num_tokens * (len(rates) or 1) / seconds if seconds else None
    total = sum(rates) if rates else synchronous
    return {
        TIMES[op]: seconds,
        "served_tokens_per_s": total,
        "served_over_synchronous": total / synchronous if replicas and total and synchronous else None,
    }


Made = tuple[dict[str, "KeptResults"], Callable[[], Check], Callable[[], object] | None, tuple[str, ...]]
"""Variants, check, close and notes of a case."""


def _replica(params: Params, rank: RankContext) -> Made:
    """The case in which each rank has a model and a batch of its own."""
    import torch

    from bench.workloads.model.llama import whole_model
    from bench.workloads.training.inference import check_server, draw_prompts, served_call, server

    op, dtype = str(params["op"]), getattr(torch, str(params["dtype"]))

    def made(shape: ModelShape, batch: int) -> tuple[Server, Llama]:
        model = whole_model(shape, rank.generator, rank.device, dtype)
        prompts = draw_prompts(shape, batch, rank.generator(shape.num_layers + 2, rank.index), rank.device)
        return server(model, shape, prompts, shape.num_kv_heads, dtype), model

    full, model = made(_shape(params), int(params["batch"]))
    full.fill()
    variants = {"full": served_call(full, op)}
    hindrance = _no_room(params, rank) or _too_long(params, rank)
    if hindrance is None:
        return variants, partial(check_server, full, op, model), None, NOTES["replicas"]
    small, small_model = made(_reduced(params, rank), 1)
    return variants, partial(_check_reduced, small, op, small_model), None, (*NOTES["replicas"], hindrance)


def _tensor(params: Params, rank: RankContext) -> Made:
    """The case in which all ranks share one model and one batch."""
    import torch
    import torch.distributed as torch_dist

    from bench.workloads.model.llama import whole_model
    from bench.workloads.parallel.tensor import Ranks, is_filled_by, silent_group
    from bench.workloads.training.inference import check_server, draw_prompts, served_call, server, split_model

    op, dtype, size = str(params["op"]), getattr(torch, str(params["dtype"])), rank.world_size
    silent = silent_group()

    def made(shape: ModelShape, batch: int, group: dist.ProcessGroup | None) -> tuple[Server, Llama]:
        """A server of the ranks of a group; without one, of the whole model."""
        prompts = draw_prompts(shape, batch, rank.generator(shape.num_layers + 2), rank.device)
        if group is None:
            whole = whole_model(shape, rank.generator, rank.device, dtype)
            return server(whole, shape, prompts, shape.num_kv_heads, dtype), whole
        ranks = Ranks(group, rank.index, size, axis=f"inference_{group.group_name}")
        model = split_model(shape, ranks, rank.generator, rank.device, dtype)
        return server(model, shape, prompts, shape.num_kv_heads // size, dtype), model

    shape, batch = _shape(params), int(params["batch"])
    full, mute = made(shape, batch, rank.group)[0], made(shape, batch, silent)[0]
    servers = {"full": full, "compute_only": mute}
    notes = NOTES["tensor"]
    no_room, too_long = _no_room(params, rank), _too_long(params, rank)
    if no_room is None:
        servers["one_device"], whole = made(shape, batch, None)
        check = partial(check_server, full, op, whole)
    else:
        notes = (notes[1], f"no one_device variant: {no_room}")
    if no_room or too_long:
        small_shape = _reduced(params, rank)
        small, small_whole = made(small_shape, 1, rank.group)[0], made(small_shape, 1, None)[1]
        check = partial(_check_reduced, small, op, small_whole)
        notes = notes if too_long is None else (*notes, too_long)
    for filled in servers.values():
        filled.fill()
    is_defined = {"compute_only": is_filled_by(silent, size)}
    variants = {name: served_call(filled, op, is_defined.get(name, True)) for name, filled in servers.items()}
    return variants, check, lambda: torch_dist.destroy_process_group(silent), notes


def _check_reduced(small: Server, op: str, whole: Llama) -> Check:
    from bench.workloads.training.inference import check_server

    return check_server(small, op, whole)._replace(scope="reduced")


def _reduced(params: Params, rank: RankContext) -> ModelShape:
    from bench.workloads.training.inference import reduce_shape

    return reduce_shape(_shape(params), rank.world_size)


def _no_room(params: Params, rank: RankContext) -> str | None:
    """Reason why the model and its float32 reference do not fit on one device, with numbers; None if they do."""
    need, have = _bytes_needed(params, rank.world_size, one_device=True), rank.machine.memory_bytes
    return None if need <= have else f"one device's check needs {need} bytes, and a rank has {have}"


def _too_long(params: Params, rank: RankContext) -> str | None:
    """Reason why the whole model's float32 reference would take too long; None if it would not."""
    shape, most = _shape(params), flops.MOST_REFERENCE_FLOPS[rank.device.type]
    needed = shape.num_layers * shape.layer_forward_flops(int(params["batch"]))
    if needed <= most:
        return None
    return f"one device's check at full size would take {needed:.2g} FLOPs in float32, above {most:.2g}"
