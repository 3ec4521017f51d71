"""Probe of other events on the machine while a case is measured: read on every rank right before and after.

Nothing of it is read inside a timed part, and nothing of it changes a sample: it says whether the numbers can be
believed. Two readings of `bench.measure.system.counters` make an interval. Of a GPU it is also read while it works,
between the enqueueing of samples and the wait for them: the clocks of an idle one are others within milliseconds, and
so are the reasons that hold them down.

Values that cannot be read are left out; the keys carry their units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from bench.measure.system import nvml
from bench.measure.system.counters import Counters, Probe
from bench.measure.system.devices import gpu_addresses
from bench.measure.system.host import ROOT
from bench.records.file import MAX_FULL_RANKS
from bench.records.interference import worst
from bench.records.lines.parts import HostInterference, Interference, RankInterference

if TYPE_CHECKING:
    import torch

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class RankInterval:
    """Events around one rank during a phase."""

    host: str
    core_mask: str | None
    """Cores that the rank may use, in hexadecimal: a thousand ranks may each tell of hundreds."""
    ticks: list[int] | None
    """Busy, stolen and all ticks of these cores."""
    thermal_events: int | None
    rank: RankInterference
    """The rank's own row of the file."""


@contextmanager
def watch_machine(device: torch.device, host: str, root: Path = ROOT) -> Iterator[Watch]:
    """Watch a measure phase, and what follows it and may look at the device too."""
    uuid, pci = gpu_addresses(device)
    with nvml.open_state_reader(pci, uuid) as read_gpu:
        yield Watch(Probe(read_gpu=read_gpu, root=root), host)


class Watch:
    """Readings of one rank around a phase, and of its GPU at work."""

    def __init__(self, probe: Probe, host: str) -> None:
        self._probe, self._host = probe, host
        self._at_work: list[nvml.GpuState] = []
        self._before = self._after = probe.read()

    def look(self, is_busy: Callable[[], bool]) -> None:
        """Read the GPU. Counts only if it is still at work afterwards: else it may have been idle when it was read."""
        state = self._probe.read_gpu()
        if state is not None and is_busy():
            self._at_work.append(state)

    def end(self) -> None:
        """The phase is over; `look` may go on."""
        self._after = self._probe.read()

    def interval(self) -> RankInterval:
        """Return the interval for `combine`."""
        return rank_interval(self._before, self._after, self._host, self._probe.cores, self._at_work)


def rank_interval(
    before: Counters,
    after: Counters,
    host: str,
    cores: Sequence[int] | None,
    at_work: Sequence[nvml.GpuState] = (),
) -> RankInterval:
    """One rank's interval between two readings; of its GPU's states `at_work` meanwhile the worst is kept."""
    seconds = after.at_seconds - before.at_seconds
    ticks = None
    if before.ticks and after.ticks:
        # A guest's counters may step back by a tick (proc_stat(5), iowait).
        ticks = [max(0, late - early) for early, late in zip(before.ticks, after.ticks, strict=True)]
    seen = worst(RankInterference, [RankInterference(**_gpu_fields(state, "at_work")) for state in at_work])
    return RankInterval(
        host=host,
        core_mask=None if cores is None else format(sum(1 << core for core in cores), "x"),
        ticks=ticks,
        thermal_events=_maximum(map(_difference, before.thermal_counts, after.thermal_counts)),
        rank=msgspec.structs.replace(
            seen,
            seconds=seconds,
            cpu_seconds=_difference(before.cpu_seconds, after.cpu_seconds),
            run_delay_share=_run_delay_share(before, after, seconds),
            involuntary_switches=_difference(before.preemptions, after.preemptions),
            **_quota_fields(before, after),
            frequency_before_hz=before.frequency_hz,
            frequency_after_hz=after.frequency_hz,
            **_gpu_change(before.gpu, after.gpu),
        ),
    )


def _run_delay_share(before: Counters, after: Counters, seconds: float) -> float | None:
    """Return the longest wait of a thread for a core over the phase's length. A thread born meanwhile began at 0."""
    if not before.waits_ns or not after.waits_ns or seconds <= 0:
        return None
    longest = max(late - before.waits_ns.get(thread, 0) for thread, late in after.waits_ns.items())
    return min(1.0, max(0, longest) / 1e9 / seconds)


