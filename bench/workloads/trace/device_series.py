"""Time series of a rank's device and host: one reading a second, taken by a thread during the measured work.

Readings are those of `bench.measure.system.interference_probe` (CPU time and frequency, and on NVIDIA GPUs clocks,
temperature, power and the reasons for lower clocks); a reading costs about a millisecond. Each also has the number of
calls of the work that were made until then, so that samples and readings can be laid side by side without a clock in
the work itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bench.measure.system import nvml
from bench.measure.system.counters import Counters, Probe
from bench.measure.system.devices import gpu_addresses

if TYPE_CHECKING:
    import torch

INTERVAL_SECONDS = 1.0
COLUMNS = (
    "at_seconds",
    "calls",
    "busy_share",
    "steal_share",
    "cpu_frequency_hz",
    "sm_clock_hz",
    "memory_clock_hz",
    "temperature_celsius",
    "power_watts",
    "clock_reasons",
)
"""Columns of a row: seconds since the first reading; the shares are of the CPU time since the reading before, of the
cores that the rank may use; `clock_reasons` is a list of texts. None if it cannot be known."""
Row = list[Any]


class DeviceSampler:
    """Reads until it is stopped; `calls` says how often the work was called."""

    def __init__(self, probe: Probe, calls: Callable[[], int], interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._probe = probe
        self._calls = calls
        self._interval_seconds = interval_seconds
        self._readings: list[tuple[Counters, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench-series", daemon=True)

    def start(self) -> None:
        self._read()
        self._thread.start()

    def stop(self) -> list[Row]:
        """Take the last reading, end the thread, and return the rows of `COLUMNS`. A second call changes nothing."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._read()
        return rows(self._readings)

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self._read()

    def _read(self) -> None:
        self._readings.append((self._probe.read(), self._calls()))


def rows(readings: Sequence[tuple[Counters, int]]) -> list[Row]:
    """Readings as plain JSON values; the first has no shares, since there is none before it."""
    rows: list[Row] = []
    for (reading, calls), (before, _) in zip(readings, [readings[0], *readings], strict=False):
        busy, steal = _shares(before, reading)
        gpu = reading.gpu
        rows.append(
            [
                reading.at_seconds - readings[0][0].at_seconds,
                calls,
                busy,
                steal,
                reading.frequency_hz,
                *((None,) * 5 if gpu is None else _of_gpu(gpu)),
            ]
        )
    return rows


def _of_gpu(gpu: nvml.GpuState) -> tuple[Any, ...]:
    reasons = None if gpu.clock_reasons is None else list(gpu.clock_reasons)
    return gpu.sm_clock_hz, gpu.memory_clock_hz, gpu.temperature_celsius, gpu.power_watts, reasons


def _shares(before: Counters, after: Counters) -> tuple[float | None, float | None]:
    if before.ticks is None or after.ticks is None:
        return None, None
    total = after.ticks.total - before.ticks.total
    if total <= 0:
        return None, None
    parts = (after.ticks.busy - before.ticks.busy, after.ticks.steal - before.ticks.steal)
    busy, steal = (min(1.0, max(0, part) / total) for part in parts)
    return busy, steal


class DeviceSeries:
    """The series of a rank's own device, with the connection to its management library."""

    def __init__(self, device: torch.device, calls: Callable[[], int]) -> None:
        self._stack = ExitStack()
        uuid, pci = gpu_addresses(device)
        read_gpu = self._stack.enter_context(nvml.open_state_reader(pci, uuid))
        self._sampler = DeviceSampler(Probe(read_gpu=read_gpu), calls)

    def start(self) -> None:
        self._sampler.start()

    def stop(self) -> list[Row]:
        """The rows; may be asked for more than once."""
        readings = self._sampler.stop()
        self._stack.close()
        return readings
