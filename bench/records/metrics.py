"""The table of metrics: what each number is, how it comes from the raw samples, and how people see it.

A new metric is one new row of `METRICS`: tables, reports, exports, comparisons and the page of metrics read it. A
suite's own metric becomes a row of the same kind (`suite_metric`). Every formula gets a `CaseView`, the samples of one
case in one or several launches (`bench.records.case_view`), and returns None if the case has no such number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from bench.core.values import show_quantity
from bench.records.case_names import split_id
from bench.records.case_view import LINK, CaseView, Ceiling
from bench.stats import intervals

TIME = "seconds_median"
"""The default metric."""
TIME_LOW, TIME_HIGH = "seconds_low", "seconds_high"
BUS_BANDWIDTH, MEMORY_BANDWIDTH, ALGORITHM_BANDWIDTH = "busbw_gb_per_s", "membw_gb_per_s", "algbw_gb_per_s"
COMPUTE_SPEED, PEAK_SHARE, CEILING_PERCENT = "tflop_per_s", "mfu", "percent_of_measured_ceiling"
TOKEN_SPEED, SPEEDUP, BUBBLE, IDLE = "tokens_per_s", "speedup", "bubble_theory", "idle_share"
"""Names of the metrics that are computed or drawn with elsewhere."""
ONE_DEVICE, COMPUTE_ONLY = "one_device", "compute_only"
"""Variants that metrics are derived from: the work on one device; the same local work, no communication."""
CEILING_SUITE, CEILING_OP = "compute", "matmul"
LINK_SUITE, LINK_OP, LINK_CEILING = "point_to_point", "one_way", "link_ceiling_gb_per_s"
SHORT_TYPES = ("bfloat16", "float16")
"""Have half the bytes of float32: if they are slower than it, the devices lack instructions for them."""
MIN_BEYOND = 3
"""Samples beyond a quantile of the tail, without which it is chance."""


MAIN_RATE, RATE, OWN = 1.5, 2.0, 3.0
"""Weights of columns (`bench.core.column_fit`): main rates of a suite, other rates, the suites' own metrics."""
TAIL = 6.0


@dataclass(frozen=True)
class Metric:
    """One row."""

    name: str
    unit: str
    better: str
    """`higher`, `lower` or `neither`."""
    head: str
    """Head of its column, without the unit, which is in the cells."""
    formula: Callable[[CaseView], float | None]
    over_ranks: str
    """Reduction of the ranks to one number."""
    meaning: str
    """One sentence."""
    weight: float | None = RATE
    """How soon its column gives way in a table that is too wide: the larger, the sooner; 0: never; None: it has no
    column, but is in CSV, JSON and frames."""
    headline: int = 0
    """Place from 1 in an order: the first that a case has is its headline besides the time; 0: it has no place."""

    def format(self, value: float | None, digits: int = 3) -> str:
        """Text of a value with its unit and the prefix that fits, such as `126 GFLOP/s`."""
        return show_quantity(value, self.unit, digits)

    def phrase(self, value: float) -> str:
        """Text of a value by itself: what `per` it is, too."""
        return f"{self.format(value)} per device" if self.is_per_device else self.format(value)

    @property
    def is_per_device(self) -> bool:
        """True if a value is that of one device while all work, and its unit does not say so."""
        return self.over_ranks in (_MEAN, _ONE_RANK) and self.unit != "%"


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _flop_per_s_per_device(view: CaseView) -> float | None:
    return _scale(view.rate(view.work.flops), 1 / view.num_ranks)


def _bus_bandwidth(view: CaseView) -> float | None:
    factor = view.work.bus_factor
    return None if factor is None else _scale(view.rate(view.work.bytes), factor * 1e-9)


def _flops_utilization(view: CaseView, flops: float | None) -> float | None:
    dtype = view.work.flops_dtype
    peak = view.peak_flops(dtype) if dtype else None
    return _scale(view.rate(flops), 1 / peak) if peak else None


def _percent_of_ceiling(view: CaseView) -> float | None:
    if view.ceiling is None:
        return None
    speed = _flop_per_s_per_device(view) if view.work.flops_dtype else _bus_bandwidth(view)
    return _scale(speed, 100 / view.ceiling.rate)


