"""Mixed ranks: the same step on equal ranks, on mixed ones split evenly, and split in proportion to their speed.

What is measured: the time of a training step by data, tensor and pipeline parallelism when some ranks are slower.
Why: such a step waits for its slowest rank, so that a cluster of mixed accelerators trains as if all were the slowest,
unless the work is split unevenly. Three variants, timed in turn, on equally many ranks:

    even       (the case) the mixed ranks, all with equal shares of the work
    balanced   the mixed ranks, each with a share in proportion to its measured speed, in whole microbatches (data),
               blocks of an MLP's columns (tensor) or layers (pipeline, 1F1B)
    uniform    equal ranks with equal shares

    mixing_penalty             even / uniform - 1
    won_back                   share of that which balancing wins back: (even - balanced) / (even - uniform)
    bound_seconds              what no split could beat: computation over the sum of the speeds, the rest as it was
    predicted_even_seconds, predicted_balanced_seconds
                               uniform times what its own spans and the measured speeds say
                               (`bench.parallelism.heterogeneous_step`)
    even_prediction_error, balanced_prediction_error
                               predicted / measured - 1, launch by launch

If the ranks themselves are mixed (accelerators of several kinds, or `--slow`), these are measured and nothing else
is emulated; the uniform ranks are then as many of the most frequent kind. On equal ranks the last one is slowed to
`speed` of its own, an emulation (`bench.measure.engine.emulation`), which the row says. `busy` below 1 slows all ranks
alike, in every variant, so that more ranks than cores do not disturb each other: they sleep the rest.

The timed work is checked: gradients of all three against the whole model on one device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.parallelism import flops, heterogeneous_step, work_split
from bench.suite import Cell, Machine, Observed, Params, SuiteMetric, Table, Work, skip_if, too_small
from bench.workloads.parallel.heterogeneous import make_mix

if TYPE_CHECKING:
    from bench.measure.engine.emulation import RankSpeed
    from bench.measure.engine.rank import RankContext
    from bench.workloads.parallel.heterogeneous import Mix
    from bench.workloads.parallel.uneven_pipeline import Team, UnevenSizes, UnevenStep

DEFAULTS: Params = {"speed": 0.5, "busy": 1.0}
CHOICES = {"op": ("data", "tensor", "pipeline")}
METRICS = {
    "uniform_seconds": SuiteMetric("s", "lower", "Time of the step on equally many equal ranks."),
    "balanced_seconds": SuiteMetric("s", "lower", "Time of the step with shares in proportion to the measured speeds."),
    "bound_seconds": SuiteMetric(
        "s", "lower", "Time that no split can beat: computation over the sum of the speeds, the rest as it was."
    ),
    "mixing_penalty": SuiteMetric(
        "share", "lower", "Time of the step with equal shares over that on equal ranks, minus 1."
    ),
    "won_back": SuiteMetric(
        "share", "higher", "Share of the mixing penalty that balancing wins back: (even - balanced) / (even - uniform)."
    ),
    "predicted_even_seconds": SuiteMetric(
        "s", "neither", "Time with equal shares as predicted from the uniform step and the measured speeds."
    ),
    "predicted_balanced_seconds": SuiteMetric(
        "s", "neither", "Time with balanced shares as predicted from the uniform step and the measured speeds."
    ),
    "even_prediction_error": SuiteMetric(
        "share", "neither", "Predicted over measured time with equal shares, minus 1, launch by launch."
    ),
    "balanced_prediction_error": SuiteMetric(
        "share", "neither", "Predicted over measured time with balanced shares, minus 1, launch by launch."
    ),
    "slowest_speed": SuiteMetric("share", "higher", "Measured speed of the slowest rank, that of the fastest being 1."),
}
TRACED_CALLS = 7
VARIANTS = ("even", "balanced", "uniform")

# Units of work a rank on equal shares, so that there is something to deal out.
UNITS = {"data": 6, "tensor": 8, "pipeline": 6}
BASE: dict[str, dict[str, Params]] = {
    "cpu": {
        # Parts of ten milliseconds: a core that slept needs a while to be as fast as it was.
        "data": {"hidden": 128, "num_heads": 8, "num_layers": 2, "sequence": 256},
        "tensor": {"hidden": 256, "num_layers": 2, "sequence": 512},
        "pipeline": {"hidden": 128, "num_heads": 8, "sequence": 128},
    },
    "cuda": {
        "data": {"hidden": 4096, "num_heads": 32, "num_layers": 4, "sequence": 2048},
        "tensor": {"hidden": 4096, "num_layers": 4, "sequence": 4096},
        "pipeline": {"hidden": 4096, "num_heads": 32, "sequence": 2048},
    },
}


def cases(machine: Machine) -> Iterator[Params]:
    """Each kind of parallelism with one rank at half speed; beyond smoke also at a quarter."""
    crowded = machine.device_type == "cpu" and machine.ranks_per_host > machine.num_cores
    busy = 0.4 * machine.num_cores / machine.ranks_per_host if crowded else 1.0
    for speed in (0.5,) if machine.preset == "smoke" else (0.5, 0.25):
        for op, base in BASE[machine.device_type].items():
            yield {"op": op, **base, "units": UNITS[op] * machine.world_size, "speed": speed, "busy": round(busy, 3)}


def sizes_of(params: Params, world_size: int) -> UnevenSizes:
    from bench.workloads.parallel.uneven_pipeline import UnevenSizes

    op, units, hidden = str(params["op"]), int(params["units"]), int(params["hidden"])
    common = {"hidden": hidden, "num_heads": int(params.get("num_heads", 1)), "sequence": int(params["sequence"])}
    if op == "data":
        return UnevenSizes(num_layers=int(params["num_layers"]), num_microbatches=units, **common)
    if op == "pipeline":
        return UnevenSizes(num_layers=units, num_microbatches=2 * world_size, **common)
    return UnevenSizes(
        num_layers=int(params["num_layers"]), num_microbatches=1, ffn_blocks=units, ffn_hidden=4 * hidden, **common
    )


def _skip_reason(params: Params, world_size: int) -> str | None:
    if world_size == 1:
        return "one rank: nothing to mix"
    small = too_small(params, "hidden", "sequence", "units", "num_layers", "num_heads")
    if small:
        return small
    units, hidden = int(params["units"]), int(params["hidden"])
    if units < world_size:
        return f"units={units} are fewer than the {world_size} ranks"
    if params["op"] == "tensor" and 4 * hidden % units:
        return f"units={units} do not divide the {4 * hidden} columns of the MLP"
    if params["op"] != "tensor" and hidden % int(params["num_heads"]):
        return f"num_heads={params['num_heads']} does not divide hidden={hidden}"
    for name in ("speed", "busy"):
        if not 0 < float(params[name]) <= 1:
            return f"{name}={params[name]} does not lie between 0 and 1"
    return None


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip if there is nothing to mix, or the numbers do not fit."""
    skip_if(_skip_reason(params, rank.world_size))
    from bench.workloads.model.numerics import worst
    from bench.workloads.model.timed_results import nothing

    op, sizes, mix = str(params["op"]), sizes_of(params, rank.world_size), make_mix(params, rank)
    steps, speed, dealt = _steps(op, int(params["units"]), sizes, mix, rank)
    looks = {name: look for name, step in steps.items() if (look := step.looks()) is not None}
    paces = {"even": mix.mixed_pace, "balanced": mix.mixed_pace, "uniform": mix.uniform_pace}

    def reset() -> None:
        for step in steps.values():
            step.clear()

    return Work(
        variants={name: _paced(rank, steps[name].run, paces[name]) for name in VARIANTS},
        check=lambda: worst(
            [step.check(looks[name].learn if name in looks else nothing) for name, step in steps.items()]
        ),
        timed_checks={name: look.timed_check for name, look in looks.items()},
        clock="host",
        reset=reset,
        flops=_flops(op, sizes),
        flops_dtype="float32",
        tokens=sizes.num_microbatches * sizes.sequence,
        traced_calls=TRACED_CALLS,
        traced_variants=VARIANTS,
        derive=partial(derived, dealt=dealt),
        per_rank=lambda: {"speed": speed},
        tables=partial(tables, dealt=dealt),
        notes=mix.notes,
    )


