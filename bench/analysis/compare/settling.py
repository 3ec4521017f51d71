"""Time that would settle what a comparison leaves open: further launches, and the minutes that they take.

Launches are taken to last as long as those that were made, by the results' own clocks.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from bench.core.values import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.records.file import Result
    from bench.records.rows import Row

MOST_FURTHER = 30
"""Launches per side beyond which nobody waits: the machine varies too much."""
TOO_NOISY = "this machine varies too much"


class Settling(NamedTuple):
    """Launches per side that undecided cases still need, and the time of both sides' launches."""

    launches: int
    seconds: float | None
    """None if the results do not tell how long a launch took."""
    unit: str

    def words(self) -> str:
        """`3 more launches per side, about 4 min`."""
        text = f"{self.launches} more {'pair' if self.unit == 'pair' else 'launch'}"
        text += ("" if self.launches == 1 else "s" if self.unit == "pair" else "es") + (
            "" if self.unit == "pair" else " per side"
        )
        return text if self.seconds is None else f"{text}, about {show_minutes(self.seconds)}"


def show_minutes(seconds: float) -> str:
    """A time to plan with: `40 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def further_launches(row: Row) -> int | None:
    """Launches per side that a case needs beside those that it has; None: more than anybody makes, or not known."""
    if row["verdict"] != "unclear" or row["change_low"] is None or row["launches_needed"] is None:
        return None
    further = max(1, row["launches_needed"] - min(row["base_launches"], row["new_launches"]))
    return further if further <= MOST_FURTHER else None


def settle(comparison: Comparison, launches: int, name: str) -> Settling:
    """So many further launches of the base and of the side of that name, with their time."""
    base = comparison.sides[0]
    new = next(side for side in comparison.sides if side.name == name)
    if comparison.paired:
        seconds = pair_seconds(base, new)
    else:
        known = [time for side in (base, new) if (time := launch_seconds(side)) is not None]
        seconds = sum(known) if len(known) == 2 else None
    return Settling(
        launches, None if seconds is None else launches * seconds, "pair" if comparison.paired else "launch"
    )


def undecided_words(comparison: Comparison, rows: Sequence[Row]) -> str | None:
    """What would settle undecided cases of one new side, or that nothing would; None if all are decided."""
    open_rows = [row for row in rows if row["verdict"] == "unclear"]
    if not open_rows:
        return None
    count = f"{counted(len(open_rows), 'case')} undecided"
    if all(row["change_low"] is None for row in open_rows):
        return f"{count}: one launch per side has no error bar"
    needed = sorted(further for row in open_rows if (further := further_launches(row)) is not None)
    if not needed:
        return f"{count}: {TOO_NOISY}"
    some = settle(comparison, needed[(len(needed) - 1) // 2], open_rows[0]["name"])
    settled = sum(number <= some.launches for number in needed)
    return f"{count}; {some.words()}, would settle {'it' if len(open_rows) == 1 else settled}"


def pair_seconds(base: Side, new: Side) -> float | None:
    """Seconds of one pair of launches that alternated; None if the files do not tell."""
    results = [*base.results, *new.results]
    begins = [time for result in results if (time := _time(result.header.started)) is not None]
    ends = [time for result in results if result.end and (time := _time(result.end.ended)) is not None]
    pairs = len({record.launch for result in base.results for record in result.measurements})
    return (max(ends) - min(begins)).total_seconds() / pairs if begins and ends and pairs else None


def launch_seconds(side: Side) -> float | None:
    """Seconds of one launch of a side, by the times of its files; None if they do not tell."""
    spans = [_span_seconds(result) for result in side.results]
    launches = len({(id(result), record.launch) for result in side.results for record in result.measurements})
    known = [span for span in spans if span is not None]
    return sum(known) / launches if launches and len(known) == len(spans) else None


def _span_seconds(result: Result) -> float | None:
    """Seconds from a file's start to its end; of one that was taken up again those of its measurements."""
    ended = None if result.end is None else result.end.ended
    began = _time(result.header.started)
    if result.resumes or began is None or (end := _time(ended)) is None:
        spent = [record.seconds for record in result.measurements if record.seconds is not None]
        return sum(spent) or None
    return (end - began).total_seconds()


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
