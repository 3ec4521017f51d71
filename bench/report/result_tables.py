"""Results for people: a table a suite, what has no speed and why, and exports.

Only columns with a value in them are shown; the plain rows (CSV, JSON, parquet) always have all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from bench.analysis.health import verdict as health
from bench.core import exit_codes, sparklines
from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import MISSING, counted, show_seconds, show_text
from bench.records import findings
from bench.records.file import Result
from bench.records.lines.parts import STATUSES
from bench.records.metrics import CEILING_PERCENT, METRICS, TIME, TIME_HIGH, TIME_LOW, Metric
from bench.records.rows import Row, case_groups, case_rows, nccl_words, own_metrics, profile_lines
from bench.report import footnotes
from bench.report.case_tables import case_tables
from bench.stats import intervals

OwnMetrics = Mapping[str, Metric]
"""The suites' own metrics by name."""


def tables(results: Sequence[Result], output: str = "table", colour: bool = False, width: int | None = None) -> str:
    """All of some results in a format, ready to print. JSON is an array of one object a case and file.

    With `width` a terminal's tables fit it: parameters that all cases of a suite share stand once below its table.
    """
    rows = case_rows(results)
    if output == "json":
        return json_text(rows)
    if output == "csv":
        return csv_text(rows)
    parts: list[DisplayTable] = []
    for result in results:
        file_rows = [row for row in rows if row["file"] == str(result.path)]
        narrow = output == "table" and width is not None
        parts += [_facts(result), *suite_tables(file_rows, own_metrics([result]), narrow, _shapes(result))]
        parts += [*case_tables(result), *_missing_cases_table(result), *_health(result)]
    return render(parts, output, colour, width)


def _shapes(result: Result) -> dict[str, str | None]:
    """Case -> the shape of its samples."""
    samples = {case: group.view.ordered_seconds for case, group in case_groups([result]).items()}
    return {
        case: sparklines.shape(ordered, intervals.ordered_quantile(ordered, 0.99)) if ordered.size else None
        for case, ordered in samples.items()
    }


def _health(result: Result) -> list[DisplayTable]:
    """The rules of a run whose preset promises a verdict on the machine."""
    return [health.judge(result).table()] if health.is_judged(result) else []


def verdict(result: Result) -> str:
    """One line: how many cases have which status, how many are not in the file, and how the run ended."""
    counts = Counter(group.status for group in case_groups([result]).values())
    words = [f"{counts[status]} {status}" for status in STATUSES if counts[status]] or ["no case"]
    missing = len(missing_cases(result))
    words += [f"{missing} not measured"] if missing else []
    return f"{', '.join(words)}; {_ending(result)}"


def status_code(result: Result) -> int:
    """The exit code that the run ended with; 3 where it never came to its end."""
    return exit_codes.PARTIAL if result.end is None else result.end.exit_code


def _ending(result: Result) -> str:
    return "no end was written: it still runs, or it died" if result.end is None else f"run {result.end.status}"


def _facts(result: Result) -> DisplayTable:
    """The lines above the tables: what was measured where."""
    plan, versions = result.plan, result.environment.versions
    launches = len({record.launch for record in result.measurements})
    what = [
        f"{plan.world_size} ranks" if plan.world_size else None,
        plan.backend,
        f"preset {plan.preset}" if plan.preset else None,
        f"{launches} of {plan.launches} launches" if plan.launches else f"{launches} launches",
        *(f"{name} {versions[name]}" for name in ("torch", "cuda", "nccl") if versions.get(name)),
    ]
    lines = [
        f"file: {result.path}",
        f"measured: {', '.join(str(word) for word in what if word)}",
        *_import_lines(result),
        f"started: {result.header.started or 'unknown'} on {', '.join(result.hosts()) or 'unknown hosts'}",
        f"outcome: {verdict(result)}",
        *profile_lines(result.measurements, result.path),
        *(finding.line() for finding in findings.slow_type_findings(result)),
        *(f"warning: {warning}" for warning in result.warnings),
    ]
    return DisplayTable(f"{result.label}: {result.architecture}", (), (), tuple(lines))


def _import_lines(result: Result) -> list[str]:
    """Lines on where an imported result came from, and what of it could not be read."""
    source = result.environment.imported_from
    if source is None:
        return []
    unread = source.unread
    tool = " ".join(word for word in (source.tool, source.version) if word)
    return [
        f"imported: from {source.file}, {source.format} of {tool}",
        *(
            [f"warning: {counted(len(unread), 'row')} of it could not be read, the first {unread[0].where}"]
            if unread
            else []
        ),
    ]


def suite_tables(
    rows: Iterable[Row],
    own: OwnMetrics | None = None,
    narrow: bool = False,
    shapes: Mapping[str, str | None] | None = None,
) -> list[DisplayTable]:
    """A table for each suite with what was measured, and one of what was not, with the reasons.

    `narrow`: what all cases of a suite share stands once. `shapes`: case -> a small picture of its samples.
    """
    by_suite: dict[str, list[Row]] = {}
    not_ok: list[Row] = []
    for row in rows:
        if row["status"] == "ok":
            by_suite.setdefault(row["suite"], []).append(row)
        else:
            not_ok.append(row)
    tables_of_suites = [
        _suite_table(suite, of_suite, own or {}, narrow, shapes or {}) for suite, of_suite in by_suite.items()
    ]
    return [*tables_of_suites, _no_speed(not_ok)] if not_ok else tables_of_suites