def _communication_share(view: CaseView) -> float | None:
    ratio = view.ratio(COMPUTE_ONLY)
    return None if ratio is None else 1 - ratio


def _skew(view: CaseView) -> float | None:
    """Median over samples of 1 - fastest rank / slowest rank, then over launches."""
    shares = [
        intervals.median(1 - launch.fastest[view.main] / launch.slowest[view.main])
        for launch in view.launches
        if view.main in launch.fastest and launch.slowest[view.main].all()
    ]
    return intervals.median(shares) if shares and view.num_ranks > 1 else None


def _joules_waiting(view: CaseView) -> float | None:
    joules = view.joules
    return None if joules is None or view.busy_share is None else joules * (1.0 - view.busy_share)


def _joules_for_gb(view: CaseView) -> float | None:
    """Joules per GB of the payload of a collective, else of the memory traffic of all ranks."""
    moved = view.joules_for(view.work.bytes)
    if moved is None:
        moved = _scale(view.joules_for(view.work.memory_traffic_bytes), 1 / view.num_ranks)
    return _scale(moved, 1e9)


def _tail(view: CaseView, share: float) -> float | None:
    """A quantile of all samples; None if fewer than MIN_BEYOND are expected beyond it."""
    samples = view.ordered_seconds
    if not view.medians or round(samples.size * (1 - share), 6) < MIN_BEYOND:
        return None
    return intervals.ordered_quantile(samples, share)


_MAX = "maximum, sample by sample"
_SUM = "sum over ranks of the work, over the maximum of the time"
_MEAN = "mean over ranks of the work, over the maximum of the time"
_ONE_RANK = "one rank's traffic, over the maximum of the time"
_PEAKS = "sum of the work over the sum of the ranks' peaks"

