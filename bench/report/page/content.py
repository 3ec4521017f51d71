"""Content of a report, in order and without a format: the answer, then sections of sentences, tables and plots.

Behind the answer all is folded on a page: what was measured on what, all cases, the suites, the ranks, what has no
speed, the environments with their differences, and how to read each number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.analysis.compare.comparison_tables import tables as comparison_tables
from bench.analysis.findings.kinds import DataState
from bench.core.table import Column, DisplayTable, text_column
from bench.core.values import counted
from bench.records import environments as headers
from bench.records.case_names import CaseNames
from bench.records.metrics import METRICS
from bench.records.rows import own_metrics
from bench.records.saved_plan import planned_launches
from bench.report import rank_table, result_tables
from bench.report.page import answers
from bench.report.page.all_cases import all_cases
from bench.report.page.environments import environments
from bench.report.page.section import Content, Section
from bench.report.plots import draw
from bench.report.plots.source import COMPARISON, Plot, Source

if TYPE_CHECKING:
    from bench.analysis.findings.kinds import Findings
    from bench.records.file import Result

MAX_RANK_ROWS = 200
LEAD = "roofline"
"""Plot that is next to the bars of one run."""
TELLING = ("roofline", "collective-bandwidth", "speed-up", "pairs-1", "idle")
"""Plots of which a page has the first MAX_PLOTS that there are; folders and Markdown have all."""
MAX_PLOTS = 4


def build(runs: Sequence[Sequence[Result]]) -> Content:
    """The report of some runs, each the files of its launches; the first is the base of the comparison."""
    source = Source.of(runs)
    plots = list(draw(source))
    files = {str(result.path): run.name for run in source.series for result in run.results}
    names = source.names
    by_name = {plot.name: plot for plot in plots}
    title, lead = answers.lead(source, by_name.get(LEAD))
    sections = [
        _runs_section(source, lead.findings),
        *_comparison(source, names, [plot for plot in plots if plot.section == COMPARISON]),
        *_suites(source, plots, files, names),
        *_others(plots, source.suites()),
        *_ranks(source, files, names),
        *_no_speed(source, files, names),
        environments([run.result for run in source.series], [run.name for run in source.series]),
        _reading(source),
    ]
    emulated = [run.name for run in source.series if headers.emulation_label(run.result.environment.ranks)]
    on_page = [name for name in TELLING if name in by_name][:MAX_PLOTS]
    return Content(title, tuple(replace(s, folded=True) for s in sections), tuple(emulated), lead, on_page)


def _runs_section(source: Source, findings: Findings) -> Section:
    columns = tuple(text_column(key) for key in _MEASURED)
    rows = tuple(_run_row(run.name, run.results) for run in source.series)
    warnings = dict.fromkeys(warning for run in source.series for result in run.results for warning in result.warnings)
    states = [f"{state.quality.capitalize()} data: {state.text}" for state in findings.of_kind(DataState)]
    tables = [DisplayTable("", columns, rows)]
    if len(source.series) > 1:
        tables += [table for table in (answers.reached_table(source),) if table.rows]
    return Section("measured", "What was measured", (*states, *warnings), tuple(tables))


_MEASURED = (
    "run", "architecture", "hosts", "ranks", "backend", "preset", "launches", "started", "torch", "outcome",
)  # fmt: skip


def _run_row(name: str, results: Sequence[Result]) -> dict[str, Any]:
    result = results[0]
    plan = result.plan
    launches = sum(len({record.launch for record in saved.measurements}) for saved in results)
    of_one = planned_launches(result)
    planned = None if of_one is None else of_one * len(results)
    return {
        "run": name,
        "architecture": result.architecture,
        "hosts": ", ".join(result.hosts()[:4]) + (" ..." if len(result.hosts()) > 4 else ""),
        "ranks": plan.world_size,
        "backend": plan.backend,
        "preset": plan.preset,
        "launches": f"{launches} of {planned}" if planned else str(launches),
        "started": (result.header.started or "")[:16].replace("T", " "),
        "torch": result.environment.versions.get("torch"),
        "outcome": result_tables.verdict(result),
    }


def _comparison(source: Source, names: CaseNames, plots: Sequence[Plot]) -> Iterator[Section]:
    if source.comparison is None:
        return
    table = all_cases(source.comparison, names)
    base = source.comparison.sides[0].name
    text = f"Each run is compared with the first, {base}. Time: below 1x is faster."
    others = [table for table in comparison_tables(source.comparison) if table.title.startswith("Only on")]
    title = f"All {len(table.rows)} common cases" if others else f"All {len(table.rows)} cases"
    yield Section("comparison", title, (text,), (table, *others), tuple(plots))


def _suites(source: Source, plots: Sequence[Plot], files: dict[str, str], names: CaseNames) -> Iterator[Section]:
    rows = [row for run in source.series for row in run.rows]
    suite_metrics = own_metrics([run.result for run in source.series])
    summaries = {suite.name: suite.summary for run in source.series for suite in run.result.plan.suites}
    parts = []
    for number, suite in enumerate(source.suites(), 1):
        measured = [row for row in rows if row["suite"] == suite and row["status"] == "ok"]
        suite_tables = result_tables.suite_tables(measured, suite_metrics)
        tables = [_shown(table, files, names.within) for table in suite_tables]
        drawn = tuple(plot for plot in plots if plot.section == suite)
        said = [summaries[suite]] if summaries.get(suite) else []
        said += [f"All of {line}." for line in names.shared.get(suite, ())]
        if tables or drawn:
            title = f"{suite.replace('_', ' ')} ({len({row['case'] for row in measured})})"
            parts.append(Section(f"suite-{number}", title, tuple(said), tuple(tables), drawn))
    if parts:
        title = f"By suite, {counted(len(names.names), 'case')}"
        # On paper the table of all cases says what a comparison has to say.
        yield Section("suites", title, parts=tuple(parts), is_printed=source.comparison is None)


def _shown(table: DisplayTable, files: dict[str, str], name: Callable[[str], str]) -> DisplayTable:
    """Table with short names of cases, and a column of the side if there are several; the title is the section's."""
    columns = [
        replace(column, show=lambda row: name(row["case"])) if column.head == "case" else column
        for column in table.columns
    ]
    if len(files) > 1:
        columns.insert(1, Column("run", lambda row: files[row["file"]], "left"))
    return DisplayTable("", tuple(columns), table.rows, table.footnotes)


