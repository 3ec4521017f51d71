"""Training steps of a Llama-style model, split over the ranks by pipeline x data x tensor.

What is measured: the time of one optimizer step (forward and backward of every microbatch, the sums over the ranks,
AdamW) of the model of bench/workloads/model/llama.py under torch's own parallel library
(bench/workloads/training/parallelize.py). Why: it is what the machine is for; kernels and collectives alone do not say
how fast it trains. A case is a split (`pp` pipeline stages, `tp` tensor ranks with sequence parallel, data ranks for
the rest: `dp_mode` replicate by DDP or shard by FSDP2), a type, with or without recomputation and torch.compile. The
batch of a step, `batch` sequences over all ranks, is the same whatever the split; `num_microbatches` cuts each data
rank's share of it (gradient accumulation, or the pipeline's microbatches).

The check: loss and gradient norm of the first 3 steps, against those of one device from the same seed. Adam hardly
notices a gradient that is wrong by a factor, the norm does. In float32 they agree within 1e-4 of their size, bfloat16
stays within 2% of one device's float32. Timed steps have a learning rate of 0: they do all that a step does, on weights
that stay as they are, so that every sample is the same work.

Spans of the traced pass: `forward`, `loss`, `backward` (with a split backward `backward_input`, `backward_weight`) with
stage and microbatch, `optimizer`, and `communication` with axis, number on its group, bytes and launch. It is where the
host (on a GPU the stream) waits for it. The time by part (bench/parallelism/step_breakdown.py) comes from them;
`other` is what is left, never shared out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench.core import torch_versions
from bench.parallelism import flops, step_breakdown
from bench.parallelism.layout import Layout, MicrobatchedJob, all_layouts, layout_of
from bench.parallelism.pipeline.schedules import SCHEDULES
from bench.parallelism.shapes import LLAMA_MODELS, find_model
from bench.suite import COMPILE_SECONDS, Machine, Observed, Params, Presets, Skip, SuiteMetric, Table, Work, skip_if
from bench.workloads.trace import peak_memory
from bench.workloads.training.step_memory import (
    MEMORY_SHARE,
    bytes_needed,
    is_whole,
    make_job,
    num_layers_that_fit,
    smallest_job,
)
from bench.workloads.training.training_check import full_check, reduced_check

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.training.parallelize import Treatment

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {
    "dp_mode": "replicate",
    "dtype": "float32",
    "recompute": False,
    "compile": False,
    "schedule": "1f1b",
    "num_layers": 0,
    "sequence": 0,
}
"""`num_layers=0`: as many of the shape's as fit; `sequence=0`: the shape's own."""
CHOICES = {
    "shape": LLAMA_MODELS,
    "dp_mode": ("replicate", "shard"),
    "dtype": ("float32", "bfloat16"),
    "recompute": (False, True),
    "compile": (False, True),
    "schedule": tuple(SCHEDULES),
}
PART_MEANING = "Share of the traced steps, mean over the ranks, that is {}."
METRICS = {
    **{
        metric: SuiteMetric("share", "neither", PART_MEANING.format(step_breakdown.PARTS[part]))
        for part, metric in step_breakdown.SHARES.items()
    },
    "traced_over_timed": SuiteMetric(
        "x", "neither", "Time of a traced step over that of a timed one: what the tracing costs."
    ),
    "peak_memory_bytes": SuiteMetric(
        "B",
        "lower",
        "Memory of the rank that needs most: on a CPU the growth of its resident set, on a GPU what torch allocated.",
    ),
    "trained_layers": SuiteMetric("layers", "neither", "Number of layers that the model has here."),
}
TRACED_CALLS = 5

SHAPES_TRIED: Presets[tuple[str, ...]] = Presets(
    cpu={"smoke": ("tiny",), "standard": ("small",)},
    cuda={"smoke": ("llama3-1b",), "standard": ("llama3-8b", "llama3-1b")},
)
"""Published models, the largest first. The first that fits whole is trained, with recomputation if need be; if none
does, the last, with as many layers as fit."""
DTYPE = {"cpu": "float32", "cuda": "bfloat16"}
CPU_BATCH = 8
SEQUENCES_PER_RANK = {"llama3-8b": 1, "llama3-1b": 4}
"""Batch of a step on GPUs. The optimizer's pass over the weights is then a few percent of a step. Shares of the large
model have one microbatch: with several, fully_shard keeps all gradients whole until the last, 32 GB of llama3-8b."""
CHANGES: Presets[tuple[Params, ...]] = Presets(
    cpu={
        "standard": ({"recompute": True}, {"dtype": "bfloat16"}, {"num_microbatches": 4}),
        "full": ({"compile": True},),
    },
    cuda={"standard": ({"recompute": True}, {"recompute": False}), "full": ({"dtype": "float32"},)},
)
"""Variations of the first case, one factor at a time; a change that changes nothing is left out."""


def cases(machine: Machine) -> Iterator[Params]:
    """The splits, most informative first, at a base point; then one factor at a time. `full` has every split.

    On GPUs the base point is also compiled, right after it: published figures are of both.
    """
    ranks, device = machine.world_size, machine.device_type
    base = _base(machine)
    ways = _usual_layouts(machine, find_model(str(base["shape"])).num_kv_heads)
    if device == "cuda":  # in their order, but those first that train the whole model
        whole = [(layout, mode) for layout, mode in ways if is_whole(_row(base, layout, mode, device), layout, machine)]
        ways = whole + [way for way in ways if way not in whole]
    first = _row(base, *ways[0], device)
    if machine.preset == "smoke":
        yield from (_row(base, *way, device) for way in ways[:3])
        return
    if machine.preset == "full":
        known = set(ways)
        every = [(layout, mode) for layout in all_layouts(ranks) for mode in _modes(layout)]
        ways += [way for way in every if way not in known]
    yield first
    if device == "cuda":
        yield first | {"compile": True}
    yield from (_row(base, *way, device) for way in ways[1:])
    yield from (first | change for change in CHANGES.through(machine) if first | change != first)


def _base(machine: Machine) -> Params:
    """Shape, type and batch of the first case; on GPUs also whether it takes recomputation to train the whole model."""
    device = machine.device_type
    base: Params = {"dtype": DTYPE[device], "batch": CPU_BATCH}
    shapes = SHAPES_TRIED.at(machine)
    if device == "cpu":
        return base | {"shape": shapes[0]}
    for shape in shapes:
        sized = base | {"shape": shape, "batch": machine.world_size * SEQUENCES_PER_RANK[shape]}
        layout, mode = _usual_layouts(machine, find_model(shape).num_kv_heads)[0]
        for recompute in (False, True):
            row = _row(sized | {"recompute": recompute}, layout, mode, device)
            if is_whole(row, layout, machine):
                return sized | {"recompute": recompute}
    return sized | {"recompute": True}


def prepare_seconds(params: Params) -> float:
    """Seconds for the compilation of the layers, and of those that the check compares."""
    return COMPILE_SECONDS if params["compile"] else 0.0


def _modes(layout: Layout) -> tuple[str, ...]:
    return ("replicate", "shard") if layout.dp > 1 else ("replicate",)


def _usual_layouts(machine: Machine, num_kv_heads: int) -> list[tuple[Layout, str]]:
    """Data alone, sharded and replicated; tensor within a node; a pipeline; then two axes at once."""
    ranks, node = machine.world_size, machine.ranks_per_host
    tensor = max(n for n in range(1, min(node, num_kv_heads) + 1) if ranks % n == 0 and num_kv_heads % n == 0)
    wanted = [
        (Layout(dp=ranks), "shard"),
        (Layout(tp=tensor, dp=ranks // tensor), "shard" if ranks > tensor else "replicate"),
    ]
    if ranks % 2 == 0:
        wanted.append((Layout(pp=2, dp=ranks // 2), "replicate"))
    wanted.append((Layout(dp=ranks), "replicate"))
    if ranks % 4 == 0:
        wanted += [(Layout(tp=2, dp=ranks // 2), "shard"), (Layout(tp=2, pp=2, dp=ranks // 4), "replicate")]
        wanted.append((Layout(pp=2, dp=ranks // 2), "shard"))
    return list(dict.fromkeys((layout, mode if layout.dp > 1 else "replicate") for layout, mode in wanted))


def _row(base: Params, layout: Layout, mode: str, device_type: str) -> Params:
    """One case. On GPUs microbatches have one sequence each: logits of more would leave no room for layers."""
    fewest = 1 if layout.pp == 1 else 2 * layout.pp
    batch = max(int(base["batch"]), layout.dp * fewest)
    batch = -(-batch // (layout.dp * fewest)) * layout.dp * fewest
    microbatches = batch // layout.dp if device_type == "cuda" else fewest
    return {**DEFAULTS, **base, "batch": batch, "tp": layout.tp, "pp": layout.pp, "dp_mode": mode,
            "num_microbatches": microbatches}  # fmt: skip


def memory(params: Params, machine: Machine) -> int:
    """Bytes for the layers that are asked for; without a number, as many are taken as fit. 0 for what `prepare` will
    skip."""
    layout = layout_of(machine.world_size, int(params["tp"]), int(params["pp"]))
    if isinstance(layout, str) or smallest_job(params, layout).objection(layout) is not None:
        return 0
    return bytes_needed(smallest_job(params, layout), layout, params, machine.device_type)


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip for a split that the ranks, the model, the batch or the schedule do not divide into."""
    layout = layout_of(rank.world_size, int(params["tp"]), int(params["pp"]))
    if isinstance(layout, str):
        raise Skip(layout)
    if layout.dp == 1 and params["dp_mode"] == "shard":
        raise Skip(f"tp={layout.tp} x pp={layout.pp} leaves one data rank: nothing to shard")
    skip_if(smallest_job(params, layout).objection(layout))
    skip_if(_lack(params, layout, rank.backend))
    if params["compile"]:
        _compilable(layout, rank.device.type)
    return _work(params, make_job(params, num_layers_that_fit(params, layout, rank.machine)), layout, rank)