def _steps(
    op: str, units: int, sizes: UnevenSizes, mix: Mix, rank: RankContext
) -> tuple[dict[str, UnevenStep], float, Dealt]:
    """The three variants' steps, this rank's measured speed, and how the work is dealt out."""
    from bench.workloads.parallel.relative_speed import relative_speeds
    from bench.workloads.parallel.uneven_pipeline import STEPS, Team

    step = STEPS[op]
    teams = {ranks: Team(ranks, *_groups(ranks, rank)) for ranks in dict.fromkeys((mix.mixed, mix.uniform))}
    mixed: Team = teams[mix.mixed]
    even_shares = work_split.even(units, len(mix.mixed))
    even = step(sizes, even_shares, mixed, rank)
    with rank.at_pace(mix.mixed_pace):
        measured = relative_speeds(rank, even.run, even.clear)
    # Where shares are unequal by one, the one with more has more to compute and is no slower for it.
    speeds = [measured[index] * share for index, share in zip(mix.mixed, even_shares, strict=True)]
    speeds = [speed / max(speeds) for speed in speeds]
    uniform = step(sizes, even_shares, teams[mix.uniform], rank)
    with rank.at_pace(mix.uniform_pace):
        fixed = _fixed(op, rank, uniform, sizes, teams[mix.uniform], even_shares)
    balanced_shares = work_split.balanced(units, speeds, fixed_units=_in_units(fixed, even_shares))
    steps = {"even": even, "balanced": step(sizes, balanced_shares, mixed, rank), "uniform": uniform}
    dealt = Dealt(op, mix.uniform, even_shares, balanced_shares, tuple(speeds), fixed)
    return steps, measured[rank.index], dealt


