"""The metrics: what each number is, its unit, which way is better, and how it comes from the raw samples.

A new metric is one new row of `METRICS`. Every formula gets a `CaseView`, the samples of one case in one or
several launches, and returns None where the case has no such number. The *time* of a case is the maximum over
the ranks, sample by sample, since a collective or a step is over when its last rank is; divided by the calls
in a sample. Of several launches it is the median of the launches' medians.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from bench import statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

Better = Literal["higher", "lower", "neither"]
Record = dict[str, Any]

TIME = "seconds_median"
"""The metric that is meant where none is named."""
ONE_DEVICE, COMPUTE_ONLY = "one_device", "compute_only"
"""Variants that metrics are derived from: the work on one device; the same local work, no communication."""
CEILING_SUITE, CEILING_OP = "compute", "matmul"
LINK_SUITE, LINK_CEILING = "point_to_point", "link_ceiling_gb_per_s"
LINK = "link"
"""Key of the ceiling that collectives are held against, beside those of types."""
FEW_SAMPLES = 500
"""Up to so many of a launch, its median is faster had by hand than by numpy."""
MIN_BEYOND = 3
"""Samples beyond a quantile of the tail, without which it is chance."""


def _no_peak(_: str) -> float | None:
    return None


def _no_spread() -> None:
    return None


class Ceiling(NamedTuple):
    """What the devices, or the links between pairs of ranks, sustained in the same file."""

    rate: float
    """FLOP/s of one device, while all of them compute; GB/s in one direction of the median pair of ranks."""
    case: str


class Variant(NamedTuple):
    """Samples as a file has them; times are over the ranks, sample by sample."""

    slow: Sequence[Sequence[float]]
    """[rank][sample] whose maximum over the ranks is the time; one row where a file keeps only that."""
    fast: Sequence[Sequence[float]]
    """The same for the minimum."""
    scale: float
    """What a sample is divided by to give the seconds of one call."""
    over_ranks: bool
    """Whether there are no rows of single ranks, so that the fastest is not known."""

    def slowest(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.asarray(self.slow, dtype=float).max(axis=0) / self.scale
        return found

    def fastest(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.asarray(self.fast, dtype=float).min(axis=0) / self.scale
        return found

    def median(self) -> float:
        """Of the slowest. By hand for few samples, where making an array of them takes the most time."""
        if len(self.slow) * len(self.slow[0]) > FEW_SAMPLES:
            return statistics.median(self.slowest())
        ordered: list[float] = sorted(self.slow[0] if len(self.slow) == 1 else map(max, *self.slow))
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle] / self.scale
        return (ordered[middle - 1] / self.scale + ordered[middle] / self.scale) / 2


@dataclass(frozen=True)
class LaunchTimes:
    """Seconds of one call in one launch; over the ranks the slowest and the fastest.

    Read when they are asked for: a comparison of thousands of cases needs the medians alone.
    """

    launch: int
    variants: Mapping[str, Variant]

    @cached_property
    def slowest(self) -> dict[str, NDArray[np.float64]]:
        """Variant -> [sample]."""
        return {name: variant.slowest() for name, variant in self.variants.items()}

    @cached_property
    def fastest(self) -> dict[str, NDArray[np.float64]]:
        """Variant -> [sample]; without variants that have no rows of single ranks."""
        return {name: variant.fastest() for name, variant in self.variants.items() if not variant.over_ranks}

    @cached_property
    def medians(self) -> dict[str, float]:
        return {name: variant.median() for name, variant in self.variants.items()}


@dataclass(frozen=True)
class CaseView:
    """One case as formulas see it. A case that is not ok has no launches, and so no number."""

    main: str
    """The variant that is the case itself."""
    num_ranks: int
    launches: tuple[LaunchTimes, ...]
    work: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The suite's own metrics: the known values, one a launch."""
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    """Type -> what the devices sustained; LINK -> what pairs of ranks did."""
    spread: Callable[[], tuple[float, float] | None] = _no_spread
    """Variance of the logarithm of a launch's median, and its degrees of freedom, as the like cases of the file tell;
    None: they do not."""
    energies: tuple[Mapping[str, Any], ...] = ()
    """The launches' `energy`, of those that have a figure."""
    busy_share: float | None = None
    """Of a call, for which a rank does its own work; mean over the ranks, from spans."""
    peak_flops: Callable[[str], float | None] = _no_peak
    """Type -> sum over the ranks of the peak dense FLOP/s."""

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """Each launch's median time, in seconds."""
        return tuple(launch.medians[self.main] for launch in self.launches if self.main in launch.medians)

    @cached_property
    def seconds(self) -> float | None:
        return statistics.median(self.medians) if self.medians else None

    @cached_property
    def all_seconds(self) -> NDArray[np.float64]:
        """Every sample of every launch."""
        parts = [launch.slowest[self.main] for launch in self.launches if self.main in launch.slowest]
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def interval(self) -> statistics.Interval | None:
        """95%: of the median within the only launch, or between launches (t, logarithms of their medians).

        Three launches that happen to agree do not make a case sure: their variance is taken to be no less than what
        like cases suggest (`bench.moderation`), and runs to differ by more than their launches.
        """
        if len(self.medians) > 1:
            return statistics.log_t_interval(self.medians, spread=self.spread())
        return statistics.median_interval(self.all_seconds) if self.medians else None

    @property
    def interval_kind(self) -> str | None:
        if self.interval is None:
            return None
        return "between_launches" if len(self.medians) > 1 else "within_launch"

    def rate(self, quantity: str) -> float | None:
        """A quantity of the work per second of the case's time."""
        amount = self.work.get(quantity)
        return None if amount is None or not self.seconds else float(amount) / self.seconds

    def ratio(self, variant: str) -> float | None:
        """Time of a variant over the time of the case: the median of the launches' ratios, like with like."""
        ratios = [
            launch.medians[variant] / launch.medians[self.main]
            for launch in self.launches
            if variant in launch.medians and launch.medians.get(self.main)
        ]
        return statistics.median(ratios) if ratios else None

    def own(self, name: str) -> float | None:
        """A metric that the suite derived: the median of the launches that know it."""
        values = self.derived.get(name, ())
        return statistics.median(values) if values and self.launches else None

    def of_energy(self, name: str) -> float | None:
        """A figure of the launches' energy: the median of those that know it."""
        values = [float(each[name]) for each in self.energies if each.get(name) is not None]
        return statistics.median(values) if values else None

    def joules_for(self, quantity: str) -> float | None:
        """Joules for one unit of a quantity of the work."""
        amount, joules = self.work.get(quantity), self.of_energy("joules")
        return None if not amount or joules is None else joules / float(amount)

    @property
    def ceiling(self) -> Ceiling | None:
        """Of the type that it computes in; of the links where it is communication."""
        dtype = self.work.get("flops_dtype")
        return self.ceilings.get(str(dtype)) if dtype else self.ceilings.get(LINK)