def _lack(params: Params, layout: Layout, backend: str) -> str | None:
    """Reason why this torch cannot train so; None if it can."""
    if params["dp_mode"] == "shard":
        reason = torch_versions.skip_reason("fsdp_average", backend)
        if reason is not None:
            return reason
    if layout.pp == 1:
        return None
    from bench.workloads.parallel.torch_schedules import lack

    return lack(SCHEDULES[str(params["schedule"])], backend)


def _compilable(layout: Layout, device_type: str) -> None:
    """Raises Skip if torch.compile does not work: with a tensor axis, and without the compiler that it calls."""
    if layout.tp > 1:
        raise Skip(
            f"compile=true with tp={layout.tp}: torch 2.13, with which it was tried, breaks in the backward of "
            "compiled layers that DTensor splits; leave one of the two out"
        )
    import shutil

    if device_type == "cpu":
        from torch._inductor import config

        names, language = [name for name in config.cpp.cxx if name], "C++ compiler"
        variable = "CXX"
    else:  # Triton builds the launcher of each kernel in C
        names, language, variable = [os.environ.get("CC", ""), "gcc", "clang", "cc"], "C compiler", "CC"
    if not any(name and shutil.which(name) for name in names):
        names = [name for name in names if name]
        raise Skip(f"compile=true needs a {language}, and there is no {' or '.join(names)}; set {variable} to one")
    if device_type != "cpu" and find_spec("triton") is None:
        raise Skip("compile=true on a GPU needs triton, which is not installed; pip install triton")


