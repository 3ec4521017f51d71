"""`bench mix`: what a mixed cluster would do, beside each kind alone and one part given to inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.catalog.accelerators import find
from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import show_number
from bench.errors import BenchError
from bench.predict.heterogeneous import (
    EVEN_SHARE,
    SERVING,
    DeviceKind,
    HeterogeneousPlan,
    Mixed,
    Speed,
    mixed,
    speeds_of,
)
from bench.records.file import load_many
from bench.records.last_result import is_last
from bench.records.rows import case_rows

CATALOGUE = "catalogue peak, bfloat16, TFLOP/s"
LOCKSTEP = (
    "even: all ranks have equal shares and wait for the slowest. balanced: the best whole numbers of units a rank, by "
    "search; bound: the sum of the speeds.",
    "split by data: any whole microbatches a rank; tensor: heads, 8 a rank if equal; pipeline: layers, 4 a stage.",
    "alone: each kind by itself at its own best configuration; the mixed plans run at one that every kind was measured "
    "at. Penalty: 1 - rate / sum of each kind alone.",
    "network beyond the measured ranks: not measured. Rates assume that communication takes the same share as there.",
)


def kinds(parts: Sequence[str], prices: Sequence[str]) -> tuple[list[DeviceKind], bool]:
    """`FILE=COUNT` or `CATALOGUE NAME=COUNT` to kinds; and whether they are by catalogue. Raises BenchError."""
    kinds_given = [_kind(part) for part in parts]
    names = [kind.name for kind in kinds_given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BenchError(
            f"{' '.join(parts)}: two kinds are called {twice!r}; a kind is called as its file or folder: name one anew"
        )
    if len(kinds_given) < 2:
        raise BenchError(f"{' '.join(parts)}: a mix takes two or more different kinds, such as a.jsonl=16 b.jsonl=48")
    by_catalogue = {kind.num_ranks is None for kind in kinds_given}
    if len(by_catalogue) > 1:
        raise BenchError("measured results and catalogue figures cannot be mixed: they are not of one sort")
    known = _prices(prices, names)
    priced = [DeviceKind(k.name, k.count, k.speeds, k.memory_gb, k.num_ranks, known.get(k.name)) for k in kinds_given]
    return priced, by_catalogue.pop()


def _kind(part: str) -> DeviceKind:
    source, equals, count_text = part.rpartition("=")
    if not equals or not count_text.isdecimal() or int(count_text) < 1:
        raise BenchError(f"{part}: FILE=COUNT, or NAME=COUNT with a name of the catalogue; a count is 1 or more")
    count = int(count_text)
    is_file = Path(source).exists() or is_last(Path(source))
    row = None if is_file else find(source)
    if row is not None:
        if row.bf16_dense_tflop_per_s is None:
            raise BenchError(f"{source}: the catalogue has no bfloat16 peak of it")
        return DeviceKind(row.name, count, {CATALOGUE: {"peak": Speed(row.bf16_dense_tflop_per_s)}}, row.memory_gb)
    if not is_file and not set("*?[") & set(source):
        raise BenchError(
            f"{source}: no such file, and no accelerator of the catalogue (bench/catalog/data/accelerators.csv)"
        )
    results = load_many([source])
    rows = case_rows(results)
    speeds, ranks = speeds_of(rows)
    if not speeds:
        raise BenchError(f"{source}: no case that is ok counts tokens; measure training (bench list) on each kind")
    memory = [rank.memory_bytes for result in results for rank in result.environment.ranks if rank.memory_bytes]
    return DeviceKind(Path(source).stem, count, speeds, min(memory) / 1e9 if memory else None, ranks)


def _prices(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    prices = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        matching = [full_name for full_name in names if full_name == name or full_name.startswith(name)] if name else []
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if len(matching) != 1 or not 0 < value < 1e6:
            raise BenchError(f"--price {text}: NAME=USD_PER_HOUR of one accelerator; names: {', '.join(names)}")
        prices[matching[0]] = value
    return prices


def text(
    parts: Sequence[str], prices: Sequence[str], measured: Path | None, unit_gb: float | None, output: str, colour: bool
) -> str:
    """All that can be said, in a format. Raises BenchError for what cannot be read or is not of one sort."""
    device_kinds, by_catalogue = kinds(parts, prices)
    workloads = list(dict.fromkeys(name for kind in device_kinds for name in kind.speeds))
    most = None if unit_gb is None else [_cap(kind, unit_gb) for kind in device_kinds]
    trained = [name for name in workloads if name.partition("/")[0] not in SERVING]
    training = [mixed(device_kinds, name, most, parallelism) for name in trained for parallelism in EVEN_SHARE]
    serving = [mixed(device_kinds, name) for name in workloads if name.partition("/")[0] in SERVING]
    errors = {} if measured is None else _errors(measured)
    rows = [_row(device_kinds, workload, by_catalogue, errors) for workload in training]
    uses = _uses(device_kinds, training, serving)
    if output == "json":
        return json_text({"kinds": [_kind_json(k) for k in device_kinds], "training": rows, "uses": uses})
    if output == "csv":
        return csv_text(rows)
    return render([_training_table(device_kinds, rows, by_catalogue, measured), _uses_table(uses)], output, colour)


def _cap(kind: DeviceKind, unit_gb: float) -> int:
    """Units that an accelerator's memory holds. Raises BenchError if it is not known, or holds none."""
    if kind.memory_gb is None:
        raise BenchError(f"--unit-gb {unit_gb:g}: the memory of {kind.name} is not known; leave it out")
    if kind.memory_gb < unit_gb:
        raise BenchError(f"--unit-gb {unit_gb:g}: {kind.name} has {kind.memory_gb:.0f} GB, which hold not one unit")
    return int(kind.memory_gb / unit_gb)


