"""The filler before a sample, and what a sampler learns of the host: on a fake host and a fake device, each with its
own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.clock import Clock
from bench.measure.engine.case_run import CaseRun
from bench.measure.engine.gather import gather_samples
from bench.measure.engine.timing import host_launches
from bench.measure.engine.timing.alignment import (
    GUESSED_HOST_SECONDS,
    MAX_FILL_SECONDS,
    Alignment,
    FillerProduct,
    time_product,
)
from bench.measure.engine.timing.sampler import LOOK_SECONDS, Sampler, Samples
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.planning.session import case_record
from bench.suite import Work
from tests.support.plans import a_plan, lone_rank

MICROSECOND = 10**3
MARK, PRODUCT_HOST, PRODUCT_DEVICE, ALIGN = 4 * MICROSECOND, 6 * MICROSECOND, 28 * MICROSECOND, 40 * MICROSECOND


@dataclass
class Machine:
    """A host that enqueues, and a device that works behind it."""

    host_ns: int = 0
    device_ns: int = 0
    products: list[int] = field(default_factory=list)
    """Between two samples each."""
    late: list[int] = field(default_factory=list)
    """For each sample, the time that the device stood still in it."""
    lowest_clock: int = 1
    """How many times as long products take, as on a GPU that was idle."""

    def launch(self, host: int, device: int) -> int:
        """Enqueue this much work; returns for how long the device had nothing to do before it."""
        self.host_ns += host
        idle = max(0, self.host_ns - self.device_ns)
        self.device_ns += idle + device
        return idle

    def call(self, host: int, device: int, *, kernels: int = 1) -> Callable[[], None]:
        def run() -> None:
            self.late.append(sum(self.launch(host // kernels, device // kernels) for _ in range(kernels)))

        return run

    def clock(self) -> Clock:
        def mark() -> int:
            self.launch(MARK, 0)
            return self.device_ns

        def synchronise() -> None:
            self.host_ns = self.device_ns = max(self.host_ns, self.device_ns)

        return Clock("device", mark, lambda a, b: b - a, synchronise, lambda at: self.host_ns >= at)

    def product(self) -> None:
        self.products[-1:] = [self.products[-1] + 1] if self.products else [1]
        self.launch(PRODUCT_HOST, PRODUCT_DEVICE * self.lowest_clock)

    def together(self) -> None:
        self.products.append(0)
        self.launch(ALIGN, 10 * MICROSECOND)

    def seconds(self) -> float:
        return self.host_ns / 1e9

    def sampler(self, calls: dict[str, int] | None = None, look: Any = None, **variants: Callable[[], None]) -> Sampler:
        work = Work(variants=variants, check=lambda: (0.0, 0.0))
        timing: Any = "aligned" if calls is None else "streamed"
        sampler = Sampler(lone_rank(), work, self.clock(), timing, self.seconds, calls, look)
        sampler.align = Alignment(
            self.together, self.product, lambda: time_product(self.product, self.clock(), self.seconds)
        )
        return sampler


def test_a_filler_lasts_until_the_host_is_done_and_not_much_longer() -> None:
    product = FillerProduct(host_seconds=6e-6, device_seconds=28e-6)
    for host_seconds in (2e-5, 7e-5, 3e-4, 2e-3):
        lasts = product.number(host_seconds) * product.device_seconds
        needs = product.number(host_seconds) * product.host_seconds + host_seconds
        assert needs <= lasts <= 2.2 * host_seconds + 2 * product.device_seconds
    assert product.number(0.0) == 1
    assert product.number(1.0) * product.device_seconds <= MAX_FILL_SECONDS
    assert FillerProduct(9e-6, 8e-6).number(1.0) * 8e-6 <= MAX_FILL_SECONDS  # no longer than its own launch


def test_a_product_is_timed_on_both_clocks() -> None:
    machine = Machine()
    found = time_product(machine.product, machine.clock(), machine.seconds)
    # The start mark is enqueued, too; the device waits for the first product's launch.
    assert found.host_seconds == pytest.approx(PRODUCT_HOST / 1e9, rel=0.05)
    assert found.device_seconds == pytest.approx(PRODUCT_DEVICE / 1e9, rel=0.05)


@pytest.mark.parametrize(
    ("host", "device", "kernels", "products"),
    [
        (5, 3, 1, 4),  # a tiny kernel: fewer than the eight that were there for all
        (400, 250, 40, 31),  # forward and backward of a block: launched in 0.4 ms, done in 0.25
        (300, 2000, 20, 24),
    ],
)
def test_the_device_never_waits_for_the_host_within_a_sample(
    host: int, device: int, kernels: int, products: int
) -> None:
    machine = Machine()
    sampler = machine.sampler(full=machine.call(host * MICROSECOND, device * MICROSECOND, kernels=kernels))
    samples = sampler.measure(Limits(precision=0.5, seconds=0.3))
    taken = machine.late[samples.warmup_rounds :]
    assert taken == [0] * len(taken)
    assert set(samples.nanoseconds["full"]) == {device * MICROSECOND}
    assert max(machine.products[-len(taken) : -1]) <= products
    assert samples.launch_ns["full"] == pytest.approx(host * MICROSECOND, rel=0.01, abs=10)


def test_streamed_calls_are_covered_as_a_whole() -> None:
    machine = Machine()
    sampler = machine.sampler({"full": 20}, full=machine.call(50 * MICROSECOND, 30 * MICROSECOND))
    samples = sampler.measure(Limits(precision=0.5, seconds=0.3))
    assert set(samples.nanoseconds["full"]) == {20 * 30 * MICROSECOND}
    assert samples.launch_ns["full"] == pytest.approx(50 * MICROSECOND, rel=0.01)


def test_a_cold_first_call_does_not_decide_the_filler() -> None:
    machine = Machine()
    durations = iter([10**9])  # a second of compilation

    def run() -> None:
        machine.call(next(durations, 20 * MICROSECOND), 15 * MICROSECOND)()

    samples = machine.sampler(full=run).measure(Limits(precision=0.5, seconds=0.3))
    assert samples.launch_ns["full"] == 20 * MICROSECOND
    assert machine.products[-1] * PRODUCT_DEVICE < 10 * GUESSED_HOST_SECONDS * 1e9


def test_the_filler_is_timed_anew_when_the_clocks_have_risen() -> None:
    """Products of a GPU at a fifth of its clock seem to last five times as long: too few would be left afterwards."""
    machine = Machine(lowest_clock=5)
    sampler = machine.sampler(full=machine.call(400 * MICROSECOND, 250 * MICROSECOND))
    warm_up = sampler._warm_up

    def risen(max_seconds: float, fewest: int) -> tuple[int, float]:
        found = warm_up(max_seconds, fewest)
        machine.lowest_clock = 1
        return found

    sampler._warm_up = risen  # type: ignore[method-assign]
    samples = sampler.measure(Limits(precision=0.5, seconds=0.3))
    assert set(samples.nanoseconds["full"]) == {250 * MICROSECOND}


def test_a_host_that_does_not_keep_up_is_told() -> None:
    def found(host: int, device: int) -> list[str]:
        machine = Machine()
        work = machine.call(host * MICROSECOND, device * MICROSECOND)
        return host_launches.launch_notes(
            machine.sampler(full=work, other=work).measure(Limits(precision=0.5, seconds=0.3))
        )

    assert found(100, 101) == []
    assert found(101, 100) == [host_launches.HOST_BOUND]
    assert found(9000, 20_000) == [host_launches.LAUNCHES_TIMED]
    assert found(9000, 200) == [host_launches.HOST_BOUND, host_launches.LAUNCHES_TIMED]
    by_host = Samples({"full": 1}, {"full": [5]}, "time", None, 2)
    assert host_launches.launch_notes(by_host) == []


def test_a_working_device_is_looked_at_and_not_too_often() -> None:
    machine = Machine()
    looks: list[float] = []

    def look(is_busy: Callable[[], bool]) -> None:
        assert is_busy()
        looks.append(machine.seconds())
        machine.host_ns += 10**6  # NVML takes about a millisecond

    sampler = machine.sampler(look=look, full=machine.call(10 * MICROSECOND, 500 * MICROSECOND))
    samples = sampler.measure(Limits(precision=-1.0, seconds=1.0))
    assert len(looks) >= 5
    assert all(after - before >= LOOK_SECONDS for before, after in pairwise(looks))
    assert set(samples.nanoseconds["full"]) == {500 * MICROSECOND}  # nothing of it is in a sample


def test_a_device_that_is_done_is_not_looked_at() -> None:
    machine = Machine()
    looks: list[Any] = []
    sampler = machine.sampler(look=looks.append, full=machine.call(10 * MICROSECOND, 5 * MICROSECOND))
    sampler.clock = Clock("device", sampler.clock.mark, sampler.clock.elapsed_ns, sampler.clock.synchronise)
    sampler.measure(Limits(precision=0.5, seconds=0.2))
    assert looks == []


@pytest.mark.parametrize(
    ("launch_ns", "told"), [({"full": 900, "other": 5}, True), ({"full": 90, "other": 500}, False)]
)
def test_a_record_has_the_host_s_time_and_the_note(launch_ns: dict[str, int], told: bool) -> None:
    samples = Samples({"full": 2, "other": 1}, {"full": [200, 200], "other": [50, 50]}, "time", None, 2, launch_ns)
    rank = lone_rank()
    run: Any = SimpleNamespace(rank=rank)
    work = Work(variants={"full": print, "other": print}, check=lambda: (0.0, 0.0))
    plan = a_plan(1)
    record = case_record(plan, plan.cases[0], 0, "failed", None, "")
    record.notes, record.variants = ["a note"], gather_samples(rank, samples.nanoseconds, samples.calls)
    CaseRun._gather_rest(run, work, samples, record, [], [])
    assert record.launch_ns == {name: [number] for name, number in launch_ns.items()}
    assert record.notes == ["a note", *[host_launches.HOST_BOUND] * told]


def test_a_host_that_is_often_slower_than_at_best_gets_a_longer_filler() -> None:
    """Four samples in five need three times the least that was seen: as the host of a virtual machine does."""
    machine = Machine()
    turn = cycle((3, 3, 1, 3, 3))

    def run() -> None:
        machine.call(next(turn) * 200 * MICROSECOND, 8 * MICROSECOND)()

    samples = machine.sampler(full=run).measure(Limits(precision=1e-9, seconds=0.5))
    assert set(samples.nanoseconds["full"]) == {8 * MICROSECOND}
    assert samples.num_late == {"full": 0}
    assert host_launches.launch_notes(samples) == [host_launches.HOST_BOUND]


def test_samples_that_hold_launches_all_the_same_are_told() -> None:
    machine = Machine()
    turn = cycle((1, 1, 1, 1, 200))

    def run() -> None:  # now and then longer than any filler
        machine.call(next(turn) * 600 * MICROSECOND, 8 * MICROSECOND)()

    samples = machine.sampler(full=run).measure(Limits(precision=1e-9, seconds=0.5))
    assert samples.num_late["full"] == sum(ns > 8 * MICROSECOND for ns in samples.nanoseconds["full"])
    assert [
        note for note in host_launches.launch_notes(samples) if "% of the samples may hold launches of the host" in note
    ]


def test_launches_that_are_a_small_part_of_a_sample_spoil_nothing() -> None:
    machine = Machine()
    samples = machine.sampler(full=machine.call(5 * MICROSECOND, 5000 * MICROSECOND)).measure(
        Limits(precision=0.5, seconds=0.3)
    )
    assert samples.num_late == {"full": 0}
    assert not host_launches.launch_notes(samples)
