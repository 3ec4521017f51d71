"""Memory of a training step: the job that a case's parameters make, and how many of its layers fit on a rank."""

from __future__ import annotations

from dataclasses import replace

from bench.parallelism.layout import Layout, MicrobatchedJob
from bench.parallelism.shapes import find_model
from bench.suite import ITEM_BYTES, Machine, Params, Skip

MEMORY_SHARE = 0.9
"""Share of a rank's memory that a case may need by the estimate."""
LAYER_LADDER = (80, 64, 48, 32, 24, 16, 12, 8, 6, 4, 2, 1)
"""Numbers of layers that are tried: few, so that a little more or less free memory does not change the model."""
STATE_BYTES = {"cpu": 20, "cuda": 16}
"""Bytes per weight: itself, its gradient, AdamW's two moments, all float32, and on a CPU its kept first value."""
KEPT_PER_TOKEN = 12
"""Numbers of `hidden` that a layer keeps for its backward, per token, besides the inner ones of SwiGLU (3 of them)."""


def make_job(params: Params, num_layers: int) -> MicrobatchedJob:
    """The job of a case with this many layers of its shape."""
    shape = find_model(str(params["shape"]))
    sequence = int(params["sequence"]) or shape.sequence
    shape = replace(shape, num_layers=num_layers, sequence=sequence)
    return MicrobatchedJob(
        shape,
        int(params["batch"]),
        precision="fp32" if params["dtype"] == "float32" else "bf16",
        num_microbatches=int(params["num_microbatches"]),
        schedule=str(params["schedule"]),
    )


def bytes_needed(job: MicrobatchedJob, layout: Layout, params: Params, device_type: str) -> int:
    """Bytes that a rank holds at the worst moment: the states of its weights, and what its microbatches keep."""
    shape = job.shape
    ends = shape.vocabulary * shape.hidden
    weights = (shape.num_layers * shape.layer_parameters // layout.pp + 2 * ends) // layout.tp
    shares = layout.dp if params["dp_mode"] == "shard" else 1
    gathered = 4 * (2 * ends + shape.layer_parameters) // layout.tp if shares > 1 else 0
    # fully_shard sums gradients of microbatches whole, in float32 (its to_accumulated_grad_if_needed).
    accumulated = 4 * weights if shares > 1 and job.num_microbatches > 1 else 0
    tokens = max(1, job.microbatch_size(layout)) * shape.sequence
    layer = tokens * (KEPT_PER_TOKEN * shape.hidden + 3 * shape.ffn_hidden) // layout.tp
    layers = shape.num_layers // layout.pp if not params["recompute"] else 1
    kept = tokens * shape.hidden * shape.num_layers // layout.pp // layout.tp if params["recompute"] else 0
    in_flight = min(job.num_microbatches, layout.pp)
    logits = 3 * 4 * tokens * shape.vocabulary // layout.tp
    item = ITEM_BYTES[str(params["dtype"])]
    activations = item * (in_flight * (layers * layer + kept) + layer) + logits
    return STATE_BYTES[device_type] * weights // shares + gathered + accumulated + activations


def num_layers_that_fit(params: Params, layout: Layout, machine: Machine) -> int:
    """The number asked for, or the largest of the ladder that fits and divides into the stages.

    Raises Skip if not even the fewest fit.
    """
    requested, whole = int(params["num_layers"]), find_model(str(params["shape"])).num_layers
    if requested:
        return requested
    need = 0
    for count in (whole, *(n for n in LAYER_LADDER if n < whole)):
        job = make_job(params, count)
        if count % job.num_stages(layout):
            continue
        need = bytes_needed(job, layout, params, machine.device_type)
        if need <= MEMORY_SHARE * machine.memory_bytes:
            return count
    raise Skip(f"the fewest layers need {need / 2**30:.2f} GiB per rank, of {machine.memory_bytes / 2**30:.2f} GiB")


def is_whole(row: Params, layout: Layout, machine: Machine) -> bool:
    """Return True if all layers of the case's model fit."""
    job = make_job(row, find_model(str(row["shape"])).num_layers)
    fits = bytes_needed(job, layout, row, machine.device_type) <= MEMORY_SHARE * machine.memory_bytes
    return bool(fits and job.objection(layout) is None)


def smallest_job(params: Params, layout: Layout) -> MicrobatchedJob:
    """The job with the layers that are asked for, or one per stage."""
    return make_job(params, int(params["num_layers"]) or make_job(params, 1).num_stages(layout))
