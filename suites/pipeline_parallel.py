"""Pipeline parallelism: training steps of a transformer stack through every schedule that torch has.

What is measured: the time of one step, forward and backward of a batch cut into microbatches, with the
layers split over all ranks as stages. Why: a rank waits for the stage before it and the stage behind it, so
that a pipeline is as fast as its slowest stage, minus the bubble that the schedule leaves; schedules differ
in that bubble. Besides the time:

    bubble_theory               share of the step that the schedule's order leaves idle: a replay of it, with
                                the measured durations of forward, input gradient and weight gradient
    idle_share                  share of the step in which a rank computed nothing, mean over ranks, measured
    communication_and_overhead  the difference: messages, the host's work, jitter

They come from a separate traced pass. The variant `one_device` is the whole stack with the same
microbatches, which every rank runs by itself at the same time; the speed-up is one_device / full. The
timed work is checked: outputs, loss and the gradients of each rank's own stages, against that
stack. The loss is the mean square against random targets. Gradients are cleared before every sample,
untimed; no optimiser step is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from bench.parallelism import flops
from bench.parallelism.pipeline import bubble
from bench.parallelism.pipeline.schedules import SCHEDULES, PipelineSchedule
from bench.suite import ITEM_BYTES, Check, Machine, Observed, Params, Presets, SuiteMetric, Work, skip_if, too_small

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import StepLooks
    from bench.workloads.parallel.pipeline_check import Model

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {"dtype": "float32", "microbatch_size": 1, "num_layers": 8, "timing": "aligned"}
CHOICES = {
    "op": tuple(SCHEDULES),
    # Not float16: the gradients of a mean over this many elements fall below its smallest number.
    "dtype": ("float32", "bfloat16"),
    "timing": ("aligned", "streamed"),
}
METRICS = {
    "bubble_theory": SuiteMetric(
        "share",
        "lower",
        "Share of the step that the pipeline's order leaves idle: a replay with the measured durations.",
    ),
    "idle_share": SuiteMetric(
        "share", "lower", "Share of the step in which a device runs none of the pipeline's work, measured."
    ),
    "communication_and_overhead": SuiteMetric(
        "share", "lower", "Difference of the measured idle share and the replay's: messages, the host's work, jitter."
    ),
}
TRACED_CALLS = 5

# Layers and microbatches are at least this many (see `cases`).
BASE: Presets[Params] = Presets(
    cpu={
        "smoke": {"hidden": 64, "num_heads": 4, "sequence": 32, "num_microbatches": 4},
        "standard": {"hidden": 128, "num_heads": 8, "sequence": 32, "num_microbatches": 4},
    },
    # As wide as GPT-3 XL (Brown et al. 2020, table 2.1), and as Llama-3 8B (Grattafiori et al. 2024).
    cuda={
        "smoke": {"hidden": 2048, "num_heads": 16, "sequence": 1024, "num_microbatches": 8},
        "standard": {"hidden": 4096, "num_heads": 32, "sequence": 2048, "num_microbatches": 16},
    },
)
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16", "float32")}
"""Device type -> the base point's type, and another."""
# The most informative first: the usual schedule, the one it improved on, and those with the smallest bubbles.
SMOKE_SCHEDULES = 4
"""Number of schedules in the smoke preset, in which a step's set-up and check cost more than its samples."""
ORDER = (
    "1f1b",
    "gpipe",
    "zbv_zero_bubble",
    "interleaved_1f1b",
    "dual_pipe_v",
    "interleaved_zero_bubble",
    "looped_bfs",
)
STAGES_PER_RANK = 2
"""The most that a schedule of the table has: layers are chosen so that all schedules can run."""

MIB = 2**20
KEPT_PER_TOKEN = 17
"""Numbers that a layer keeps for its backward, per token and unit of `hidden`: the 34 s b h bytes of
Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer Models", section 4.1), of
two bytes each. The scores of attention are not kept by the fused kernels."""


