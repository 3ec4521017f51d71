"""Joules of a case, from the counters of the devices: read before and after repeated calls of it, never within a call.

Counters step only every 20 to 100 ms (arXiv 2312.02741 for NVIDIA's; RAPL about every millisecond), so that a window of
less than two seconds says nothing: the energy is then missing, with the reason. After its samples a case is called
again for such a window, if there is time, all ranks as often, and each rank reads its own device before and after:

    nvml_counter    nvmlDeviceGetTotalEnergyConsumption, in mJ since the driver was loaded (NVML API Reference Guide)
    nvml_sampled    nvmlDeviceGetPowerUsage every 50 ms, integrated, if the device has no counter
    amd_counter     amdsmi_get_energy_count (AMD SMI library), accumulator x resolution in microjoules
    rapl            energy_uj of the packages of the host (Documentation/power/powercap/powercap.rst), which only root
    may
                    read since Linux 5.10; wraps around at max_energy_range_uj; read by the first rank of each host
    none            nothing can be read; the reason says why

The scope is what a counter covers: `device`; `device + CPU` on Grace Hopper, whose module has one sensor; for RAPL
`CPU packages of the host`, without memory, disks and fans. Nothing is guessed, and nothing that is unknown is 0.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core import clock
from bench.measure.system import nvml
from bench.measure.system.cgroup import read_int, read_text
from bench.measure.system.host import ROOT
from bench.records.file import MAX_FULL_RANKS
from bench.records.lines.parts import Energy

MIN_WINDOW_SECONDS = 2.0
WINDOW_SECONDS = 2.2
"""Length that is aimed at, so that a call that became faster does not spoil the window."""
MIN_CASE_SECONDS = 2.0 * MIN_WINDOW_SECONDS
"""Least time of a visit for an energy window: a case that has less keeps it for its samples."""
MAX_CALLS = 1_000_000
LEAST_BUSY_SHARE = 0.8
"""Share of a window that its calls fill at least: below, too much of the energy is of the gaps between them."""
SAMPLE_SECONDS = 0.05
NONE = "none"
DEVICE, MODULE, PACKAGES = "device", "device + CPU", "CPU packages of the host"

Now = Callable[[], float]


@dataclass(frozen=True)
class Meter:
    """The energy counter of one rank. `joules()` counts up, from anywhere; None if there is nothing to read."""

    source: str
    scope: str | None
    reason: str | None = None
    joules: Callable[[], float | None] = lambda: None

    @property
    def known(self) -> bool:
        return self.source != NONE


@dataclass(frozen=True)
class RankEnergy:
    """Energy that one rank read over the window of calls."""

    source: str
    scope: str | None
    reason: str | None
    """Reason why the joules are not known."""
    seconds: float = 0.0
    joules: float | None = None
    """Joules of all calls."""
    calls: int | None = None
    """Calls in the window, if the joules are known."""
    busy_share: float | None = None
    idle_watts: float | None = None

    @property
    def call_joules(self) -> float | None:
        return None if self.joules is None or self.calls is None else self.joules / self.calls


@dataclass
class Idle:
    """Power of one rank's device without work: measured once per process, and kept."""

    watts: float | None = None
    asked: bool = False

    def measure(
        self, meter: Meter, pause: Callable[[float], object], now: Now = clock.monotonic_seconds
    ) -> float | None:
        if not self.asked:
            self.asked, self.watts = True, measure_idle_watts(meter, pause, now)
        return self.watts


@contextmanager
def open_meter(
    device_type: str, pci: str | None, uuid: str | None, first_of_host: bool, root: Path = ROOT
) -> Iterator[Meter]:
    """The best meter of a rank's device; of the host's CPU packages on the first rank of a host that has no GPU."""
    if device_type == "cpu":
        yield _rapl(root) if first_of_host else Meter(NONE, None, "read by the first rank of the host")
        return
    with nvml.energy_reader(pci, uuid) as reader:
        if reader is not None and reader.millijoules() is not None:
            yield Meter("nvml_counter", device_scope(reader.name), None, lambda: _scale(reader.millijoules(), 1e-3))
        elif reader is not None and reader.milliwatts() is not None:
            with _integrate_power(lambda: _scale(reader.milliwatts(), 1e-3)) as joules:
                yield Meter("nvml_sampled", device_scope(reader.name), None, joules)
        else:
            yield _amd(pci)


