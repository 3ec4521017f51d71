"""A mixed cluster: every workload split evenly and balanced, each kind alone, and one kind training while others serve.

All is plain rows, from which `tables` and `findings` are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.predict.mix.plans import EVEN_SHARE, SERVING, DeviceKind, HeterogeneousPlan, Mixed, Speed, mixed
from bench.predict.mix.sources import read_kinds
from bench.records.file import load_many
from bench.records.rows import case_rows

SHOWN = "shown"
"""Verdict on a loss that is known, beyond chance, and larger than the model's error."""
WITHIN_CHANCE = "within chance: the intervals of the speeds overlap"
Row = dict[str, Any]


@dataclass(frozen=True)
class MixedCluster:
    """Kinds of accelerators together, and the plans of each workload that was measured on any of them."""

    kinds: tuple[DeviceKind, ...]
    training: tuple[Mixed, ...]
    serving: tuple[Mixed, ...]
    measured: Path | None = None
    """File of a measured mix."""
    errors: Mapping[str, float] | None = None
    """Case of `measured` -> predicted / measured - 1."""

    @property
    def by_catalogue(self) -> bool:
        return all(kind.accelerator is not None for kind in self.kinds)

    @property
    def num_devices(self) -> int:
        return sum(kind.count for kind in self.kinds)

    @property
    def model_error(self) -> float | None:
        """The largest error of the model on the measured mix."""
        return max(map(abs, self.errors.values())) if self.errors else None

    def speeds(self, one: Mixed) -> list[Speed]:
        """Speed of each kind at the configuration of the mixed plans; empty if there is none."""
        if one.configuration is None:
            return []
        return [kind.speeds[one.workload][one.configuration] for kind in self.kinds]

    def differ(self, one: Mixed) -> bool:
        """True unless the intervals of all kinds' speeds overlap: then a loss may be chance."""
        speeds = self.speeds(one)
        ends = [(s.value if s.low is None else s.low, s.value if s.high is None else s.high) for s in speeds]
        return bool(ends) and max(low for low, _ in ends) > min(high for _, high in ends)


def mix(parts: Sequence[str], prices: Sequence[str], measured: Path | None, unit_gb: float | None) -> MixedCluster:
    """Raises BenchError for kinds or files that cannot be read or are not of one sort."""
    kinds = read_kinds(parts, prices)
    workloads = list(dict.fromkeys(name for kind in kinds for name in kind.speeds))
    most = None if unit_gb is None else [_cap(kind, unit_gb) for kind in kinds]
    trained = [name for name in workloads if _suite(name) not in SERVING]
    training = tuple(mixed(kinds, name, most, parallelism) for name in trained for parallelism in EVEN_SHARE)
    serving = tuple(mixed(kinds, name) for name in workloads if _suite(name) in SERVING)
    return MixedCluster(tuple(kinds), training, serving, measured, None if measured is None else _errors(measured))


def _suite(workload: str) -> str:
    return workload.partition("/")[0]


def _cap(kind: DeviceKind, unit_gb: float) -> int:
    """Units that an accelerator's memory holds. Raises BenchError if it is not known, or holds none."""
    if kind.memory_gb is None:
        raise BenchError(f"--unit-gb {unit_gb:g}: the memory of {kind.name} is not known; leave it out")
    if kind.memory_gb < unit_gb:
        raise BenchError(f"--unit-gb {unit_gb:g}: {kind.name} has {kind.memory_gb:.0f} GB, which hold not one unit")
    return int(kind.memory_gb / unit_gb)


def _errors(path: Path) -> dict[str, float]:
    """Case -> predicted / measured - 1, from a measured mix. Raises BenchError if the file has none."""
    errors = {}
    for row in case_rows(load_many([str(path)])):
        for name, seconds in (("even", "seconds_median"), ("balanced", "balanced_seconds")):
            predicted, taken = row.get(f"predicted_{name}_seconds"), row.get(seconds)
            if predicted and taken:
                errors[f"{row['case']} {name}"] = predicted / taken - 1.0
    if not errors:
        raise BenchError(f"--measured {path}: no case of the suite heterogeneous; bench run heterogeneous on the mix")
    return errors


def kind_rows(cluster: MixedCluster) -> list[Row]:
    return [
        {"name": kind.name, "count": kind.count, "memory_gb": kind.memory_gb, "usd_per_hour": kind.usd_per_hour}
        for kind in cluster.kinds
    ]


