"""A case that is too expensive for its turn, on one rank: postponed and closed, and measured when it comes again."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from bench.measure.engine.case_run import CaseRun
from bench.measure.engine.consensus import Poll
from bench.measure.engine.timing.case_cost import DEAR_NOTE, DEAR_ROUNDS, UNLIMITED, Allowance, Postponement
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.planning.suite_loader import Suite
from bench.records.lines.kinds import Measurement
from bench.records.visits import num_samples
from bench.suite import Table, Work
from tests.measure.engine.test_consensus import memory_store
from tests.support.plans import a_plan, lone_rank


@dataclass
class Log:
    """What was called of a suite, in its order."""

    calls: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.calls.append(name)


class NoWatchdog:
    def enter(self, phase: str) -> None: ...
    def allow(self, seconds: float) -> None: ...


def a_suite(log: Log) -> Suite:
    """Its case has two variants, a traced call, and figures and tables that need both of them."""

    def prepare(params: dict[str, Any], rank: Any) -> Work:
        def check() -> tuple[float, float]:
            log("check")
            return 0.0, 0.0

        return Work(
            variants={"full": lambda: log("full"), "half": lambda: log("half")},
            check=check,
            close=lambda: log("close"),
            traced_calls=1,
            derive=lambda seen: {"ratio": seen.seconds["full"] / max(1e-12, seen.seconds["half"])},
            tables=lambda seen: {"both": Table(("s",), ((seen.seconds["half"],),))},
            notes=("own",),
        )

    module = ModuleType("sum")
    module.__dict__.update(prepare=prepare, cases=lambda machine: [], METRICS={"ratio": ("x", "neither")})
    return Suite("sum", "sum", "", module)


def outcome(log: Log, allowance: Allowance) -> Measurement | Postponement:
    plan, rank = a_plan(1, world_size=1), lone_rank()
    watchdog: Any = NoWatchdog()
    poll = Poll(rank, memory_store(), "g", "case")
    run = CaseRun(rank, plan, plan.cases[0], a_suite(log), 0, poll, watchdog, "host", allowance=allowance)
    record, sound = run.record(Limits(0.02, 0.001))
    assert sound
    return record


def recorded(log: Log, allowance: Allowance) -> Measurement:
    record = outcome(log, allowance)
    assert isinstance(record, Measurement)
    return record


def test_a_case_without_time_is_put_off_after_its_check_and_closed() -> None:
    log = Log()
    postponement = outcome(log, Allowance(0.0, 0.0))
    assert isinstance(postponement, Postponement)
    assert postponement.dear_seconds > 0
    assert log.calls == ["check", "close"]


def test_when_it_comes_again_it_has_one_call_to_warm_up_and_few_samples_of_itself_alone() -> None:
    log = Log()
    record = recorded(log, Allowance(1000.0, 1000.0, is_dear=True))
    assert record.status == "ok"
    assert log.calls == ["check", *["full"] * (1 + DEAR_ROUNDS), "check", "close"]
    assert record.notes[:2] == ["own", DEAR_NOTE]
    assert list(record.variants) == ["full"]
    assert record.stop is not None
    assert record.stop.samples == num_samples(record) == DEAR_ROUNDS
    assert (record.derived, record.tables, record.spans) == ({}, {}, [])
    assert record.check is not None
    assert record.check.error_after == 0.0


@pytest.mark.parametrize("allowance", [UNLIMITED, Allowance(1000.0, 1000.0)])
def test_a_case_with_time_has_twenty_samples_of_all_it_has(allowance: Allowance) -> None:
    log = Log()
    record = recorded(log, allowance)
    assert record.status == "ok"
    assert num_samples(record) >= 20
    assert list(record.variants) == ["full", "half"]
    assert DEAR_NOTE not in record.notes
    assert record.derived["ratio"] is not None
    assert log.calls[:2] == ["check", "full"]