def unmeasured_row(meter: Meter, seconds: float) -> RankEnergy:
    """The row of a case that was not called for its energy."""
    reason = (
        meter.reason or f"the case had {seconds:.2g} s; it takes {MIN_CASE_SECONDS:g} s (--preset full, or --budget)"
    )
    return RankEnergy(meter.source, meter.scope, reason)


def device_scope(name: str) -> str:
    """NVML's figures of Grace Hopper and Grace Blackwell are the module's (NVIDIA Grace tuning guide, power
    telemetry)."""
    return MODULE if "GH200" in name or "GB200" in name or "GB300" in name else DEVICE


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


class WrappingSum:
    """Sum of counters that each start again at their range: read often enough, a wrap is seen as a step back."""

    def __init__(self, paths: Sequence[tuple[Path, int]]) -> None:
        self._paths = paths
        self._last: list[int | None] = [read_int(path) for path, _ in paths]
        self._total_uj = 0

    def joules(self) -> float | None:
        """Return joules since construction; None from the moment that one of the counters cannot be read."""
        for index, (path, span) in enumerate(self._paths):
            now, last = read_int(path), self._last[index]
            if now is None or last is None:
                self._last[index] = None
                return None
            self._total_uj += now - last if now >= last else now - last + span
            self._last[index] = now
        return self._total_uj / 1e6


def _rapl(root: Path) -> Meter:
    """Packages only: cores and uncore are parts of them, and `psys` holds them again."""
    folder = root / "sys/class/powercap"
    zones = sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1)
    packages = [zone for zone in zones if (read_text(zone / "name") or "").startswith("package")]
    if not packages:
        return Meter(NONE, None, "no RAPL package in the powercap tree")
    counters = [(zone / "energy_uj", read_int(zone / "max_energy_range_uj")) for zone in packages]
    readable = [(path, span) for path, span in counters if span is not None and read_int(path) is not None]
    if len(readable) < len(counters):
        return Meter(NONE, None, "RAPL counters can be read by root only")
    return Meter("rapl", PACKAGES, None, WrappingSum(readable).joules)


def _amd(pci: str | None) -> Meter:
    """Make a meter of the AMD SMI library's Python bindings, for the device at a PCI address."""
    try:
        smi = importlib.import_module("amdsmi")
    except ImportError:
        return Meter(NONE, None, "NVML gives no energy and no power, and the Python package amdsmi is not installed")
    try:
        smi.amdsmi_init()
        handles = [each for each in smi.amdsmi_get_processor_handles() if _address(smi, each) == (pci or "").lower()]
    except smi.AmdSmiException as error:
        return Meter(NONE, None, f"AMD SMI does not answer: {error}")
    if not handles:
        return Meter(NONE, None, f"AMD SMI has no device at {pci}")

    def joules() -> float | None:
        try:
            reading = smi.amdsmi_get_energy_count(handles[0])
        except smi.AmdSmiException:
            return None
        count = reading.get("energy_accumulator", reading.get("power"))
        return None if count is None else float(count) * float(reading["counter_resolution"]) / 1e6

    return (
        Meter("amd_counter", DEVICE, None, joules) if joules() is not None else Meter(NONE, None, "no energy counter")
    )


def _address(smi: Any, handle: Any) -> str:
    return str(smi.amdsmi_get_gpu_device_bdf(handle)).lower()


