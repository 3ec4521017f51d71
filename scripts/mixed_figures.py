"""Figures of the page on mixed and uniform clusters: each with its interval, from the catalogue, the saved results and
the product's own prediction.

`scripts/write_mixed_page.py` makes the text of them.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "evidence"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mixed_report
import predict_step

from bench.catalog import published
from bench.catalog.accelerators import named
from bench.parallelism.layout import Job
from bench.parallelism.shapes import find_model
from bench.predict import answer
from bench.predict.cost import prices
from bench.predict.mix import plans
from bench.predict.mix.plans import EVEN_SHARE, DeviceKind, Speed
from bench.predict.mix.sources import read_kinds
from bench.predict.model import fleet as fleets
from bench.predict.model.fleet import FleetPart, FleetPrediction
from bench.predict.model.prediction import TrainingStrategy
from bench.predict.rates import device as hardware
from bench.predict.rates.constants import frozen
from bench.predict.search import search
from bench.records.file import load_many
from bench.records.metrics import TIME_HIGH, TIME_LOW
from bench.records.rows import case_rows

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = "Colossus 1"
H100, H200, GB200 = "H100-SXM-80GB", "H200-SXM-141GB", "GB200-SXM (per GPU of NVL72)"
STAND_IN = "B200-SXM-180GB"
"""Priced in place of the GB200 by sources that have no price of it."""
MODEL, BATCH, PRECISION, STACK, NIC_GBIT = "llama3-405b", 16384, "bf16", "megatron-core", 400.0
"""The job: the largest dense model of the catalogue, eight times Llama 3's own batch, so that each of 230,000
accelerators has work; one NIC rate for all, since the mix's network is not published."""
KEPT_SPLITS = 40
GPU = ROOT / "results" / "gpu"
COPY = "compute/copy[num_bytes=4294967296]"
UNIT = "relative to an H100"
GRID = 8
"""Steps of an interval."""


@dataclass(frozen=True)
class Range:
    """A figure with the ends of its interval."""

    value: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Range:
        return Range(self.value * factor, self.low * factor, self.high * factor)


def over(ranges: Sequence[Range], of: Callable[..., float]) -> Range:
    """A function of figures, with the lowest and highest of it over a grid of their intervals.

    The ends alone would not do: a loss is lowest between them if one is slower and one faster than the other kind.
    """
    value = of(*(each.value for each in ranges))
    found = [value, *(of(*point) for point in itertools.product(*map(_grid, ranges)))]
    return Range(value, min(found), max(found))


def _grid(each: Range) -> list[float]:
    if each.low == each.high:
        return [each.value]
    return [each.low + (each.high - each.low) * n / GRID for n in range(GRID + 1)]


@dataclass(frozen=True)
class Loss:
    """Shares of the parts' summed rate that one job over all of them loses: in lockstep, and balanced."""

    lockstep: Range
    balanced: Range


@dataclass(frozen=True)
class Cost:
    """Prices of one source."""

    source: str
    recorded: str
    usd: dict[str, float]
    stands_in: bool
    per_hour: bool

    def of(self, counts: dict[str, int]) -> float:
        return sum(self.usd[name] * count for name, count in counts.items())


def counts() -> dict[str, int]:
    return {part.accelerator: part.count for part in published.cluster(CLUSTER)}


@functools.cache
def costs() -> list[Cost]:
    """Every source that has prices of both Hopper kinds and of a Blackwell one; first those that have the GB200's."""
    groups: dict[tuple[str, str], dict[str, prices.DevicePrice]] = {}
    for row in prices.prices():
        if row.kind != "spot":
            own = groups.setdefault((row.provider, row.kind), {})
            own.setdefault(row.accelerator, row)
    found = []
    for (provider, kind), rows in groups.items():
        blackwell = rows.get(GB200) or rows.get(STAND_IN)
        if blackwell is not None and {H100, H200} <= rows.keys():
            usd = {H100: rows[H100].usd, H200: rows[H200].usd, GB200: blackwell.usd}
            found.append(Cost(provider, blackwell.recorded, usd, GB200 not in rows, kind == "on_demand"))
    return sorted(found, key=lambda cost: (cost.stands_in, cost.source))


def equal_cost(accelerator: str) -> Range:
    """Accelerators of one kind that cost as much as the mix; the ends are of the other sources of prices."""
    numbers = [cost.of(counts()) / cost.usd[accelerator] for cost in costs()]
    return Range(numbers[0], min(numbers), max(numbers))


def watts(name: str, whole_node: bool) -> float:
    """Power of an accelerator with its share of the node, or alone."""
    return 1000.0 * published.nodes()[name].kw_per_accelerator if whole_node else named(name).power_watts or math.nan


def mix_watts(whole_node: bool) -> float:
    return sum(watts(name, whole_node) * count for name, count in counts().items())


def equal_power(accelerator: str) -> Range:
    """With whole nodes; an end is that of the accelerators alone."""
    numbers = [mix_watts(whole) / watts(accelerator, whole) for whole in (True, False)]
    return Range(numbers[0], min(numbers), max(numbers))


