"""Results for people: what was measured on what, a table per suite, what has no speed and why; and plain rows.

Only columns with a value in them are shown; the plain rows (CSV, JSON, parquet) always have all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.findings import markdown, screen
from bench.analysis.findings.of_run import run_findings
from bench.analysis.health import verdict as health
from bench.core import exit_codes, sparklines
from bench.core.column_fit import choose_columns
from bench.core.table import DisplayTable, csv_text, json_text, render
from bench.core.terminal import PIPE_WIDTH
from bench.core.terminal_table import as_text
from bench.core.values import counted
from bench.records import findings
from bench.records.file import Result
from bench.records.lines.parts import STATUSES
from bench.records.rows import Row, case_groups, case_rows, own_metrics, profile_lines
from bench.records.saved_plan import planned_launches
from bench.report import cells, footnotes, legend, size_tables
from bench.report.case_tables import case_tables
from bench.report.suite_table import OwnMetrics, TableLayout, suite_table
from bench.report.unmeasured import no_speed, not_measured
from bench.stats import intervals

ROOMY = 140
"""Columns of a terminal from which on a suite has more than its four main columns."""
MORE = "More columns (intervals, percentiles, samples, every metric): --wide. Ids of cases: --ids."


def tables(
    results: Sequence[Result],
    output: str = "table",
    colour: bool = False,
    width: int | None = None,
    has_ids: bool = False,
) -> str:
    """All of some results in a format, ready to print. JSON is one object with a row per case and file.

    A lone result's findings are the last screen of a terminal, where people look, and come first in Markdown.
    With `width` a terminal's tables fit it, and have their main columns alone unless it is a wide one. `has_ids`: ids
    of cases in place of their names.
    """
    rows = case_rows(results)
    if output == "json":
        return json_object(results)
    if output == "csv":
        return csv_text(rows)
    terminal = width if output == "table" else None
    parts: list[DisplayTable] = []
    is_cut = False
    for result in results:
        of_file = [row for row in rows if row["file"] == str(result.path)]
        shown, lacks_columns = _file_tables(result, of_file, terminal, has_ids)
        parts += shown
        is_cut = is_cut or lacks_columns
    text = render([*parts, DisplayTable("", (), (), (MORE,))] if is_cut else parts, output, colour, width)
    if len(results) != 1:
        return text
    found = findings_text(results, output, colour, width)
    return f"{found}\n{text}" if output == "markdown" else f"{text}\n{found}"


def findings_text(results: Sequence[Result], output: str, colour: bool, width: int | None) -> str:
    """Findings of each result as the last screen of `bench run` has them, or as Markdown."""
    found = [run_findings(result) for result in results]
    if output == "markdown":
        return "\n".join(map(markdown.show, found))
    return "\n".join(screen.show(each, width or PIPE_WIDTH, colour) for each in found)


def json_object(results: Sequence[Result]) -> str:
    """The rows of some results, and what was found in them, as JSON."""
    return json_text({"rows": case_rows(results), "findings": _findings(results)})


def _findings(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What was found in each of the results, as plain objects; with its file if there are several."""
    if len(results) == 1:
        return run_findings(results[0]).to_json()
    return [{"file": str(result.path), **found} for result in results for found in run_findings(result).to_json()]


def _file_tables(
    result: Result, rows: Sequence[Row], width: int | None, has_ids: bool
) -> tuple[list[DisplayTable], bool]:
    """All tables of a file within the width, if there is one, and whether columns are missing from them."""
    ok = [row for row in rows if row["status"] == "ok"]
    bad = [row for row in rows if row["status"] != "ok"]
    missing = missing_cases(result)
    lines, said = footnotes.of_file(ok, _remedy(result))
    intervals = legend.interval_lines(ok, "") if _is_imported(result) else legend.interval_lines(ok)
    head = [*_facts(result), *intervals, *lines, *legend.ceiling_lines(ok), *legend.expectation_lines(ok)]
    layout = TableLayout(width is not None and width < ROOMY, has_ids, _shapes(result), said, cells.unexceeded(ok))
    shown = [
        DisplayTable(f"{result.label}: {result.architecture}", (), (), tuple(head)),
        *_suites(ok, own_metrics([result]), layout, width),
        *([no_speed(bad, has_ids)] if bad else []),
        *case_tables(result, has_ids),
        *([not_measured(missing, _ending(result), has_ids)] if missing else []),
        *_health(result),
    ]
    if width is None:
        return shown, False
    fitted, is_cut = _fit(shown, width)
    return fitted, bool(ok) and (is_cut or layout.is_brief)