_ROWS = (
    Metric("seconds_median", "s", "lower", "time", lambda v: v.seconds, _MAX,
           "Time of one call: the median of the samples, of several launches the median of their medians.", weight=0),
    Metric("seconds_low", "s", "neither", "low", lambda v: v.interval.low if v.interval else None, _MAX,
           "Lower end of the 95% interval of the median; `interval` says if within or between launches.", weight=None),
    Metric("seconds_high", "s", "neither", "high", lambda v: v.interval.high if v.interval else None, _MAX,
           "Upper end of the 95% interval of the median; `interval` says if within or between launches.", weight=None),
    Metric("seconds_min", "s", "lower", "fastest", lambda v: float(v.ordered_seconds[0]) if v.medians else None, _MAX,
           "The fastest sample of all launches.", weight=None),
    Metric("seconds_max", "s", "lower", "slowest", lambda v: float(v.ordered_seconds[-1]) if v.medians else None, _MAX,
           "The slowest sample of all launches.", weight=None),
    Metric("algbw_gb_per_s", "GB/s", "higher", "algorithm bandwidth",
           lambda v: _scale(v.rate(v.work.bytes), 1e-9), _MAX,
           "Algorithm bandwidth: payload of the collective over its time (nccl-tests, doc/PERFORMANCE.md)."),
    Metric("busbw_gb_per_s", "GB/s", "higher", "bus bandwidth", _bus_bandwidth, _MAX,
           "Bus bandwidth: algorithm bandwidth x the operation's bus factor, to compare with a link's speed; "
           "reduction in the network may exceed it (nccl-tests, doc/PERFORMANCE.md).", weight=MAIN_RATE, headline=1),
    Metric("tflop_per_s", "TFLOP/s", "higher", "speed per device",
           lambda v: _scale(_flop_per_s_per_device(v), 1e-12), _MEAN,
           "Model FLOPs per second and device, from formulas; backward counts twice the forward.",
           weight=MAIN_RATE, headline=3),
    Metric("mfu", "share", "higher", "MFU", lambda v: _flops_utilization(v, v.work.flops), _PEAKS,
           "Model FLOP/s over the sum of the ranks' peak dense FLOP/s of that type, from the catalogue."),
    Metric("hfu", "share", "higher", "HFU", lambda v: _flops_utilization(v, v.work.hardware_flops), _PEAKS,
           "As mfu, with the FLOPs of what is recomputed; only if something is.", weight=None),
    Metric("percent_of_measured_ceiling", "%", "higher", "of ceiling", _percent_of_ceiling, _MEAN,
           "TFLOP/s per device over what the largest square matrix product of the compute suite sustained in the same "
           "file, of the same type and with all ranks at once. It is of one shape in every run, so that another may "
           "exceed 100. For communication: bus bandwidth over the link ceiling of the largest `one_way` message of the "
           "point_to_point suite there; `ceiling_source` names the case."),
    Metric("tokens_per_s", "tokens/s", "higher", "throughput", lambda v: v.rate(v.work.tokens), _SUM,
           "Tokens that all ranks together process in a second.", weight=MAIN_RATE, headline=2),
    Metric("tokens_per_s_per_device", "tokens/s", "higher", "throughput per device",
           lambda v: _scale(v.rate(v.work.tokens), 1 / v.num_ranks), _MEAN,
           "Tokens per second over the number of ranks.", weight=None),
    Metric("speedup", "x", "higher", "speed-up", lambda v: v.ratio(ONE_DEVICE), _MAX,
           "Time of the same work on one device over the time of the case."),
    Metric("communication_share", "share", "lower", "communication", _communication_share, _MAX,
           "1 - time of the same local work without communication / time of the case; below 0 is noise."),
    Metric("bubble_theory", "share", "lower", "bubble in theory",
           lambda v: v.suite_metric("bubble_theory"), "replay of all ranks",
           "Share of the step that the pipeline's order leaves idle: a replay with the measured durations."),
    Metric("idle_share", "share", "lower", "idle", lambda v: v.suite_metric("idle_share"), "mean over ranks",
           "Share of the step in which a device runs none of the pipeline's work, measured."),
    Metric("membw_gb_per_s", "GB/s", "higher", "memory bandwidth",
           lambda v: _scale(v.rate(v.work.memory_traffic_bytes), 1e-9),
           _ONE_RANK, "Bytes that a rank reads and writes of its own memory, over the time.", headline=4),
    Metric("copy_gb_per_s", "GB/s", "higher", "copy", lambda v: v.suite_metric("copy_gb_per_s"), _MAX,
           "Bandwidth of a copy between host memory, devices or NUMA nodes, per direction.", headline=5),
    Metric("skew", "share", "neither", "skew", _skew, "minimum against maximum, sample by sample",
           "1 - time of the first rank to finish / time of the last; the rank with the longest time is not "
           "the slow one if ranks wait for each other.", weight=None),
    Metric("joules", "J", "lower", "energy", lambda v: v.joules, "sum over ranks",
           "Energy of one call by the devices' own counters, over at least 2 s of calls; `energy_source` and "
           "`energy_scope` say what was read, `energy_reason` why there is none.", weight=None),
    Metric("joules_per_token", "J/token", "lower", "energy per token",
           lambda v: v.joules_for(v.work.tokens), "sum over ranks",
           "Energy of one call over the tokens that it processes.", weight=None),
    Metric("joules_per_gb", "J/GB", "lower", "energy per GB", _joules_for_gb, "sum over ranks",
           "Energy of one call over the GB that it moves: a collective's payload, or all ranks' memory traffic.",
           weight=None),
    Metric("joules_waiting", "J", "lower", "energy of waiting", _joules_waiting, "sum over ranks",
           "Share of a call in which ranks do no work of their own (from spans), of its energy: at mean power.",
           weight=None),
    Metric("idle_watts", "W", "neither", "idle power", lambda v: v.idle_watts, "sum over ranks",
           "Power of the devices without work, measured once per process over 2 s.", weight=None),
    Metric("seconds_p95", "s", "lower", "p95", lambda v: _tail(v, 0.95), _MAX,
           "95% of all samples of all launches took no longer; from 60 samples on, of which 3 lie beyond.",
           weight=TAIL),
    Metric("seconds_undisturbed", "s", "lower", "undisturbed", lambda v: v.undisturbed_seconds, _MAX,
           "Geometric mean of the faster half of a launch's samples, the median over the launches. A disturbed machine "
           "makes calls slower, so it varies less from launch to launch than the median.", None),
    Metric("seconds_p99", "s", "lower", "p99", lambda v: _tail(v, 0.99), _MAX,
           "99% of all samples of all launches took no longer; from 300 samples on, of which 3 lie beyond.",
           weight=TAIL),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def suite_metric(name: str, unit: str, better: str, meaning: str = "") -> Metric:
    """Row of a suite's own metric; the table's own row if the name is there."""
    return METRICS.get(name) or Metric(
        name, unit, better, _own_head(name, unit), lambda view: view.suite_metric(name), "the suite's own",
        meaning or "the suite's own; see its description", OWN,
    )  # fmt: skip


_UNIT_WORDS = {"s": "seconds", "B": "bytes"}
"""Unit -> the word for it at the end of a name; of any other it is the unit itself."""


def _own_head(name: str, unit: str) -> str:
    """A suite's own metric without its unit: `loader_gb_per_s` is headed `loader`."""
    words = name.replace("_", " ")
    return words.removesuffix(_UNIT_WORDS.get(unit, unit.lower().replace("/", " per "))).strip() or words


def headline(values: Mapping[str, float | None]) -> Metric | None:
    """The metric that a case is judged by besides its time, of its values by name."""
    return next((metric for metric in headline_metrics() if values.get(metric.name) is not None), None)


def headline_metrics() -> list[Metric]:
    """The metrics of which the first that a case has is its headline."""
    return sorted((metric for metric in METRICS.values() if metric.headline), key=lambda metric: metric.headline)


def values(view: CaseView) -> dict[str, float | None]:
    """Every metric of a case, in the table's order."""
    return {name: metric.formula(view) for name, metric in METRICS.items()}


def ceilings(views: Mapping[str, CaseView], slow_types: Collection[str] = ()) -> dict[str, Ceiling]:
    """Type, or LINK -> the case that sets it, from case id -> view; none of types without instructions.

    A type's is the largest square matrix multiplication of the compute suite, or the fastest if none is square. That of
    the links is what the pairs of the point_to_point suite let a ring of all ranks have of the largest message one way,
    or the most if none goes one way. Not simply the fastest: by noise that is another shape in every run, and shares of
    it cannot be compared with each other.
    """
    chosen: dict[str, tuple[tuple[float, ...], Ceiling]] = {}
    for case, view in views.items():
        key, rate, rank = _ceiling_rate(case, view)
        if rate and (key not in chosen or (*rank, rate) > chosen[key][0]):
            chosen[key] = (*rank, rate), Ceiling(rate, case)
    found = {key: ceiling for key, (_, ceiling) in chosen.items()}
    return {key: ceiling for key, ceiling in found.items() if not _is_false_ceiling(key, ceiling, found, slow_types)}


def _is_false_ceiling(key: str, ceiling: Ceiling, best: Mapping[str, Ceiling], slow_types: Collection[str]) -> bool:
    """True for a short type that the devices have no instructions for, as they tell or as float32 shows.

    Products that float32 does faster bound nothing: the best of them would be 100% of a ceiling that is none.
    """
    wide = best.get("float32")
    return key in slow_types or (key in SHORT_TYPES and wide is not None and ceiling.rate < wide.rate)


_SQUARE = {"shape", "size", "dtype"}
"""Parameters in the id of a plain square product, except for `shape` with another value."""


def _ceiling_rate(case: str, view: CaseView) -> tuple[str, float | None, tuple[float, ...]]:
    """Key of the ceiling that a case may set, its rate, and its rank among the candidates: the largest sets it."""
    suite, operation, params = split_id(case)
    if (suite, operation) == (CEILING_SUITE, CEILING_OP):
        is_square = params.keys() <= _SQUARE and params.get("shape", "square") == "square"
        rank = (1.0, float(view.work.flops or 0)) if is_square else (0.0, 0.0)
        return str(view.work.flops_dtype), _flop_per_s_per_device(view), rank
    if suite == LINK_SUITE:
        size = params.get("num_bytes", "")
        rank = (1.0, float(size)) if operation == LINK_OP and size.isdecimal() else (0.0, 0.0)
        return LINK, view.suite_metric(LINK_CEILING), rank
    return "", None, ()