class Predicted:
    """Rates of the mix, its parts and uniform clusters by `bench.predict`, in tokens per second."""

    def __init__(self) -> None:
        constants = frozen()
        self.error_share = constants.error_share
        self.job = Job(find_model(MODEL), BATCH, PRECISION)
        self._make = answer.predictor_maker(constants, STACK)
        latencies = (constants.common.inside_latency_seconds, constants.common.across_latency_seconds)
        self._devices = {n: hardware.find(n, nic_gbit=NIC_GBIT, latencies=latencies) for n in counts()}
        self._splits = self._search()
        self._found: dict[tuple[tuple[tuple[str, int], ...], str], FleetPrediction] = {}
        self.even, self.balanced = (self.best(counts(), mode) for mode in fleets.MODES)
        self.alone = {name: self.best({name: number}) for name, number in counts().items()}
        self.separate = sum(one.tokens_per_s for one in self.alone.values())

    def _search(self) -> list[TrainingStrategy]:
        """The fastest splits of each kind with its share of the batch, tensor parallelism within a node."""
        splits: dict[TrainingStrategy, None] = {}
        for name, number in counts().items():
            found = search(self._make(self._devices[name], self._share(number)), number, None, KEPT_SPLITS, coarse=True)
            splits |= dict.fromkeys(prediction.strategy for prediction in found.best)
        return [split for split in splits if split.tp <= hardware.DOMAIN_SIZE]

    def _share(self, number: int) -> Job:
        return replace(self.job, global_batch=max(1, round(self.job.global_batch * number / sum(counts().values()))))

    def best(self, members: dict[str, int], mode: str = "even") -> FleetPrediction:
        """The fastest of the splits; a part of the mix has its share of the batch, any other cluster all of it."""
        key = tuple(members.items()), mode
        if key not in self._found:
            self._found[key] = self._best(members, mode)
        return self._found[key]

    def _best(self, members: dict[str, int], mode: str) -> FleetPrediction:
        parts = [FleetPart(self._devices[name], number) for name, number in members.items()]
        is_part = len(members) == 1 and members.items() <= counts().items()
        job = self._share(sum(members.values())) if is_part else self.job
        tried = [fleets.predict(self._make, job, parts, split, mode) for split in self._splits]
        return max((one for one in tried if one.fits), key=lambda one: one.tokens_per_s)

    def speed(self, name: str) -> float:
        """Tokens per second of one accelerator of the part that is alone."""
        return self.alone[name].tokens_per_s / counts()[name]

    @property
    def gb200_factor(self) -> Range:
        """95% interval of a ratio of two predictions, as a factor; taken as if their errors had nothing in common."""
        wide = math.exp(1.96 * math.sqrt(2.0) * self.error_share)
        return Range(1.0, 1.0 / wide, wide)

    def separate_at(self, factor: float) -> float:
        """Sum of the parts if the GB200 is so many times as fast as predicted."""
        return self.separate + (factor - 1.0) * self.alone[GB200].tokens_per_s

    def separate_gain(self) -> Range:
        return over([self.gb200_factor], lambda factor: self.separate_at(factor) / self.even.tokens_per_s)

    def balanced_gain(self) -> Range:
        return self.separate_gain() * (self.balanced.tokens_per_s / self.separate)

    def without(self, serving: str) -> Range:
        """Parts that train by themselves while one serves, over the mix in lockstep."""
        kept = self.alone[serving].tokens_per_s
        return over([self.gb200_factor], lambda factor: (self.separate_at(factor) - kept) / self.even.tokens_per_s)

    def interval(self, tokens_per_s: float) -> Range:
        """95% interval of one prediction, from its error on published runs that nothing was fitted to."""
        wide = math.exp(1.96 * self.error_share)
        return Range(tokens_per_s, tokens_per_s / wide, tokens_per_s * wide)

    def uniform(self, number: Range) -> float:
        """Tokens per second of one GB200 in a uniform cluster of so many."""
        return self.best({GB200: round(number.value)}).tokens_per_s / round(number.value)

    def over_mix(self, number: Range) -> tuple[Range, Range, Range]:
        """Uniform GB200 over the mix in lockstep, balanced, and its parts separately."""
        each, given = self.uniform(number), [number, self.gb200_factor]
        balanced_share = self.balanced.tokens_per_s / self.separate
        return (
            over(given, lambda n, factor: each * n * factor / self.even.tokens_per_s),
            over(given, lambda n, factor: each * n * factor / (self.separate_at(factor) * balanced_share)),
            over(given, lambda n, factor: each * n * factor / self.separate_at(factor)),
        )

    def uniform_h100(self) -> Range:
        """Uniform H100 of equal cost over the mix in lockstep; the same accelerator sets the pace of both."""
        number = equal_cost(H100)
        rate = self.best({H100: round(number.value)}).tokens_per_s / number.value
        return number * (rate / self.even.tokens_per_s)