def _kind_json(kind: DeviceKind) -> dict[str, Any]:
    return {"name": kind.name, "count": kind.count, "memory_gb": kind.memory_gb, "usd_per_hour": kind.usd_per_hour}


def _row(
    device_kinds: Sequence[DeviceKind], one: Mixed, by_catalogue: bool, errors: Mapping[str, float]
) -> dict[str, Any]:
    """One workload; what was not measured on some kind is None."""
    alone = [speed.value * kind.count for speed, kind in zip(one.alone, device_kinds, strict=True) if speed is not None]
    total = None if one.missing else sum(alone)
    error = max((abs(value) for value in errors.values()), default=None)
    penalty = _penalty(one.even, total)
    row: dict[str, Any] = {
        "workload": one.workload,
        "parallelism": one.parallelism,
        "source": "catalogue" if by_catalogue else "measured",
        "unit": "TFLOP/s" if by_catalogue else "tokens/s",
        "configuration": one.configuration,
        "sum_alone": total,
        "even": None if one.even is None else one.even.rate,
        "even_penalty": penalty,
        "balanced": None if one.balanced is None else one.balanced.rate,
        "balanced_penalty": _penalty(one.balanced, total),
        "balanced_units": None if one.balanced is None else one.balanced.units,
        "bound": one.bound,
        "model_error": error,
        "verdict": _verdict(one, penalty, error),
    }
    row |= {
        f"alone_{kind.name}": None if speed is None else speed.value * kind.count
        for kind, speed in zip(device_kinds, one.alone, strict=True)
    }
    return row | _costs(device_kinds, one, total, by_catalogue)


def _penalty(plan: HeterogeneousPlan | None, total: float | None) -> float | None:
    return None if plan is None or not total else 1.0 - plan.rate / total


def _verdict(one: Mixed, penalty: float | None, error: float | None) -> str:
    if one.missing or penalty is None:
        return "not measured on every kind"
    if error is not None and penalty < error:
        return "not shown: smaller than the model's error"
    return "shown"


def _costs(device_kinds: Sequence[DeviceKind], one: Mixed, total: float | None, by_catalogue: bool) -> dict[str, Any]:
    """Dollars per million tokens and lost an hour; no columns without every kind's price."""
    prices = [kind.usd_per_hour for kind in device_kinds]
    if None in prices or by_catalogue:
        return {}
    hourly = sum(kind.count * (kind.usd_per_hour or 0.0) for kind in device_kinds)
    costs: dict[str, Any] = {}
    for name, plan in (("even", one.even), ("balanced", one.balanced)):
        for end, value in () if plan is None else (("", plan.rate), ("_low", plan.high), ("_high", plan.low)):
            costs[f"{name}_usd_per_million_tokens{end}"] = None if not value else hourly / (3600 * value) * 1e6
        costs[f"{name}_usd_lost_per_hour"] = None if plan is None or not total else hourly * (1 - plan.rate / total)
    return costs