@dataclass(frozen=True)
class Metric:
    """One row."""

    name: str
    unit: str
    better: Better
    formula: Callable[[CaseView], float | None]
    over_ranks: str
    """How the ranks are reduced to one number."""
    meaning: str


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _flop_per_s_per_device(view: CaseView) -> float | None:
    return _scaled(view.rate("flops"), 1 / view.num_ranks)


def _bus_bandwidth(view: CaseView) -> float | None:
    factor = view.work.get("bus_factor")
    return None if factor is None else _scaled(view.rate("bytes"), factor * 1e-9)


def _mfu(view: CaseView) -> float | None:
    dtype = view.work.get("flops_dtype")
    peak = view.peak_flops(dtype) if dtype else None
    return _scaled(view.rate("flops"), 1 / peak) if peak else None


def _hfu(view: CaseView) -> float | None:
    dtype = view.work.get("flops_dtype")
    peak = view.peak_flops(dtype) if dtype else None
    return _scaled(view.rate("hardware_flops"), 1 / peak) if peak else None


def _percent_of_ceiling(view: CaseView) -> float | None:
    if view.ceiling is None:
        return None
    speed = _flop_per_s_per_device(view) if view.work.get("flops_dtype") else _bus_bandwidth(view)
    return _scaled(speed, 100 / view.ceiling.rate)


def _communication_share(view: CaseView) -> float | None:
    ratio = view.ratio(COMPUTE_ONLY)
    return None if ratio is None else 1 - ratio


def _skew(view: CaseView) -> float | None:
    """Median over samples of 1 - fastest rank / slowest rank, then over launches."""
    shares = [
        statistics.median(1 - launch.fastest[view.main] / launch.slowest[view.main])
        for launch in view.launches
        if view.main in launch.fastest and launch.slowest[view.main].all()
    ]
    return statistics.median(shares) if shares and view.num_ranks > 1 else None


def _joules_waiting(view: CaseView) -> float | None:
    joules = view.of_energy("joules")
    return None if joules is None or view.busy_share is None else joules * (1.0 - view.busy_share)


