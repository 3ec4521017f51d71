"""The table of a suite: four columns that answer, and with more room all that is known.

Case, time, main rate, share of the ceiling; a fifth names footnotes if there are any. A column that no row fills is
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.core.table import Column, DisplayTable, text_column
from bench.core.values import MISSING, show_count, show_text
from bench.records.case_names import name_cases
from bench.records.metrics import CEILING_PERCENT, METRICS, PEAK_SHARE, TIME, Metric
from bench.records.rows import nccl_words
from bench.records.samples import has_few_samples
from bench.report import cells, footnotes, legend
from bench.report.case_order import ordered

Row = Mapping[str, Any]
OwnMetrics = Mapping[str, Metric]
"""The suites' own metrics by name."""

# How soon a column that is not a further metric gives way if there is no room (see bench.core.column_fit).
_RATE, _SHARE, _SPREAD, _NCCL, _SHAPE, _SAMPLES, _INTERVAL = 0.5, 0.6, 1.0, 3.0, 4.0, 5.0, 7.0


@dataclass(frozen=True)
class TableLayout:
    """How much of a suite's cases is shown, and how."""

    is_brief: bool = False
    """Four columns, and notes."""
    has_ids: bool = False
    """Ids of cases in place of their names."""
    shapes: Mapping[str, str | None] = field(default_factory=dict)
    """Case -> a small picture of its samples."""
    said: frozenset[footnotes.Key] | None = None
    """Footnotes that the head of the file says; None: it has none, and each table has its own legend."""
    best: frozenset[str] | None = None
    """Cases that set a ceiling which no case of the file exceeds; None: of the rows themselves."""


def suite_table(
    suite: str, rows: Iterable[Row], own: OwnMetrics, layout: TableLayout, title: str | None = None
) -> DisplayTable:
    """The table of the cases of a suite that are ok."""
    shown = ordered(list(rows))
    names = name_cases(row["case"] for row in shown)
    marks, notes = footnotes.of_table(shown, layout.said or frozenset())
    marked = tuple(
        {**row, "name": names.within(row["case"]), "marks": ",".join(map(str, numbers))}
        for row, numbers in zip(shown, marks, strict=True)
    )
    columns = _brief_columns(marked, own, layout)
    if not layout.is_brief:
        columns += _further_columns(marked, own, layout)
    columns.append(text_column("marks", "notes"))
    columns = [column for column in columns if any(column.show(row) != MISSING for row in marked)]
    common = [] if layout.has_ids else [f"{line}" for line in names.shared.get(suite, ())]
    own_legend = [] if layout.said is not None else [*legend.interval_lines(shown), *legend.ceiling_lines(shown)]
    return DisplayTable(suite if title is None else title, tuple(columns), marked, (*common, *notes, *own_legend))


def _brief_columns(rows: Sequence[Row], own: OwnMetrics, layout: TableLayout) -> list[Column]:
    key = "case" if layout.has_ids else "name"
    columns = [
        Column("case", lambda row: _without_suite(row) if key == "case" else show_text(row[key]), "left"),
        _time_column(rows, layout),
        _rate_column(rows, own),
        _share_column(rows, layout),
    ]
    return [column for column in columns if column is not None]


def _without_suite(row: Row) -> str:
    return show_text(str(row["case"]).removeprefix(f"{row['suite']}/"))


def _time_column(rows: Sequence[Row], layout: TableLayout) -> Column:
    """Time; with its error bar, both aligned, if that has no column of its own."""
    if not layout.is_brief:
        return Column(METRICS[TIME].head, cells.show_time)
    room = max((len(cells.show_error(row)) for row in rows), default=0)

    def show(row: Row) -> str:
        return f"{cells.show_time(row)} {cells.show_error(row).rjust(room)}" if room else cells.show_time(row)

    return Column(METRICS[TIME].head, show)


