"""The line that says how far a run is: `0:31 left  ███░░ 25/43  matmul 1024 bf16`, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.core import clock
from bench.core.cell_text import clean
from bench.records.case_names import name_cases

WIDE = 80
"""Columns from which on the bar is long."""
OVER_TIME_FACTOR, OVER_TIME_SECONDS = 3.0, 5.0
"""A case is over its time after this many times what was expected of it, and this many seconds at least."""
MIN_NAME = 12
"""Columns that a case's name keeps next to a long figure."""


@dataclass(frozen=True)
class Marks:
    """Characters of the line that not every stream can write."""

    full: str = "█"
    empty: str = "░"
    cut: str = "…"


ASCII_MARKS = Marks("#", ".", "...")


def marks_for(encoding: str | None) -> Marks:
    """Return the marks that a stream of this encoding can write."""
    marks = Marks()
    try:
        (marks.full + marks.empty + marks.cut).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_MARKS
    return marks


def cut(text: str, width: int, mark: str) -> str:
    """The text; if it is wider than that, its beginning and a mark."""
    return text if len(text) <= width else text[: max(0, width - len(mark))] + mark[:width]


def show_clock(seconds: float) -> str:
    """Minutes and seconds, such as `0:31`, from an hour on `1:00:00`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Counting:
    """Number of planned cases done, the case under way, and about how long the rest will take.

    A visit of a later launch counts as a case. Repeats of disturbed cases were not planned and do not.
    """

    def __init__(
        self,
        num_planned: int,
        estimate_seconds: float,
        cases: Iterable[str] = (),
        now: Callable[[], float] = clock.monotonic_seconds,
        marks: Marks = ASCII_MARKS,
    ) -> None:
        """`cases` has the ids of the plan, by which their short names tell them apart."""
        names = name_cases(cases)
        self._names = {case: clean(names.across(case)) for case in names.names}
        self.num_planned = num_planned
        self.num_done = self.num_repeats = 0
        self.marks = marks
        self.now = now
        self.case = "starting the ranks"
        self._is_repeat = False
        self._began = now()
        self._expected_seconds: float | None = None
        self.expect(estimate_seconds)

    def expect(self, seconds: float, limit_seconds: float | None = None) -> None:
        """Set the estimate of the time left, counted from now, and the most that the run can still take."""
        self._estimate_seconds, self._limit_seconds, self._told_at = seconds, limit_seconds, self.now()

    def begin(self, case: str, expected_seconds: float | None = None, is_repeat: bool = False) -> None:
        """A case is under way, or another work with a name of its own."""
        self.case, self._is_repeat = self.name(case), is_repeat
        self._began, self._expected_seconds = self.now(), expected_seconds

    def count(self, is_repeat: bool) -> None:
        """The case under way is done."""
        self.expect(self.seconds_left(), self._limit_left())
        self.case, self._expected_seconds, self._is_repeat = "", None, False
        self.num_repeats += is_repeat
        self.num_done += not is_repeat

    def drop(self, count: int) -> None:
        """Take visits that will not be made off the planned ones."""
        self.num_planned -= count

    def seconds_left(self) -> float:
        """Last estimate less the time gone since. A case that hangs takes nothing off the time of the others."""
        gone = max(0.0, self.now() - self._told_at - self._late_seconds())
        left, limit = self._estimate_seconds - gone, self._limit_left()
        return max(0.0, left if limit is None else min(left, limit))

    def _limit_left(self) -> float | None:
        return None if self._limit_seconds is None else self._limit_seconds - (self.now() - self._told_at)

    def _late_seconds(self) -> float:
        """Time that the case under way has taken beyond what was expected of it."""
        expected = self._expected_seconds
        return 0.0 if expected is None else max(0.0, self.now() - self._began - expected)

    def is_over_time(self) -> bool:
        """Return True if the case under way takes much longer than was expected."""
        expected = self._expected_seconds
        if expected is None:
            return False
        return self.now() - self._began > max(OVER_TIME_SECONDS, OVER_TIME_FACTOR * expected)

    def name(self, case: str) -> str:
        """Short name of a case of the plan; any other text as it is."""
        return self._names.get(case) or clean(case)

    def head(self, width: int) -> str:
        """The time left, the bar and the count."""
        cells = 10 if width >= WIDE else 5
        num_full = cells * min(self.num_done, self.num_planned) // self.num_planned if self.num_planned > 0 else cells
        bar = self.marks.full * num_full + self.marks.empty * (cells - num_full)
        total = str(max(self.num_planned, self.num_done))
        return f"{show_clock(self.seconds_left())} left  {bar} {self.num_done:{len(total)}}/{total}"

    def line_under_way(self, width: int, last: str = "") -> str:
        """The line with the case under way, and behind it the last case's name and figure if there is room."""
        name = self.case
        if self._is_repeat:
            name = self.repeats(self.num_repeats + 1, name, width)
        elif self.is_over_time():
            name = f"over its time: {name}"
        line = f"{self.head(width)}  {name}".rstrip()
        behind = f"   last: {last}" if last else ""
        return line + behind if len(line + behind) <= width else cut(line, width, self.marks.cut)

    def line_done(self, case: str, figure: str, is_repeat: bool, width: int) -> str:
        """The line of a case that is done, with its figure; a long name gives way to it."""
        head, name = self.head(width), self.name(case)
        if is_repeat:
            name = self.repeats(self.num_repeats, name, width)
        room = max(MIN_NAME, width - len(head) - len(figure) - 4)
        return cut(f"{head}  {cut(name, room, self.marks.cut)}  {figure}".rstrip(), width, self.marks.cut)

    @staticmethod
    def repeats(number: int, name: str, width: int) -> str:
        """The name of a case behind the number of repeats so far."""
        words = "repeat" if number == 1 else "repeats"
        of = "" if width < WIDE else " of a disturbed case" if number == 1 else " of disturbed cases"
        return f"+{number} {words}{of}: {name}"
