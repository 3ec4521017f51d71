"""A case whose preparation may take longer is given that time by whoever watches it: the rank and its parent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bench.measure.engine.case_run import CaseRun
from bench.measure.engine.consensus import Poll
from bench.records.lines.header import PlannedCase
from tests.measure.engine.test_consensus import memory_store
from tests.measure.planning.test_plan import a_suite
from tests.support.plans import a_plan, lone_rank


class Watched:
    """What a watchdog is told, in order."""

    def __init__(self) -> None:
        self.told: list[str | float] = []

    def enter(self, phase: str) -> None:
        self.told.append(phase)

    def allow(self, seconds: float) -> None:
        self.told.append(seconds)


@pytest.mark.parametrize("visit", [0, 1])
def test_the_watchdog_allows_it_before_the_case_is_prepared(visit: int) -> None:
    def prepare(params: Any, rank: Any) -> Any:
        raise ValueError("prepared")

    rank, watched, suite = lone_rank(), Watched(), a_suite("slow", [{}], prepare=prepare)
    case = PlannedCase("slow", "slow/run", {}, prepare_seconds=240.0)
    poll = Poll(rank, memory_store(), "g0", "case0.0")
    plan: Any = a_plan(world_size=1)
    run = CaseRun(rank, plan, case, suite, 0, poll, watched, "node0", visit)  # type: ignore[arg-type]
    assert run.call_untimed(lambda: "") == (None, True)
    assert watched.told == ["memory", 240.0, "prepare"]


@pytest.mark.parametrize(
    ("turn", "seconds"), [(None, 60.0 + 240.0), ((1, 0), 60.0 + 240.0), ((1, 1), 60.0 + 240.0), ((0, 0), 60.0)]
)
def test_the_parent_gives_that_case_alone_the_time(turn: tuple[int, int] | None, seconds: float) -> None:
    plan = a_plan()
    cases = (plan.cases[0], msgspec.structs.replace(plan.cases[1], prepare_seconds=240.0), *plan.cases[2:])
    assert replace(plan, cases=cases).whole_timeout(turn) == seconds