@contextmanager
def _integrate_power(watts: Callable[[], float | None]) -> Iterator[Callable[[], float | None]]:
    """Power sampled by a thread, and added up by trapezoids."""
    total, lost = 0.0, False
    lock, done = threading.Lock(), threading.Event()
    last: tuple[float, float] | None = None

    def sample() -> None:
        nonlocal total, lost, last
        with lock:
            now, value = clock.monotonic_seconds(), watts()
            if value is None:
                lost = True
            else:
                if last is not None:
                    total += 0.5 * (value + last[1]) * (now - last[0])
                last = now, value

    def work() -> None:
        while not done.wait(SAMPLE_SECONDS):
            sample()

    def joules() -> float | None:
        sample()
        return None if lost else total

    thread = threading.Thread(target=work, name="bench-energy", daemon=True)
    thread.start()
    try:
        yield joules
    finally:
        done.set()
        thread.join()


def measure_window(
    meter: Meter, run: Callable[[], object], calls: int, now: Now = clock.monotonic_seconds
) -> RankEnergy:
    """Joules and seconds of one rank over `run`, which makes this many calls; null if the window was too short."""
    before, began = meter.joules(), now()
    run()
    after, seconds = meter.joules(), now() - began
    row = RankEnergy(meter.source, meter.scope, meter.reason, seconds)
    if not meter.known:
        return row
    if before is None or after is None:
        return replace(row, reason="the counter could not be read")
    if seconds < MIN_WINDOW_SECONDS:
        reason = f"{seconds:.2g} s of work, less than the {MIN_WINDOW_SECONDS:g} s that counters need"
        return replace(row, reason=reason)
    return replace(row, joules=after - before, calls=calls)


def add_busy_share(row: RankEnergy, call_seconds: float) -> RankEnergy:
    """The row with the share of its window that its calls fill, at the time that one takes among the samples.

    Between the samples of a case a GPU is kept at work, in this window it is not: a kernel that is shorter than its
    launch leaves the device idle, and its joules hold idle power.
    """
    return row if row.calls is None else replace(row, busy_share=row.calls * call_seconds / row.seconds)


def energy_notes(energy: Energy | None) -> list[str]:
    """Return the notes on the energy of a case."""
    share = None if energy is None else energy.busy_share
    if share is None or share >= LEAST_BUSY_SHARE:
        return []
    return [
        f"energy: calls fill less than {LEAST_BUSY_SHARE:.0%} of its window, so that joules per call hold what was "
        "drawn between them (launches, restored inputs)"
    ]


def measure_idle_watts(
    meter: Meter, pause: Callable[[float], object], now: Now = clock.monotonic_seconds
) -> float | None:
    """Mean power over a window without work; `pause` waits this many seconds."""
    if not meter.known:
        return None
    row = measure_window(meter, lambda: pause(1.05 * MIN_WINDOW_SECONDS), 1, now)
    return None if row.joules is None else row.joules / row.seconds


def combine(rows: Sequence[RankEnergy] | None) -> Energy | None:
    """The energy of a measurement from every rank's row, in order of rank; None if there are no rows.

    `joules` is of one call, summed over the ranks that have a meter (on CPU one per host); None unless each of them
    could be read. `idle_watts` likewise. `busy_share` is the smallest. Above 64 ranks there is no `rank_joules`.
    """
    if not rows:
        return None
    metered = [row for row in rows if row.source != NONE]
    lead = metered[0] if metered else rows[0]
    joules = [row.call_joules for row in metered if row.call_joules is not None]
    complete = bool(metered) and len(joules) == len(metered)
    idle = [row.idle_watts for row in metered if row.idle_watts is not None]
    return Energy(
        source=lead.source,
        scope=lead.scope,
        reason=None if complete else next((row.reason for row in [*metered, *rows] if row.reason), None),
        calls=lead.calls,
        seconds=max(row.seconds for row in rows),
        joules=sum(joules) if complete else None,
        busy_share=min((row.busy_share for row in metered if row.busy_share is not None), default=None),
        idle_watts=sum(idle) if idle and len(idle) == len(metered) else None,
        rank_joules=[row.call_joules for row in rows] if complete and len(rows) <= MAX_FULL_RANKS else [],
    )
