"""A predicted job as tables: of what is stated once, in the head above them; in CSV and JSON every row says that it is
predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core.table import Column, DisplayTable, column, text_column
from bench.core.values import show_number, show_seconds, show_text
from bench.predict.answer import Option, PredictedJob, Reliability
from bench.predict.model.fleet import FleetPrediction
from bench.predict.model.prediction import NOT_MODELLED, PARTS, Prediction
from bench.predict.search import SearchResult

LABEL = "predicted, not measured"

Row = dict[str, Any]


def all_tables(answer: PredictedJob) -> list[DisplayTable]:
    """Tables in the order in which they are read; the last has the assumptions, and the parts that are not modelled."""
    tables: list[DisplayTable] = []
    if answer.search_result is not None:
        best = answer.search_result.best[0]
        tables += [step_table(best), parts_table(best), memory_table(best), splits_table(answer.search_result)]
    if answer.fleet:
        tables.append(fleet_table(answer))
    if answer.sweep:
        tables.append(sweep_table(answer))
    if answer.reliability is not None:
        tables.append(reliability_table(answer.reliability, answer.tokens_per_s))
    if answer.options:
        tables.append(money_table(answer))
    tables.append(assumptions_table(answer))
    return tables


def _quantities(
    title: str,
    rows: list[tuple[str, str, object]],
    footnotes: tuple[str, ...] = (),
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> DisplayTable:
    """One quantity per row, as shown, as the raw value, and with its interval."""
    cells = []
    for name, shown, value in rows:
        ends = dict(zip(("low", "high"), (intervals or {}).get(name, ()), strict=False))
        cells.append({"quantity": name, "shown": shown, "value": value, **ends, "status": LABEL})
    return DisplayTable(title, (text_column("quantity"), text_column("shown", "value")), tuple(cells), footnotes)


def step_table(best: Prediction) -> DisplayTable:
    low, high = best.interval
    job, strategy = best.job, best.strategy
    rate = best.tokens_per_s
    flops = best.model_flops_per_device_s / 1e12
    shown = f"{show_seconds(best.step_seconds)} (95%: {show_seconds(low)} to {show_seconds(high)})"
    rows: list[tuple[str, str, object]] = [
        ("step", shown, best.step_seconds),
        ("tokens/s", f"{rate:,.0f}", rate),
        ("tokens/s per device", f"{rate / best.devices:,.1f}", rate / best.devices),
        ("model TFLOP/s per device", show_number(flops), flops),
        ("MFU, attention in full", f"{100 * best.mfu:.1f} %", best.mfu),
        ("memory per device", f"{best.memory.total / 1e9:.1f} GB{_fits(best)}", best.memory.total / 1e9),
        ("split", describe(best), strategy.world_size),
    ]
    notes = [f"Pipeline by {best.pipeline_method}."] if strategy.pp > 1 else []
    size = f"{job.global_batch:,} x {job.sequence:,} tokens"
    title = f"{job.shape.name} on {best.devices:,} {best.device.name}, {size}"
    return _quantities(title, rows, tuple(notes), {"step": (low, high)})


def _fits(best: Prediction) -> str:
    if best.device.memory_bytes is None:
        return ", of an unknown number"
    return f" of {best.device.memory_bytes / 1e9:.0f}" + ("" if best.fits else ": DOES NOT FIT")


def describe(best: Prediction) -> str:
    from bench.predict.search import describe as of_split

    idle = best.devices - best.strategy.world_size
    return of_split(best.strategy) + (f"; {idle:,} devices idle" if idle else "")


def parts_table(best: Prediction) -> DisplayTable:
    rows = tuple(
        {
            "part": name.removesuffix("_seconds"),
            "seconds": best.parts[name],
            "share": best.parts[name] / best.step_seconds,
            "status": LABEL,
        }
        for name in PARTS
    )  # fmt: skip
    return DisplayTable(
        "Time of a step by part",
        (
            text_column("part"),
            column("seconds", "time", show_seconds),
            column("share", "%", lambda v: f"{100 * v:.1f}"),
        ),
        rows,
        ("Of the slowest pipeline rank. tensor, context, expert, pipeline, data: transfers that nothing hides.",),
    )


def memory_table(best: Prediction) -> DisplayTable:
    rows = tuple({"memory": name, "gb": value / 1e9, "status": LABEL} for name, value in best.memory._asdict().items())
    note = f"Of the device that holds most; recomputation: {best.strategy.recompute}. reserved is an assumption."
    return DisplayTable("Memory by part", (text_column("memory"), column("gb", "GB", show_number)), rows, (note,))


def splits_table(result: SearchResult) -> DisplayTable:
    columns = (
        *(column(name, name, str) for name in ("tp", "pp", "dp", "cp")),
        *(column(name, name, str, weight=1) for name in ("ep", "microbatch", "interleave")),
        *(column(name, name, show_text, "left", weight=1) for name in ("schedule", "recompute")),
        column("zero", "ZeRO", str, weight=1),
        column("step_seconds", "step", show_seconds),
        column("mfu", "MFU %", lambda v: f"{100 * v:.1f}"),
        column("memory_gb", "GB", lambda v: f"{v:.1f}"),
        column("idle_seconds", "idle", show_seconds, weight=2),
        column("data_seconds", "data", show_seconds, weight=2),
        column("tensor_seconds", "tensor", show_seconds, weight=2),
    )
    rows = tuple(prediction.row() | {"status": LABEL} for prediction in result.best)
    note = (
        f"{result.tried:,} tried, {result.fitting:,} fit into memory."
        if result.tried > 1
        else "The split that was given."
    )
    return DisplayTable("Best splits", columns, rows, (note,))


def fleet_rows(fleet: FleetPrediction) -> list[Row]:
    rows = []
    for part in fleet.parts:
        prediction = part.prediction
        rows.append(
            {
                "mode": fleet.mode,
                "accelerator": part.member.device.name,
                "devices": part.member.devices,
                "replicas": part.replicas,
                "microbatches": part.microbatches,
                "own_step_seconds": prediction.step_seconds if part.microbatches else None,
                "waiting_share": 1.0 - prediction.step_seconds / fleet.step_seconds if part.microbatches else None,
                "step_seconds": fleet.step_seconds,
                "tokens_per_s": fleet.tokens_per_s,
                "memory_gb": prediction.memory.total / 1e9,
                "status": LABEL,
            }
        )
    return rows


def fleet_table(answer: PredictedJob) -> DisplayTable:
    from bench.predict.search import describe as of_split

    rows = tuple(row for fleet in answer.fleet for row in fleet_rows(fleet))
    columns = (
        text_column("mode"), text_column("accelerator"), column("devices", "devices", _count),
        column("replicas", "replicas", _count, weight=1), column("microbatches", "microbatches", _count, weight=1),
        column("own_step_seconds", "own step", show_seconds), column("waiting_share", "waits %", _percent),
        column("step_seconds", "step", show_seconds), column("tokens_per_s", "tokens/s", _count, weight=1),
        column("memory_gb", "GB", show_number, weight=1),
    )  # fmt: skip
    notes = [f"{fleet.mode}: {of_split(fleet.strategy)}." for fleet in answer.fleet]
    even, balanced = (fleet.tokens_per_s for fleet in answer.fleet)
    notes.append(f"Balanced gives {100 * (balanced / even - 1):.1f}% more tokens per second than even.")
    return DisplayTable("Mixed fleet", columns, rows, tuple(notes))


def sweep_rows(answer: PredictedJob) -> list[Row]:
    return [
        {
            "scaling": point.scaling,
            "efficiency": point.efficiency,
            "global_batch": point.prediction.job.global_batch,
            **point.prediction.row(),
            "status": LABEL,
        }
        for point in answer.sweep
    ]


def sweep_table(answer: PredictedJob) -> DisplayTable:
    columns = (
        text_column("scaling"), column("devices", "devices", _count), column("global_batch", "batch", _count),
        column("step_seconds", "step", show_seconds), column("tokens_per_s", "tokens/s", _count),
        column("efficiency", "efficiency %", _percent), column("mfu", "MFU %", _percent),
        *(column(name, name, str, weight=1) for name in ("tp", "pp", "dp", "cp")),
        column("memory_gb", "GB", show_number, weight=2), column("idle_seconds", "idle", show_seconds, weight=3),
        column("data_seconds", "data", show_seconds, weight=3),
    )  # fmt: skip
    notes = (
        "Efficiency: tokens/s per device over those of the fewest devices that fit. weak: the batch grows along.",
        "The best split of each size by a coarser search than that of one size.",
    )
    return DisplayTable("Scaling", columns, tuple(sweep_rows(answer)), notes)


def reliability_table(reliability: Reliability, tokens_per_s: float) -> DisplayTable:
    failures = reliability.failures
    rows: list[tuple[str, str, object]] = [
        ("time between failures", _hours(failures.mtbf_seconds), failures.mtbf_seconds),
        ("checkpoint", show_seconds(failures.checkpoint_seconds), failures.checkpoint_seconds),
        ("restart", show_seconds(failures.restart_seconds), failures.restart_seconds),
        ("best interval", _hours(failures.best_seconds), failures.best_seconds),
        (
            "interval by Young",
            f"{_hours(failures.young_seconds)}: goodput {_percent(reliability.young_goodput)} %",
            failures.young_seconds,
        ),
        ("interval taken", _hours(reliability.interval_seconds), reliability.interval_seconds),
        ("goodput", f"{_percent(reliability.goodput)} %", reliability.goodput),
        (
            "tokens a day, after failures",
            f"{tokens_per_s * reliability.goodput * 86400:.3e}",
            tokens_per_s * reliability.goodput * 86400,
        ),
    ]
    note = (
        "Exponential failures, a whole restart each; work since the last checkpoint is lost (Daly 2006, equation 20)."
    )
    return _quantities("Failures", rows, (note,))


def option_row(option: Option) -> Row:
    cost = option.cost
    return {
        "option": option.name,
        "usd_per_device_hour": option.usd_per_device_hour,
        "goodput": cost.goodput,
        "days": cost.seconds / 86400.0,
        "run_usd": cost.run_usd,
        "capital_usd": option.capital_usd,
        "waiting_usd": cost.waiting_usd,
        "usd_per_million_tokens": cost.usd_per_million_tokens,
        "usd_per_pflops_day": cost.usd_per_pflops_day,
        "break_even_utilisation": option.break_even_utilisation,
        "source": option.source,
        "status": LABEL,
    }


def money_table(answer: PredictedJob) -> DisplayTable:
    columns = (
        text_column("option"), column("days", "days", show_number), column("run_usd", "USD per run", _dollars),
        *([column("capital_usd", "purchase, USD", _dollars)] if any(o.capital_usd for o in answer.options) else []),
        column("usd_per_device_hour", "USD/device-hour", show_number, weight=1),
        column("goodput", "goodput %", _percent, weight=1),
        column("usd_per_million_tokens", "USD/M tokens", show_number, weight=2),
        column("break_even_utilisation", "break-even use %", _percent, weight=3),
        column("usd_per_pflops_day", "USD/PFLOP/s-day", show_number, weight=4),
        *([column("waiting_usd", "waiting USD", _dollars, weight=2)] if answer.options[0].cost.waiting_usd else []),
    )  # fmt: skip
    tokens = answer.options[0].cost.tokens
    notes = [f"A run is {tokens:.3g} tokens.", *(f"{o.name}: {o.source}" for o in answer.options)]
    if answer.own is not None:
        notes.append(
            f"The purchase is all of it, paid at the start; the run bears its share if it is "
            f"{100 * answer.own.utilisation:g}% busy for {answer.own.years:g} years. Break-even use: above it owning "
            "is cheaper than the cheapest firm rent."
        )
    if answer.power_watts is not None and answer.joules_per_token is not None:
        notes.append(
            f"Power by the catalogue, times PUE: {answer.power_watts / 1e6:.3g} MW, "
            f"{answer.joules_per_token:.3g} J per token."
        )
    return DisplayTable("Money", columns, tuple(map(option_row, answer.options)), tuple(notes))


def assumptions_table(answer: PredictedJob) -> DisplayTable:
    rows = tuple(assumption.row() for assumption in answer.assumptions)
    notes = tuple(f"Not modelled: {text}." for text in NOT_MODELLED)
    shown = Column("value (source)", lambda row: f"{row['value']} ({row['source']})", "left")
    return DisplayTable("What this rests on", (text_column("assumption"), shown), rows, notes)


def as_json(answer: PredictedJob) -> Mapping[str, Any]:
    """One object; the name of each list says that it is predicted."""
    document: dict[str, Any] = {"status": LABEL, "devices": answer.request.devices, "predicted_days": days(answer)}
    if answer.search_result is not None:
        best = answer.search_result.best[0]
        document["predicted"] = best.row()
        document["predicted_memory_bytes"] = best.memory._asdict()
        document["predicted_splits"] = [prediction.row() for prediction in answer.search_result.best]
    if answer.fleet:
        document["predicted_fleet"] = [row for fleet in answer.fleet for row in fleet_rows(fleet)]
    if answer.sweep:
        document["predicted_scaling"] = sweep_rows(answer)
    if answer.reliability is not None:
        table = reliability_table(answer.reliability, answer.tokens_per_s)
        document["predicted_failures"] = {str(row["quantity"]): row["value"] for row in table.rows}
    if answer.options:
        document["predicted_money"] = [option_row(option) for option in answer.options]
        document["predicted_power_watts"] = answer.power_watts
        document["predicted_joules_per_token"] = answer.joules_per_token
    document["assumptions"] = [prediction.row() for prediction in answer.assumptions]
    return document


def days(answer: PredictedJob) -> float:
    """Days of the whole run, failures included."""
    return answer.run_seconds / 86400.0


def _count(value: float | None) -> str:
    return show_text(None) if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return show_text(None) if value is None else f"{100 * value:.1f}"


def _dollars(value: float | None) -> str:
    return show_text(None) if value is None else f"{value:,.0f}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600.0:.3g} h" if seconds >= 600.0 else show_seconds(seconds)
