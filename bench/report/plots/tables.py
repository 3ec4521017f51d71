"""Tables that cases carry, drawn: the matrix of pairs, time by part, and series over time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.core.table import DisplayTable, column
from bench.core.values import is_number, show_number, show_text
from bench.records.lines.parts import TableRows
from bench.report.plots.source import Plot, PlottedRun, Source
from bench.report.plots.style import HATCHES, LIGHT, canvas, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_MATRICES = 6
MAX_STACKS = 24
MAX_SERIES = 6
MAX_WRITTEN = 16
"""Ranks up to which the value is in each cell."""
WHOLES = ("step",)
"""Heads of the sums of the parts, which are not parts."""

_MATRIX = (
    "Each cell is one ordered pair of ranks: from the row's to the column's. Dark is fast. A row or column that is "
    "pale throughout is one rank's link, a single pale cell one pair's."
)
_PARTS = "Where the time of a step goes, by part; how each part is found is in the suite's notes."
_SERIES = "In the order in which it was measured. A fall of speed while temperature or load rises is throttling."


def draw(source: Source) -> Iterator[Plot]:
    """Drawings by what a table's heads say it holds."""
    matrices = series = 0
    stacks: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for suite in source.suites():
        for run, case, table in source.tables(suite):
            label = shorten(f"{case} ({run.name})" if len(source.series) > 1 else case, 80)
            if _pairs(table) and matrices < MAX_MATRICES:
                matrices += 1
                yield _matrix(run, suite, label, str(matrices), table)
            elif _parts(table):
                stacks.setdefault(suite, []).extend(_stacks(label, table))
            elif _time_column(table) is not None and series < MAX_SERIES:
                series += 1
                yield from _over_time(suite, label, str(series), table)
    for order, (suite, bars) in enumerate(stacks.items(), 1):
        yield _stacked_bars(suite, order, bars[:MAX_STACKS])


_PAIR = re.compile(r"(?P<unit>GB/s) (?P<to>\S+)")
_PART = re.compile(r"(?P<part>.+) ms")


def _column(table: TableRows, *names: str) -> int | None:
    heads = [str(head).lower() for head in table.columns]
    return next((heads.index(name) for name in names if name in heads), None)


def _pairs(table: TableRows) -> dict[int, str]:
    """Column -> the end that it is about, of a matrix whose rows send: `GB/s 3`; empty for any other table."""
    columns = {n: match["to"] for n, head in enumerate(table.columns) if (match := _PAIR.fullmatch(str(head)))}
    return columns if len(columns) == len(table.columns) - 1 > 1 else {}


def _parts(table: TableRows) -> dict[int, str]:
    """Column -> the part of a step whose milliseconds it holds; empty for a table without a `step`."""
    columns = {n: match["part"] for n, head in enumerate(table.columns) if (match := _PART.fullmatch(str(head)))}
    if not set(columns.values()) & set(WHOLES):
        return {}
    return {n: part for n, part in columns.items() if part not in WHOLES}


def _stacks(label: str, table: TableRows) -> list[tuple[str, dict[str, float]]]:
    """A bar per row: the rank's, if the table says which."""
    parts, rank = _parts(table), _column(table, "rank")
    return [
        (
            label if rank is None else f"{label}, rank {row[rank]}",
            {part: float(cell) for n, part in parts.items() if is_number(cell := row[n])},
        )
        for row in table.rows
    ]


def _time_column(table: TableRows) -> int | None:
    return _column(table, "s", "until s", "at s")


