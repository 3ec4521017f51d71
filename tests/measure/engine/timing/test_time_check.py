"""Two clocks that are held against each other, on a fake machine whose true time is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.core.clock import Clock, cpu_clock, device_clock
from bench.measure.engine.timing.sampler import Sampler
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.engine.timing.time_check import (
    DEVICE_EDGE_NS,
    EDGE_NS,
    FEWEST_GAPS,
    FILLED_ATTEMPTS,
    GAP_NS,
    READINGS,
    TimeCheck,
)
from bench.suite import Work
from tests.support.plans import lone_rank

MICROSECOND, MILLISECOND = 10**3, 10**6
READING = 100


@dataclass
class Machine:
    """True time, of which a reading of either clock takes some."""

    now: int = 0
    own: Callable[[int], int] = lambda now: now
    """Reading of the clock of the case, by the true time."""
    raw: Callable[[int], int] = lambda now: now
    delays: dict[int, int] = field(default_factory=dict)
    """Reading number -> how long the rank is interrupted before it."""
    num_readings: int = 0

    def _read(self, reading: Callable[[int], int]) -> int:
        self.now += READING + self.delays.get(self.num_readings, 0)
        self.num_readings += 1
        return reading(self.now)

    def clock(self) -> Clock:
        return Clock(
            "host",
            lambda: self._read(self.own),
            lambda start, end: end - start,
            lambda: None,
            witness=lambda: self._read(self.raw),
        )

    def sample(self, check: TimeCheck, took: int, late: int = 0) -> int:
        """A sample of so many nanoseconds, with an interruption before the reading that follows it."""
        mark = check.clock.mark

        def call() -> tuple[int, int]:
            start = mark()
            self.now += took
            marks = start, mark()
            self.now += late
            return marks

        start, end = check.around(call)
        return int(end - start)

    def block(self, check: TimeCheck, *took: int, late: int = 0) -> list[int]:
        check.begin_block()
        samples = [self.sample(check, each, late) for each in took]
        check.end_block(samples)
        return samples


def trouble(machine: Machine, *took: int, late: int = 0) -> str:
    check = TimeCheck(machine.clock())
    machine.block(check, *took, late=late)
    check.check_gaps()
    return check.trouble


@pytest.mark.parametrize("took", [0, 1, 30, MICROSECOND, 300 * MICROSECOND, 10**10])
@pytest.mark.parametrize("count", [1, 4, 100])
def test_a_true_clock_is_right_whatever_a_sample_takes(took: int, count: int) -> None:
    assert trouble(Machine(), *[took] * count) == ""


@pytest.mark.parametrize("speed", [0.0, 0.5, 0.98, 1.02, 2.0, 1000.0])
def test_a_clock_of_another_speed_is_wrong(speed: float) -> None:
    machine = Machine(own=lambda now: round(now * speed))
    said = trouble(machine, *[MILLISECOND] * 5)
    assert "by the clock of the case, and" in said or "samples sum to" in said
    assert said.endswith("by CLOCK_MONOTONIC_RAW")


@pytest.mark.parametrize(("speed", "is_right"), [(0.992, True), (1.008, True), (0.985, False), (1.015, False)])
def test_one_percent_is_the_edge(speed: float, is_right: bool) -> None:
    """A clock may be steered by 0.05% (or 8% for a while, by chrony after a start: that is wrong by more than 1%)."""
    assert (trouble(Machine(own=lambda now: round(now * speed)), *[10 * MILLISECOND] * 5) == "") is is_right


@pytest.mark.parametrize(("speed", "is_right"), [(1.008, True), (1.015, False)])
def test_one_percent_is_the_edge_within_a_single_sample(speed: float, is_right: bool) -> None:
    """A block whose samples are a small part of it: the readings around each say it."""
    machine = Machine()
    check = TimeCheck(machine.clock())
    check.begin_block()
    machine.now += 10**10
    before = machine.now
    machine.own = lambda now: round(before + (now - before) * speed)
    sample = machine.sample(check, 10 * MILLISECOND)
    machine.own = lambda now: now
    check.end_block([sample])
    assert ("a sample took 10.15 ms by the clock of the case, and at most 10" in check.trouble) is not is_right
    assert (check.trouble == "") is is_right


def test_the_second_clock_may_be_the_wrong_one() -> None:
    assert "by CLOCK_MONOTONIC_RAW" in trouble(Machine(raw=lambda now: now // 2), *[MILLISECOND] * 3)


def test_a_negative_sample_is_wrong_with_and_without_a_second_clock() -> None:
    for witness in (None, lambda: 0):
        check = TimeCheck(Clock("host", lambda: 0, lambda start, end: end - start, lambda: None, witness=witness))
        check.begin_block()
        check.end_block([3, -4_780_000, 5])
        assert check.trouble == "a sample took -4.78 ms: the clock went backwards"


def test_no_samples_are_nothing_wrong() -> None:
    assert trouble(Machine()) == ""


def test_samples_cannot_take_longer_than_their_block() -> None:
    machine = Machine()
    check = TimeCheck(machine.clock())
    check.begin_block()
    machine.now += 2 * MILLISECOND
    check.end_block([MILLISECOND, 2 * MILLISECOND])
    assert check.trouble == ("samples sum to 3 ms, and the block that holds them took 2 ms by CLOCK_MONOTONIC_RAW")


@pytest.mark.parametrize(("beyond", "is_right"), [(-1, True), (50, False)])
def test_the_sum_may_be_too_large_by_a_percent_and_the_edges(beyond: int, is_right: bool) -> None:
    machine = Machine()
    check = TimeCheck(machine.clock())
    check.begin_block()
    machine.now += MILLISECOND
    whole = MILLISECOND + 3 * READING  # one and a half of each reading of both clocks lie between the two edges
    widths = 2 * 2 * READING
    check.end_block([round(whole * 1.01) + widths + EDGE_NS + beyond])
    assert (check.trouble == "") is is_right


def test_a_clock_that_is_put_back_and_on_again_is_seen_by_its_sum() -> None:
    """Between the samples it makes up for what it adds in them, so that the block as a whole is right."""
    machine = Machine()
    check = TimeCheck(machine.clock())
    check.begin_block()
    machine.now += MILLISECOND
    check.end_block([2 * MILLISECOND])
    assert "samples sum to 2 ms" in check.trouble


@pytest.mark.parametrize("tick", [16 * MILLISECOND, MILLISECOND])
def test_a_coarse_clock_is_wrong(tick: int) -> None:
    assert trouble(Machine(own=lambda now: now // tick * tick), *[300 * MICROSECOND] * 100)


def test_a_clock_of_microseconds_is_fine_enough() -> None:
    assert trouble(Machine(own=lambda now: now // MICROSECOND * MICROSECOND), *[300 * MICROSECOND] * 100) == ""


def test_a_clock_that_loses_time_only_within_samples_is_wrong() -> None:
    """It makes up for it before it is read again, so that blocks as a whole are right."""

    def said(count: int, lost: int) -> str:
        machine = Machine()
        check = TimeCheck(machine.clock())
        check.begin_block()
        samples = [machine.sample(check, MILLISECOND) - lost for _ in range(count)]
        check.end_block(samples)
        check.check_gaps()
        return check.trouble

    wrong = "half of the samples are shorter by the clock of the case than by CLOCK_MONOTONIC_RAW, by 0.4"
    assert said(FEWEST_GAPS, MILLISECOND // 2).startswith(wrong)
    assert said(FEWEST_GAPS - 1, MILLISECOND // 2) == ""
    assert said(100, GAP_NS) == ""


# Interruptions: a rank that has to give its core to another program for a while.


@pytest.mark.parametrize("number", range(40))
def test_one_interruption_of_seconds_makes_nothing_wrong(number: int) -> None:
    machine = Machine(delays={number: 3 * 10**9})
    check = TimeCheck(machine.clock())
    for _ in range(3):
        machine.block(check, *[200 * MICROSECOND] * 4)
    check.check_gaps()
    assert check.trouble == ""
    assert machine.num_readings > 20


def test_a_rank_that_is_interrupted_at_every_reading_of_an_edge_has_a_wide_edge() -> None:
    machine = Machine(delays=dict.fromkeys(range(1000), 4 * MILLISECOND))
    assert trouble(machine, *[MILLISECOND] * 10) == ""
    assert machine.num_readings == 2 * 3 * READINGS + 4 * 10  # it tried more often to read both at once


def test_ranks_are_interrupted_behind_less_than_half_of_their_samples() -> None:
    machine = Machine()
    check = TimeCheck(machine.clock())
    for late in (0, 0, 0, 50 * MILLISECOND, 50 * MILLISECOND):
        machine.block(check, *[200 * MICROSECOND] * 4, late=late)
    check.check_gaps()
    assert check.trouble == ""


def test_a_slow_mark_is_not_taken_for_lost_time() -> None:
    """A mark that waits for a device first takes tens of microseconds, and only the first lies before the sample."""
    machine = Machine()
    true = machine.clock()

    def mark() -> int:
        machine.now += 30 * MICROSECOND
        return int(true.mark())

    check = TimeCheck(Clock("host", mark, true.elapsed_ns, true.synchronise, witness=true.witness))
    machine.block(check, *[100 * MICROSECOND] * 20)
    check.check_gaps()
    assert check.trouble == ""


def test_the_first_thing_that_is_wrong_is_kept() -> None:
    machine = Machine(own=lambda now: now // 2)
    check = TimeCheck(machine.clock())
    machine.block(check, MILLISECOND)
    first = check.trouble
    machine.block(check, 5 * MILLISECOND)
    assert check.trouble == first


# Without a second clock there is nothing to compare; the clocks of this machine have one.


def test_without_a_second_clock_only_what_is_impossible_is_wrong() -> None:
    check = TimeCheck(Clock("host", lambda: 0, lambda start, end: end - start, lambda: None))
    check.begin_block()
    assert check.around(lambda: (1, 2)) == (1, 2)
    check.end_block([10**12])
    check.check_gaps()
    check.check_device(lambda: pytest.fail("there is nothing to hold a stream against"))
    assert check.trouble == ""


def test_the_clock_of_this_machine_has_a_second_one_and_agrees_with_it() -> None:
    check = TimeCheck(cpu_clock())
    assert check.witness is not None
    for _ in range(3):
        check.begin_block()
        samples = []
        for _ in range(50):
            start, end = check.around(lambda: (check.clock.mark(), sum(range(2000)), check.clock.mark())[::2])  # type: ignore[arg-type, return-value]
            samples.append(end - start)
        check.end_block(samples)
    check.check_gaps()
    assert check.trouble == ""


# Steps of known length.


@pytest.mark.parametrize(
    ("samples", "calls", "is_right"),
    [([99_000], 1, True), ([98_999], 1, False), ([500_000, 98_000], 1, False), ([396_000], 4, True), ([], 1, True)],
)
def test_samples_are_held_against_what_their_parts_wait(samples: list[int], calls: int, is_right: bool) -> None:
    check = TimeCheck(Machine().clock(), {"full": 100_000.0})
    check.check_least("other", [1], 1)
    check.check_least("full", samples, calls)
    assert (check.trouble == "") is is_right
    if not is_right:
        assert check.trouble.endswith("ms by the clock, and its parts wait 0.1 ms")


# A device's events against the host's clock.


@dataclass
class FakeDevice:
    """A device whose stream is full, and a host that launches on it and asks what it has come to."""

    length: int = 20 * MILLISECOND
    speed: float = 1.0
    """Of the device's clock."""
    now: int = 0
    done: int = 0
    """Time at which the device will have done what was launched."""
    stalls: list[int] = field(default_factory=list)
    """Interruptions of the host at its coming readings of the clock."""
    num_fills: int = 0
    in_event: float = 0.0
    """Share of a fill by which events are recorded too late, as by a device that others use."""

    def witness(self) -> int:
        self.now += MICROSECOND + (self.stalls.pop(0) if self.stalls else 0)
        return self.now

    def fill(self) -> None:
        self.num_fills += 1
        self.now += 3 * MILLISECOND
        self.done = max(self.done, self.now) + self.length

    def mark(self) -> int:
        self.now += 4 * MICROSECOND
        self.done = max(self.done, self.now)
        return self.done

    def synchronise(self) -> None:
        self.now = max(self.now, self.done)

    def check(self) -> TimeCheck:
        clock = device_clock(
            self.mark, lambda start, end: round((end - start) * self.speed), self.synchronise, lambda at: self.now >= at
        )
        check = TimeCheck(Clock("device", clock.mark, clock.elapsed_ns, clock.synchronise, clock.reached, self.witness))
        check.check_device(self.fill)
        return check


