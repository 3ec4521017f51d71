"""What else happened on the machine while a case was measured: read on every rank right before and right after.

Nothing of it is read inside a timed part, and nothing of it changes a sample: it says whether the numbers can be
believed. Counters of the kernel (all since boot, so that two readings make an interval):
    /proc/stat                      CPU time by kind in ticks, of the cores that the process may use: proc_stat(5)
    /proc/self/task/*/schedstat     time that a thread was ready to run and had no core, in nanoseconds:
                                    the kernel's Documentation/scheduler/sched-stats.rst
    getrusage(2)                    the process's own CPU time, with all its threads, and how often it was preempted
    cpufreq/scaling_cur_freq        Documentation/admin-guide/pm/cpufreq.rst
    thermal_throttle/*_count        Documentation/ABI/testing/sysfs-devices-system-cpu
    cpu.stat of the control groups  through `bench.cgroup`
    clocks and their reasons        of an NVIDIA GPU, through `bench.nvidia`
What cannot be read is left out; the keys carry their units.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import cgroup, clock, nvidia
from bench.cgroup import read_int, read_text
from bench.environment import gpu_addresses
from bench.gather import MAX_FULL_RANKS
from bench.host import ROOT, cpu_affinity

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]

MAX_FREQUENCY_CORES = 4
"""Older kernels take 10 ms to find out the frequency of a core that idles."""
MAX_THERMAL_CORES = 16
MAX_THREADS = 256


class CoreTicks(NamedTuple):
    """CPU time of some cores since boot, in ticks."""

    busy: int
    """In processes; interrupts are left out, since those for the ranks' own messages are charged to no process."""
    steal: int
    """Wanted by this machine, and given to another by the hypervisor."""
    total: int


@dataclass(frozen=True)
class Reading:
    """What one rank's process sees at one moment; None or empty where it cannot be known."""

    at_seconds: float
    cpu_seconds: float | None
    preemptions: int | None
    waits_ns: Mapping[str, int]
    """Thread -> time ready to run without a core."""
    ticks: CoreTicks | None
    frequency_hz: int | None
    """The fastest of a few of its cores: the others may idle."""
    thermal_counts: tuple[int | None, ...]
    quotas: tuple[tuple[int, float] | None, ...]
    """Of each control group (periods throttled, seconds throttled, summed over cores)."""
    gpu: nvidia.GpuState | None


@contextmanager
def watching(device: torch.device, host: str, root: Path = ROOT) -> Iterator[Row]:
    """Around a measure phase: yields a row that holds, at the end, what this rank saw, for `combined`."""
    row: Row = {}
    uuid, pci = gpu_addresses(device)
    with nvidia.watch(pci, uuid) as read_gpu:
        probe = Probe(read_gpu=read_gpu, root=root)
        before = probe.read()
        yield row
        row |= between(before, probe.read(), host, probe.cores)


class Probe:
    """Reads this process's counters. `cores` are those it may use; None: all of the machine."""

    def __init__(
        self, read_gpu: nvidia.ReadGpu = lambda: None, root: Path = ROOT, cores: Sequence[int] | None = None
    ) -> None:
        self.cores = cpu_affinity() if cores is None else sorted(cores)
        self._root = root
        self._read_gpu = read_gpu
        self._groups = list(cgroup.folders("cpu", root))
        folders = [root / f"sys/devices/system/cpu/cpu{core}" for core in self.cores or ()]
        self._frequencies = [each / "cpufreq/scaling_cur_freq" for each in _spread(folders, MAX_FREQUENCY_CORES)]
        self._thermal = [
            each / f"thermal_throttle/{kind}_throttle_count"
            for each in _spread(folders, MAX_THERMAL_CORES)
            for kind in ("core", "package")
        ]

    def read(self) -> Reading:
        gpu = self._read_gpu()  # first: its clocks change within milliseconds of the work's end
        cpu_seconds, preemptions = _usage()
        frequencies = [khz for path in self._frequencies if (khz := read_int(path))]
        return Reading(
            at_seconds=clock.monotonic_seconds(),
            cpu_seconds=cpu_seconds,
            preemptions=preemptions,
            waits_ns=_waits_ns(self._root),
            ticks=_core_ticks(self._root, self.cores),
            frequency_hz=max(frequencies) * 1000 if frequencies else None,
            thermal_counts=tuple(map(read_int, self._thermal)),
            quotas=tuple(map(cgroup.throttled, self._groups)),
            gpu=gpu,
        )


