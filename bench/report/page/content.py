"""Content of a report, in order and without a format: sections of sentences, tables and plots.

The answer comes first, then what was measured on what, the comparison, each suite, the ranks, what has no speed, the
environments with their differences, and how to read each number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.analysis.compare.comparison_tables import tables as comparison_tables
from bench.core.table import Column, DisplayTable, text_column
from bench.records import environments as headers
from bench.records.metrics import METRICS
from bench.records.rows import own_metrics
from bench.report import rank_table, result_tables
from bench.report.page.answers import answers
from bench.report.page.environments import environments
from bench.report.page.section import Content, Section
from bench.report.plots import draw
from bench.report.plots.source import Plot, Source

if TYPE_CHECKING:
    from bench.records.file import Result

MAX_RANK_ROWS = 400


def build(runs: Sequence[Sequence[Result]]) -> Content:
    """The report of some runs, each the files of its launches; the first is the base of the comparison."""
    source = Source.of(runs)
    plots = list(draw(source))
    names = {str(result.path): run.name for run in source.series for result in run.results}
    sections = [
        answers(source),
        _runs_section(source),
        *_comparison(source, [plot for plot in plots if plot.section == "comparison"]),
        *_suites(source, plots, names),
        *_others(plots, source.suites()),
        *_ranks(source, names),
        *_no_speed(source, names),
        environments([run.result for run in source.series], [run.name for run in source.series]),
        _reading(source),
    ]
    emulated = [run.name for run in source.series if headers.emulation_label(run.result.environment.ranks)]
    return Content(_title(source), tuple(sections), tuple(emulated))


def _title(source: Source) -> str:
    architectures = list(dict.fromkeys(run.result.architecture for run in source.series))
    if len(source.series) == 1:
        return f"{source.series[0].name}: {architectures[0]}"
    if len(architectures) == 1:
        return f"{len(source.series)} runs on {architectures[0]}"
    return " · ".join(architectures) if len(architectures) <= 3 else f"{len(architectures)} architectures"


def _runs_section(source: Source) -> Section:
    columns = tuple(text_column(key) for key in _MEASURED)
    rows = tuple(_run_row(run.name, run.results) for run in source.series)
    warnings = tuple(warning for run in source.series for result in run.results for warning in result.warnings)
    return Section("measured", "What was measured on what", source.notes + warnings, (DisplayTable("", columns, rows),))


_MEASURED = (
    "run", "architecture", "hosts", "ranks", "backend", "preset", "launches", "started", "torch", "outcome",
)  # fmt: skip


def _run_row(name: str, results: Sequence[Result]) -> dict[str, Any]:
    result = results[0]
    plan = result.plan
    launches = sum(len({record.launch for record in saved.measurements}) for saved in results)
    planned = None if not plan.launches else plan.launches * len(results)
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


def _comparison(source: Source, plots: Sequence[Plot]) -> Iterator[Section]:
    if source.comparison is not None:
        tables = [table for table in comparison_tables(source.comparison, everything=True) if table.title != "Not ok"]
        base = source.comparison.sides[0].name
        text = f"Each run is held against the first, {base}. Time: lower is better."
        yield Section("comparison", "Case by case", (text,), tuple(tables), tuple(plots))


def _suites(source: Source, plots: Sequence[Plot], names: dict[str, str]) -> Iterator[Section]:
    rows = [row for run in source.series for row in run.rows]
    suite_metrics = own_metrics([run.result for run in source.series])
    summaries = {suite.name: suite.summary for run in source.series for suite in run.result.plan.suites}
    for suite in source.suites():
        suite_tables = result_tables.suite_tables(
            [row for row in rows if row["suite"] == suite and row["status"] == "ok"], suite_metrics
        )
        tables = tuple(_with_side(table, names) for table in suite_tables)
        drawn = tuple(plot for plot in plots if plot.section == suite)
        summary = (summaries[suite],) if summaries.get(suite) else ()
        if tables or drawn:
            yield Section(f"suite-{suite}", suite.replace("_", " "), summary, tables, drawn)


def _with_side(table: DisplayTable, names: dict[str, str]) -> DisplayTable:
    """Table with a column of the side if there are several; the title is the section's."""
    side = Column("run", lambda row: names[row["file"]], "left")
    columns = (side, *table.columns) if len(names) > 1 else table.columns
    return DisplayTable("", columns, table.rows, table.footnotes)


def _others(plots: Sequence[Plot], suites: Sequence[str]) -> Iterator[Section]:
    rest = tuple(plot for plot in plots if plot.section not in (*suites, "comparison"))
    if rest:
        yield Section("history", "Over time", (), (), rest)


def _ranks(source: Source, names: dict[str, str]) -> Iterator[Section]:
    rows = rank_table.rank_rows([result for run in source.series for result in run.results])
    if not rows:
        return
    texts: tuple[str, ...] = rank_table.NOTES
    if len(rows) > MAX_RANK_ROWS:
        texts = (*texts, f"The first {MAX_RANK_ROWS} of {len(rows)} rows; bench show FILE --ranks prints all.")
    table = _with_side(DisplayTable("", rank_table.COLUMNS, tuple(rows[:MAX_RANK_ROWS])), names)
    yield Section("ranks", "Rank by rank", texts, (table,), folded=True)


def _no_speed(source: Source, names: dict[str, str]) -> Iterator[Section]:
    rows = [row for run in source.series for row in run.rows if row["status"] != "ok"]
    tables = [_with_side(table, names) for table in result_tables.suite_tables(rows)]
    for run in source.series:
        missing = result_tables.missing_cases(run.result)
        if missing:
            lost = tuple({"case": case} for case in missing)
            tables.append(DisplayTable(f"Not measured in {run.name}", (text_column("case"),), lost))
    if tables:
        text = "Nothing here has a speed: skipped, failed, or invalid since a check did not hold."
        yield Section("no-speed", "What was skipped or failed, and why", (text,), tuple(tables))


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
        folded=True,
    )
