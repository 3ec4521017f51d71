"""Chart of work by machine: how many times as long as on the base each kind of work takes, with its 95% interval.

Positions are computed here in percent of the axis, and a template draws them: lines and marks keep their size on a
phone, and all text stays text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.core.table import DisplayTable, text_column
from bench.report.plots.style import LIGHT

WIDEST = 16.0
"""Intervals are drawn to a change of this many times, or twice the largest; an arrow says that they go on."""
NARROWEST = 0.05
"""Change that the axis holds on either side, however little changed."""
LOGARITHMIC = 4.0
"""Range from which on the axis is logarithmic."""
MARGIN = 0.03
"""Share of the axis left free at either end, so that no mark is cut."""
MARKS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0", "M-4-4h8v8h-8z", "M0-5L5 4H-5z", "M0-5.5L5.5 0L0 5.5L-5.5 0z",
    "M0 5L5-4H-5z",
)  # fmt: skip
"""Paths of the marks of machines, in the order of the sides: circle, square, triangle, diamond, triangle downwards."""
DIRECTIONS = {"slower": "▼", "faster": "▲", "same": "■"}
"""Verdict -> sign before it; any other has none."""


class ChartedChange(NamedTuple):
    """Change of one kind of work on one machine."""

    work: str
    machine: str
    ratio: float | None
    """Time over the base's; None: no figure stands for this kind of work, and none is drawn."""
    low: float | None
    high: float | None
    """Ends of the 95% interval; None: none is known."""
    text: str
    """Ratio as people read it."""
    verdict: str
    interval: str
    """Interval as people read it; empty if none is known."""
    of: str
    """Case or cases that the ratio is of; empty if it is of the only one."""
    is_largest: bool = False
    """True if the ratio is that of the largest change, since there is no mean over sizes."""

    @property
    def brief(self) -> str:
        """Text for which there is room next to the verdict."""
        return f"largest: {self.of.partition(', ')[0]}" if self.is_largest else self.interval


@dataclass(frozen=True)
class Axis:
    """An axis of ratios, in percent of its width."""

    low: float
    high: float

    @property
    def is_logarithmic(self) -> bool:
        return self.high > LOGARITHMIC * self.low

    def percent(self, ratio: float) -> float:
        """Place of a ratio; one beyond an end is put at the end."""
        scale = math.log if self.is_logarithmic else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(min(self.high, max(self.low, ratio))) - low) / (high - low)
        return round(100 * (MARGIN + (1 - 2 * MARGIN) * share), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """(percent, text) of round ratios, at most eight."""
        if self.is_logarithmic:
            step = max(1, math.ceil((math.log2(self.high) - math.log2(self.low)) / 7))
            first, last = math.ceil(math.log2(self.low) / step - 1e-9), math.floor(math.log2(self.high) / step + 1e-9)
            values = [2.0 ** (step * number) for number in range(first, last + 1)]
        else:
            step_ratio = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (self.high - self.low) / s <= 7)
            first, last = math.ceil(self.low / step_ratio - 1e-9), math.floor(self.high / step_ratio + 1e-9)
            values = [number * step_ratio for number in range(first, last + 1)]
        return [(self.percent(value), f"{value:.3g}x") for value in values]


class ChartRow(NamedTuple):
    """A row of the chart."""

    change: ChartedChange
    colour: int
    mark: str
    is_first: bool
    """True for the first machine of a kind of work."""
    at: float | None
    low: float | None
    high: float | None
    goes_on: tuple[bool, bool]
    """True for the ends of the interval that lie beyond the axis."""


@dataclass(frozen=True)
class ChangeChart:
    """All that the template draws."""

    base: str
    one: float
    """Place of no change."""
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[ChartRow, ...]
    table: DisplayTable
    is_logarithmic: bool


def lay_out(changes: Sequence[ChartedChange], machines: Sequence[str]) -> ChangeChart:
    """The chart of some changes; `machines` are the sides in the order of their colours, the base first."""
    axis = _axis(changes)
    rows, last = [], ""
    for change in changes:
        number = machines.index(change.machine)
        rows.append(_row(change, number, change.work != last, axis))
        last = change.work
    ticks = tuple(axis.ticks())
    return ChangeChart(machines[0], axis.percent(1.0), ticks, tuple(rows), _table(changes), axis.is_logarithmic)


def _row(change: ChartedChange, number: int, is_first: bool, axis: Axis) -> ChartRow:
    return ChartRow(
        change=change,
        colour=number % len(LIGHT),
        mark=MARKS[number % len(MARKS)],
        is_first=is_first,
        at=None if change.ratio is None else axis.percent(change.ratio),
        low=None if change.low is None else axis.percent(change.low),
        high=None if change.high is None else axis.percent(change.high),
        goes_on=((change.low or axis.low) < axis.low, (change.high or axis.high) > axis.high),
    )


def _axis(changes: Sequence[ChartedChange]) -> Axis:
    """Axis that holds no change, every mark, and the intervals to `WIDEST`."""
    ratios = [change.ratio for change in changes if change.ratio is not None]
    bounds = [end for change in changes for end in (change.low, change.high) if end is not None]
    most, least = max([WIDEST, *(2 * ratio for ratio in ratios)]), min([1 / WIDEST, *(r / 2 for r in ratios)])
    kept = [min(max(bound, least), most) for bound in bounds]
    ends = [1 - NARROWEST, 1 + NARROWEST, *ratios, *kept]
    return Axis(min(ends), max(ends))


def _table(changes: Sequence[ChartedChange]) -> DisplayTable:
    rows = tuple({**change._asdict(), "said": signed(change.verdict)} for change in changes)
    columns = (
        text_column("work"),
        text_column("text", "time over the base's"),
        text_column("said", "verdict"),
        text_column("machine"),
        text_column("interval", "95% interval"),
        text_column("of"),
    )
    return DisplayTable("", columns, rows)


def signed(verdict: str) -> str:
    """A verdict with the sign of its direction, so that colour adds nothing to it."""
    return f"{DIRECTIONS[verdict]} {verdict}" if verdict in DIRECTIONS else verdict