def _matrix(run: PlottedRun, suite: str, label: str, name: str, table: TableRows) -> Plot:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    ends, head = _pairs(table), shorten(str(table.columns[0]), 16)
    names = list(ends.values())
    senders = [str(row[0]) for row in table.rows]
    rows = [[row[n] if is_number(row[n]) else np.nan for n in ends] for row in table.rows]
    values = np.asarray(rows, dtype=float).reshape(len(senders), len(names))
    side = max(3.2, min(8.0, 1.6 + 0.42 * len(names)))
    figure, grid = canvas(side + 1.4, side)
    axes: Axes = grid[0][0]
    shades = LinearSegmentedColormap.from_list("pairs", ["#dfeaf3", run.look.colour])
    image = axes.imshow(values, cmap=shades, aspect="equal", vmin=0.0)
    figure.colorbar(image, ax=axes, label="GB/s", shrink=0.8)
    if len(names) <= MAX_WRITTEN:
        top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "#fefefe" if value > 0.55 * top else "#111111"
                axes.annotate(f"{value:.3g}", (column, row), ha="center", va="center", fontsize=7.5, color=ink)
    step = max(1, len(names) // 16)
    axes.set_xticks(range(0, len(names), step), [shorten(name, 16) for name in names[::step]])
    axes.set_yticks(range(0, len(senders), step), [shorten(name, 16) for name in senders[::step]])
    axes.set_xlabel(f"to {head}")
    axes.set_ylabel(f"from {head}")
    return Plot(f"pairs-{name}", suite, f"Pairs: {label}", _MATRIX, figure, _pairs_table(table))


def _show_cell(cell: object) -> str:
    return show_number(cell) if isinstance(cell, float) else show_text(cell)


def _pairs_table(table: TableRows) -> DisplayTable:
    columns = tuple(column(str(number), str(name), _show_cell) for number, name in enumerate(table.columns))
    return DisplayTable("", columns, tuple({str(n): cell for n, cell in enumerate(row)} for row in table.rows))


def _stacked_bars(suite: str, order: int, bars: Sequence[tuple[str, dict[str, float]]]) -> Plot:
    parts = list(dict.fromkeys(part for _, shares in bars for part in shares))
    figure, grid = canvas(8.2, 1.4 + 0.34 * len(bars))
    axes: Axes = grid[0][0]
    lefts = [0.0] * len(bars)
    for number, part in enumerate(parts):
        widths = [max(0.0, shares.get(part, 0.0)) for _, shares in bars]
        axes.barh(range(len(bars)), widths, 0.7, lefts, color=LIGHT[number % len(LIGHT)], edgecolor="#fefefe", lw=0.4,
                  hatch=HATCHES[number % len(HATCHES)], label=shorten(part))  # fmt: skip
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.set_yticks(range(len(bars)), [shorten(label, 52) for label, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("time (ms)")
    axes.grid(True, axis="x")
    figure.legend(loc="outside lower left", ncols=4)
    return Plot(f"parts-{order}", suite, "Time by part", _PARTS, figure)


def _over_time(suite: str, label: str, name: str, table: TableRows) -> Iterator[Plot]:
    at = _time_column(table)
    assert at is not None
    group = _column(table, "rank", "host", "device")
    heads = [
        number
        for number, head in enumerate(table.columns)
        if number not in (at, group) and any(is_number(row[number]) for row in table.rows)
    ]
    if not heads or len(table.rows) < 2:
        return
    figure, grid = canvas(7.6, 0.8 + 1.35 * len(heads), len(heads), 1, sharex=True)
    who = list(dict.fromkeys(row[group] for row in table.rows)) if group is not None else [None]
    for axes, number in zip(grid.flat, heads, strict=True):
        for position, run in enumerate(who):
            rows = [row for row in table.rows if group is None or row[group] == run]
            points = [(row[at], row[number]) for row in rows if is_number(row[number])]
            if points:
                axes.plot(*zip(*points, strict=True), color=LIGHT[position % len(LIGHT)], lw=1.1, marker=".", ms=3,
                          label=None if group is None else shorten(f"{table.columns[group]} {run}"))  # fmt: skip
        axes.set_ylabel(shorten(str(table.columns[number]), 24))
        axes.grid(True)
    grid.flat[-1].set_xlabel(shorten(str(table.columns[at])))
    if group is not None and len(who) <= 16:
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower left", ncols=6)
    yield Plot(f"series-{name}", suite, f"Over time: {label}", _SERIES, figure)