def _across(names: CaseNames) -> Callable[[str], str]:
    """Names in lists of several suites; a case that only one side has keeps its id."""
    return lambda case: names.across(case) if case in names.names else case


def _others(plots: Sequence[Plot], suites: Sequence[str]) -> Iterator[Section]:
    rest = tuple(plot for plot in plots if plot.section not in (*suites, COMPARISON))
    if rest:
        yield Section("history", "Over time", (), (), rest)


def _ranks(source: Source, files: dict[str, str], names: CaseNames) -> Iterator[Section]:
    rows = rank_table.rank_rows([result for run in source.series for result in run.results])
    if not rows:
        return
    texts: tuple[str, ...] = rank_table.NOTES
    if len(rows) > MAX_RANK_ROWS:
        texts = (*texts, f"The first {MAX_RANK_ROWS} of {len(rows)} rows; bench show FILE --ranks prints all.")
    shown = tuple(rows[:MAX_RANK_ROWS])
    columns = tuple(column for column in rank_table.COLUMNS if column.weight == 0 or _varies(column, shown))
    table = _shown(DisplayTable("", columns, shown), files, _across(names))
    yield Section("ranks", "Ranks", texts, (table,), is_printed=False)


def _varies(column: Column, rows: Sequence[dict[str, Any]]) -> bool:
    """True if a column tells rows apart; values that all rows share are in the environments."""
    return len({column.show(row) for row in rows}) > 1


_WORST_FIRST = ("invalid", "failed", "skipped")


def _no_speed(source: Source, files: dict[str, str], names: CaseNames) -> Iterator[Section]:
    rows = [row for run in source.series for row in run.rows if row["status"] != "ok"]
    rows.sort(key=lambda row: _WORST_FIRST.index(row["status"]))
    listed = DisplayTable("", tuple(map(text_column, ("case", "status", "reason"))), tuple(rows))
    tables = [_shown(listed, files, _across(names))] if rows else []
    for run in source.series:
        missing = result_tables.missing_cases(run.result)
        if missing:
            lost = tuple({"case": case} for case in missing)
            tables.append(DisplayTable(f"Not measured in {run.name}", (text_column("case"),), lost))
    if tables:
        count = sum(len(table.rows) for table in tables)
        text = "Nothing here has a speed: skipped, failed, or invalid since a check did not hold."
        yield Section("no-speed", f"No speed, and why, {counted(count, 'case')}", (text,), tuple(tables))


def _reading(source: Source) -> Section:
    rows = [row for run in source.series for row in run.rows]
    present = {name for row in rows for name, value in row.items() if value is not None}
    own = own_metrics([run.result for run in source.series])
    described = tuple(
        {"metric": name, "unit": metric.unit, "better": metric.better, "meaning": metric.meaning}
        for name, metric in (METRICS | own).items()
        if name in present or name not in METRICS
    )
    columns = tuple(text_column(key) for key in ("metric", "unit", "better", "meaning"))
    text = (
        "The time of a case is the maximum over the ranks, sample by sample: a step is over when its last rank is.",
        "An interval within one launch says nothing of the next launch; several launches give an error bar.",
        "Unknown is missing (-), never 0. GB are 10⁹ bytes, MiB 2²⁰.",
    )
    return Section(
        "reading",
        "How to read each number",
        text,
        (DisplayTable("", columns, described),),
        is_printed=False,
    )
