"""The window of calls whose energy is read: after the samples, of the case itself, as many calls on all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bench.core.clock import Clock, wait_seconds
from bench.measure.engine import control
from bench.measure.engine.rank import RankContext
from bench.measure.engine.timing.sampler import Samples
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.system import energy
from bench.measure.system.devices import gpu_addresses
from bench.stats import intervals
from bench.suite import Work


def measure_energy(
    rank: RankContext,
    work: Work,
    clock: Clock,
    samples: Samples,
    limits: Limits,
    idle: energy.Idle,
    allow_seconds: Callable[[float], None],
) -> energy.RankEnergy:
    """This rank's joules over a window of calls, inputs restored before each; `allow_seconds` extends the time-out."""
    run = next(iter(work.variants.values()))
    uuid, pci = gpu_addresses(rank.device)
    with energy.open_meter(rank.device.type, pci, uuid, rank.local_index == 0) as meter:
        call_seconds = _call_seconds(samples)
        calls = _num_calls(rank, meter, call_seconds, limits)
        if calls is None:
            return energy.unmeasured_row(meter, limits.seconds)
        allow_seconds(3 * energy.WINDOW_SECONDS)
        idle_watts = idle.measure(meter, wait_seconds)

        def window() -> None:
            for _ in range(calls):
                if work.reset is not None:
                    work.reset()
                run()
            clock.synchronise()

        row = replace(energy.measure_window(meter, window, calls), idle_watts=idle_watts)
        return energy.add_busy_share(row, call_seconds)


def _num_calls(rank: RankContext, meter: energy.Meter, call_seconds: float, limits: Limits) -> int | None:
    """Calls of the window, the same on all ranks; None if no rank has a meter or time is short."""
    has_meter, slowest_ns = control.maxima(rank, [int(meter.known), max(1, round(call_seconds * 1e9))])
    if not has_meter or limits.seconds < energy.MIN_CASE_SECONDS:
        return None
    return min(energy.MAX_CALLS, math.ceil(energy.WINDOW_SECONDS * 1e9 / slowest_ns))


def _call_seconds(samples: Samples) -> float:
    """Median seconds of one call of the case itself on this rank."""
    main, totals = next(iter(samples.nanoseconds.items()))
    return intervals.median(totals) / samples.calls[main] / 1e9