def test_events_that_agree_with_the_host_are_right_at_the_first_try() -> None:
    device = FakeDevice()
    assert device.check().trouble == ""
    assert device.num_fills == 2


@pytest.mark.parametrize("speed", [0.0, 0.5, 0.98, 1.02, 2.0])
def test_events_of_another_speed_are_wrong(speed: float) -> None:
    said = FakeDevice(speed=speed).check().trouble
    assert said.startswith(f"a full stream took {20 * speed:.4g} ms by events, and 20")
    assert said.endswith("ms by CLOCK_MONOTONIC_RAW")


def test_events_may_be_wrong_by_a_percent_and_the_time_until_the_host_knows() -> None:
    edge = 1 + (0.01 * 20 * MILLISECOND + DEVICE_EDGE_NS) / (20 * MILLISECOND)
    assert FakeDevice(speed=edge - 0.0005).check().trouble == ""
    assert FakeDevice(speed=edge + 0.001).check().trouble


@pytest.mark.parametrize("stalls", [[10**9], [0, 10**9], [0] * 500 + [10**9], [7 * MILLISECOND] * 5])
def test_an_interrupted_host_tries_again(stalls: list[int]) -> None:
    device = FakeDevice(stalls=list(stalls))
    assert device.check().trouble == ""
    assert device.num_fills > 2