def _fixed(
    op: str, rank: RankContext, uniform: UnevenStep, sizes: UnevenSizes, team: Team, even: tuple[int, ...]
) -> dict[str, float]:
    """Fraction of each kind of computation that any share costs. Whole microbatches have nothing of the kind."""
    from bench.workloads.parallel.relative_speed import fixed_fractions, skew_shares
    from bench.workloads.parallel.uneven_pipeline import STEPS

    if op == "data":
        return {}
    others, place = skew_shares(even), team.index(rank)
    other = STEPS[op](sizes, others, team, rank)
    ratio = None if place is None else others[place] / even[place]
    return fixed_fractions(rank, (uniform.run, uniform.clear), (other.run, other.clear), ratio)


def _in_units(fixed: Mapping[str, float], even: tuple[int, ...]) -> float:
    """The mean over the kinds of the fixed fractions, in units of the work."""
    mean = fmean(fixed.values()) if fixed else 0.0
    return mean / (1.0 - mean) * fmean(even)


def _groups(ranks: tuple[int, ...], rank: RankContext) -> tuple[Any, Any]:
    subgroup = rank.subgroup(ranks)
    return (rank.group if len(ranks) == rank.world_size else subgroup), subgroup


def _paced(rank: RankContext, run: Callable[[], object], pace: RankSpeed | None) -> Callable[[], object]:
    def call() -> None:
        with rank.at_pace(pace):
            run()

    return call


def _flops(op: str, sizes: UnevenSizes) -> float:
    """Model FLOPs of the whole step, forward and backward."""
    tokens, factor = sizes.num_microbatches * sizes.sequence, flops.PER_FORWARD["forward_backward"]
    if op == "tensor":
        return sizes.num_layers * factor * 2.0 * tokens * 2 * sizes.hidden * sizes.ffn_hidden
    layer = flops.layer_forward(sizes.num_microbatches, sizes.sequence, sizes.hidden, 4 * sizes.hidden)
    return sizes.num_layers * layer * factor


@dataclass(frozen=True)
class Dealt:
    """Work as it was dealt out, for what is derived from the measurement."""

    op: str
    uniform: tuple[int, ...]
    even: tuple[int, ...]
    balanced: tuple[int, ...]
    speeds: tuple[float, ...]
    fixed: Mapping[str, float]

    def dealing(self, split: tuple[int, ...]) -> heterogeneous_step.Dealing:
        return heterogeneous_step.Dealing(split, self.speeds, self.fixed)


def derived(observed: Observed, *, dealt: Dealt) -> Mapping[str, float | None]:
    even, balanced, uniform = (observed.seconds[name] for name in VARIANTS)
    calls = _uniform_calls(observed, dealt)

    def seconds(times: float | None) -> float | None:
        return None if times is None else times * uniform

    predicted_even = seconds(heterogeneous_step.predicted(dealt.op, calls, dealt.dealing(dealt.even)))
    predicted_balanced = seconds(heterogeneous_step.predicted(dealt.op, calls, dealt.dealing(dealt.balanced)))
    return {
        "uniform_seconds": uniform,
        "balanced_seconds": balanced,
        "bound_seconds": seconds(heterogeneous_step.predicted_bound(calls, dealt.speeds)),
        "mixing_penalty": even / uniform - 1.0,
        "won_back": (even - balanced) / (even - uniform) if even > uniform else None,
        "predicted_even_seconds": predicted_even,
        "predicted_balanced_seconds": predicted_balanced,
        "even_prediction_error": _error(predicted_even, even),
        "balanced_prediction_error": _error(predicted_balanced, balanced),
        "slowest_speed": min(dealt.speeds),
    }


def _error(predicted: float | None, measured: float) -> float | None:
    return None if predicted is None else predicted / measured - 1.0


def _uniform_calls(observed: Observed, dealt: Dealt) -> list[heterogeneous_step.Uniform]:
    calls = [call for call, name in enumerate(observed.traced_variants) if name == "uniform"]
    return heterogeneous_step.uniform_calls(observed.spans, observed.traced_call_ns, calls, dealt.uniform, dealt.even)


def tables(observed: Observed, *, dealt: Dealt) -> Mapping[str, Table]:
    """The split, and each variant's time next to what was predicted of it."""
    facts = derived(observed, dealt=dealt)
    rows: list[tuple[Cell, ...]] = []
    for name, split in (("uniform", dealt.even), ("even", dealt.even), ("balanced", dealt.balanced)):
        predicted, measured = facts.get(f"predicted_{name}_seconds"), observed.seconds[name]
        off = _error(predicted, measured)
        rows.append(
            (name, " ".join(map(str, split)), 1e3 * measured, _ms(predicted), None if off is None else 100 * off)
        )
    rows.append(("bound", None, None, _ms(facts["bound_seconds"]), None))
    speeds = " ".join(f"{speed:.3f}" for speed in dealt.speeds)
    fixed = "".join(f"; {100 * share:.0f}% of {kind} whatever the share" for kind, share in dealt.fixed.items())
    return {
        "split": Table(
            ("variant", "units a rank", "measured ms", "predicted ms", "prediction off by %"),
            tuple(rows),
            f"{dealt.op}: speeds of the mixed ranks as measured: {speeds}{fixed}",
        )
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
