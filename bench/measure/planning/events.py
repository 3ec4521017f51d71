"""Events of a run: messages of rank 0 to the recorder, which keeps the file, through a pipe or in one process."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from bench.measure.planning.plan import Turn
from bench.measure.planning.visit_overhead import VisitCost
from bench.records.lines.header import Environment
from bench.records.lines.kinds import Choices


class TimeLeft(Struct, frozen=True):
    """Estimate by rank 0, in seconds."""

    seconds_left: float
    """Rest of this launch."""
    launch_seconds: float
    """A whole launch from its first case on."""
    closing_seconds: float
    """End of the run, after the last case."""


class _Event(Struct, frozen=True, tag_field="event"):
    """Base of all events."""


class Ready(_Event, frozen=True, tag="ready"):
    """The ranks have met."""

    environment: Environment


class CaseBegun(_Event, frozen=True, tag="case"):
    """A turn is under way."""

    index: int
    """Number of the case in the plan."""
    visit: int
    timeout_seconds: float
    """Time after which the turn counts as hung."""
    time_left: TimeLeft | None = None
    expected_seconds: float | None = None
    """Time that the turn is expected to take."""


class Recorded(_Event, frozen=True, tag="record"):
    """A turn is over, and this is its line."""

    index: int
    """Number of the case in the plan."""
    line: msgspec.Raw
    """Measurement as the file has it: encoded by rank 0, and written as it is."""
    known: VisitCost | None = None
    """Cost of the visit."""
    time_left: TimeLeft | None = None


class TurnPutOff(_Event, frozen=True, tag="put_off"):
    """A turn was begun and has to wait until the others had theirs."""

    index: int
    """Number of the case in the plan."""
    visit: int
    time_left: TimeLeft | None = None


class TurnsLeftOut(_Event, frozen=True, tag="left_out"):
    """Turns for which no time is left."""

    launch: int
    turns: tuple[Turn, ...]


class ChoicesSeen(_Event, frozen=True, tag="choices"):
    """Choices of the communication library, from `bench.measure.engine.passes.nccl_choices`."""

    choices: Choices


Event = Ready | CaseBegun | Recorded | TurnPutOff | TurnsLeftOut | ChoicesSeen
Emit = Callable[[Event], None]
_DECODER = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """An event as one line of JSON, without its newline."""
    return msgspec.json.encode(event)


def decode(line: bytes) -> Event:
    """The event of a line that `encode` made."""
    event: Event = _DECODER.decode(line)
    return event
