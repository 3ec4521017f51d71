"""The host's clocks: the only file that reads one. Everything that times takes a clock as an argument.

A mark is whatever a clock makes of "now"; two marks become nanoseconds only after `synchronise`, so that a device's
events need no wait inside the timed part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Clock:
    """Clock of one kind of work. `mark` sits inside the timed part: it must cost next to nothing."""

    name: str
    mark: Callable[[], Any]
    elapsed_ns: Callable[[Any, Any], int]
    """Nanoseconds between two marks; call it after `synchronise`."""
    synchronise: Callable[[], object]
    """Returns when all that was enqueued on the device is done; nothing to do on a CPU."""
    reached: Callable[[Any], bool] = lambda mark: True
    """True if the device has come to a mark; a mark of the host's clock is made when it has."""
    witness: Callable[[], int] | None = None
    """Nanoseconds of a second, independent clock of the host; None: there is none."""


def _raw_clock() -> Callable[[], int] | None:
    """CLOCK_MONOTONIC_RAW, which nothing steers; None on a system without it."""
    if not hasattr(time, "CLOCK_MONOTONIC_RAW"):
        return None
    return partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)


def _difference(start: int, end: int) -> int:
    return end - start


def cpu_clock() -> Clock:
    """The host's monotonic clock around work that is done when its call returns."""
    return Clock("host", time.perf_counter_ns, _difference, lambda: None, witness=_raw_clock())


def synchronised_host_clock(synchronise: Callable[[], object]) -> Clock:
    """The host's monotonic clock between device synchronisations, for work that the host drives."""

    def mark() -> int:
        synchronise()
        return time.perf_counter_ns()

    return Clock("host", mark, _difference, synchronise, witness=_raw_clock())


def device_clock(
    mark: Callable[[], Any],
    elapsed_ns: Callable[[Any, Any], int],
    synchronise: Callable[[], object],
    reached: Callable[[Any], bool],
) -> Clock:
    """A clock of events on a device's stream, with the host's as its witness."""
    return Clock("device", mark, elapsed_ns, synchronise, reached, _raw_clock())


def monotonic_seconds() -> float:
    """Monotonic time for deadlines and budgets, which are not measurements."""
    return time.monotonic()


def thread_cpu_seconds() -> float:
    """CPU time that this thread has used."""
    return time.thread_time()


def process_cpu_seconds() -> float:
    """CPU time that this process has used, all its threads together."""
    return time.process_time()


SPIN_SECONDS = 2e-4
"""A sleep may end this much too late; the last of a wait is spent looking at the clock."""


def wait_seconds(seconds: float) -> None:
    """Return after so long, and leave the core to others meanwhile."""
    ends = time.perf_counter() + seconds
    if seconds > SPIN_SECONDS:
        time.sleep(seconds - SPIN_SECONDS)
    while time.perf_counter() < ends:
        pass


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp() -> str:
    """Now, as the result file writes times: ISO 8601 in UTC, to the millisecond."""
    return utc_now().isoformat(timespec="milliseconds")


def seconds_between(first: str | None, last: str | None) -> float | None:
    """Time from one such stamp to another; None if one is unknown, is not a time, or they are in the wrong order."""
    try:
        times = [datetime.fromisoformat(text or "") for text in (first, last)]
        seconds = (times[1] - times[0]).total_seconds()
    except (ValueError, TypeError):  # TypeError: one of them has a time zone and the other has none
        return None
    return seconds if seconds >= 0 else None
