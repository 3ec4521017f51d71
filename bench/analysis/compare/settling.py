"""Time that would settle what a comparison leaves open: further launches, and the minutes that they take.

Launches are taken to last as long as those that were made, by the results' own clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.core.clock import seconds_between
from bench.stats.intervals import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.records.file import Result
    from bench.records.rows import Row

MOST_FURTHER = 30
"""Launches per side beyond which it makes no sense to wait: the machine varies too much."""
TOO_NOISY = "this machine varies too much"


class Settling(NamedTuple):
    """Launches per side that undecided cases still need, and the time of both sides' launches."""

    launches: int
    seconds: float | None
    """None if the results do not tell how long a launch took."""
    unit: tuple[str, str]
    """One and several of them, in words."""

    def words(self) -> str:
        """`3 more launches per side, about 4 min`."""
        text = f"{self.launches} more {self.unit[self.launches != 1]}"
        return text if self.seconds is None else f"{text}, about {show_minutes(self.seconds)}"


PER_SIDE, PAIRS, OF_ONE_RUN = ("launch per side", "launches per side"), ("pair", "pairs"), ("launch", "launches")


def show_minutes(seconds: float) -> str:
    """A time to plan with: `40 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def further_launches(row: Mapping[str, Any]) -> int | None:
    """Launches per side that a case needs besides those that it has; None: more than anyone makes, or not known."""
    if row["verdict"] != "unclear" or row["change_low"] is None or row["launches_needed"] is None:
        return None
    further = max(1, int(row["launches_needed"]) - min(row["base_launches"], row["new_launches"]))
    return further if further <= MOST_FURTHER else None


def settle(comparison: Comparison, launches: int, name: str) -> Settling:
    """This many further launches of the base and of the side of that name, with their time."""
    base = comparison.sides[0]
    new = next(side for side in comparison.sides if side.name == name)
    if base.results == new.results:  # values of a parameter within one run
        unit, seconds = OF_ONE_RUN, launch_seconds(base)
    elif comparison.paired:
        unit, seconds = PAIRS, pair_seconds(base, new)
    else:
        known = [time for side in (base, new) if (time := launch_seconds(side)) is not None]
        unit, seconds = PER_SIDE, sum(known) if len(known) == 2 else None
    return Settling(launches, None if seconds is None else launches * seconds, unit)


def undecided_words(comparison: Comparison, rows: Sequence[Row]) -> str | None:
    """Words on what would settle undecided cases of one new side, or that nothing would; None if all are decided."""
    undecided = [row for row in rows if row["verdict"] == "unclear"]
    if not undecided:
        return None
    count = f"{len(undecided)} undecided"
    if all(row["change_low"] is None for row in undecided):
        return f"{count}: one launch per side has no error bar"
    needed = sorted(further for row in undecided if (further := further_launches(row)) is not None)
    if not needed:
        return f"{count}: {TOO_NOISY}"
    some = settle(comparison, needed[(len(needed) - 1) // 2], undecided[0]["name"])
    settled = sum(number <= some.launches for number in needed)
    return f"{count}, {some.words()}, would settle {'it' if len(undecided) == 1 else f'{settled} of them'}"


def pair_seconds(base: Side, new: Side) -> float | None:
    """Seconds of one pair of launches that alternated; None if the files do not tell.

    Each launch but a file's first takes the file up again. So the launches' starts are known, and their median distance
    is no longer for an alternation that was interrupted for a night.
    """
    results = [*base.results, *new.results]
    starts = sorted(
        start
        for result in results
        for start in (result.header.started, *(again.started for again in result.resumes))
        if start is not None
    )
    gaps = [gap for pair in pairwise(starts) if (gap := seconds_between(*pair)) is not None]
    if gaps and all(result.resumes for result in results):
        return len((base, new)) * median(gaps)
    begins = [result.header.started for result in results if result.header.started]
    ends = [result.end.ended for result in results if result.end and result.end.ended]
    pairs = len({record.launch for result in base.results for record in result.measurements})
    seconds = seconds_between(min(begins), max(ends)) if begins and ends else None
    return seconds / pairs if seconds is not None and pairs else None


def launch_seconds(side: Side) -> float | None:
    """Seconds of one launch of a side, by the times of its files; None if they do not tell."""
    spans = [span for result in side.results if (span := _span_seconds(result)) is not None]
    launches = len({(id(result), record.launch) for result in side.results for record in result.measurements})
    return sum(spans) / launches if launches and len(spans) == len(side.results) else None


def _span_seconds(result: Result) -> float | None:
    """Seconds from a file's start to its end; of one that has no end, or was taken up again, of its measurements."""
    span = None if result.resumes or result.end is None else seconds_between(result.header.started, result.end.ended)
    return span or sum(record.seconds or 0.0 for record in result.measurements) or None
