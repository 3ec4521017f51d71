"""Events of an MLPerf log, and its runs: which lines belong to one run, and when the run began and ended.

An event is a line `:::MLLOG {"time_ms": ..., "event_type": ..., "key": ..., "value": ..., "metadata": {...}}`.
A program of many ranks may print an event several times; the same event counts once. Ranks that print at their own
times begin no further runs: a run begins after the one before it has started or stopped.

Source: mlcommons/logging, mlperf_logging/mllog/mllog.py and constants.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.importers.reading import mapping, number, words
from bench.importers.source.ledger import Ledger

LINE = re.compile(r":::(?P<kind>MLLOG|SYSJSON)\s+(?P<json>\{)")
OLD_LINE = re.compile(r":::MLP(?:v\d|L)\S*\s")
"""Lines of MLPerf 0.5 and of programs that never changed: they have no JSON."""
STARTS = {"init_start": "run_start", "submission_benchmark": "run_start", "run_start": "run_stop"}
"""Event that begins a run -> the event that the run before it has had: until then, another rank prints it again."""


@dataclass(frozen=True)
class Event:
    """One line of the log."""

    index: int
    """Number of the line."""
    key: str
    value: Any
    time_ms: float | None
    metadata: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"line {self.index}"


@dataclass
class Run:
    """The events of one run, in their order."""

    events: list[Event] = field(default_factory=list)

    def of(self, key: str) -> list[Event]:
        """The events of a key."""
        return [event for event in self.events if event.key == key]

    def text(self, key: str) -> str | None:
        """The last value of a key that is a text."""
        return next((text for event in reversed(self.of(key)) if (text := words(event.value))), None)

    def number(self, key: str) -> float | None:
        """The last value of a key that is a number."""
        values = (number(event.value) for event in reversed(self.of(key)))
        return next((value for value in values if value is not None), None)

    def counts(self, key: str) -> list[int]:
        """The different values of a key that are whole numbers above zero, in their order."""
        values = (number(event.value) for event in self.of(key))
        return list(dict.fromkeys(int(value) for value in values if value and 0 < value < 2**62 and value.is_integer()))

    def count(self, key: str) -> int | None:
        """The last value of a key that is a whole number above zero."""
        return next(reversed(self.counts(key)), None)


@dataclass
class Log:
    """A log, read: its runs, the descriptions of its system, and the account of its lines."""

    runs: list[Run] = field(default_factory=list)
    systems: list[Mapping[str, Any]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)


def parse(text: str) -> Log:
    """The log of a text."""
    log, seen = Log(), set[str]()
    for index, line in enumerate(text.splitlines(), 1):
        found = list(LINE.finditer(line))  # lines of two ranks may be glued
        for match in found:
            _read_event(log, seen, index, line, match)
        if not found and OLD_LINE.search(line):
            log.ledger.unread(index, line, "is of an older form than MLLOG")
        elif not found:
            log.ledger.other(index, line)
    return log


def _read_event(log: Log, seen: set[str], index: int, line: str, match: re.Match[str]) -> None:
    data = _object(line[match.start("json") :])
    if data is None:
        log.ledger.unread(index, line, "its JSON is not whole")
    elif match["kind"] == "SYSJSON":
        log.systems.append(data)
        log.ledger.read(index, line, "description of the system")
    elif (text_of_event := json.dumps(data, sort_keys=True)) in seen:
        log.ledger.skip(index, line, "the same event again")
    else:
        seen.add(text_of_event)
        _take_up(log, index, line, data)


def _object(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a text begins with."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _take_up(log: Log, index: int, line: str, data: Mapping[str, Any]) -> None:
    key = words(data.get("key"))
    if key is None:
        log.ledger.unread(index, line, "is an event without a key")
        return
    event = Event(index, key, data.get("value"), number(data.get("time_ms")), mapping(data.get("metadata")))
    if not log.runs or (key in STARTS and log.runs[-1].of(STARTS[key])):
        log.runs.append(Run())
    log.runs[-1].events.append(event)
    log.ledger.skip(index, line, f"event {key} of MLPerf, which no case needs")


@dataclass(frozen=True)
class LogInterval:
    """A part of a run from one event to another."""

    start: Event
    stop: Event

    @property
    def seconds(self) -> float | None:
        """Its length; None if the stamps do not say one."""
        if self.start.time_ms is None or self.stop.time_ms is None:
            return None
        milliseconds = self.stop.time_ms - self.start.time_ms
        return milliseconds / 1e3 if milliseconds > 0 else None


def intervals(events: Sequence[Event], start: str, stop: str) -> Iterator[LogInterval]:
    """The parts of a run between events of two keys: from the first of several ranks that begin."""
    begun: Event | None = None
    for event in events:
        if event.key == start:
            begun = begun or event
        elif event.key == stop and begun is not None:
            yield LogInterval(begun, event)
            begun = None