def _joules_for_gb(view: CaseView) -> float | None:
    """Of the payload of a collective, else of the memory traffic of all ranks."""
    moved = view.joules_for("bytes")
    if moved is None:
        moved = _scaled(view.joules_for("memory_traffic_bytes"), 1 / view.num_ranks)
    return _scaled(moved, 1e9)


def _tail(view: CaseView, share: float) -> float | None:
    """A quantile of all samples; None where fewer than MIN_BEYOND are expected beyond it."""
    samples = view.all_seconds
    if not view.medians or round(samples.size * (1 - share), 6) < MIN_BEYOND:
        return None
    return statistics.quantiles(samples, (share,))[0]


_MAX = "maximum, sample by sample"
_SUM = "sum over ranks of the work, over the maximum of the time"
_MEAN = "mean over ranks of the work, over the maximum of the time"

_ROWS = (
    Metric("seconds_median", "s", "lower", lambda v: v.seconds, _MAX,
           "Time of one call: the median of the samples, of several launches the median of their medians."),
    Metric("seconds_low", "s", "neither", lambda v: v.interval.low if v.interval else None, _MAX,
           "Lower end of the 95% interval of the median; `interval` says if within or between launches."),
    Metric("seconds_high", "s", "neither", lambda v: v.interval.high if v.interval else None, _MAX,
           "Upper end of the 95% interval of the median; `interval` says if within or between launches."),
    Metric("seconds_min", "s", "lower", lambda v: float(v.all_seconds.min()) if v.medians else None, _MAX,
           "The fastest sample of all launches."),
    Metric("seconds_max", "s", "lower", lambda v: float(v.all_seconds.max()) if v.medians else None, _MAX,
           "The slowest sample of all launches."),
    Metric("algbw_gb_per_s", "GB/s", "higher", lambda v: _scaled(v.rate("bytes"), 1e-9), _MAX,
           "Algorithm bandwidth: payload of the collective over its time (nccl-tests, doc/PERFORMANCE.md)."),
    Metric("busbw_gb_per_s", "GB/s", "higher", _bus_bandwidth, _MAX,
           "Bus bandwidth: algorithm bandwidth x the operation's bus factor, to hold against a link's speed; "
           "reduction in the network may exceed it (nccl-tests, doc/PERFORMANCE.md)."),
    Metric("tflop_per_s", "TFLOP/s", "higher", lambda v: _scaled(_flop_per_s_per_device(v), 1e-12), _MEAN,
           "Model FLOPs per second and device, from formulas; backward counts twice the forward."),
    Metric("mfu", "share", "higher", _mfu, "sum of the work over the sum of the ranks' peaks",
           "Model FLOP/s over the sum of the ranks' peak dense FLOP/s of that type, from the catalogue."),
    Metric("hfu", "share", "higher", _hfu, "sum of the work over the sum of the ranks' peaks",
           "As mfu, with the FLOPs of what is recomputed; only where something is."),
    Metric("percent_of_measured_ceiling", "%", "higher", _percent_of_ceiling, _MEAN,
           "TFLOP/s per device over the best that the compute suite's matrix multiplications sustained in "
           "the same file, of the same type and with all ranks at once; for communication, bus bandwidth over the "
           "best link ceiling of the point_to_point suite there; `ceiling_source` names the case."),
    Metric("tokens_per_s", "tokens/s", "higher", lambda v: v.rate("tokens"), _SUM,
           "Tokens that all ranks together process in a second."),
    Metric("tokens_per_s_per_device", "tokens/s", "higher",
           lambda v: _scaled(v.rate("tokens"), 1 / v.num_ranks), _MEAN,
           "Tokens per second over the number of ranks."),
    Metric("speedup", "x", "higher", lambda v: v.ratio(ONE_DEVICE), _MAX,
           "Time of the same work on one device over the time of the case."),
    Metric("communication_share", "share", "lower", _communication_share, _MAX,
           "1 - time of the same local work without communication / time of the case; below 0 is noise."),
    Metric("bubble_theory", "share", "lower", lambda v: v.own("bubble_theory"), "replay of all ranks",
           "Share of the step that the pipeline's order leaves idle: a replay with the measured durations."),
    Metric("idle_share", "share", "lower", lambda v: v.own("idle_share"), "mean over ranks",
           "Share of the step in which a device runs none of the pipeline's work, measured."),
    Metric("membw_gb_per_s", "GB/s", "higher", lambda v: _scaled(v.rate("memory_traffic_bytes"), 1e-9),
           "one rank's traffic, over the maximum of the time",
           "Bytes that a rank reads and writes of its own memory, over the time."),
    Metric("skew", "share", "neither", _skew, "minimum against maximum, sample by sample",
           "1 - time of the first rank to finish / time of the last; the rank with the longest time is not "
           "the slow one where ranks wait for each other."),
    Metric("joules", "J", "lower", lambda v: v.of_energy("joules"), "sum over ranks",
           "Energy of one call by the devices' own counters, over at least 2 s of calls; `energy_source` and "
           "`energy_scope` say what was read, `energy_reason` why there is none."),
    Metric("joules_per_token", "J/token", "lower", lambda v: v.joules_for("tokens"), "sum over ranks",
           "Energy of one call over the tokens that it processes."),
    Metric("joules_per_gb", "J/GB", "lower", _joules_for_gb, "sum over ranks",
           "Energy of one call over the GB that it moves: a collective's payload, or all ranks' memory traffic."),
    Metric("joules_waiting", "J", "lower", _joules_waiting, "sum over ranks",
           "Share of a call in which ranks do no work of their own (from spans), of its energy: at mean power."),
    Metric("idle_watts", "W", "neither", lambda v: v.of_energy("idle_watts"), "sum over ranks",
           "Power of the devices without work, measured once a process over 2 s."),
    Metric("seconds_p95", "s", "lower", lambda v: _tail(v, 0.95), _MAX,
           "95% of all samples of all launches took no longer; from 60 samples on, of which 3 lie beyond."),
    Metric("seconds_p99", "s", "lower", lambda v: _tail(v, 0.99), _MAX,
           "99% of all samples of all launches took no longer; from 300 samples on, of which 3 lie beyond."),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def values(view: CaseView) -> dict[str, float | None]:
    """Every metric of a case, in the table's order."""
    return {name: metric.formula(view) for name, metric in METRICS.items()}


def launch_times(record: Record) -> LaunchTimes:
    """Times of a measurement that `bench.result.load` accepted; a variant without a sample is left out."""
    found = {}
    for name, variant in record["variants"].items():
        scale, over_ranks = 1e9 * variant["calls"], is_over_ranks(record, variant)
        rows = variant.get("nanoseconds")
        if rows is None:
            kept = variant["per_iteration"]
            read = Variant([kept["max"]], [kept["min"]], scale, over_ranks)
        else:
            read = Variant(rows, rows, scale, over_ranks)
        if read.slow and len(read.slow[0]):
            found[name] = read
    return LaunchTimes(record["launch"], found)


def rank_times(variant: Record) -> list[tuple[int, tuple[float, float, float]]]:
    """Of every rank the number of samples and the median, fastest and slowest seconds of one call."""
    scale = 1e9 * variant["calls"]
    if "nanoseconds" in variant:
        samples = np.asarray(variant["nanoseconds"], dtype=float) / scale
        stats = np.stack([np.median(samples, axis=1), samples.min(axis=1), samples.max(axis=1)], axis=1)
        return [(samples.shape[1], (row[0], row[1], row[2])) for row in stats.tolist()]
    count = len(variant["per_iteration"]["max"])
    kept = variant.get("rank_quantiles") or {"q": [], "nanoseconds": []}
    at = {q: column for column, q in enumerate(kept["q"])}
    middle, low, high = (at.get(q) for q in (0.5, 0, 1))
    if middle is None or low is None or high is None:
        return []
    return [(count, (row[middle] / scale, row[low] / scale, row[high] / scale)) for row in kept["nanoseconds"]]


def is_over_ranks(record: Record, variant: Record) -> bool:
    """Whether a variant has no rows of single ranks, but one over them all, as imported results do."""
    rows = variant.get("nanoseconds")
    return rows is not None and len(rows) < int(record.get("num_ranks") or 1)


def ceilings(views: Mapping[str, CaseView]) -> dict[str, Ceiling]:
    """Type, or LINK -> the best of what sets it, from case id -> view.

    A type's is the fastest matrix multiplication of the compute suite. That of the links is the most that the pairs of
    the point_to_point suite let a ring of all ranks have, in one direction, whatever the size and whether one way or
    both: a ceiling is an upper bound.
    """
    best: dict[str, Ceiling] = {}
    for case, view in views.items():
        key, rate = _sets_ceiling(case, view)
        if rate and (key not in best or rate > best[key].rate):
            best[key] = Ceiling(rate, case)
    return best


def _sets_ceiling(case: str, view: CaseView) -> tuple[str, float | None]:
    head = case.partition("[")[0]
    if head == f"{CEILING_SUITE}/{CEILING_OP}":
        return str(view.work.get("flops_dtype")), _flop_per_s_per_device(view)
    if head.startswith(f"{LINK_SUITE}/"):
        return LINK, view.own(LINK_CEILING)
    return "", None