def _spread(items: Sequence[Path], most: int) -> list[Path]:
    """At most so many, evenly from first to last: cores of one socket have neighbouring numbers."""
    count = min(most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _usage() -> tuple[float | None, int | None]:
    """CPU seconds of this process and how often another took its core away; getrusage(2)."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None, None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_nivcsw


def _waits_ns(root: Path) -> dict[str, int]:
    """Second number of each thread's schedstat; nothing where the kernel keeps no such statistics."""
    folder = root / "proc/self/task"
    try:
        threads = sorted(os.listdir(folder))[:MAX_THREADS]  # noqa: PTH208 - names, and as cheap as can be
    except OSError:
        return {}
    words = {thread: (read_text(folder / thread / "schedstat") or "").split() for thread in threads}
    return {thread: int(each[1]) for thread, each in words.items() if len(each) == 3 and each[1].isdigit()}


def _core_ticks(root: Path, cores: Sequence[int] | None) -> CoreTicks | None:
    """Summed over the cores; None where one is not listed, as in containers that hide the host's."""
    wanted = {"cpu"} if cores is None else {f"cpu{core}" for core in cores}
    rows = []
    for line in (read_text(root / "proc/stat") or "").splitlines():
        name, *words = line.split()
        if name in wanted and len(words) >= 8 and all(word.isdigit() for word in words[:8]):
            rows.append([int(word) for word in words[:8]])
    if not rows or len(rows) != len(wanted):
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = (sum(column) for column in zip(*rows, strict=True))
    busy = user + nice + system
    return CoreTicks(busy, steal, busy + idle + iowait + irq + softirq + steal)


def between(before: Reading, after: Reading, host: str, cores: Sequence[int] | None) -> Row:
    """One rank's interval as plain JSON values: `rank` as the file keeps it, the rest for `combined`."""
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
        "thermal_events": _most(map(_difference, before.thermal_counts, after.thermal_counts)),
        "rank": _known(
            {
                "seconds": seconds,
                "cpu_seconds": _difference(before.cpu_seconds, after.cpu_seconds),
                "run_delay_share": _run_delay_share(before, after, seconds),
                "involuntary_switches": _difference(before.preemptions, after.preemptions),
                **_quota_row(before, after),
                "frequency_before_hz": before.frequency_hz,
                "frequency_after_hz": after.frequency_hz,
                **_gpu_row(before.gpu, after.gpu),
            }
        ),
    }


def _run_delay_share(before: Reading, after: Reading, seconds: float) -> float | None:
    """Of the thread that waited longest for a core: its waiting over the phase. A thread born meanwhile began at 0."""
    if not before.waits_ns or not after.waits_ns or seconds <= 0:
        return None
    longest = max(late - before.waits_ns.get(thread, 0) for thread, late in after.waits_ns.items())
    return min(1.0, max(0, longest) / 1e9 / seconds)


def _quota_row(before: Reading, after: Reading) -> Row:
    """Of the control group that was held back longest."""
    pairs = [(a, b) for a, b in zip(before.quotas, after.quotas, strict=True) if a and b]
    return {
        "quota_throttled_periods": _most(b[0] - a[0] for a, b in pairs),
        "quota_throttled_seconds": _most(b[1] - a[1] for a, b in pairs),
    }


def _gpu_row(before: nvidia.GpuState | None, after: nvidia.GpuState | None) -> Row:
    if before is None or after is None:
        return {}
    return {
        "gpu_sm_clock_before_hz": before.sm_clock_hz,
        "gpu_sm_clock_after_hz": after.sm_clock_hz,
        "gpu_memory_clock_before_hz": before.memory_clock_hz,
        "gpu_memory_clock_after_hz": after.memory_clock_hz,
        "gpu_temperature_before_celsius": before.temperature_celsius,
        "gpu_temperature_after_celsius": after.temperature_celsius,
        "gpu_power_before_watts": before.power_watts,
        "gpu_power_after_watts": after.power_watts,
        "gpu_clock_reasons_before": None if before.clock_reasons is None else list(before.clock_reasons),
        "gpu_clock_reasons_after": None if after.clock_reasons is None else list(after.clock_reasons),
    }


def combined(rows: Sequence[Row] | None) -> dict[str, Any]:
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
    """What one host's ranks saw together, of the cores that they may use.

    Steal and other load are shares of the time of these cores. Other load is what their processes used, less what
    the ranks used: interrupts are nobody's. Kernels that look which process runs only at each tick (of n in all)
    get a share p wrong by sqrt(p (1 - p) / n), so by up to 1 / sqrt(n) with 95% confidence: the noise.
    """
    found: Row = {"thermal_events": _most(row["thermal_events"] for row in rows)}
    together = _one_of_each_set(rows)
    if together is None:
        return _known(found)
    busy, steal, total = (sum(column) for column in zip(*(row["ticks"] for row in together), strict=True))
    if not total:
        return _known(found)
    found |= {"steal_share": steal / total, "busy_share": busy / total}
    used = [row["rank"].get("cpu_seconds") for row in rows]
    if None not in used:
        capacity_seconds = total / os.sysconf("SC_CLK_TCK")
        found["other_load_share"] = max(0.0, busy / total - sum(used) / capacity_seconds)
        found["other_load_noise_share"] = total**-0.5
    return _known(found)


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


def merged(disturbances: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Several visits to one case as one: the worst of each, host by host and rank by rank. None of no known one."""
    known = [each for each in disturbances if each]
    if not known:
        return None

    def by(part: str, key: str) -> list[Row]:
        rows: dict[Any, list[Row]] = {}
        for each in known:
            for row in each.get(part) or []:
                rows.setdefault(row.get(key), []).append(row)
        return [worst(of_one) for of_one in rows.values()]

    return {"hosts": by("hosts", "host"), "ranks": by("ranks", "rank")}


_LEAST = ("frequency_after_hz", "gpu_sm_clock_after_hz", "gpu_memory_clock_after_hz")


def worst(rows: Sequence[Row]) -> Row:
    """One row of the worst of each key: the lowest clock after, every reason, the first of a text, else the highest."""
    found: Row = {}
    for row in rows:
        for key, value in row.items():
            if value is None:
                continue
            held: Any = found.get(key, value)
            if isinstance(value, list):
                found[key] = list(dict.fromkeys([*held, *value]))
            elif isinstance(value, str):
                found[key] = held
            else:
                found[key] = min(held, value) if key in _LEAST else max(held, value)
    return found


def _difference(early: float | None, late: float | None) -> float | None:
    return None if early is None or late is None else late - early


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _known(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}