def cases(machine: Machine) -> Iterator[Params]:
    """Every schedule at the base point, then 1F1B and GPipe over numbers of microbatches.

    The preset `full` varies the other schedules too.

    Layers are a multiple of the stages, and microbatches of the ranks, at least two per rank: so every
    schedule can run on any number of ranks.
    """
    ranks = machine.world_size
    dtype, other_dtype = DTYPES[machine.device_type]
    base = {"dtype": dtype, **BASE.at(machine)}
    base["num_layers"] = _multiple(STAGES_PER_RANK * ranks, int(DEFAULTS["num_layers"]))
    base["num_microbatches"] = _multiple(ranks, max(2 * ranks, int(base["num_microbatches"])))
    if machine.preset == "smoke":
        yield from ({"op": op, **base} for op in ORDER[:SMOKE_SCHEDULES])
        return
    yield from ({"op": op, **base} for op in ORDER)
    turns = (1, 2, 4, 8) if machine.preset == "full" else (1, 2, 4)
    counts = [turn * ranks for turn in turns if turn * ranks != base["num_microbatches"]]
    for op in ORDER if machine.preset == "full" else ("1f1b", "gpipe"):
        possible = [count for count in counts if SCHEDULES[op].objection(ranks, count) is None]
        yield from ({"op": op, **base, "num_microbatches": count} for count in possible)
    yield {"op": "1f1b", **base, "dtype": other_dtype}
    if machine.preset == "full":
        for change in (
            {"microbatch_size": 4},
            {"sequence": 4 * int(base["sequence"])},
            {"timing": "streamed"},
        ):
            yield from ({"op": op, **base, **change} for op in ORDER)


