"""The first minute tells something, on any machine: recorded times go through the planner on a clock of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bench.measure.engine.timing.case_cost import DEAR_ROUNDS
from bench.measure.engine.timing.stop_rule import MIN_ROUNDS
from bench.measure.engine.worker import LEAST_TIMEOUT_SECONDS
from tests.support.first_minute import BUDGET_SECONDS, CHECK, PREPARE, RECORDED, STARTUP_SECONDS, Replay, Times

SUITES = list(dict.fromkeys(times.suite for times in RECORDED))
SLOW = Times("compute", 12.0, 9.0, 3.6)
"""A product of 1024 in a type without instructions, as it was measured on two cores, masked."""


def with_slow(position: int, suite: str = "compute") -> list[Times]:
    slow = Times(suite, SLOW.around, SLOW.round, SLOW.call)
    return [*RECORDED[:position], slow, *RECORDED[position:]]


def slowed(factor: float) -> list[Times]:
    return [times.times(factor) for times in RECORDED]


def test_as_recorded_everything_has_its_number_and_twenty_samples_or_more() -> None:
    run = Replay(RECORDED).run()
    assert set(run.measured) == set(range(len(RECORDED)))
    assert min(run.measured.values()) >= MIN_ROUNDS
    assert run.now < run.seconds


@pytest.mark.parametrize("position", [1, 9, 20, len(RECORDED)])
def test_one_slow_case_costs_the_others_nothing_and_comes_last(position: int) -> None:
    """It hit the time-out of 60 s of a run of 54 s once, and all others were left out."""
    run = Replay(with_slow(position)).run()
    others = {index: samples for index, samples in run.measured.items() if index != position}
    assert len(others) == len(RECORDED)
    assert sum(samples >= MIN_ROUNDS for samples in others.values()) >= 0.9 * len(others)
    # Its first call, which prices it, is the check; then it waits, or the run's time is up.
    spent = sum(done.seconds for done in run.done if done.turn[0] == position and not done.samples)
    assert spent <= SLOW.around
    later = [number for number, done in enumerate(run.done) if done.turn[0] == position and done.samples]
    assert all(number >= len(RECORDED) and run.done[number].samples == DEAR_ROUNDS for number in later)
    assert run.now <= run.seconds + LEAST_TIMEOUT_SECONDS


def test_a_slow_suite_has_its_number_in_the_end_with_few_samples() -> None:
    run = Replay(with_slow(3, "mine")).run()
    assert run.measured[3] == DEAR_ROUNDS
    assert list(run.measured)[-1] == 3
    assert set(SUITES) <= {([*with_slow(3, "mine")][index]).suite for index in run.measured}
    assert run.now <= run.seconds


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("startup_seconds", [STARTUP_SECONDS, 2 * STARTUP_SECONDS])
def test_on_a_machine_up_to_five_times_as_slow_each_suite_has_a_number_within_the_time(
    factor: float, startup_seconds: float
) -> None:
    cases = slowed(factor)
    run = Replay(cases, BUDGET_SECONDS - startup_seconds).run()
    assert {cases[index].suite for index in run.measured} == set(SUITES)
    assert run.now <= run.seconds + 1.0
    first = [cases[index].suite for index in list(run.measured)[: len(SUITES)]]
    assert sorted(first) == sorted(SUITES), "one case of each suite comes before any has two"


@pytest.mark.parametrize("cases", [RECORDED, with_slow(1), with_slow(9), slowed(2.0), slowed(5.0)])
def test_after_its_first_call_no_case_takes_more_than_four_fair_shares_before_all_others(
    cases: Sequence[Times],
) -> None:
    run = Replay(cases).run()
    for done in run.done:
        times, most = cases[done.turn[0]], done.choice.most_seconds
        assert most is not None
        if not done.choice.is_dear:
            first_call = (PREPARE + CHECK) * times.around + times.call
            assert done.seconds <= max(most + times.round, first_call) + 1e-9
    dear = [number for number, done in enumerate(run.done) if done.choice.is_dear]
    planned = [number for number, done in enumerate(run.done) if done.samples and not done.choice.is_dear]
    assert not dear or min(dear) > max(planned)


def share_within(runs: Sequence[Replay], tolerance: float) -> float:
    readings = [reading for run in runs for reading in run.readings()]
    assert len(readings) >= 40
    return sum(abs(told - true) <= tolerance * true for told, true in readings) / len(readings)


@pytest.mark.parametrize("disturbed_share", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_time_left_is_right_within_30_percent_from_the_tenth_case_on(factor: float, disturbed_share: float) -> None:
    runs = [
        Replay(slowed(factor), noise=random.Random(seed), disturbed_share=disturbed_share).run() for seed in range(5)
    ]
    assert share_within(runs, 0.3) >= 0.8