def _work(params: Params, job: MicrobatchedJob, layout: Layout, rank: RankContext) -> Work:
    from bench.workloads.model.timed_results import checked_with
    from bench.workloads.training.parallelize import Treatment
    from bench.workloads.training.step_looks import TrainingLooks
    from bench.workloads.training.training_step import NUM_BATCHES, TrainingStep

    treatment = Treatment(
        dtype=str(params["dtype"]),
        data_mode=str(params["dp_mode"]),
        recompute=bool(params["recompute"]),
        compile=bool(params["compile"]),
    )
    # By what all ranks agree on: one that decided by its own memory would leave the others waiting.
    needed = [bytes_needed(job, way, params, rank.device.type) for way in (layout, Layout())]
    is_too_large = sum(needed) > MEMORY_SHARE * rank.machine.memory_bytes
    is_too_long = NUM_BATCHES * job.shape.step_flops(job.global_batch) > flops.MOST_REFERENCE_FLOPS[rank.device.type]
    is_reduced = is_too_large or is_too_long
    peak = peak_memory.PeakMemory(rank.device)
    step = TrainingStep(job, layout, treatment, rank, is_restorable=not is_reduced)
    for _ in range(2):
        step.run()
    peak_bytes = peak.bytes()
    looks = TrainingLooks(step)
    check = reduced_check(job, layout, treatment, rank) if is_reduced else full_check(step, job, layout, rank)
    recomputed = job.shape.num_layers * job.shape.recomputed_flops(job.global_batch) if treatment.recompute else 0.0
    return Work(
        variants={"full": step.run},
        check=checked_with([looks], check),
        timed_checks={"full": looks.timed_check},
        clock="host",
        flops=job.shape.step_flops(job.global_batch),
        hardware_flops=job.shape.step_flops(job.global_batch) + recomputed if treatment.recompute else None,
        flops_dtype=treatment.dtype,
        tokens=job.global_batch * job.shape.sequence,
        traced_calls=TRACED_CALLS,
        per_rank=lambda: {"peak_memory_bytes": peak_bytes, **layout.coordinates(rank.index)._asdict()},
        derive=partial(_derived, job=job, layout=layout),
        tables=partial(_tables, job=job, layout=layout),
        notes=_notes(job, layout, treatment, rank, find_model(str(params["shape"])).num_layers),
    )


