"""What the parent of local ranks does when time runs out: nothing here starts a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.core import clock
from bench.errors import BenchError
from bench.measure.launch.supervisor import RunOutcome, Supervisor
from bench.measure.planning import events
from bench.measure.planning.plan import Plan, Turn
from bench.measure.planning.session import Session
from bench.measure.planning.visit_overhead import STARTUP_SECONDS
from bench.records.lines.header import Environment
from tests.support.plans import a_plan


@dataclass
class Recorded:
    """A recorder that remembers what it was told, and holds cases pending until they are done."""

    plan: Plan
    has_header: bool = True
    current: Turn | None = (0, 0)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    left: int = 1
    launches_left: int = -1
    startup_seconds: float = 0.0
    known: dict[int, Any] = field(default_factory=dict)
    profile: str | None = None

    def pending(self, launch: int) -> tuple[Turn, ...]:
        return ((0, 0),) if self.left else ()

    def calls(self, launch: int) -> dict[str, dict[str, int]]:
        return {}

    def handle(self, event: events.Event) -> None:
        self.told.append((type(event), getattr(event, "turns", None)))
        self.left = 0

    def cut_off(self, turn: Turn, launch: int, reason: str) -> None:
        self.told.append(("cut off", turn, reason))

    def blame(self, launch: int, reason: str) -> None:
        self.told.append(("failed", self.current, reason))


@dataclass
class Ranks:
    session: Session


def supervisor(plan: Plan, **changes: Any) -> tuple[Supervisor, Recorded]:
    recorder: Any = Recorded(plan, **changes)
    return Supervisor(recorder, 0.0), recorder


def hung(limit_seconds: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    plan = a_plan(1, timeout_seconds=60.0, budget_seconds=100.0)
    of, recorder = supervisor(plan)
    monkeypatch.setattr(of, "_reports", lambda ranks: {})
    of._limit_seconds = limit_seconds
    ranks: Any = Ranks(Session(plan, 0, 0, ((0, 0),), 50.0))
    assert of._hung(ranks) is RunOutcome.HARD
    (told,) = recorder.told
    return told


def test_a_case_that_hangs_is_failed_by_its_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told = hung(60.0, monkeypatch)
    assert told == ("failed", (0, 0), "no end within --timeout 60 s: no rank gives a sign of life")


def test_a_case_that_had_less_time_than_its_time_out_is_cut_off_for_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    told = hung(12.0, monkeypatch)
    words = "no end within the 12 s that were left of the run's time: no rank gives a sign of life"
    assert told == ("cut off", (0, 0), words)


def test_ranks_that_fail_before_the_first_case_are_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    of, _ = supervisor(a_plan(1), has_header=False, current=None)
    ranks: Any = Ranks(Session(a_plan(1), 0, 0, ((0, 0),), 50.0))
    with pytest.raises(BenchError, match="the ranks did not start: no network; try `bench doctor`"):
        of._blame(ranks, "no network")


def see_through(plan: Plan, now: float, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[list[Any], Recorded]:
    """The sessions that would have been started at that time of the run, and what the recorder was told."""
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: now)
    of, recorder = supervisor(plan, **changes)
    started: list[Any] = []

    def supervise(ranks: Any) -> RunOutcome:
        started.append(ranks.session)
        recorder.left = 0
        return RunOutcome.DONE

    monkeypatch.setattr(of, "_supervise", supervise)
    store: Any = None
    assert of._see_through(0, store, Path(), {})
    return started, recorder


def test_where_starting_the_ranks_would_take_all_that_is_left_none_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan(1, launches=1, budget_seconds=50.0)
    started, recorder = see_through(plan, 45.0, monkeypatch)
    assert (started, recorder.told) == ([], [(events.TurnsLeftOut, ((0, 0),))])
    started, recorder = see_through(plan, 30.0, monkeypatch)
    assert (len(started), recorder.told) == (1, [])
    # Without a header there is no file yet: what was left out has to be written somewhere.
    assert len(see_through(plan, 45.0, monkeypatch, has_header=False)[0]) == 1


def test_what_a_launch_is_told_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {0: object()}
    started, recorder = see_through(a_plan(1, launches=3), 0.0, monkeypatch, known=known)
    assert started[0].known is known
    assert recorder.launches_left == 2
    assert recorder.startup_seconds == STARTUP_SECONDS["cpu"]


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_a_start_is_guessed_by_device_until_one_was_seen(device_type: str) -> None:
    recorder: Any = Recorded(a_plan(1, device_type=device_type))
    assert Supervisor(recorder, 0.0).startup_seconds == STARTUP_SECONDS[device_type]
    assert Supervisor(recorder, 0.0, startup_seconds=3.0).startup_seconds == 3.0


class Started:
    """Ranks that are ready after some seconds, say that a case begins, and end."""

    def __init__(self, now: list[float], seconds: float, plan: Plan) -> None:
        self.now, self.seconds = now, seconds
        self.session = Session(plan, 0, 0, ((0, 0),), 50.0)
        self.pipe = self.store = self
        self.processes = [self]
        self.code: int | None = None
        self.events: list[events.Event] = [
            events.Ready(Environment()),
            events.CaseBegun(0, 0, 7.0),
            events.Recorded(0, msgspec.Raw(b"{}")),
        ]

    def start(self) -> None:
        self.now[0] += self.seconds

    def read(self, wait_seconds: float) -> list[events.Event]:
        if self.events:
            return [self.events.pop(0)]
        self.code = 0
        return []

    def poll(self) -> int | None:
        return self.code

    def end(self) -> None: ...


def test_what_a_start_takes_is_learnt_from_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: now[0])
    of, recorder = supervisor(a_plan(1, timeout_seconds=60.0))
    for seconds in (17.0, 4.0):
        ranks: Any = Started(now, seconds, of.plan)
        assert of._supervise(ranks) is RunOutcome.DONE
        assert of.startup_seconds == recorder.startup_seconds == seconds


def test_a_case_s_own_limit_holds_until_its_record_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: now[0])
    of, recorder = supervisor(a_plan(1, timeout_seconds=60.0))
    limits: list[float] = []
    heard = recorder.handle

    def handle(event: events.Event) -> None:
        heard(event)
        limits.append(of._limit_seconds)  # as the event before it has left it

    monkeypatch.setattr(recorder, "handle", handle)
    ranks: Any = Started(now, 5.0, of.plan)
    of._supervise(ranks)
    assert [*limits, of._limit_seconds] == [60.0, 60.0, 7.0, 60.0]