def training_rows(cluster: MixedCluster) -> list[Row]:
    """A row per workload and parallelism; a figure that was not measured on some kind is None."""
    return [training_row(cluster, one) for one in cluster.training]


def training_row(cluster: MixedCluster, one: Mixed) -> Row:
    """The row of one workload split one way."""
    alone = [speed.value * kind.count for speed, kind in zip(one.alone, cluster.kinds, strict=True) if speed]
    total = None if one.missing else sum(alone)
    penalty = _penalty(one.even, total)
    row: Row = {
        "workload": one.workload,
        "parallelism": one.parallelism,
        "source": "catalogue" if cluster.by_catalogue else "measured",
        "unit": "TFLOP/s" if cluster.by_catalogue else "tokens/s",
        "configuration": one.configuration,
        "sum_alone": total,
        "even": rate_of(one.even),
        "even_penalty": penalty,
        "balanced": rate_of(one.balanced),
        "balanced_penalty": _penalty(one.balanced, total),
        "balanced_units": None if one.balanced is None else one.balanced.units,
        "bound": one.bound,
        "model_error": cluster.model_error,
        "verdict": _verdict(cluster, one, penalty),
    }
    row |= {
        f"alone_{kind.name}": None if speed is None else speed.value * kind.count
        for kind, speed in zip(cluster.kinds, one.alone, strict=True)
    }
    return row | _costs(cluster, one, total)


def rate_of(plan: HeterogeneousPlan | None) -> float | None:
    return None if plan is None else plan.rate


def _penalty(plan: HeterogeneousPlan | None, total: float | None) -> float | None:
    return None if plan is None or not total else max(0.0, 1.0 - plan.rate / total)


def _verdict(cluster: MixedCluster, one: Mixed, penalty: float | None) -> str:
    error = cluster.model_error
    if one.missing or penalty is None:
        return "not measured on every kind"
    if error is not None and penalty < error:
        return "not shown: smaller than the model's error"
    if cluster.by_catalogue:
        return SHOWN
    return SHOWN if cluster.differ(one) else WITHIN_CHANCE


def _costs(cluster: MixedCluster, one: Mixed, total: float | None) -> Row:
    """Dollars per million tokens and lost per hour; no columns without every kind's price."""
    prices = [kind.usd_per_hour for kind in cluster.kinds]
    if None in prices or cluster.by_catalogue:
        return {}
    hourly = sum(kind.count * (kind.usd_per_hour or 0.0) for kind in cluster.kinds)
    costs: Row = {}
    for name, plan in (("even", one.even), ("balanced", one.balanced)):
        for end, value in () if plan is None else (("", plan.rate), ("_low", plan.high), ("_high", plan.low)):
            costs[f"{name}_usd_per_million_tokens{end}"] = None if not value else hourly / (3600 * value) * 1e6
        costs[f"{name}_usd_lost_per_hour"] = None if plan is None or not total else hourly * (1 - plan.rate / total)
    return costs


def use_rows(cluster: MixedCluster) -> list[Row]:
    """All kinds in one training job, against one kind training and the others serving; rates in tokens per second."""
    rows: list[Row] = []
    for one in (plans for plans in cluster.training if plans.parallelism == "data"):
        nothing = {"serve_on": None, "serving": None, "served": None}
        for name, plan in (("even", one.even), ("balanced", one.balanced)):
            rows.append({"workload": one.workload, "train_on": f"all, {name}", "training": rate_of(plan), **nothing})
        for index, kind in enumerate(cluster.kinds):
            speed = one.alone[index]
            served, serving = _served(cluster, index)
            rows.append(
                {
                    "workload": one.workload,
                    "train_on": kind.name,
                    "training": None if speed is None else speed.value * kind.count,
                    "serve_on": ", ".join(other.name for other in cluster.kinds if other is not kind),
                    "serving": serving,
                    "served": served,
                }
            )
    return rows


def _served(cluster: MixedCluster, training: int) -> tuple[str | None, float | None]:
    """Independent replicas: the first workload that all kinds that serve were measured on, and the sum of rates."""
    for one in cluster.serving:
        speeds = [(kind.count, s) for i, (kind, s) in enumerate(zip(cluster.kinds, one.alone, strict=True))]
        known = [count * speed.value for i, (count, speed) in enumerate(speeds) if speed is not None and i != training]
        if len(known) == len(speeds) - 1:
            return one.workload, sum(known)
    return None, None