def _rate_column(rows: Sequence[Row], own: OwnMetrics) -> Column | None:
    """The main rate of each row; a name is next to the value if the rows' rates differ in kind."""
    kinds = {metric.name: metric for row in rows if (metric := cells.main_rate(row, own)) is not None}
    if not kinds:
        return None
    metrics = list(kinds.values())
    if len(metrics) == 1:
        return Column(metrics[0].head, partial(_show_rate, own=own, is_named=False), weight=_RATE)
    if all(metric.is_per_device for metric in metrics):
        return Column("rate per device", partial(_show_rate, own=own, is_named=False), weight=_RATE)
    return Column("rate", partial(_show_rate, own=own, is_named=True), weight=_RATE)


def _show_rate(row: Row, own: OwnMetrics, is_named: bool) -> str:
    metric = cells.main_rate(row, own)
    if metric is None:
        return MISSING
    text = cells.show_metric(row, metric)
    if not is_named:
        return text
    if metric.is_per_device:
        return f"{text} per device"
    return text if metric.headline else f"{text} {metric.head}"


def _share_column(rows: Sequence[Row], layout: TableLayout) -> Column | None:
    """Share of the measured ceiling; of the data sheet's peak in a suite without a ceiling."""
    if any(row.get(CEILING_PERCENT) is not None for row in rows):
        best = cells.unexceeded(rows) if layout.best is None else layout.best
        return Column(METRICS[CEILING_PERCENT].head, partial(cells.show_ceiling_percent, best=best), weight=_SHARE)
    if any(row.get(PEAK_SHARE) is not None for row in rows):
        return Column("of peak", cells.show_peak_percent, weight=_SHARE)
    return None


def _further_columns(rows: Sequence[Row], own: OwnMetrics, layout: TableLayout) -> list[Column]:
    """Spread, interval and tails, then the metrics that the main columns leave out, in the order of their table."""
    known = {name for row in rows for name, value in row.items() if value is not None}
    shown = {TIME, CEILING_PERCENT, *_said_by_rates(rows, own)}
    kept = [m for m in METRICS.values() if m.weight is not None and m.name in known and m.name not in shown]
    times = [metric for metric in kept if metric.unit == METRICS[TIME].unit]
    rates = sorted((metric for metric in kept if metric not in times), key=lambda m: m.unit != _BANDWIDTH)
    further = [m for m in own.values() if m.name not in METRICS and m.name in known and m.name not in shown]
    return [
        Column("±", lambda row: cells.show_error(row).removeprefix("±") or MISSING, weight=_SPREAD),
        Column("spread", cells.show_spread, weight=_SPREAD),
        Column("95% interval", cells.show_interval, weight=_INTERVAL),
        *(_metric_column(metric) for metric in times),
        Column("samples", lambda row: show_count(row["num_samples"] or None), weight=_SAMPLES),
        Column("shape", lambda row: _show_shape(row, layout.shapes), "left", _SHAPE),
        *(_metric_column(metric, number) for number, metric in enumerate(rates)),
        Column("NCCL", lambda row: show_text(nccl_words(row)), "left", _NCCL),
        *(_metric_column(metric, number) for number, metric in enumerate(further)),
    ]


_BANDWIDTH = "GB/s"


def _said_by_rates(rows: Sequence[Row], own: OwnMetrics) -> set[str]:
    """Metrics whose every value is in the column of main rates."""
    chosen = [(row, cells.main_rate(row, own)) for row in rows]
    names = {metric.name for _, metric in chosen if metric is not None}
    return {
        name
        for name in names
        if all(row.get(name) is None or (metric is not None and metric.name == name) for row, metric in chosen)
    }


def _show_shape(row: Row, shapes: Mapping[str, str | None]) -> str:
    return MISSING if has_few_samples(row) else shapes.get(row["case"]) or MISSING


def _metric_column(metric: Metric, number: int = 0) -> Column:
    """Column of a metric; of those of one weight a larger number gives way sooner."""
    show: Callable[[Row], str] = partial(cells.show_metric, metric=metric)
    if metric.name == PEAK_SHARE:
        show = cells.show_peak_percent
    return Column(metric.head, show, weight=(metric.weight or 0) + number / 100)
