"""Bandwidth and latency of collectives over the size of the message, an operation a panel, with its ceiling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.core.table import Column, DisplayTable, text_column
from bench.core.values import show_quantity, show_size
from bench.records.metrics import BUS_BANDWIDTH, CEILING_PERCENT, METRICS, TIME, TIME_HIGH, TIME_LOW
from bench.report.plots.source import Plot, PlottedRun, Source, families
from bench.report.plots.style import canvas, plain_log, shorten, size_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.records.rows import Row

SUITE, SIZE = "collective", "num_bytes"
COLUMNS = 3
MAX_POINTS = 120
"""Points of one line; more sizes than that are thinned evenly, first and last included."""
USELESS = 10.0
"""An interval whose ends are further apart than this many times its middle is drawn to that, and says no more."""

_KINDS = (
    ("bandwidth", BUS_BANDWIDTH, 1.0, "bus bandwidth (GB/s)", "Bus bandwidth over message size",
     "Higher is better; both axes are logarithmic. Whiskers: 95% interval. The dotted line is the measured ceiling "
     "if the file has one (point-to-point), to which bus bandwidth can be held."),
    ("latency", TIME, 1e6, "time of one call (us)", "Time over message size",
     "Lower is better; both axes are logarithmic. The flat part at small sizes is the latency. Whiskers: 95% "
     "interval."),
)  # fmt: skip


def draw(source: Source) -> Iterator[Plot]:
    """Two drawings, if any side has an operation at two sizes or more."""
    ops = [op for op in source.ops(SUITE) if any(_line(run, op) for run in source.series)]
    if not ops:
        return
    for name, metric, scale, label, title, caption in _KINDS:
        columns = min(COLUMNS, len(ops))
        count = math.ceil(len(ops) / columns)
        figure, grid = canvas(3.1 * columns, 2.5 * count + 0.5, count, columns, sharex=True)
        for op, axes in zip(ops, grid.flat, strict=False):
            _panel(axes, source, op, metric, scale)
        for axes in grid.flat[len(ops) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel(label)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower left", ncols=2)
        yield Plot(f"collective-{name}", SUITE, title, caption, figure, _table(source, ops, metric))


def _table(source: Source, ops: Sequence[str], metric: str) -> DisplayTable:
    """The figures of the lines: a row per operation and size, a column per run."""
    values: dict[tuple[str, int], dict[str, float | None]] = {}
    for op in ops:
        for run in source.series:
            for row in _line(run, op):
                values.setdefault((op, int(row["params"][SIZE])), {})[run.name] = row[metric]
    rows = tuple({"op": op, "size": show_size(size), "values": runs} for (op, size), runs in values.items())
    unit = METRICS[metric].unit
    columns = [Column(run.name, partial(_cell, name=run.name, unit=unit)) for run in source.series]
    return DisplayTable("", (text_column("op", "operation"), text_column("size", "message"), *columns), rows)


def _cell(row: Mapping[str, Any], name: str, unit: str) -> str:
    return show_quantity(row["values"].get(name), unit)


def _line(run: PlottedRun, op: str) -> list[Row]:
    """The operation over its sizes: the largest family of rows that differ in the size alone."""
    lines = families(run.suite_rows(SUITE, op), SIZE)
    line = lines[0] if lines and len(lines[0]) > 1 else []
    step = (len(line) - 1) / (MAX_POINTS - 1)
    return line if step <= 1 else [line[round(n * step)] for n in range(MAX_POINTS)]


def _panel(axes: Axes, source: Source, op: str, metric: str, scale: float) -> None:
    sizes: list[float] = []
    for run in source.series:
        rows = [row for row in _line(run, op) if row[metric]]
        if not rows:
            continue
        xs = [float(row["params"][SIZE]) for row in rows]
        ys = [row[metric] * scale for row in rows]
        bounds = list(zip(*(_whisker(row, metric, scale) for row in rows), strict=True))
        look = run.look
        axes.errorbar(xs, ys, yerr=bounds, color=look.colour, marker=look.marker, ms=3.5, lw=1.2, ls=look.dash,
                      capsize=2, elinewidth=0.8, label=run.name)  # fmt: skip
        sizes += xs
        if metric == BUS_BANDWIDTH:
            _ceiling(axes, rows, look.colour)
    axes.set_title(shorten(op, 24))
    axes.set_yscale("log")
    axes.grid(True)
    plain_log(axes.yaxis)
    axes.set_xlabel("message size")
    axes.tick_params(labelbottom=True)
    if sizes:
        size_axis(axes, sizes)


def _whisker(row: Row, metric: str, scale: float) -> tuple[float, float]:
    """Distances to the ends of the interval; a rate's ends are the time's, turned round."""
    middle, value = row[TIME], row[metric] * scale
    low, high = row[TIME_LOW] or middle, row[TIME_HIGH] or middle
    low, high = max(low, middle / USELESS), min(high, middle * USELESS)
    ends = (value * low / middle, value * high / middle)
    if metric != TIME:
        ends = (value * middle / high, value * middle / low)
    return max(0.0, value - ends[0]), max(0.0, ends[1] - value)


def _ceiling(axes: Axes, rows: list[Row], colour: Any) -> None:
    bounded = [row for row in rows if row.get(CEILING_PERCENT)]
    if bounded:
        row = bounded[-1]
        axes.axhline(row[BUS_BANDWIDTH] * 100 / row[CEILING_PERCENT], color=colour, ls=":", lw=1)
