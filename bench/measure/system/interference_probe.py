"""Probe of other events on the machine while a case is measured: read on every rank right before and after.

Nothing of it is read inside a timed part, and nothing of it changes a sample: it says whether the numbers can be
believed. Two readings of `bench.measure.system.counters` make an interval. Of a GPU it is also read while it works,
between the enqueueing of samples and the wait for them: the clocks of an idle one are others within milliseconds, and
so are the reasons that hold them down.

What cannot be read is left out; the keys carry their units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure.system import nvml
from bench.measure.system.counters import Counters, Probe
from bench.measure.system.devices import gpu_addresses
from bench.measure.system.host import ROOT
from bench.records.file import MAX_FULL_RANKS
from bench.records.interference import worst

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]


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

    def row(self) -> Row:
        """Return the interval as a row for `combine`."""
        return interval_row(self._before, self._after, self._host, self._probe.cores, self._at_work)


def interval_row(
    before: Counters,
    after: Counters,
    host: str,
    cores: Sequence[int] | None,
    at_work: Sequence[nvml.GpuState] = (),
) -> Row:
    """One rank's interval as plain JSON values: `rank` as the file keeps it, the rest for `combine`.

    `at_work` are states of its GPU in between, of which the worst is kept.
    """
    seconds = after.at_seconds - before.at_seconds
    ticks = None
    if before.ticks and after.ticks:
        # A guest's counters may step back by a tick (proc_stat(5), iowait).
        ticks = [max(0, late - early) for early, late in zip(before.ticks, after.ticks, strict=True)]
    return {
        "host": host,
        # As a mask, since a thousand ranks may each tell of hundreds.
        "core_mask": None if cores is None else format(sum(1 << core for core in cores), "x"),
        "ticks": ticks,
        "thermal_events": _maximum(map(_difference, before.thermal_counts, after.thermal_counts)),
        "rank": _drop_unknown(
            {
                "seconds": seconds,
                "cpu_seconds": _difference(before.cpu_seconds, after.cpu_seconds),
                "run_delay_share": _run_delay_share(before, after, seconds),
                "involuntary_switches": _difference(before.preemptions, after.preemptions),
                **_quota_row(before, after),
                "frequency_before_hz": before.frequency_hz,
                "frequency_after_hz": after.frequency_hz,
                **_gpu_row(before.gpu, after.gpu),
                **worst([_drop_unknown(_gpu_state(state, "at_work")) for state in at_work]),
            }
        ),
    }


def _run_delay_share(before: Counters, after: Counters, seconds: float) -> float | None:
    """Return the longest wait of a thread for a core over the phase's length. A thread born meanwhile began at 0."""
    if not before.waits_ns or not after.waits_ns or seconds <= 0:
        return None
    longest = max(late - before.waits_ns.get(thread, 0) for thread, late in after.waits_ns.items())
    return min(1.0, max(0, longest) / 1e9 / seconds)


def _quota_row(before: Counters, after: Counters) -> Row:
    """Return the throttling of the control group that was held back longest."""
    pairs = [(a, b) for a, b in zip(before.quotas, after.quotas, strict=True) if a and b]
    return {
        "quota_throttled_periods": _maximum(b[0] - a[0] for a, b in pairs),
        "quota_throttled_seconds": _maximum(b[1] - a[1] for a, b in pairs),
    }


def _gpu_row(before: nvml.GpuState | None, after: nvml.GpuState | None) -> Row:
    if before is None or after is None:
        return {}
    return _gpu_state(before, "before") | _gpu_state(after, "after")


def _gpu_state(state: nvml.GpuState, when: str) -> Row:
    return {
        f"gpu_sm_clock_{when}_hz": state.sm_clock_hz,
        f"gpu_memory_clock_{when}_hz": state.memory_clock_hz,
        f"gpu_temperature_{when}_celsius": state.temperature_celsius,
        f"gpu_power_{when}_watts": state.power_watts,
        f"gpu_clock_reasons_{when}": None if state.clock_reasons is None else list(state.clock_reasons),
    }


def combine(rows: Sequence[Row] | None) -> dict[str, Any]:
    """{"disturbance": {"hosts": [...], "ranks": [...]}} of a measurement, from every rank's row in order of rank.

    Nothing where there are no rows, which is so on all ranks but the first. Above 64 ranks `ranks` is one row, the
    worst of each over all of them, with `num_ranks`.
    """
    if rows is None:
        return {}
    by_host: dict[str, list[Row]] = {}
    for row in rows:
        by_host.setdefault(row["host"], []).append(row)
    ranks = [{"rank": index, **row["rank"]} for index, row in enumerate(rows)]
    if len(ranks) > MAX_FULL_RANKS:
        ranks = [{"num_ranks": len(rows)} | worst([row["rank"] for row in rows])]
    hosts = [{"host": host, **_host_row(of_host)} for host, of_host in by_host.items()]
    return {"disturbance": {"hosts": hosts, "ranks": ranks}}


def _host_row(rows: Sequence[Row]) -> Row:
    """Combine what one host's ranks saw of the cores that they may use.

    Steal and other load are shares of the time of these cores. Other load is what their processes used, less what
    the ranks used: interrupts are nobody's. Kernels that look which process runs only at each tick (of n in all)
    get a share p wrong by sqrt(p (1 - p) / n), so by up to 1 / sqrt(n) with 95% confidence: the noise.
    """
    host: Row = {"thermal_events": _maximum(row["thermal_events"] for row in rows)}
    together = _one_of_each_set(rows)
    if together is None:
        return _drop_unknown(host)
    busy, steal, total = (sum(column) for column in zip(*(row["ticks"] for row in together), strict=True))
    if not total:
        return _drop_unknown(host)
    host |= {"steal_share": steal / total, "busy_share": busy / total}
    used = [row["rank"].get("cpu_seconds") for row in rows]
    if None not in used:
        capacity_seconds = total / os.sysconf("SC_CLK_TCK")
        host["other_load_share"] = max(0.0, busy / total - sum(used) / capacity_seconds)
        host["other_load_noise_share"] = total**-0.5
    return _drop_unknown(host)


def _one_of_each_set(rows: Sequence[Row]) -> list[Row] | None:
    """One rank's row for each set of cores, so that no core counts twice; None where ticks are unknown or sets overlap
    in part."""
    by_mask: dict[str | None, Row] = {}
    for row in rows:
        if row["ticks"] is None:
            return None
        by_mask.setdefault(row["core_mask"], row)
    if None in by_mask:
        return [by_mask[None]]
    kept: list[Row] = []
    covered = 0
    masks = [(int(mask, 16), row) for mask, row in by_mask.items() if mask is not None]
    for mask, row in sorted(masks, key=lambda pair: -pair[0].bit_count()):
        if not mask & covered:
            covered |= mask
            kept.append(row)
        elif mask & ~covered:
            return None
    return kept


def _difference(early: float | None, late: float | None) -> float | None:
    return None if early is None or late is None else late - early


def _maximum(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _drop_unknown(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}