def _remedy(result: Result) -> str:
    """What gives more samples than this run had; bench cannot repeat what another tool measured."""
    if _is_imported(result):
        return ""
    return ": for error bars: bench run" if result.plan.preset == "smoke" else ": a larger --budget gives more"


def _is_imported(result: Result) -> bool:
    return result.environment.imported_from is not None


def _fit(shown: Sequence[DisplayTable], width: int) -> tuple[list[DisplayTable], bool]:
    """The tables with the columns for which there is room, and whether any is missing: said once, not at each."""
    fitted, is_cut = [], False
    for table in map(as_text, shown):
        kept, gone = choose_columns(table, width)
        fitted.append(replace(table, columns=kept))
        is_cut = is_cut or bool(gone)
    return fitted, is_cut


def _suites(ok: Sequence[Row], own: OwnMetrics, layout: TableLayout, width: int | None) -> Iterator[DisplayTable]:
    """The tables of each suite: by size and operation if it is about these and the terminal is to be fitted."""
    for suite, rows in _by_suite(ok).items():
        grid = None if width is None or layout.has_ids else size_tables.grid(rows)
        if grid is None:
            yield suite_table(suite, rows, own, layout)
            continue
        yield from size_tables.size_tables(suite, grid, width, layout.said or frozenset())
        if grid.others:
            yield suite_table(suite, grid.others, own, layout, f"{suite}: other cases")


def suite_tables(rows: Iterable[Row], own: OwnMetrics | None = None) -> list[DisplayTable]:
    """A table per suite with all that was measured, and one of what was not, with the reasons; each explains itself."""
    every = list(rows)
    ok = [row for row in every if row["status"] == "ok"]
    shown = [suite_table(suite, of_suite, own or {}, TableLayout()) for suite, of_suite in _by_suite(ok).items()]
    return [*shown, no_speed([row for row in every if row["status"] != "ok"])] if len(ok) < len(every) else shown


def _by_suite(rows: Iterable[Row]) -> dict[str, list[Row]]:
    by_suite: dict[str, list[Row]] = {}
    for row in rows:
        by_suite.setdefault(row["suite"], []).append(row)
    return by_suite


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
    """The exit code that the run ended with; 3 if it never came to its end."""
    return exit_codes.PARTIAL if result.end is None else result.end.exit_code


def _ending(result: Result) -> str:
    return "no end was written: it still runs, or it died" if result.end is None else f"run {result.end.status}"


def _facts(result: Result) -> list[str]:
    """Lines on what was measured where."""
    plan, versions = result.plan, result.environment.versions
    launches, planned = len({record.launch for record in result.measurements}), planned_launches(result)
    what = [
        f"{plan.world_size} ranks" if plan.world_size else None,
        plan.backend,
        f"preset {plan.preset}" if plan.preset else None,
        f"{launches} of {planned} launches" if planned else f"{launches} launches",
        *(f"{name} {versions[name]}" for name in ("torch", "cuda", "nccl") if versions.get(name)),
    ]
    return [
        f"file: {result.path}",
        f"measured: {', '.join(str(word) for word in what if word)}",
        *_import_lines(result),
        f"started: {result.header.started or 'unknown'} on {', '.join(result.hosts()) or 'unknown hosts'}",
        f"outcome: {verdict(result)}",
        *profile_lines(result.measurements, result.path),
        *(finding.line() for finding in findings.slow_type_findings(result)),
        *(f"warning: {warning}" for warning in result.warnings),
    ]


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
        *([f"taken off its text: {'; '.join(source.taken_off)}"] if source.taken_off else []),
        *(f"warning: it contradicts itself: {text}" for text in source.contradictions),
        *(f"note: {remark}" for remark in source.remarks),
    ]


def missing_cases(result: Result) -> list[str]:
    """Planned cases that the file does not have at all."""
    measured = {record.case for record in result.measurements}
    return [case for case in result.planned_cases() if case not in measured]
