"""Faults of the host's clock: `time.perf_counter` and its kin, of whose readings samples are made."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.seeded.injection import Injection, is_timed

MILLISECOND = 10**6


def _replace(reading: Callable[[int], int]) -> None:
    """Have both forms of the clock give `reading` of the true one."""
    true = time.perf_counter_ns
    time.perf_counter_ns = lambda: reading(true())  # type: ignore[assignment]
    time.perf_counter = lambda: reading(true()) / 1e9  # type: ignore[assignment]


def at_speed(speed: float) -> Callable[[Injection], None]:
    """A clock that runs at so many times the true speed."""

    def install(injection: Injection) -> None:
        if injection.when.ranks is None or injection.rank in injection.when.ranks:
            began = time.perf_counter_ns()
            _replace(lambda now: began + round((now - began) * speed))

    return install


def stepping(nanoseconds: int) -> Callable[[Injection], None]:
    """A clock that is put forward or back for good at each reading that is struck."""

    def install(injection: Injection) -> None:
        offset = 0

        def reading(now: int) -> int:
            nonlocal offset
            offset += nanoseconds * injection.strikes()
            return now + offset

        _replace(reading)

    return install


def one_wrong_reading(nanoseconds: int) -> Callable[[Injection], None]:
    """A clock of which single readings are wrong, and the next is right again."""
    return lambda injection: _replace(lambda now: now + nanoseconds * injection.strikes())


def stopped(_injection: Injection) -> None:
    """A clock that always says the same."""
    began = time.perf_counter_ns()
    _replace(lambda _now: began)


def coarse(nanoseconds: int) -> Callable[[Injection], None]:
    """A clock that ticks only so often."""
    return lambda _injection: _replace(lambda now: now // nanoseconds * nanoseconds)


def of_the_thread(_injection: Injection) -> None:
    """The CPU time of the thread in place of time: what waits is not counted."""
    time.perf_counter_ns = time.thread_time_ns
    time.perf_counter = time.thread_time


def slow_within_samples(_injection: Injection) -> None:
    """A clock that loses half the time within each sample, and has made up for it when it is read the next time."""
    true, began = time.perf_counter_ns, 0

    def reading() -> int:
        nonlocal began
        now = true()
        if not is_timed():
            return now
        if not began:
            began = now
            return now
        began, start = 0, began
        return start + (now - start) // 2

    time.perf_counter_ns = reading  # type: ignore[assignment]


def raw_at_half_speed(_injection: Injection) -> None:
    """The second clock at half speed: which of two is wrong cannot be said."""
    true = time.clock_gettime_ns
    began = true(time.CLOCK_MONOTONIC_RAW)

    def reading(clock: int) -> int:
        now = true(clock)
        return began + (now - began) // 2 if clock == time.CLOCK_MONOTONIC_RAW else now

    time.clock_gettime_ns = reading


def sleeping(share: float) -> Callable[[Injection], None]:
    """Sleeps that end after this share of their time."""

    def install(injection: Injection) -> None:
        true = time.sleep

        def sleep(seconds: float) -> None:
            if injection.strikes():
                if share:
                    true(seconds * share)
            else:
                true(seconds)

        time.sleep = sleep  # type: ignore[assignment]

    return install