def test_a_host_that_is_always_interrupted_says_nothing_of_a_right_clock() -> None:
    device = FakeDevice(stalls=[15 * MILLISECOND] * 10_000)
    assert device.check().trouble == ""
    assert device.num_fills == 2 * FILLED_ATTEMPTS


def test_a_clock_at_half_speed_is_seen_by_an_interrupted_host_too() -> None:
    assert FakeDevice(speed=0.5, stalls=[4 * MILLISECOND] * 10_000).check().trouble


def test_events_cannot_sum_to_more_than_the_host_s_block() -> None:
    device = FakeDevice()
    clock = Clock("device", device.mark, lambda start, end: end - start, device.synchronise, witness=device.witness)
    check = TimeCheck(clock)
    check.begin_block()
    assert check.around(lambda: (1, 2)) == (1, 2)
    device.now += MILLISECOND
    check.end_block([600 * MICROSECOND, 600 * MICROSECOND])
    assert "samples sum to 1.2 ms" in check.trouble
    check.check_gaps()


def test_a_sampler_reports_what_is_wrong() -> None:
    machine = Machine(own=lambda now: now // 2)

    def run() -> None:
        machine.now += MILLISECOND

    work = Work(variants={"full": run}, check=lambda: (0.0, 0.0), least_seconds={"full": 0.001})
    timing: Any = "aligned"
    sampler = Sampler(lone_rank(), work, machine.clock(), timing, lambda: machine.now / 1e9)
    assert "a block took" in sampler.measure(Limits(0.5, 0.1)).clock_trouble
    machine.own = lambda now: now
    sampler = Sampler(lone_rank(), work, machine.clock(), timing, lambda: machine.now / 1e9)
    assert sampler.measure(Limits(0.5, 0.1)).clock_trouble == ""
    work = Work(variants={"full": run}, check=lambda: (0.0, 0.0), least_seconds={"full": 0.002})
    sampler = Sampler(lone_rank(), work, machine.clock(), timing, lambda: machine.now / 1e9)
    assert sampler.measure(Limits(0.5, 0.1)).clock_trouble.startswith("a call of full took 1")
