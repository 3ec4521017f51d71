"""A comparison as a forest plot: the change of every case with its interval, coloured and marked by verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.plots.source import COMPARISON, Plot, Source
from bench.report.plots.style import canvas, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.records.rows import Row

MAX_ROWS = 60
WIDEST = 16.0
"""Intervals are drawn to a change of this many times; an arrow says that they go on."""

VERDICTS = {
    "faster": ("#00734f", "^"), "slower": ("#b84a00", "v"), "same": ("#0068a3", "s"), "unclear": ("#8a8f96", "o"),
}  # fmt: skip
"""Verdict -> colour and marker."""

_CAPTION = (
    "Each row is a case: the new side's time over the base's, with its 95% interval; left of 1x is faster. The band is "
    "the practical threshold. Colour and mark are the verdict: ▲ faster, ▼ slower, ■ same, ● unclear. Arrows: the "
    "interval goes on. The axis is logarithmic, so that twice as fast and half as fast are equally far."
)


def draw(source: Source) -> Iterator[Plot]:
    comparison = source.comparison
    if comparison is None:
        return
    base, *news = comparison.sides
    for number, new in enumerate(news):
        rows = [row for row in comparison.cases if row["name"] == new.name and row["better"] == "lower"]
        if rows:
            title = f"{shorten(new.name)} against {shorten(base.name)}"
            yield Plot(f"changes-{number}", COMPARISON, title, _caption(rows), _forest(rows, comparison.threshold))


def _caption(rows: list[Row]) -> str:
    left_out = len(rows) - MAX_ROWS
    return f"{_CAPTION} {left_out} more cases are in the table." if left_out > 0 else _CAPTION


def _forest(rows: list[Row], threshold: float) -> Figure:
    order = {"slower": 0, "faster": 1, "unclear": 2, "same": 3}
    chosen = sorted(rows, key=lambda row: (order[row["verdict"]], -abs(math.log1p(row["change"]))))[:MAX_ROWS]
    chosen.sort(key=lambda row: row["change"])
    figure, grid = canvas(8.2, 1.2 + 0.19 * len(chosen))
    axes: Axes = grid[0][0]
    axes.axvspan(1 - threshold, 1 + threshold, color="#8a8f96", alpha=0.18, lw=0)
    axes.axvline(1, color="#1b1f24", lw=0.8)
    for position, row in enumerate(chosen):
        colour, marker = VERDICTS[row["verdict"]]
        low, high = row["change_low"], row["change_high"]
        if low is not None and high is not None:
            ends = (max(1 / WIDEST, 1 + low), min(WIDEST, 1 + high))
            axes.hlines(position, *ends, color=colour, lw=1.3)
            for end, arrow, beyond in ((ends[0], "<", 1 + low < 1 / WIDEST), (ends[1], ">", 1 + high > WIDEST)):
                if beyond:
                    axes.plot([end], [position], marker=arrow, ms=4, color=colour)
        axes.plot([1 + row["change"]], [position], ls="", marker=marker, ms=5, color=colour)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.minorticks_off()
    low_x, high_x = axes.get_xlim()
    axes.set_xlim(min(low_x, 0.5), max(high_x, 2.0))
    axes.set_yticks(range(len(chosen)), [shorten(row["case"]) for row in chosen], fontsize=7)
    axes.set_ylim(-0.7, len(chosen) - 0.3)
    axes.invert_yaxis()
    axes.set_xlabel("time: new / base")
    axes.grid(True, axis="x")
    return figure
