"""How a budget becomes pairs of launches: on a clock that is moved by hand, over machines of all kinds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from bench.core.values import parse_seconds
from bench.errors import BenchError
from bench.measure.planning.budget_fit import MIN_CASE_SECONDS, fit_budget
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.session import BUDGET_REASON
from bench.measure.planning.visit_overhead import STARTUP_SECONDS
from bench.records.file import load
from bench.records.lines.header import PlannedCase
from bench.run.ab.ab_budget import (
    ENOUGH_SAMPLES,
    FEWEST_PAIRS,
    LaunchCost,
    PairBudget,
    duration,
    guess_cost,
    launch_budget,
    measured_cost,
    needed_seconds,
)
from bench.run.ab.ab_sides import parse_pair_request, schedule
from tests.support.plans import a_plan
from tests.support.results import header, measurement, not_ok, planned, save

MIN_SAMPLES, CAP_SECONDS = 6, 0.5


def cases(number: int) -> list[PlannedCase]:
    return [PlannedCase("sum", f"sum/n[size={n}]", {}) for n in range(number)]


@dataclass
class Machine:
    """Launches that start for a while, and share the rest of their time among their cases."""

    startup: float
    num_cases: int
    around: float
    """What surrounds the samples of a case."""
    each: float
    """A sample."""
    time: float = 0.0
    samples: list[int] = field(default_factory=list)
    """The fewest that a case of each launch had; 0: a case was not measured."""
    pairs: int = 0

    def launch(self, seconds: float) -> LaunchCost:
        """What one that had this much time says of its cost."""
        share = min(CAP_SECONDS, (seconds - self.startup) / self.num_cases - self.around)
        count = max(MIN_SAMPLES, int(share / self.each)) if share > 0 else 0
        took = self.num_cases * (self.around + count * self.each) if count else 0.0
        self.samples.append(count)
        self.time += self.startup + took
        enough = self.around + max(MIN_SAMPLES * self.each, min(ENOUGH_SAMPLES * self.each, CAP_SECONDS))
        unknown = CAP_SECONDS * 1.25 + 0.3
        left_out = 0 if count else self.num_cases
        return LaunchCost(self.startup, self.num_cases * (enough if count else unknown), self.num_cases, left_out)

    def refusal(self, budget: str) -> str | None:
        """What is said where a budget is too short; None: it was accepted, and all launches were made."""
        try:
            self.alternate(budget)
        except BenchError as error:
            return str(error)
        return None

    def alternate(self, budget: str) -> None:
        """All launches within a budget, after planning took a while. Raises BenchError if it is too short."""
        self.time = self.startup / 2
        planned = schedule("smoke", parse_pair_request(None, budget), cases(self.num_cases), self.time)
        assert planned.budget_seconds is not None
        purse = PairBudget(budget, planned.budget_seconds, planned.pairs)
        while not purse.pairs or purse.made < 2 * purse.pairs:
            began = self.time
            cost = self.launch(purse.launch_seconds(began))
            purse.learn(cost, began, self.time)
        self.pairs = purse.pairs


@pytest.mark.parametrize("budget", ["2m", "4m", "10m"])
@pytest.mark.parametrize("num_cases", range(1, 11))
def test_a_budget_that_is_accepted_measures_and_one_that_is_not_says_what_would_be(budget: str, num_cases: int) -> None:
    refused, blind = 0, False
    for startup in (2.0, 4.0, 6.0, 9.0, 13.0, 17.0, 25.0, 45.0, 90.0):
        for around, each in ((0.05, 0.0001), (0.3, 0.02), (1.0, 0.1), (2.0, 1.0)):
            machine, said = Machine(startup, num_cases, around, each), budget
            while (advice := machine.refusal(said)) is not None:
                # Refused, after one launch at the most; and the time that is named is enough, unless nothing could be
                # measured that tells how long a case takes.
                assert len(machine.samples) <= 1
                found = re.search(rf"--budget {re.escape(said)} is too short: .* need about (\S+);", advice)
                assert found is not None, advice
                assert parse_seconds("", found[1]) > parse_seconds("", said)
                refused += said == budget
                assert said == budget or blind
                blind, said = machine.samples == [0], found[1]
                machine = replace(machine, samples=[])
            assert machine.pairs >= FEWEST_PAIRS
            assert len(machine.samples) == 2 * machine.pairs
            assert min(machine.samples) >= max(MIN_SAMPLES, min(ENOUGH_SAMPLES, int(CAP_SECONDS / each)) - 1)
            assert machine.time <= parse_seconds("", said)
    assert refused < 36


@pytest.mark.parametrize(
    ("startup", "num_cases", "budget", "pairs"),
    [
        (3.0, 1, "2m", 9),
        (5.0, 10, "2m", 6),
        (13.0, 1, "2m", 4),
        (10.0, 10, "2m", 3),
        (13.0, 10, "4m", 6),
        (13.0, 10, "10m", 10),
    ],
)
def test_the_pairs_are_what_fits(startup: float, num_cases: int, budget: str, pairs: int) -> None:
    machine = Machine(startup, num_cases, 0.2, 0.01)
    machine.alternate(budget)
    assert machine.pairs == pairs


def test_the_plan_of_a_side_leaves_no_case_out() -> None:
    for budget in ("1m", "2m", "4m", "10m"):
        for number in (1, 5, 10, 40):
            try:
                planned = schedule("smoke", parse_pair_request(None, budget), cases(number))
            except BenchError:
                continue
            plan = a_plan(left_out=(), cases=tuple(cases(number)), launches=planned.pairs)
            assert not fit_budget(replace(plan, budget_seconds=planned.side_seconds)).left_out


def test_what_a_launch_costs_is_learnt_from_its_file(tmp_path: Path) -> None:
    ids = [f"sum/n[size={n}]" for n in range(4)]
    plan = {"cases": [planned(name) for name in ids], "case_seconds": 0.5, "visits": 1}
    late = not_ok(ids[3], "skipped", BUDGET_REASON) | {"seconds": None}
    ms = 1_000_000
    records = [
        # 40 samples of 5 ms in 0.5 s: 0.3 s around them, and 20 of them take 0.1 s.
        measurement(ids[0], [[5 * ms] * 40, [4 * ms] * 40], seconds=0.5),
        # 6 samples of 100 ms in 0.8 s: 0.2 s, and 20 take 2 s, more than the preset's time and taken all the same.
        measurement(ids[1], [[100 * ms] * 6] * 2, seconds=0.8),
        # Another visit to a disturbed case is nothing that has to be.
        measurement(ids[1], [[100 * ms] * 6] * 2, seconds=0.8) | {"visit": 1},
        not_ok(ids[2], "skipped", "needs 4 ranks") | {"seconds": 0.1},
        late,
        # Of another launch.
        measurement(ids[0], [[5 * ms] * 40] * 2, launch=1, seconds=9.0),
    ]
    result = load(save(tmp_path / "a.jsonl", header(plan=plan), *records))
    cost = measured_cost(result, 0, 10.0)
    assert cost.startup_seconds == pytest.approx(10.0 - 2.2)
    known = [0.4, 2.2, 0.1]
    assert cost.cases_seconds == pytest.approx(sum(known) + sum(known) / 3)
    assert (cost.num_cases, cost.num_unknown) == (4, 1)
    # Nothing measured: each case may take all that its preset allows.
    nothing = load(save(tmp_path / "b.jsonl", header(plan=plan), late))
    assert measured_cost(nothing, 0, 10.0) == LaunchCost(10.0, pytest.approx(4 * (0.5 * 1.25 + 0.3)), 4, 4)
    # What lasts has its time.
    soak = {"cases": [planned(ids[0]) | {"min_seconds": 15.0}], "case_seconds": 0.5, "visits": 1}
    long = load(save(tmp_path / "c.jsonl", header(plan=soak), measurement(ids[0], [[ms] * 15_000] * 2, seconds=16.0)))
    assert measured_cost(long, 0, 20.0) == LaunchCost(4.0, 15.0, 1)


def test_a_budget_keeps_a_reserve_and_an_advice_holds_it() -> None:
    assert (launch_budget(120.0), launch_budget(600.0), launch_budget(3.0)) == (115.0, 582.0, 0.0)
    assert launch_budget(needed_seconds(LaunchCost(13.0, 3.0, 10), 3)) >= 6 * 16.0
    assert [duration(seconds) for seconds in (41.0, 50.0, 119.0, 121.0, 150.1)] == ["50s", "50s", "2m", "2.5m", "3m"]
    assert all(parse_seconds("", duration(seconds)) >= seconds for seconds in (1.0, 59.0, 121.0, 3601.0))


def test_before_the_first_launch_the_least_is_expected() -> None:
    lasting = msgspec.structs.replace(cases(1)[0], min_seconds=15.0)
    assert guess_cost([*cases(3), lasting]) == LaunchCost(STARTUP_SECONDS["cpu"], 4 * MIN_CASE_SECONDS + 15.0, 4)
    smoke = PRESETS["smoke"].budget_seconds
    assert schedule("smoke", parse_pair_request(None, None), cases(100)).launch_seconds == smoke
