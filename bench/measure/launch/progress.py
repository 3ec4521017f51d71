"""Shows on stderr how far a run is: one line that is rewritten in a terminal, else one line per finished case."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from bench.core import clock
from bench.core.cell_text import clean
from bench.core.terminal import output_width
from bench.core.values import show_quantity
from bench.measure.launch.progress_line import Counting, marks_for
from bench.measure.planning.session import BUDGET_REASON
from bench.records import metrics
from bench.records.case_names import name_cases
from bench.records.case_view import CaseView
from bench.records.lines.parts import WorkFacts
from bench.records.samples import launch_times

if TYPE_CHECKING:
    from rich.live import Live

    from bench.records.file import Result
    from bench.records.lines.header import Environment
    from bench.records.lines.kinds import Measurement


MAX_ROUGH_LINES = 11
INDENT = "    "


def headline(record: Measurement) -> str:
    """Show a measurement line in a few words: `1.23 ms  4.50 GB/s`, or why it has no speed."""
    if record.status != "ok":
        return clean(f"{record.status}: {record.reason}")
    view = CaseView(
        main=record.main,
        num_ranks=record.num_ranks,
        launches=(launch_times(record),),
        work=record.work or WorkFacts(),
    )
    values = metrics.values(view)
    shown = [metric for metric in (metrics.METRICS[metrics.TIME], metrics.headline(values)) if metric is not None]
    words = [show_quantity(value, metric.unit) for metric in shown if (value := values[metric.name]) is not None]
    return "  ".join(words)


def rough_lines(result: Result) -> list[str]:
    """Show the first measured case of each suite, in the plan's order, below a head that says how rough it is.

    Printed after the first of several launches, to be read while the others are under way.
    """
    first_cases: dict[str, Measurement] = {}
    for record in result.latest():
        if record.status == "ok":
            first_cases.setdefault(record.suite, record)
    if not first_cases:
        return []
    shown = list(first_cases.values())[:MAX_ROUGH_LINES]
    known = name_cases([*(case.id for case in result.plan.cases), *(record.case for record in shown)])
    names = [clean(known.across(record.case)) for record in shown]
    width = max(map(len, names))
    head = f"Rough, from launch 1 of {result.plan.launches}, without error bars (they take several launches):"
    listed = [f"  {name:{width}}  {headline(record)}" for name, record in zip(names, shown, strict=True)]
    further = len(first_cases) - len(shown)
    return [head, *listed, *([f"  and {further} further kinds of work, in the tables at the end"] if further else [])]


class Progress(Protocol):
    """Messages of a recorder to a display."""

    def ready(self, environment: Environment) -> None: ...
    def begin(self, case: str, expected_seconds: float | None = None, is_repeat: bool = False) -> None: ...
    def done(self, record: Measurement, is_repeat: bool = False) -> None: ...
    def drop(self, count: int) -> None: ...
    def expect(self, seconds: float, limit_seconds: float | None = None) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class Lines(Counting):
    """One plain line for each finished case; cases without a speed for one and the same reason share it."""

    def __init__(
        self,
        stream: TextIO,
        num_planned: int,
        estimate_seconds: float,
        cases: Iterable[str] = (),
        now: Callable[[], float] = clock.monotonic_seconds,
    ) -> None:
        super().__init__(num_planned, estimate_seconds, cases, now, marks_for(stream.encoding))
        self.stream = stream
        self._reasons: set[tuple[str, str | None]] = set()
        self._unsaid: Counter[str] = Counter()
        """What became of cases that got no line -> their number."""

    def ready(self, environment: Environment) -> None: ...

    def done(self, record: Measurement, is_repeat: bool = False) -> None:
        self.count(is_repeat)
        reason = (record.suite, record.reason)
        if record.status != "ok" and record.reason == BUDGET_REASON:
            self._unsaid["skipped: no time was left"] += 1
        elif record.status != "ok" and reason in self._reasons:
            self._unsaid[f"more {record.status}, for a reason said above"] += 1
        else:
            self._say_done(record, is_repeat)
        if record.status != "ok":
            self._reasons.add(reason)

    def _say_done(self, record: Measurement, is_repeat: bool) -> None:
        """Say a case with its figure, or why it has none: below it if the line cannot hold it."""
        width, figure = output_width(self.stream), headline(record)
        line = self.line_done(record.case, figure, is_repeat, width)
        if line.endswith(figure):
            self.say(line)
            return
        self.say(self.line_done(record.case, record.status, is_repeat, width))
        for part in textwrap.wrap(clean(record.reason or ""), width - 2 * len(INDENT)):
            self.say(INDENT + part)

    def say(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def close(self) -> None:
        for what, count in self._unsaid.items():
            self.say(f"{self.head(output_width(self.stream))}  {count} {what}")
        self._unsaid.clear()


class Terminal(Counting):
    """One line that is rewritten in place, fitted to the terminal's width."""

    def __init__(
        self,
        stream: TextIO,
        num_planned: int,
        estimate_seconds: float,
        cases: Iterable[str] = (),
        now: Callable[[], float] = clock.monotonic_seconds,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(num_planned, estimate_seconds, cases, now, marks_for(stream.encoding))
        self.stream = stream
        self.last = ""
        self.live: Live = Live(
            console=Console(file=stream), get_renderable=self._text, refresh_per_second=2, transient=True
        )
        self.live.start()

    def line(self) -> str:
        return self.line_under_way(output_width(self.stream), self.last)

    def _text(self) -> Any:
        from rich.text import Text

        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def ready(self, environment: Environment) -> None: ...

    def done(self, record: Measurement, is_repeat: bool = False) -> None:
        self.count(is_repeat)
        self.last = f"{self.name(record.case)}  {headline(record)}"

    def say(self, line: str) -> None:
        """Print a line that stays, above the one that is rewritten."""
        self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.live.stop()


def choose_display(stream: TextIO, num_planned: int, estimate_seconds: float, cases: Iterable[str] = ()) -> Progress:
    """The display that fits a stream; `cases` has the ids of the plan."""
    kind = Terminal if stream.isatty() else Lines
    return kind(stream, num_planned, estimate_seconds, cases)
