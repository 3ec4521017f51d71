"""Shows on stderr how far a run is: the case, the time left, the last figure; plain lines if it is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from bench.core import clock
from bench.core.cell_text import clean
from bench.core.values import show_value
from bench.records import metrics
from bench.records.case_view import CaseView
from bench.records.lines.parts import WorkFacts
from bench.records.samples import launch_times

if TYPE_CHECKING:
    from rich.live import Live

    from bench.records.file import Result
    from bench.records.lines.header import Environment
    from bench.records.lines.kinds import Measurement


MAX_ROUGH_LINES = 11


def headline(record: Measurement) -> str:
    """Show a measurement line in a few words: `1.23 ms  4.5 GB/s`, or why it has no speed."""
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
    words = [show_value(value, metric.unit) for metric in shown if (value := values[metric.name]) is not None]
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
    names = [clean(record.case.partition("[")[0]) for record in shown]
    width = max(map(len, names))
    head = f"Rough, from launch 1 of {result.plan.launches}, without error bars (they take several launches):"
    listed = [f"  {name:{width}}  {headline(record)}" for name, record in zip(names, shown, strict=True)]
    further = len(first_cases) - len(shown)
    return [head, *listed, *([f"  and {further} further kinds of work, in the tables at the end"] if further else [])]


class Progress(Protocol):
    """Messages of a recorder to a display."""

    def ready(self, environment: Environment) -> None: ...
    def begin(self, case: str) -> None: ...
    def done(self, record: Measurement) -> None: ...
    def drop(self, count: int) -> None: ...
    def expect(self, seconds: float) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class Counting:
    """Number of visits done, and about how long the rest will take."""

    def __init__(self, total: int, estimate_seconds: float, now: Callable[[], float] = clock.monotonic_seconds) -> None:
        self.total = total
        self.num_done = 0
        self.estimate_seconds = estimate_seconds
        self.now = now
        self.told_at = now()
        self.case = "starting the ranks"
        self.figure = ""

    def expect(self, seconds: float) -> None:
        """Set the estimate of the time left, counted from now."""
        self.estimate_seconds, self.told_at = seconds, self.now()

    def seconds_left(self) -> float:
        """Last estimate less the time gone since."""
        return max(0.0, self.estimate_seconds - (self.now() - self.told_at))

    def ready(self, environment: Environment) -> None: ...

    def begin(self, case: str) -> None:
        self.case = case

    def drop(self, count: int) -> None:
        """Take visits that will not be made off the total."""
        self.total -= count

    def line(self) -> str:
        left = int(self.seconds_left() + 0.5)
        return f"[{self.num_done}/{self.total}] {self.case}  {self.figure}  about {left // 60}:{left % 60:02d} left"


class Lines(Counting):
    """One plain line for each finished case."""

    def __init__(
        self,
        stream: TextIO,
        total: int,
        estimate_seconds: float,
        now: Callable[[], float] = clock.monotonic_seconds,
    ) -> None:
        super().__init__(total, estimate_seconds, now)
        self.stream = stream

    def done(self, record: Measurement) -> None:
        self.num_done += 1
        self.case, self.figure = record.case, headline(record)
        self.say(self.line())

    def say(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def close(self) -> None: ...


class Terminal(Counting):
    """One line that is rewritten in place, fitted to the terminal's width."""

    def __init__(self, stream: TextIO, total: int, estimate_seconds: float) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(total, estimate_seconds)
        self.live: Live = Live(
            console=Console(file=stream), get_renderable=self._text, refresh_per_second=2, transient=True
        )
        self.live.start()

    def _text(self) -> Any:
        from rich.text import Text

        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def done(self, record: Measurement) -> None:
        self.num_done += 1
        self.figure = f"last: {headline(record)}"

    def say(self, line: str) -> None:
        """Print a line that stays, above the one that is rewritten."""
        self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.live.stop()


def choose_display(stream: TextIO, total: int, estimate_seconds: float) -> Progress:
    """The display that fits a stream."""
    kind = Terminal if stream.isatty() else Lines
    return kind(stream, total, estimate_seconds)