def _suite_table(
    suite: str, rows: Sequence[Row], own: OwnMetrics, narrow: bool, shapes: Mapping[str, str | None]
) -> DisplayTable:
    marks, notes = footnotes.number_footnotes(rows)
    marked = tuple(row | {"marks": ",".join(map(str, numbers))} for row, numbers in zip(rows, marks, strict=True))
    shared = _shared_params(rows) if narrow else {}
    known = {name for row in rows for name, value in row.items() if value is not None}
    columns = _columns(own, shared, shapes, narrow, known)
    columns = [c for c in columns if any(c.show(row) != MISSING for row in marked)]
    common = [f"in all: {', '.join(shared)}"] if shared else []
    return DisplayTable(suite, tuple(columns), marked, (*common, *notes, *footnotes.common_notes(rows)))


def _shared_params(rows: Sequence[Row]) -> dict[str, None]:
    """`name=value` of the parameters that stand in every case's id, in their order."""
    ids = [_params_of(row["case"]) for row in rows]
    return dict.fromkeys(pair for pair in ids[0] if all(pair in other for other in ids)) if len(ids) > 1 else {}


def _params_of(case: str) -> list[str]:
    return [pair for pair in case.partition("[")[2].removesuffix("]").split(",") if pair]


def _name(row: Mapping[str, Any], shared: Mapping[str, None]) -> str:
    """The case without its suite and what all share."""
    name = str(row["case"]).removeprefix(f"{row['suite']}/")
    if not shared:
        return show_text(name)
    own_params = [pair for pair in _params_of(name) if pair not in shared]
    head = name.partition("[")[0]
    return show_text(f"{head}[{','.join(own_params)}]" if own_params else head)


_BANDWIDTH = "GB/s"
BEST = "best here"
# How soon a column that is no metric gives way where there is no room (see bench.core.column_fit).
_SPREAD, _NCCL, _SHAPE, _SAMPLES, _INTERVAL = 1.0, 3.0, 4.0, 5.0, 7.0


def _columns(
    own: OwnMetrics,
    shared: Mapping[str, None],
    shapes: Mapping[str, str | None],
    narrow: bool,
    known: Collection[str],
) -> list[Column]:
    """Times first, then bandwidths, then all other metrics, each in the order of the table of metrics.

    Of metrics those that a row knows, by name: a wide table of a large file is mostly columns that nothing fills.
    """
    kept = [metric for metric in METRICS.values() if metric.weight is not None and metric.name != TIME]
    times = [metric for metric in kept if metric.unit == METRICS[TIME].unit]
    rates = sorted((metric for metric in kept if metric not in times), key=lambda metric: metric.unit != _BANDWIDTH)
    further = [(number, metric) for number, metric in enumerate(own.values()) if metric.name not in METRICS]
    return [
        Column("case", lambda row: _name(row, shared), "left"),
        _metric_column(METRICS[TIME]),
        *([Column("±", _show_spread, weight=_SPREAD)] if narrow else []),
        Column("95% interval", _show_interval, weight=_INTERVAL),
        *(_metric_column(metric) for metric in times if metric.name in known),
        column("num_samples", "samples", lambda value: f"{value:,}" if value else MISSING, weight=_SAMPLES),
        Column("shape", lambda row: shapes.get(row["case"]) or MISSING, "left", _SHAPE),
        *(_metric_column(metric, number) for number, metric in enumerate(rates) if metric.name in known),
        Column("NCCL", lambda row: show_text(nccl_words(row)), "left", _NCCL),
        *(_metric_column(metric, number) for number, metric in further if metric.name in known),
        text_column("marks", "notes"),
    ]


def _metric_column(metric: Metric, number: int = 0) -> Column:
    """Column of a metric; of those of one weight a larger number gives way sooner."""
    weight = (metric.weight or 0) + number / 100
    if metric.name == CEILING_PERCENT:
        return Column(metric.head, _show_ceiling_percent, weight=weight)
    return column(metric.name, metric.head, metric.format, weight=weight)


def _show_ceiling_percent(row: Mapping[str, Any]) -> str:
    """Percent of the ceiling; the case that is the ceiling is the best here, and no share of itself."""
    is_ceiling = row.get("ceiling_source") == row["case"]
    return BEST if is_ceiling else METRICS[CEILING_PERCENT].format(row.get(CEILING_PERCENT))


def _show_interval(row: Mapping[str, Any]) -> str:
    low, high = row.get(TIME_LOW), row.get(TIME_HIGH)
    if low is None or high is None:
        return MISSING
    # Few launches far apart give ends that are right and tell nothing: nanoseconds to days.
    return "unknown" if high > footnotes.USELESS_RATIO * low else f"{show_seconds(low)} to {show_seconds(high)}"


def _show_spread(row: Mapping[str, Any]) -> str:
    """The farther end of the 95% interval, as a share of the median."""
    low, middle, high = row.get(TIME_LOW), row.get(TIME), row.get(TIME_HIGH)
    if low is None or high is None or not middle:
        return MISSING
    farthest = max(1 - low / middle, high / middle - 1)
    return f"{100 * farthest:.0f}%" if farthest < footnotes.USELESS_RATIO / 10 else "unknown"


def _no_speed(rows: Sequence[Row]) -> DisplayTable:
    columns = (
        text_column("case"),
        text_column("status"),
        text_column("reason"),
    )
    ranked = sorted(rows, key=lambda row: ("invalid", "failed", "skipped").index(row["status"]))
    return DisplayTable("No speed", columns, tuple(ranked))


def missing_cases(result: Result) -> list[str]:
    """Planned cases that the file does not have at all."""
    measured = {record.case for record in result.measurements}
    return [case for case in result.planned_cases() if case not in measured]


def _missing_cases_table(result: Result) -> list[DisplayTable]:
    """Planned cases that the file does not have, since the run ended early."""
    cases = missing_cases(result)
    if not cases:
        return []
    rows = tuple({"case": case} for case in cases)
    return [DisplayTable(f"Not measured ({_ending(result)})", (text_column("case"),), rows)]