def _multiple(unit: int, at_least: int) -> int:
    return -(-at_least // unit) * unit


def _skip_reason(params: Params, schedule: PipelineSchedule, num_ranks: int, backend: str) -> str | None:
    """Reason why this cannot run on this many ranks, with the numbers, or with this torch; None if it can."""
    if num_ranks == 1:
        return "one rank: a pipeline needs at least two"
    small = too_small(params, "hidden", "num_heads", "num_layers", "sequence", "microbatch_size", "num_microbatches")
    if small:
        return small
    num_layers, num_stages = int(params["num_layers"]), schedule.num_stages(num_ranks)
    if num_layers % num_stages:
        return f"num_layers={num_layers} cannot be split evenly over {num_stages} stages"
    if int(params["hidden"]) % int(params["num_heads"]):
        return f"num_heads={params['num_heads']} does not divide hidden={params['hidden']}"
    objection = schedule.objection(num_ranks, int(params["num_microbatches"]))
    if objection:
        return f"{schedule.class_name} {objection}"
    from bench.workloads.parallel.torch_schedules import lack

    return lack(schedule, backend)


def _bytes_needed(params: Params, num_ranks: int, one_device: bool) -> int:
    """Bytes that a rank holds at the worst moment; with `one_device`, also for the whole stack and the check.

    Counted from the shapes: weights and their gradients, the batch with its target and outputs, and
    torch's receive buffers (one of each kind per stage and microbatch). Also what layers keep for the backward, of all
    microbatches at once: GPipe does keep them all, other schedules fewer, except for the gradients that a
    split backward keeps; the first rank of 1F1B one per rank.
    """
    hidden, num_layers = int(params["hidden"]), int(params["num_layers"])
    microbatch_tokens = int(params["microbatch_size"]) * int(params["sequence"])
    batch = int(params["num_microbatches"]) * microbatch_tokens * hidden
    weights = num_layers * (12 * hidden + 2) * hidden
    stages = SCHEDULES[str(params["op"])].stages_per_rank
    item = ITEM_BYTES[str(params["dtype"])]
    share = 2 * weights // num_ranks + (4 + 2 * stages) * batch
    count = int(params["num_microbatches"])
    in_flight = min(count, num_ranks) if params["op"] == "1f1b" else count
    share += KEPT_PER_TOKEN * batch * in_flight // count * num_layers // num_ranks
    if not one_device:
        return item * share
    whole = 2 * weights + 2 * batch + KEPT_PER_TOKEN * microbatch_tokens * hidden * num_layers
    reference = 4 * (whole + 2 * batch) if item < 4 else 0
    return item * (share + whole) + reference


def memory(params: Params, machine: Machine) -> int:
    """Without the variant on one device, which is left out if there is no room for it."""
    return _bytes_needed(params, machine.world_size, one_device=False)


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip with one rank, if this torch lacks the schedule, and for numbers that do not fit it."""
    schedule = SCHEDULES[str(params["op"])]
    skip_if(_skip_reason(params, schedule, rank.world_size, rank.backend))
    model = _model(params)
    variants, looks, check, reset, notes = _variants(params, model, schedule, rank)
    batch = model.num_microbatches * model.microbatch_size
    forward = flops.layer_forward(batch, model.sequence, model.hidden, 4 * model.hidden)
    too_few_cores = _too_few_cores(rank.machine)
    return Work(
        variants=variants,
        check=check,
        timed_checks={name: look.timed_check for name, look in looks.items()},
        clock="host",
        reset=reset,
        flops=model.num_layers * forward * flops.PER_FORWARD["forward_backward"],
        flops_dtype=model.dtype,
        tokens=batch * model.sequence,
        traced_calls=TRACED_CALLS,
        derive=partial(
            shares,
            schedule=schedule,
            num_microbatches=model.num_microbatches,
            is_idle_known=too_few_cores is None,
        ),
        notes=(
            *notes,
            *([too_few_cores] if too_few_cores else []),
            f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B)",
        ),
    )


def _model(params: Params) -> Model:
    from bench.workloads.parallel.pipeline_check import Model

    return Model(
        hidden=int(params["hidden"]),
        num_heads=int(params["num_heads"]),
        num_layers=int(params["num_layers"]),
        sequence=int(params["sequence"]),
        microbatch_size=int(params["microbatch_size"]),
        num_microbatches=int(params["num_microbatches"]),
        dtype=str(params["dtype"]),
    )


def _variants(
    params: Params, model: Model, schedule: PipelineSchedule, rank: RankContext
) -> tuple[
    dict[str, Callable[[], object]], dict[str, StepLooks], Callable[[], Check], Callable[[], object], tuple[str, ...]
]:
    """The variants, looks, check, reset and notes of a case; without `one_device` if memory has no room for it."""
    from bench.measure.engine import control
    from bench.workloads.model.timed_results import checked_with
    from bench.workloads.parallel.pipeline_check import check_step

    full = model.pipeline_step(schedule, rank)
    looks = {"full": full.looks()}
    need = _bytes_needed(params, rank.world_size, one_device=True)
    # One rank without room decides for all: the check and the variants are work that they share.
    have = -control.maxima(rank, [-rank.machine.memory_bytes])[0]
    if need > have:
        small = model.reduced()
        small_full, small_whole = small.pipeline_step(schedule, rank), small.one_device_step(rank)
        return (
            {"full": full.run},
            looks,
            checked_with(looks.values(), lambda: check_step(small_full, small_whole, small)._replace(scope="reduced")),
            full.clear_gradients,
            (f"no one_device variant: it needs {need / MIB:.0f} MiB, and a rank has {have / MIB:.0f} MiB",),
        )
    whole = model.one_device_step(rank)
    looks["one_device"] = whole.looks()

    def reset() -> None:
        full.clear_gradients()
        whole.clear_gradients()

    return (
        {"full": full.run, "one_device": whole.run},
        looks,
        lambda: check_step(full, whole, model, (looks["full"].learn, looks["one_device"].learn)),
        reset,
        ("one_device: every rank runs the whole stack by itself, all at the same time",),
    )


def _too_few_cores(machine: Machine) -> str | None:
    """Reason why the idle share cannot be read off the spans; None if it can.

    Ranks that share a core also wait for one another while they compute: their spans hold that waiting.
    """
    if machine.device_type != "cpu" or machine.ranks_per_host <= machine.num_cores:
        return None
    return f"no idle_share: {machine.ranks_per_host} ranks share {machine.num_cores} cores"


def shares(
    observed: Observed, *, schedule: PipelineSchedule, num_microbatches: int, is_idle_known: bool
) -> Mapping[str, float | None]:
    """Shares of the step's time, from the spans of the traced pass; see `bench.parallelism.pipeline.bubble`."""
    from bench.workloads.parallel.torch_schedules import operations

    theory = bubble.bubble_theory(observed.spans, operations(schedule, observed.world_size, num_microbatches))
    idle = bubble.idle_share(observed.spans, observed.traced_call_ns) if is_idle_known else None
    return {
        "bubble_theory": theory,
        "idle_share": idle,
        "communication_and_overhead": None if theory is None or idle is None else idle - theory,
    }
