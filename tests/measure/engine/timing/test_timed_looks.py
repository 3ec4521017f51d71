"""Looks at what timed calls left, and the report of a rank on its samples: without ranks, on a clock of their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.engine import case_run, control
from bench.measure.engine.case_run import CaseEnd, CaseRun
from bench.measure.engine.timing.sample_report import UNLOOKED_NOTE, SampleReport, sample_report
from bench.measure.engine.timing.sampler import Sampler, Samples
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.engine.timing.timed_looks import (
    ENOUGH_LOOKS,
    FEWEST_LOOKED,
    FEWEST_OTHERS,
    FIRST_LOOKS,
    FIRST_SHARE,
    LOOK_SHARE,
    ROUNDS_PER_LOOK,
    SHORTCUT_RATIO,
    TimedLooks,
)
from bench.measure.planning.session import case_record
from bench.measure.planning.suite_contract import ContractError
from bench.records.lines.parts import CheckOutcome
from bench.suite import Check, TimedCheck, Work
from tests.measure.engine.timing.test_sampler import MILLISECOND, FakeTime
from tests.support.plans import a_plan, lone_rank


def looks_at(*found: tuple[float, float], time: FakeTime | None = None, took: int = 0) -> TimedLooks:
    """Looks at the variant `full`, which find these errors and tolerances one after the other."""
    time = time or FakeTime()
    coming = iter(found)

    def look(_calls: int) -> tuple[float, float]:
        time.nanoseconds += took
        return next(coming)

    return TimedLooks({"full": TimedCheck(lambda: None, look)}, time.seconds)


# Which samples are looked at.


def test_all_ranks_draw_the_same_samples_and_each_run_others() -> None:
    first, second, other = looks_at(), looks_at(), looks_at()
    other.salt = 1
    drawn = [looks.choose(100, 512, 20) for looks in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 20
    assert all(100 <= number < 612 for number in drawn[0])
    assert first.choose(612, 512, 20) != {number + 512 for number in drawn[0]}


def test_each_sample_of_a_block_is_as_likely_to_be_looked_at() -> None:
    """A fault that strikes every fifth call must not lie between looks at every tenth."""
    counts: Counter[int] = Counter()
    looks = looks_at()
    for salt in range(3000):
        looks.salt = salt
        counts.update(looks.choose(0, 10, 1))
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 1.4 * min(counts.values())


def test_no_more_samples_are_drawn_than_there_are() -> None:
    assert looks_at().choose(7, 3, 10) == {7, 8, 9}
    assert looks_at().choose(7, 3, 0) == frozenset()
    assert TimedLooks({}, FakeTime().seconds).choose(7, 3, 10) == frozenset()


def costing(took: int, looked: int = ENOUGH_LOOKS) -> TimedLooks:
    """Looks of which some were made, each of this many nanoseconds."""
    looks = looks_at(*[(0.0, 0.0)] * looked, took=took)
    for number in range(looked):
        looks.arm("full")
        looks.look("full", 1, number)
    return looks


def test_looks_beyond_the_first_of_a_block_cost_a_twentieth_of_its_time() -> None:
    looks = costing(MILLISECOND)
    assert looks.next_number(100, 0.010) == round(LOOK_SHARE * 100 * 0.010 / 0.001)
    assert looks.next_number(1, 0.010) == 1
    assert looks.next_number(100, 0.000_001) == 1
    assert looks.next_number(100, 10.0) == 100
    assert costing(0).next_number(37, 0.0) == 37


def test_the_first_block_has_few_looks_since_nobody_knows_what_one_costs() -> None:
    assert [looks_at().next_number(size, 0.01) for size in (1, 7, 16, 24, 512)] == [1, 1, 2, FIRST_LOOKS, FIRST_LOOKS]


def test_a_case_gets_enough_looks_unless_they_are_dear() -> None:
    assert costing(MILLISECOND, looked=3).next_number(512, 0.000_2) == ENOUGH_LOOKS - 3
    assert costing(MILLISECOND, looked=3).next_number(16, 0.002) == 16 // ROUNDS_PER_LOOK
    assert costing(1000 * MILLISECOND, looked=1).next_number(512, 0.000_2) == 1
    assert costing(20 * MILLISECOND, looked=1).next_number(512, 0.000_2) == int(FIRST_SHARE * 512 * 0.000_2 / 0.020)


# What they find.


def test_the_worst_look_is_kept_with_its_place() -> None:
    looks = looks_at((0.5, 1.0), (0.4, 0.0), (0.9, 1.0), (0.4, 0.0))
    for number in (3, 5, 8, 9):
        looks.look("full", 1, number)
    assert looks.worst == Check(0.4, 0.0)
    assert looks.worst_at == "full, sample 5"
    assert looks.counts == {"full": 4}


def test_not_a_number_is_worse_than_any() -> None:
    looks = looks_at((math.nan, 0.0), (1e9, 0.0))
    looks.look("full", 1, 0)
    looks.look("full", 1, 1)
    assert looks.worst_at == "full, sample 0"


def test_variants_without_a_check_are_left_alone() -> None:
    looks = looks_at()
    looks.arm("other")
    looks.look("other", 1, 0)
    assert looks.counts == {}
    assert looks.worst is None


@pytest.mark.parametrize("found", [None, 3.0, (1.0,), ("a", 0.0), (0.0, math.nan)])
def test_a_look_that_returns_something_else_breaks_the_contract(found: Any) -> None:
    looks = TimedLooks({"full": TimedCheck(lambda: None, lambda _calls: found)}, FakeTime().seconds)
    with pytest.raises(ContractError, match="has to return"):
        looks.look("full", 1, 0)


# Calls that do less if their outputs are as they left them.


def compared(behind: list[int], after: list[int], others: list[int]) -> str:
    looks = looks_at()
    looks.times["full"] = behind, after, others
    return looks.shortcut()


def test_calls_that_do_their_work_only_behind_spoilt_outputs_are_found() -> None:
    assert compared([200_000] * FEWEST_LOOKED, [15_000] * FEWEST_LOOKED, [10_000] * FEWEST_OTHERS) == (
        "calls of full do not do their work each time: behind spoilt outputs samples took 0.2 ms or more, and most "
        "others 0.015 ms or less"
    )


@pytest.mark.parametrize(
    ("behind", "after", "others"),
    [
        ([], [], []),
        ([200] * (FEWEST_LOOKED - 1), [10] * 100, [10] * 100),
        ([200] * 100, [10] * (FEWEST_LOOKED - 1), [10] * 100),
        ([200] * 100, [10] * 100, [10] * (FEWEST_OTHERS - 1)),
        ([round(SHORTCUT_RATIO * 10)] * 10, [10] * 10, [10] * 10),
        ([*[200] * 9, 39], [10] * 10, [10] * 10),  # one look was as quick
        ([200] * 10, [200] * 10, [10] * 100),  # every look is followed by a slow sample: a rank lost its core
        ([200] * 10, [*[10] * 7, 60, 60, 60], [10] * 100),
        ([200] * 10, [10] * 10, [*[10] * 7, 60, 60, 60]),  # a quarter of the others as slow
        ([200] * 10, [200] * 10, [200] * 10),
        ([10] * 10, [200] * 10, [200] * 10),
    ],
)
def test_noise_is_no_shortcut(behind: list[int], after: list[int], others: list[int]) -> None:
    assert compared(behind, after, others) == ""


def test_samples_right_after_a_look_are_told_from_the_others() -> None:
    looks = TimedLooks(dict.fromkeys(("full", "half"), TimedCheck(print, lambda _: (0.0, 0.0))), FakeTime().seconds)
    taken = [(name, number) for number in range(4) for name in ("full", "half", "none")]
    samples = [(name, number, 10 * number + place) for place, (name, number) in enumerate(taken)]
    looks.compare(samples, {1})
    assert looks.times == {"full": ([13], [], [0, 26, 39]), "half": ([14], [], [1, 27, 40])}  # `none` came between
    looks.compare([("full", 0, 1), ("full", 1, 2), ("full", 2, 3), ("half", 2, 4), ("half", 3, 5)], {1})
    assert looks.times == {"full": ([13, 2], [3], [0, 26, 39, 1]), "half": ([14], [], [1, 27, 40, 4, 5])}


# On samples.


@dataclass
class Copy:
    """Work with an output, which its timed check spoils and looks at."""

    output: int = 0
    log: list[str] = field(default_factory=list)
    time: FakeTime = field(default_factory=FakeTime)
    does: Callable[[int], bool] = lambda _call: True
    num_calls: int = 0

    def run(self) -> None:
        self.log.append("run")
        self.time.nanoseconds += MILLISECOND
        self.num_calls += 1
        if self.does(self.num_calls):
            self.output = 7

    def look(self, calls: int) -> Check:
        self.log.append(f"look {calls}")
        return Check(abs(self.output - 7.0), 0.0)

    def arm(self) -> None:
        self.log.append("arm")
        self.output = -1

    def samples(self, timing: Any = "aligned", **limits: Any) -> Samples:
        work = Work(
            variants={"full": self.run, "half": self.time.takes("half", MILLISECOND)},
            check=lambda: (0.0, 0.0),
            reset=lambda: self.log.append("reset"),
            timed_checks={"full": TimedCheck(self.arm, self.look)},
        )
        sampler = Sampler(lone_rank(), work, self.time.clock(), timing, self.time.seconds)
        return sampler.measure(Limits(0.5, 0.5, **limits))


def test_each_block_has_a_look_around_a_sample_and_warm_up_has_none() -> None:
    case = Copy()
    samples = case.samples()
    looks = samples.looks
    assert looks is not None
    assert looks.worst == Check(0.0, 0.0)
    assert looks.counts["full"] == case.log.count("arm") >= 1
    assert "half" not in looks.counts
    for number, word in enumerate(case.log):
        if word == "arm":  # before the reset: that may spoil the output itself
            assert case.log[number : number + 4] == ["arm", "reset", "run", "look 1"]
    assert "arm" not in case.log[: 3 * samples.warmup_rounds]
    assert sum(map(len, looks.times["full"])) == samples.num_rounds
    assert len(looks.times["full"][0]) == looks.counts["full"]


def test_a_look_knows_the_calls_of_a_streamed_sample() -> None:
    case = Copy()
    samples = case.samples("streamed")
    assert {word for word in case.log if word.startswith("look")} == {f"look {samples.calls['full']}"}


def test_a_call_that_does_nothing_from_some_time_on_is_found() -> None:
    samples = Copy(does=lambda call: call < 10).samples(min_seconds=0.2)
    report = sample_report(samples, "full")
    assert report.excess() == 8.0
    assert report.at.startswith("full, sample ")
    assert report.num_looked >= 1


def test_a_call_that_works_only_if_its_output_was_changed_is_found() -> None:
    case = Copy()

    def run() -> None:
        case.time.nanoseconds += MILLISECOND if case.output != 7 else MILLISECOND // 50
        case.output = 7

    def look(calls: int) -> Check:
        case.time.nanoseconds += MILLISECOND // 50
        return case.look(calls)

    work = Work(variants={"full": run}, check=lambda: (0.0, 0.0), timed_checks={"full": TimedCheck(case.arm, look)})
    samples = Sampler(lone_rank(), work, case.time.clock(), "aligned", case.time.seconds).measure(
        Limits(0.5, 0.2, min_seconds=0.2)
    )
    report = sample_report(samples, "full")
    assert report.excess() == 0.0
    assert report.shortcut.startswith("calls of full do not do their work each time")
    assert sample_report(Copy().samples(min_seconds=0.2), "full").shortcut == ""


# The report.


def samples_with(looks: TimedLooks | None, trouble: str = "") -> Samples:
    return Samples({"full": 1}, {"full": [5]}, "time", None, 2, clock_trouble=trouble, looks=looks)


@pytest.mark.parametrize("looks", [None, TimedLooks({}, FakeTime().seconds)])
def test_without_a_look_nothing_is_wrong_but_the_clock(looks: TimedLooks | None) -> None:
    report = sample_report(samples_with(looks, "it stands still"), "full")
    assert report == SampleReport("it stands still", 0, None, 0.0, "")
    assert report.excess() == -math.inf


@pytest.mark.parametrize(
    ("found", "error", "excess"),
    [
        ((0.5, 0.25), 0.5, 0.25),
        ((0.0, 0.0), 0.0, 0.0),
        ((math.nan, 0.1), None, math.inf),
        ((math.inf, 1.0), None, math.inf),
    ],
)
def test_the_worst_look_is_reported(found: tuple[float, float], error: float | None, excess: float) -> None:
    looks = looks_at(found)
    looks.look("full", 1, 4)
    report = sample_report(samples_with(looks), "full")
    assert (report.error, report.tolerance, report.num_looked, report.at) == (error, found[1], 1, "full, sample 4")
    assert report.excess() == excess
    assert sample_report(samples_with(looks), "another").num_looked == 0


def test_a_shortcut_is_reported() -> None:
    looks = looks_at((0.0, 0.0))
    looks.look("full", 1, 0)
    looks.times["full"] = [200] * 10, [10] * 10, [10] * 10
    assert sample_report(samples_with(looks), "full").shortcut.startswith("calls of full do not")


# What becomes of the case.

RIGHT = SampleReport("", 5, 0.0, 0.0, "full, sample 1")


def judged(
    monkeypatch: pytest.MonkeyPatch, *reports: SampleReport, main_has_check: bool = True
) -> tuple[str, CheckOutcome, list[str]]:
    """The reason for which the case is invalid, its check, and its notes, if the ranks report so."""
    monkeypatch.setattr(control, "all_gather", lambda *_args: list(reports))
    monkeypatch.setattr(case_run, "sample_report", lambda *_args: reports[0])
    run: Any = SimpleNamespace(rank=lone_rank(), _end_invalid=CaseRun._end_invalid.__get__(SimpleNamespace()))
    run._voting = lambda _phase: _Block()
    plan = a_plan(1)
    record = case_record(plan, plan.cases[0], 0, "failed", None, "")
    record.check = CheckOutcome(error=0.0, tolerance=0.0, scope="full")
    checks = {"full": TimedCheck(lambda: None, lambda _calls: (0.0, 0.0))} if main_has_check else {}
    work = Work(variants={"full": print, "half": print}, check=lambda: (0.0, 0.0), timed_checks=checks)
    reason = ""
    try:
        CaseRun._judge_samples(run, work, samples_with(None), record)
    except CaseEnd as end:
        reason = end.agreement.reason or ""
    return reason, record.check, record.notes


class _Block:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_args: object) -> None:
        return None


def test_samples_without_a_fault_leave_the_number_of_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    reason, check, notes = judged(monkeypatch, RIGHT, replace(RIGHT, num_looked=4))
    assert (reason, notes) == ("", [])
    assert (check.timed_samples, check.error_timed) == (4, 0.0)


def test_a_suite_without_timed_checks_gets_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    none = SampleReport("", 0, None, 0.0, "")
    reason, check, notes = judged(monkeypatch, none, none, main_has_check=False)
    assert (reason, notes) == ("", [UNLOOKED_NOTE])
    assert (check.timed_samples, check.error_timed) == (0, None)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (replace(RIGHT, clock_trouble="it stands still"), "clock of rank 1: it stands still"),
        (
            replace(RIGHT, error=0.5, tolerance=0.1),
            "a timed call left error 0.5 on rank 1, above the tolerance 0.1 (full, sample 1)",
        ),
        (
            replace(RIGHT, error=None),
            "a timed call left error not a number on rank 1, above the tolerance 0 (full, sample 1)",
        ),
        (replace(RIGHT, shortcut="calls do less"), "rank 1: calls do less"),
        (replace(RIGHT, error=1.0, clock_trouble="late"), "clock of rank 1: late"),
    ],
)
def test_a_fault_of_one_rank_makes_the_case_invalid(
    monkeypatch: pytest.MonkeyPatch, second: SampleReport, reason: str
) -> None:
    assert judged(monkeypatch, RIGHT, second)[0] == reason
