"""The kernel's and the GPU's counters of one process at one moment; `bench.measure.system.interference_probe` makes
intervals of them.

Counters of the kernel, all since boot:
    /proc/stat                      CPU time by kind in ticks, of the cores that the process may use: proc_stat(5)
    /proc/self/task/*/schedstat     time that a thread was ready to run and had no core, in nanoseconds:
                                    the kernel's Documentation/scheduler/sched-stats.rst
    getrusage(2)                    the process's own CPU time, with all its threads, and how often it was preempted
    cpufreq/scaling_cur_freq        Documentation/admin-guide/pm/cpufreq.rst
    thermal_throttle/*_count        Documentation/ABI/testing/sysfs-devices-system-cpu
    cpu.stat of the control groups  through `bench.measure.system.cgroup`
    clocks and their reasons        of an NVIDIA GPU, through `bench.measure.system.nvml`
What cannot be read is None or left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.core import clock
from bench.measure.system import cgroup, nvml
from bench.measure.system.cgroup import read_int, read_text
from bench.measure.system.host import ROOT, cpu_affinity

MAX_FREQUENCY_CORES = 4
"""Older kernels take 10 ms to find out the frequency of a core that idles."""
MAX_THERMAL_CORES = 16
MAX_THREADS = 256


class CoreTicks(NamedTuple):
    """CPU time of some cores since boot, in ticks."""

    busy: int
    """Ticks in processes, without interrupts: those for the ranks' own messages are charged to no process."""
    steal: int
    """Wanted by this machine, and given to another by the hypervisor."""
    total: int


@dataclass(frozen=True)
class Counters:
    """Counters that one rank's process sees at one moment; None or empty if unknown."""

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
    """(periods throttled, seconds throttled summed over cores) of each control group."""
    gpu: nvml.GpuState | None


class Probe:
    """Reads this process's counters. `cores` are those it may use; None: all of the machine."""

    def __init__(
        self, read_gpu: nvml.ReadGpu = lambda: None, root: Path = ROOT, cores: Sequence[int] | None = None
    ) -> None:
        self.cores = cpu_affinity() if cores is None else sorted(cores)
        self._root = root
        self.read_gpu = read_gpu
        self._groups = list(cgroup.group_folders("cpu", root))
        folders = [root / f"sys/devices/system/cpu/cpu{core}" for core in self.cores or ()]
        self._frequencies = [each / "cpufreq/scaling_cur_freq" for each in _spread(folders, MAX_FREQUENCY_CORES)]
        self._thermal = [
            each / f"thermal_throttle/{kind}_throttle_count"
            for each in _spread(folders, MAX_THERMAL_CORES)
            for kind in ("core", "package")
        ]

    def read(self) -> Counters:
        gpu = self.read_gpu()  # first: its clocks change within milliseconds of the work's end
        cpu_seconds, preemptions = _usage()
        frequencies = [khz for path in self._frequencies if (khz := read_int(path))]
        return Counters(
            at_seconds=clock.monotonic_seconds(),
            cpu_seconds=cpu_seconds,
            preemptions=preemptions,
            waits_ns=_waits_ns(self._root),
            ticks=_core_ticks(self._root, self.cores),
            frequency_hz=max(frequencies) * 1000 if frequencies else None,
            thermal_counts=tuple(map(read_int, self._thermal)),
            quotas=tuple(map(cgroup.throttling, self._groups)),
            gpu=gpu,
        )


def _spread(items: Sequence[Path], most: int) -> list[Path]:
    """Pick at most this many items, evenly from first to last: cores of one socket have neighbouring numbers."""
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
    """Second number of each thread's schedstat; nothing if the kernel keeps no such statistics."""
    folder = root / "proc/self/task"
    try:
        threads = sorted(os.listdir(folder))[:MAX_THREADS]  # noqa: PTH208 - names, and as cheap as can be
    except OSError:
        return {}
    words = {thread: (read_text(folder / thread / "schedstat") or "").split() for thread in threads}
    return {thread: int(each[1]) for thread, each in words.items() if len(each) == 3 and each[1].isdigit()}


def _core_ticks(root: Path, cores: Sequence[int] | None) -> CoreTicks | None:
    """Summed over the cores; None if one is not listed, as in containers that hide the host's."""
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
