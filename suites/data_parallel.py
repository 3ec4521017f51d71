"""Data parallelism: forward and backward of one model on all ranks, by DDP and by FSDP2, and the share that is hidden.

What is measured: the time of forward and backward of a Llama-style model, each rank with a batch of its own, until all
gradients are averaged over the ranks (no optimizer). Why: all training does this in every step, and whether the
communication hides behind the backward decides what more devices are worth. Variants, timed in turn with the case
(`full`):

    compute_only   the same model and batch without a wrapper, every rank by itself
    communication  the same messages and nothing else: DDP's buckets, or FSDP's gathers and reduce-scatters, one by one

and from them (`bench.parallelism.overlap`) exposed = full - compute_only, and overlapped = 1 - exposed / communication.
The exposed time also holds what the wrapper itself costs: copies into buckets, the gathered weights' copies, its hooks.
The timed work is checked: loss and all gradients, against one device that goes through every rank's batch.
Machinery: bench/workloads/training/data_parallel.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.core import torch_versions
from bench.parallelism import flops, overlap
from bench.parallelism.gradient_buckets import Wrapping
from bench.parallelism.shapes import LLAMA_MODELS, ModelShape, find_model
from bench.suite import ITEM_BYTES, Machine, Params, Presets, Work, skip_if, too_small

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {"dtype": "float32", "batch": 1, "timing": "aligned"}
CHOICES = {
    "op": ("ddp", "fsdp"),
    "model": LLAMA_MODELS,
    # Not float16: small gradients fall below its smallest number.
    "dtype": ("float32", "bfloat16"),
    "reshard_after_forward": (True, False),
    "timing": ("aligned", "streamed"),
}
METRICS = overlap.METRICS

# An operation has only the choices that are its own.
BASE: Presets[Params] = Presets(
    cpu={
        "smoke": {"model": "tiny", "num_layers": 4, "sequence": 64},
        "standard": {"model": "small", "num_layers": 4, "sequence": 128},
    },
    # Of Llama-3 8B as many layers as fit twice (with and without the wrapper) beside the gradients.
    cuda={
        "smoke": {"model": "llama3-1b", "num_layers": 4, "sequence": 2048, "dtype": "bfloat16"},
        "standard": {"model": "llama3-8b", "num_layers": 8, "sequence": 4096, "dtype": "bfloat16"},
    },
)
OWN: dict[str, dict[str, Params]] = {
    "cpu": {"ddp": {"bucket_mb": 4}, "fsdp": {"layers_per_group": 1, "reshard_after_forward": True}},
    "cuda": {"ddp": {"bucket_mb": 25}, "fsdp": {"layers_per_group": 1, "reshard_after_forward": True}},
}
Change = tuple[str, Params]
FULL: tuple[Change, ...] = (
    ("ddp", {"batch": 4}),
    ("fsdp", {"batch": 4}),
    ("fsdp", {"layers_per_group": 0, "reshard_after_forward": False}),
    ("ddp", {"num_layers": 16}),
    ("fsdp", {"num_layers": 16}),
)
CHANGES: Presets[tuple[Change, ...]] = Presets(
    cpu={
        "smoke": (("ddp", {}),),
        "standard": (
            ("fsdp", {}),
            ("ddp", {"bucket_mb": 1}),
            ("ddp", {"bucket_mb": 64}),
            ("fsdp", {"layers_per_group": 0}),
            ("fsdp", {"layers_per_group": 2}),
            ("fsdp", {"reshard_after_forward": False}),
        ),
        "full": FULL,
    },
    cuda={
        "smoke": (("ddp", {}),),
        "standard": (
            ("fsdp", {}),
            ("ddp", {"bucket_mb": 1}),
            ("ddp", {"bucket_mb": 100}),
            ("ddp", {"bucket_mb": 400}),
            ("fsdp", {"layers_per_group": 0}),
            ("fsdp", {"layers_per_group": 2}),
            ("fsdp", {"layers_per_group": 4}),
            ("fsdp", {"reshard_after_forward": False}),
        ),
        "full": FULL,
    },
)
KEPT_PER_TOKEN = 34
"""Numbers that a layer keeps for its backward, per token and unit of `hidden`, with room to spare: inputs of seven
matrices, of which three are ffn_hidden wide, and of two norms."""
NOTES = (
    "exposed: full - compute_only, the wrapper's own copies and hooks included",
    f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B)",
)


def cases(machine: Machine) -> Iterator[Params]:
    """A base point of each operation varied one factor at a time; smoke has one small case of DDP."""
    for op, change in CHANGES.through(machine):
        yield {"op": op, **BASE.at(machine), **OWN[machine.device_type][op], **change}


def _shape(params: Params) -> ModelShape:
    from dataclasses import replace

    shape = find_model(str(params["model"]))
    return replace(shape, num_layers=int(params["num_layers"]), sequence=int(params["sequence"]))


def _wrapping(params: Params) -> Wrapping:
    names = ("bucket_mb", "layers_per_group", "reshard_after_forward")
    return Wrapping(str(params["op"]), **{name: params[name] for name in names if name in params})  # type: ignore[arg-type]


def _skip_reason(params: Params, num_ranks: int, backend: str) -> str | None:
    if num_ranks == 1:
        return "one rank: there is no other rank to average gradients with"
    small = too_small(params, "batch", "bucket_mb") or too_small(params, "layers_per_group", least=0)
    if small:
        return small
    lack = torch_versions.skip_reason("fsdp_average", backend) if params["op"] == "fsdp" else None
    return lack or _shape(params).objection()


def memory(params: Params, machine: Machine) -> int:
    """Bytes that a rank holds at the worst moment, counted from the shapes.

    They are the model without a wrapper and its gradients, the same of the wrapped one (FSDP: a share, and the whole in
    the messages' buffers), and what layers keep for the backward. Also the logits, their copy in float32 and the
    gradients of both; for a short type a float32 reference besides.
    """
    shape = _shape(params)
    item = ITEM_BYTES[str(params["dtype"])]
    tokens = int(params["batch"]) * shape.sequence
    weights = shape.num_parameters
    # Of FSDP a share; but the check puts all of its gradients together on every rank.
    held = 5 * weights
    kept = tokens * (KEPT_PER_TOKEN * shape.hidden * shape.num_layers)
    logits = tokens * shape.vocabulary * (2 * item + 12)
    reference = 4 * (2 * weights + kept) + 2 * weights * item if item < 4 else 0
    return item * (held + kept) + logits + reference


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip with one rank, for sizes that make no model, and if this torch's FSDP is wrong."""
    skip_if(_skip_reason(params, rank.world_size, rank.backend))
    import torch

    from bench.workloads.model.timed_results import checked_with
    from bench.workloads.training.data_parallel import check_step, make_trained

    shape, batch = _shape(params), int(params["batch"])
    work = make_trained(shape, batch, getattr(torch, str(params["dtype"])), _wrapping(params), rank)
    full_looks, plain_looks = work.full.looks(), work.plain.looks()
    return Work(
        variants={
            overlap.FULL: work.full,
            overlap.COMPUTE_ONLY: work.plain,
            overlap.COMMUNICATION: work.messages,
        },
        check=checked_with([plain_looks], lambda: check_step(work, shape, full_looks.learn)),
        timed_checks={
            overlap.FULL: full_looks.timed_check,
            overlap.COMPUTE_ONLY: plain_looks.timed_check,
            overlap.COMMUNICATION: work.messages.timed_check,
        },
        clock="host",
        reset=work.clear,
        flops=shape.step_flops(batch) * rank.world_size,
        flops_dtype=str(params["dtype"]),
        tokens=rank.world_size * batch * shape.sequence,
        derive=overlap.exposure,
        notes=NOTES,
    )
