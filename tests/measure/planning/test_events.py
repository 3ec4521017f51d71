"""Messages of rank 0 on their way through a pipe."""

from __future__ import annotations

import msgspec
import pytest

from bench.measure.planning import events
from bench.measure.planning.visit_overhead import VisitCost
from bench.records.lines.kinds import Choices
from bench.records.lines.parts import NcclChoice
from tests.support.plans import a_plan
from tests.support.recorders import READY, begun, record

TIME_LEFT = events.TimeLeft(30.0, 40.0, 1.5)


@pytest.mark.parametrize(
    "event",
    [
        READY,
        begun(3, 1, TIME_LEFT),
        begun(3),
        events.TurnPutOff(2, 0, TIME_LEFT),
        events.TurnsLeftOut(1, ((2, 0), (0, 1))),
        events.ChoicesSeen(Choices(case="s/a", nccl=[NcclChoice(function="AllReduce")])),
    ],
)
def test_an_event_survives_its_way(event: events.Event) -> None:
    line = events.encode(event)
    assert b"\n" not in line
    assert events.decode(line) == event


def test_a_measurement_goes_its_way_as_the_bytes_that_the_file_will_have() -> None:
    sent = msgspec.structs.replace(record(a_plan(1), 0), known=VisitCost(0.5, 2.0), time_left=TIME_LEFT)
    heard = events.decode(events.encode(sent))
    assert isinstance(heard, events.Recorded)
    assert bytes(heard.line) == bytes(sent.line)
    assert (heard.index, heard.known, heard.time_left) == (0, sent.known, TIME_LEFT)
