"""What the ranks of a generation receive, and the form of what they measure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core import clock
from bench.measure.planning.session import Session, case_record
from bench.records.lines.decoding import plain
from tests.support.plans import a_plan
from tests.support.recorders import STARTED


@pytest.mark.parametrize("seconds_left", [None, 12.5])
def test_a_session_survives_its_way_to_the_ranks(seconds_left: float | None) -> None:
    session = Session(
        a_plan(4, visits=2),
        generation=3,
        launch=1,
        pending=((2, 0), (0, 0), (3, 1)),
        seconds_left=seconds_left,
        calls={"sum/run[size=1]": {"full": 4}},
    )
    assert Session.from_text(session.to_text()) == session
    assert Session.from_text(session.to_text().encode()) == session
    assert session.prefix == "bench/generation3"


def test_the_start_of_the_ranks_is_part_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(a_plan(1), 0, 0, ((0, 0),), 12.5, asked_at_seconds=100.0)
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: 104.0)
    assert session.remaining_seconds() == 8.5
    assert replace(session, asked_at_seconds=None).remaining_seconds() == 12.5
    assert replace(session, seconds_left=None).remaining_seconds() is None


def test_what_a_measurement_does_not_know_is_null_or_left_out() -> None:
    plan = a_plan(1)
    line = case_record(plan, plan.cases[0], 2, "skipped", "why", STARTED)
    assert plain(line) == {
        "kind": "measurement",
        "launch": 2,
        "suite": "sum",
        "case": "sum/run[size=1]",
        "params": {"size": 1, "exact": True},
        "status": "skipped",
        "reason": "why",
        "num_ranks": 2,
        "started": STARTED,
        "variants": {},
        "check": None,
        "work": None,
        "derived": {},
        "metrics": {"speed": ("GB/s", "higher")},
        "stop": None,
        "notes": [],
    }
