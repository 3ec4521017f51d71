"""The answer first: which architecture is ahead on what, by how much, how sure; or what one machine reaches.

No figure sums up several message sizes: the best of each kind is named with its case, and verdicts are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.compare.comparison_tables import show_change, show_interval
from bench.core.table import DisplayTable, text_column
from bench.records import metrics
from bench.report.page.section import Section
from bench.report.plots.source import Source

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.records.rows import Row
MAX_DECIDED = 8


class Peak(NamedTuple):
    """The best that a run reached of one kind."""

    what: str
    suite: str
    op: str | None
    metric: str


PEAKS = (
    Peak("fastest matrix product", "compute", "matmul", metrics.COMPUTE_SPEED),
    Peak("largest share of the catalogue's peak", "compute", "matmul", metrics.PEAK_SHARE),
    Peak("highest memory bandwidth", "compute", None, metrics.MEMORY_BANDWIDTH),
    Peak("highest all-reduce bus bandwidth", "collective", "all_reduce", metrics.BUS_BANDWIDTH),
    Peak("shortest all-reduce", "collective", "all_reduce", metrics.TIME),
    Peak("fastest pair of ranks", "point_to_point", None, metrics.ALGORITHM_BANDWIDTH),
    Peak("fastest tensor-parallel block", "tensor_parallel", None, metrics.COMPUTE_SPEED),
    Peak("fastest pipeline", "pipeline_parallel", None, metrics.TOKEN_SPEED),
    Peak("fastest training step", "training_step", None, metrics.TOKEN_SPEED),
    Peak("fastest generation", "inference", None, metrics.TOKEN_SPEED),
)
"""A suite's most telling figures; a new suite may add a row."""


def answers(source: Source) -> Section:
    """The first section of a report."""
    tables = [table for table in (_best_figures(source),) if table.rows]
    if source.comparison is not None:
        tables = [_verdicts(source.comparison), *_change_tables(source.comparison), *tables]
    return Section("answer", "The answer", tuple(_sentences(source)), tuple(tables))


def _sentences(source: Source) -> Iterator[str]:
    counts = Counter(row["status"] for run in source.series for row in run.rows)
    bad = counts["failed"] + counts["invalid"]
    if bad:
        yield f"{bad} cases failed or are invalid: they have no speed, and stand below with their reasons."
    if source.comparison is None:
        yield f"{counts['ok']} cases measured and checked on {source.series[0].result.architecture}."
        if all(row["num_launches"] < 2 for run in source.series for row in run.rows):
            yield "One launch: there is no error bar. Measure with --launches 3 before comparing."
        return
    base, *news = source.comparison.sides
    for new in news:
        yield _sentence(source.comparison, base.name, new.name)


def _sentence(comparison: Comparison, base: str, new: str) -> str:
    rows = [row for row in comparison.cases if row["name"] == new]
    counts = Counter(row["verdict"] for row in rows)
    decided = counts["faster"] + counts["slower"]
    total = f"of {len(rows)} common cases"
    tail = f"{counts['same']} are the same, {counts['unclear']} unclear"
    if not decided:
        return f"{new} against {base}: no case {total} is shown to differ; {tail}."
    if not counts["slower"]:
        return f"{new} is ahead of {base}: faster in {counts['faster']} {total}, slower in none; {tail}."
    if not counts["faster"]:
        return f"{new} is behind {base}: slower in {counts['slower']} {total}, faster in none; {tail}."
    ahead = f"faster in {counts['faster']} and slower in {counts['slower']} {total}"
    return f"{new} against {base}: {ahead}; {tail}. Which is better depends on the work."


def _verdicts(comparison: Comparison) -> DisplayTable:
    """Counts of verdicts by new side and suite."""
    by_suite: dict[tuple[str, str], Counter[str]] = {}
    for row in comparison.cases:
        by_suite.setdefault((row["name"], row["suite"]), Counter())[row["verdict"]] += 1
    rows = tuple(
        {"run": name, "suite": suite, **{verdict: str(counts[verdict]) for verdict in _VERDICTS}}
        for (name, suite), counts in by_suite.items()
    )
    columns = tuple(text_column(key) for key in ("run", "suite", *_VERDICTS))
    return DisplayTable(f"Verdicts against {comparison.sides[0].name}, cases", columns, rows)


_VERDICTS = ("faster", "slower", "same", "unclear")


def _change_tables(comparison: Comparison) -> Iterator[DisplayTable]:
    """The largest changes that are shown, with their intervals: how much, and how sure."""
    rows = [row for row in comparison.cases if row["verdict"] in ("faster", "slower")]
    if not rows:
        return
    rows.sort(key=lambda row: -abs(row["change"]))
    keys = ("run", "case", "verdict", "change", "95% interval")
    shown = tuple(
        {
            "run": row["name"],
            "case": row["case"],
            "verdict": row["verdict"],
            "change": show_change(row["change"]),
            "95% interval": show_interval(row),
        }
        for row in rows[:MAX_DECIDED]
    )
    yield DisplayTable("The largest changes of time that are shown", tuple(text_column(key) for key in keys), shown)


def _best_figures(source: Source) -> DisplayTable:
    rows: list[dict[str, Any]] = []
    for peak in PEAKS:
        row: dict[str, Any] = {"what": peak.what}
        for run in source.series:
            best = _best(run.suite_rows(peak.suite, peak.op), peak)
            row[run.name] = None if best is None else _best_text(best, peak, len(source.series) == 1)
        if any(row[run.name] for run in source.series):
            rows.append(row)
    columns = (text_column("what", "reached"), *(text_column(run.name) for run in source.series))
    return DisplayTable("What was reached", columns, tuple(rows))


def _best(rows: list[Row], peak: Peak) -> Row | None:
    candidates = [row for row in rows if row.get(peak.metric)]
    if not candidates:
        return None
    sign = -1 if metrics.METRICS[peak.metric].better == "lower" else 1
    return max(candidates, key=lambda row: sign * row[peak.metric])


def _best_text(row: Row, peak: Peak, with_case: bool) -> str:
    text = metrics.METRICS[peak.metric].phrase(row[peak.metric])
    return f"{text} ({row['case'].partition('/')[2]})" if with_case else text
