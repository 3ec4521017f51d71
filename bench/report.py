"""Results for people: a table a suite, what has no speed and why, and exports.

Only columns with a value in them are shown; the plain rows (CSV, JSON, parquet) always have all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import choices, exit_code, footnotes, frame, metrics
from bench.case_tables import case_tables
from bench.frame import Row
from bench.record_check import STATUSES
from bench.result import Result
from bench.table import (
    MISSING,
    Column,
    Table,
    column,
    csv_text,
    json_text,
    render,
    show_number,
    show_percent,
    show_seconds,
    show_text,
    text_column,
)

OwnMetrics = Mapping[str, tuple[str, str]]
"""The suites' further metrics: name -> (unit, direction)."""

_HEADS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "algbw_gb_per_s": ("algorithm GB/s", show_number),
    "busbw_gb_per_s": ("bus GB/s", show_number),
    "membw_gb_per_s": ("memory GB/s", show_number),
    "tflop_per_s": ("TFLOP/s a device", show_number),
    "mfu": ("MFU %", show_percent),
    "percent_of_measured_ceiling": ("% of ceiling", show_number),
    "tokens_per_s": ("tokens/s", show_number),
    "speedup": ("speed-up", show_number),
    "communication_share": ("communication %", show_percent),
    "bubble_theory": ("bubble in theory %", show_percent),
    "idle_share": ("idle %", show_percent),
}
"""Metric -> (head with the unit, how it is written), in the order of the columns."""
_SHOW_UNIT: dict[str, Callable[[Any], str]] = {"share": show_percent, "s": show_seconds}
_UNIT_IN_HEAD = {"share": "%", "s": ""}


def tables(results: Sequence[Result], output: str = "table", colour: bool = False) -> str:
    """All of some results in a format, ready to print. JSON is an array of one object a case and file."""
    rows = frame.case_rows(results)
    if output == "json":
        return json_text(rows)
    if output == "csv":
        return csv_text(rows)
    parts: list[Table] = []
    for result in results:
        own = [row for row in rows if row["file"] == str(result.path)]
        parts += [_facts(result), *suite_tables(own, frame.own_metrics([result])), *case_tables(result)]
        parts += _not_measured(result)
    return render(parts, output, colour)


def verdict(result: Result) -> str:
    """One line: how many cases have which status, how many are not in the file, and how the run ended."""
    found = Counter(group.status for group in frame.groups([result]).values())
    words = [f"{found[status]} {status}" for status in STATUSES if found[status]] or ["no case"]
    missing = len(missing_cases(result))
    words += [f"{missing} not measured"] if missing else []
    return f"{', '.join(words)}; {_ending(result)}"


def status_code(result: Result) -> int:
    """The exit code that the run ended with; 3 where it never came to its end."""
    return exit_code.PARTIAL if result.end is None else int(result.end["exit_code"])


def _ending(result: Result) -> str:
    return "no end was written: it still runs, or it died" if result.end is None else f"run {result.end['status']}"


def _facts(result: Result) -> Table:
    """The lines above the tables: what was measured where."""
    plan, versions = result.plan, result.environment.get("versions") or {}
    launches = len({record["launch"] for record in result.measurements})
    what = [
        f"{plan['world_size']} ranks" if plan.get("world_size") else None,
        plan.get("backend"),
        f"preset {plan['preset']}" if plan.get("preset") else None,
        f"{launches} of {plan['launches']} launches" if plan.get("launches") else f"{launches} launches",
        *(f"{name} {versions[name]}" for name in ("torch", "cuda", "nccl") if versions.get(name)),
    ]
    lines = [
        f"file: {result.path}",
        f"measured: {', '.join(str(word) for word in what if word)}",
        *_imported(result),
        f"started: {result.header.get('started') or 'unknown'} on {', '.join(result.hosts()) or 'unknown hosts'}",
        f"outcome: {verdict(result)}",
        *(f"warning: {warning}" for warning in result.warnings),
    ]
    return Table(f"{result.label}: {result.architecture}", (), (), tuple(lines))