def _notes(
    job: MicrobatchedJob, layout: Layout, treatment: Treatment, rank: RankContext, whole: int
) -> tuple[str, ...]:
    shape, machine = job.shape, rank.machine
    trained = f"all {whole}" if shape.num_layers == whole else f"{shape.num_layers} of {whole}"
    kind = "fully_shard's mixed precision" if treatment.data_mode == "shard" else "autocast"
    notes = [
        f"{trained} layers, {shape.num_parameters / 1e6:.4g} M parameters; dp={layout.dp}",
        peak_memory.MEANING[rank.device.type],
        f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B)",
    ]
    if treatment.dtype != "float32":
        notes.append(f"{treatment.dtype} by {kind}, weights and AdamW in float32")
    if 1 < layout.dp < layout.world_size and treatment.data_mode == "replicate":
        notes.append("replicas by fully_shard on a mesh of data x 1, not by DDP, since data is not the only axis")
    if machine.device_type == "cpu" and machine.ranks_per_host > machine.num_cores:
        notes.append(f"{machine.ranks_per_host} ranks share {machine.num_cores} cores: parts hold waiting for a core")
    return tuple(notes)


def _derived(observed: Observed, *, job: MicrobatchedJob, layout: Layout) -> Mapping[str, float | None]:
    calls = step_breakdown.step_parts(observed.spans, observed.traced_call_ns, layout, job.num_stages(layout))
    shares = step_breakdown.mean_shares(calls)
    steps = sorted(sum(ranks[0].values()) / 1e9 for ranks in calls)
    peaks = [facts["peak_memory_bytes"] for facts in observed.per_rank]
    return {
        **{step_breakdown.SHARES[part]: share for part, share in shares.items()},
        "traced_over_timed": steps[len(steps) // 2] / observed.seconds["full"] if steps else None,
        "peak_memory_bytes": max(peaks) if peaks and None not in peaks else None,
        "trained_layers": job.shape.num_layers,
    }


def _tables(observed: Observed, *, job: MicrobatchedJob, layout: Layout) -> Mapping[str, Table]:
    calls = step_breakdown.step_parts(observed.spans, observed.traced_call_ns, layout, job.num_stages(layout))
    rows = []
    for rank, seconds in enumerate(step_breakdown.rank_seconds(calls)):
        times = [seconds[part] * 1e3 for part in step_breakdown.PARTS]
        peak = _mebibytes(observed.per_rank[rank]["peak_memory_bytes"])
        rows.append((rank, *layout.coordinates(rank), *times, sum(times), peak))
    heads = step_breakdown.HEADS.values()
    columns = ("rank", "pipeline", "data", "tensor", *heads, "step ms", "peak memory MiB")
    return {
        step_breakdown.TABLE: Table(columns, tuple(rows), "Time by part of a traced step, mean over the traced calls")
    }


def _mebibytes(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / 2**20