def _uses(
    device_kinds: Sequence[DeviceKind], training: Sequence[Mixed], serving: Sequence[Mixed]
) -> list[dict[str, Any]]:
    """All kinds in one training job, against one kind training and the others serving."""
    rows = []
    for one in (plans for plans in training if plans.parallelism == "data"):
        rows.append(
            {
                "workload": one.workload,
                "train_on": "all, even",
                "training": _rate(one.even),
                "serve_on": None,
                "serving": None,
            }
        )
        rows.append(
            {
                "workload": one.workload,
                "train_on": "all, balanced",
                "training": _rate(one.balanced),
                "serve_on": None,
                "serving": None,
            }
        )
        for index, kind in enumerate(device_kinds):
            speed = one.alone[index]
            rows.append(
                {
                    "workload": one.workload,
                    "train_on": kind.name,
                    "training": None if speed is None else speed.value * kind.count,
                    "serve_on": ", ".join(k.name for k in device_kinds if k is not kind),
                    "serving": _served(device_kinds, serving, index),
                }
            )
    return rows


def _rate(plan: HeterogeneousPlan | None) -> float | None:
    return None if plan is None else plan.rate


def _served(device_kinds: Sequence[DeviceKind], serving: Sequence[Mixed], training: int) -> float | None:
    """Independent replicas: the sum over the kinds that serve, of the first workload that all were measured on."""
    for one in serving:
        others = [(k.count, s) for i, (k, s) in enumerate(zip(device_kinds, one.alone, strict=True)) if i != training]
        known = [count * speed.value for count, speed in others if speed is not None]
        if len(known) == len(others):
            return sum(known)
    return None


def _errors(path: Path) -> dict[str, float]:
    """Case -> predicted / measured - 1, from a measured mix. Raises BenchError if the file has none."""
    errors = {}
    for row in case_rows(load_many([str(path)])):
        for name, seconds in (("even", "seconds_median"), ("balanced", "balanced_seconds")):
            predicted, measured = row.get(f"predicted_{name}_seconds"), row.get(seconds)
            if predicted and measured:
                errors[f"{row['case']} {name}"] = predicted / measured - 1.0
    if not errors:
        raise BenchError(f"--measured {path}: no case of the suite heterogeneous; bench run heterogeneous on the mix")
    return errors


def _show_percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _training_table(
    device_kinds: Sequence[DeviceKind], rows: Sequence[Mapping[str, Any]], by_catalogue: bool, measured: Path | None
) -> DisplayTable:
    columns: list[Column] = [
        text_column("workload"),
        text_column("parallelism", "split by"),
        text_column("unit", ""),
    ]
    columns += [column(f"alone_{kind.name}", f"{kind.name} alone", show_number) for kind in device_kinds]
    columns += [
        column("sum_alone", "sum alone", show_number),
        column("even", "even", show_number),
        column("even_penalty", "penalty %", _show_percent),
        column("balanced", "balanced", show_number),
        column("balanced_penalty", "penalty %", _show_percent),
        text_column("balanced_units", "units a rank"),
        column("bound", "bound", show_number),
        text_column("verdict"),
    ]
    costs = [name for name in rows[0] if "_usd_" in name] if rows else []
    columns += [column(name, name.replace("_", " "), show_number) for name in costs]
    title = " + ".join(f"{kind.count:,} x {kind.name}" for kind in device_kinds)
    notes = list(LOCKSTEP)
    if by_catalogue:
        notes.insert(0, "catalogue figures, not measured: peak dense bfloat16 of the data sheets; nobody reaches them.")
    if measured is not None:
        notes.append(f"model's error on {measured}: at most {_show_percent(rows[0]['model_error'] if rows else None)}%")
    return DisplayTable(f"Training in lockstep: {title}", tuple(columns), tuple(rows), tuple(notes))


def _uses_table(uses: Sequence[Mapping[str, Any]]) -> DisplayTable:
    columns = (
        text_column("workload"),
        text_column("train_on", "trains"),
        column("training", "training rate", show_number),
        text_column("serve_on", "serves"),
        column("serving", "serving rate", show_number),
    )
    unserved = any(row["serve_on"] and row["serving"] is None for row in uses)
    notes = ("serving rate `-`: no inference case was measured on these kinds",) if unserved else ()
    return DisplayTable(
        "Lockstep takes the minimum of speeds, independent replicas their sum", columns, tuple(uses), notes
    )