def _imported(result: Result) -> list[str]:
    """Where an imported result came from, and what of it could not be read."""
    source = result.environment.get("imported_from")
    if not isinstance(source, dict):
        return []
    unread = source.get("unread") or []
    tool = " ".join(str(word) for word in (source.get("tool"), source.get("version")) if word)
    rows = "1 row" if len(unread) == 1 else f"{len(unread)} rows"
    return [
        f"imported: from {source.get('file')}, {source.get('format')} of {tool}",
        *([f"warning: {rows} of it could not be read, the first {unread[0]['where']}"] if unread else []),
    ]


def suite_tables(rows: Iterable[Row], own: OwnMetrics | None = None) -> list[Table]:
    """A table for each suite with what was measured, and one of what was not, with the reasons."""
    by_suite: dict[str, list[Row]] = {}
    not_ok: list[Row] = []
    for row in rows:
        if row["status"] == "ok":
            by_suite.setdefault(row["suite"], []).append(row)
        else:
            not_ok.append(row)
    found = [_suite_table(suite, of_suite, own or {}) for suite, of_suite in by_suite.items()]
    return [*found, _no_speed(not_ok)] if not_ok else found


def _suite_table(suite: str, rows: Sequence[Row], own: OwnMetrics) -> Table:
    marks, notes = footnotes.numbered(rows)
    marked = tuple(row | {"marks": ",".join(map(str, numbers))} for row, numbers in zip(rows, marks, strict=True))
    columns = [c for c in _columns(own) if any(c.show(row) != MISSING for row in marked)]
    return Table(suite, tuple(columns), marked, (*notes, *footnotes.common(rows)))


def _columns(own: OwnMetrics) -> list[Column]:
    columns = [
        Column("case", lambda row: show_text(row["case"].removeprefix(f"{row['suite']}/")), "left"),
        column("seconds_median", "median", show_seconds),
        Column("95% interval", _show_interval),
        column("seconds_p95", "p95", show_seconds),
        column("seconds_p99", "p99", show_seconds),
        column("num_samples", "samples", lambda value: f"{value:,}" if value else MISSING),
    ]
    columns += [column(name, head, show) for name, (head, show) in _HEADS.items()]
    columns.append(Column("NCCL", lambda row: show_text(choices.shown(row)), "left"))
    for name, (unit, _) in own.items():
        if name not in metrics.METRICS:
            columns.append(column(name, _own_head(name, unit), _SHOW_UNIT.get(unit, show_number)))
    return [*columns, text_column("marks", "notes")]


def _own_head(name: str, unit: str) -> str:
    """A suite's own metric with its unit, once: `loader_gb_per_s` is headed `loader GB/s`."""
    words = name.replace("_", " ")
    if "/" in unit:
        words = words.removesuffix(unit.lower().replace("/", " per ")).strip()
    return f"{words} {_UNIT_IN_HEAD.get(unit, unit)}".strip()


def _show_interval(row: Mapping[str, Any]) -> str:
    low, high = row.get("seconds_low"), row.get("seconds_high")
    if low is None or high is None:
        return MISSING
    # Few launches far apart give ends that are right and tell nothing: nanoseconds to days.
    return "unknown" if high > footnotes.USELESS_RATIO * low else f"{show_seconds(low)} to {show_seconds(high)}"


def _no_speed(rows: Sequence[Row]) -> Table:
    columns = (
        text_column("case"),
        text_column("status"),
        text_column("reason"),
    )
    ranked = sorted(rows, key=lambda row: ("invalid", "failed", "skipped").index(row["status"]))
    return Table("No speed", columns, tuple(ranked))


def missing_cases(result: Result) -> list[str]:
    """Planned cases that the file does not have at all."""
    measured = {record["case"] for record in result.measurements}
    return [case for case in result.planned_cases() if case not in measured]


def _not_measured(result: Result) -> list[Table]:
    """Planned cases that the file does not have, since the run ended early."""
    cases = missing_cases(result)
    if not cases:
        return []
    rows = tuple({"case": case} for case in cases)
    return [Table(f"Not measured ({_ending(result)})", (text_column("case"),), rows)]