def _quota_fields(before: Counters, after: Counters) -> dict[str, float | None]:
    """Return the throttling of the control group that was held back longest."""
    pairs = [(a, b) for a, b in zip(before.quotas, after.quotas, strict=True) if a and b]
    return {
        "quota_throttled_periods": _maximum(b[0] - a[0] for a, b in pairs),
        "quota_throttled_seconds": _maximum(b[1] - a[1] for a, b in pairs),
    }


def _gpu_change(before: nvml.GpuState | None, after: nvml.GpuState | None) -> dict[str, Any]:
    if before is None or after is None:
        return {}
    return _gpu_fields(before, "before") | _gpu_fields(after, "after")


def _gpu_fields(state: nvml.GpuState, when: str) -> dict[str, Any]:
    """Fields of a rank's row, whose names say when they were read."""
    return {
        f"gpu_sm_clock_{when}_hz": state.sm_clock_hz,
        f"gpu_memory_clock_{when}_hz": state.memory_clock_hz,
        f"gpu_temperature_{when}_celsius": state.temperature_celsius,
        f"gpu_power_{when}_watts": state.power_watts,
        f"gpu_clock_reasons_{when}": None if state.clock_reasons is None else list(state.clock_reasons),
    }


def combine(intervals: Sequence[RankInterval] | None) -> Interference | None:
    """The disturbance of a measurement, from every rank's interval in order of rank.

    None if there are no intervals, which is so on all ranks but the first. Above 64 ranks `ranks` is one row, the
    worst of each over all of them, with `num_ranks`.
    """
    if intervals is None:
        return None
    by_host: dict[str, list[RankInterval]] = {}
    for interval in intervals:
        by_host.setdefault(interval.host, []).append(interval)
    ranks = [msgspec.structs.replace(interval.rank, rank=index) for index, interval in enumerate(intervals)]
    if len(ranks) > MAX_FULL_RANKS:
        whole = worst(RankInterference, [interval.rank for interval in intervals])
        ranks = [msgspec.structs.replace(whole, num_ranks=len(intervals))]
    return Interference(hosts=[_host_row(host, of_host) for host, of_host in by_host.items()], ranks=ranks)


def _host_row(name: str, intervals: Sequence[RankInterval]) -> HostInterference:
    """Combine what one host's ranks saw of the cores that they may use.

    Steal and other load are shares of the time of these cores. Other load is what their processes used, minus what the
    ranks used: interrupts belong to no process. Kernels that look which process runs only at each tick (of n in all)
    get a share p wrong by sqrt(p (1 - p) / n), so by up to 1 / sqrt(n) with 95% confidence: the noise.
    """
    host = HostInterference(host=name, thermal_events=_maximum(interval.thermal_events for interval in intervals))
    together = _one_of_each_set(intervals)
    if together is None:
        return host
    busy, steal, total = (sum(column) for column in zip(*(each.ticks or () for each in together), strict=True))
    if not total:
        return host
    host.steal_share, host.busy_share = steal / total, busy / total
    used = [interval.rank.cpu_seconds for interval in intervals if interval.rank.cpu_seconds is not None]
    if len(used) == len(intervals):
        capacity_seconds = total / os.sysconf("SC_CLK_TCK")
        host.other_load_share = max(0.0, busy / total - sum(used) / capacity_seconds)
        host.other_load_noise_share = total**-0.5
    return host


def _one_of_each_set(intervals: Sequence[RankInterval]) -> list[RankInterval] | None:
    """One rank's interval for each set of cores, so that no core counts twice; None if ticks are unknown or sets
    overlap in part."""
    by_mask: dict[str | None, RankInterval] = {}
    for interval in intervals:
        if interval.ticks is None:
            return None
        by_mask.setdefault(interval.core_mask, interval)
    if None in by_mask:
        return [by_mask[None]]
    kept: list[RankInterval] = []
    covered = 0
    masks = [(int(mask, 16), interval) for mask, interval in by_mask.items() if mask is not None]
    for mask, interval in sorted(masks, key=lambda pair: -pair[0].bit_count()):
        if not mask & covered:
            covered |= mask
            kept.append(interval)
        elif mask & ~covered:
            return None
    return kept


def _difference(early: Number | None, late: Number | None) -> Number | None:
    return None if early is None or late is None else late - early


def _maximum(values: Iterable[Number | None]) -> Number | None:
    return max((value for value in values if value is not None), default=None)