def loss(ranges: dict[str, Range], parallelism: str) -> Loss:
    """By the rule of `bench mix`, from the kinds' speeds."""

    def at(index: int) -> Callable[..., float]:
        def share(*values: float) -> float:
            kinds = [
                DeviceKind(name, counts()[name], {UNIT: {"": Speed(value)}})
                for name, value in zip(ranges, values, strict=True)
            ]
            one = plans.mixed(kinds, UNIT, parallelism=parallelism)
            plan = (one.even, one.balanced)[index]
            assert plan is not None
            assert one.bound is not None
            return 1.0 - plan.rate / one.bound

        return share

    return Loss(over(list(ranges.values()), at(0)), over(list(ranges.values()), at(1)))


@functools.cache
def measured_steps() -> dict[str, Range]:
    """Configuration -> speed of the H200 over the H100's: whole training steps on two real cards."""
    parts = [f"{GPU / card / f'{card}-steps.jsonl'}=1" for card in ("h100", "h200")]
    first, second = (kind.speeds for kind in read_kinds(parts, ()))
    (workload,) = (name for name in first if name.startswith("training_step"))
    return {name: _ratio(second[workload][name], speed) for name, speed in first[workload].items()}


def _ratio(over_speed: Speed, speed: Speed) -> Range:
    assert None not in (speed.low, speed.high, over_speed.low, over_speed.high)
    value = over_speed.value / speed.value
    return Range(value, (over_speed.low or 0.0) / (speed.high or 1.0), (over_speed.high or 0.0) / (speed.low or 1.0))


@functools.cache
def copies() -> dict[str, Range]:
    """GB/s of a copy of 4 GiB on the two cards."""
    found = {}
    for name, card in ((H100, "h100"), (H200, "h200")):
        (row,) = (r for r in case_rows(load_many([str(GPU / card / f"{card}-kernels.jsonl")])) if r["case"] == COPY)
        num_gb = row["membw_gb_per_s"] * row["seconds_median"]
        found[name] = Range(row["membw_gb_per_s"], num_gb / row[TIME_HIGH], num_gb / row[TIME_LOW])
    return found


def mix_speeds(predicted: Predicted) -> dict[str, Range]:
    """Speeds over the H100's: the H200's measured, the GB200's predicted."""
    ratio = next(iter(measured_steps().values()))
    return {
        H100: Range(1.0, 1.0, 1.0),
        H200: ratio,
        GB200: predicted.gb200_factor * (predicted.speed(GB200) / predicted.speed(H100)),
    }


@functools.cache
def serving_speeds() -> dict[str, Range]:
    """Speeds over the H100's of work that memory bandwidth bounds: the H200's measured, the GB200's by data sheet."""
    copied = copies()
    data_sheet = (named(GB200).memory_tb_per_s or math.nan) / (named(H100).memory_tb_per_s or math.nan)
    return {
        H100: Range(1.0, 1.0, 1.0),
        H200: over([copied[H200], copied[H100]], lambda new, base: new / base),
        GB200: Range(data_sheet, data_sheet, data_sheet),
    }


def published_ratios() -> dict[str, float]:
    """Model -> tokens per second of a GB200 over those of an H100, as others published them."""
    rates: dict[str, dict[str, float]] = {}
    for row in published.speeds():
        rates.setdefault(row.model, {})[row.accelerator] = row.tokens_per_s
    return {model: pair[GB200] / pair[H100] for model, pair in rates.items()}


@functools.cache
def emulated_rows() -> list[dict[str, Any]]:
    """Measured on equal ranks of which one was slowed: losses in lockstep and balanced, of the bound's rate."""
    found = mixed_report.load_many([str(ROOT / "results" / "evidence" / "mixed")])
    rows = [row for run in found if run.label in ("two", "four") for row in mixed_report.split_rows([run])]
    return [
        row | {"lockstep": 1.0 - row["bound"] / row["even"], "remaining": 1.0 - row["bound"] / row["balanced"]}
        for row in rows
    ]


def emulated(parallelism: str) -> Loss:
    """Median of the runs, with the lowest and the highest."""
    rows = [row for row in emulated_rows() if row["what"].startswith(parallelism)]

    def spread(key: str) -> Range:
        values = [row[key] for row in rows]
        return Range(statistics.median(values), min(values), max(values))

    return Loss(spread("lockstep"), spread("remaining"))


def rule_on_emulated() -> str:
    """Number of the emulated cases that the prediction from a uniform step meets."""
    return str(mixed_report.within(emulated_rows(), 0.05))


def prediction_errors() -> tuple[int, Range]:
    """Number of predicted steps that were also measured here; median and quartiles of their errors, without sign."""
    folder = ROOT / "results" / "evidence" / "predict"
    pairs = [pair for run in sorted(folder.glob("*/*/")) for pair in predict_step.predictions(run)[1]]
    errors = [abs(prediction.step_seconds / step.seconds - 1.0) for step, prediction in pairs]
    low, middle, high = statistics.quantiles(errors, n=4)
    return len(errors), Range(middle, low, high)


PARALLELISM = tuple(EVEN_SHARE)
