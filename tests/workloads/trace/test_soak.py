"""What a soak says, by hand: the change of speed, readings laid beside samples, and what the devices did."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure.system.counters import CoreTicks, Counters
from bench.measure.system.nvml import GpuState
from bench.workloads.trace import device_series as series_module
from bench.workloads.trace import soak
from bench.workloads.trace.device_series import COLUMNS, DeviceSampler, rows


def test_change_of_a_slower_end() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 500)
    samples = np.exp(noise) * np.linspace(1.0, 1.25, 500)
    found = soak.compute_change(samples)
    assert found is not None
    # The middles of the first and last fifth are at 10% and 90% of the way.
    assert found.share == pytest.approx(1.225 / 1.025 - 1, abs=0.01)
    assert 0.15 < found.low < found.share < found.high < 0.24


def test_change_where_nothing_changes_says_so() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = soak.compute_change(np.exp(rng.normal(0, 0.1, 300)))
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 180  # 95% of 200, with room for chance


def test_change_needs_samples_and_times_above_zero() -> None:
    assert soak.compute_change([1.0] * 14) is None
    assert soak.compute_change([0.0] + [1.0] * 99) is None
    same = soak.compute_change([1.0] * 15)
    assert same == soak.Change(0.0, 0.0, 0.0)


def _reading(at: float, busy: int, gpu: GpuState | None = None) -> Counters:
    ticks = CoreTicks(busy=busy, steal=0, total=round(100 * at))
    return Counters(at, None, None, {}, ticks, 2_000_000_000, (), (), gpu)


def _gpu(celsius: int, mhz: int, reasons: tuple[str, ...] = ()) -> GpuState:
    return GpuState(
        clock_reasons=reasons,
        sm_clock_hz=mhz * 1_000_000,
        memory_clock_hz=None,
        temperature_celsius=celsius,
        power_watts=400.0 + celsius,
    )


def test_rows_of_readings() -> None:
    found = rows([(_reading(10.0, 0), 0), (_reading(11.0, 40, _gpu(50, 1980)), 7)])
    by_name = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    assert by_name[0] == dict.fromkeys(COLUMNS) | {"at_seconds": 0.0, "calls": 0, "cpu_frequency_hz": 2_000_000_000}
    assert by_name[1] == {
        "at_seconds": 1.0,
        "calls": 7,
        "busy_share": 0.4,
        "steal_share": 0.0,
        "cpu_frequency_hz": 2_000_000_000,
        "sm_clock_hz": 1_980_000_000,
        "memory_clock_hz": None,
        "temperature_celsius": 50,
        "power_watts": 450.0,
        "clock_reasons": [],
    }


def _a_soak() -> list[list[Any]]:
    """11 readings a second apart; 4 calls of warm-up in the first second, then 10 a second for 100 samples; from 8 s
    on the GPU is too hot."""
    gpus = [
        _gpu(50 + 4 * s, 1980 if s < 8 else 1410, ("software thermal slowdown",) if s >= 8 else ()) for s in range(11)
    ]
    return rows([(_reading(float(s), 90 * s, gpus[s]), 0 if not s else 4 + 10 * (s - 1)) for s in range(12 - 1)])


def test_readings_beside_samples_by_hand() -> None:
    of_rank = soak.align_series(_a_soak(), num_samples=90, calls_in_sample=1, calls=94)
    assert of_rank.sample == (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
    assert of_rank.seconds == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    assert of_rank.values("temperature_celsius", 15, 35) == [62, 66]


def test_a_device_by_hand() -> None:
    of_rank = soak.align_series(_a_soak(), 90, 1, 94)
    slower = [1.0] * 70 + [1.4] * 20
    found = soak.summarize_device(3, of_rank, 90, slower)
    assert (found.hottest_celsius, found.hottest_at_seconds) == (86, 8.0)
    assert (found.clock_first_hz, found.clock_last_hz) == (1_980_000_000, 1_410_000_000)
    assert found.clock_fall == pytest.approx(1 - 1410 / 1980)
    assert found.throttled_share == pytest.approx(2 / 9)
    assert found.reasons == ("software thermal slowdown",)
    assert found.own_change is not None
    assert found.own_change.share == pytest.approx(0.4)
    (row,) = soak.devices_table([found]).rows
    assert row[:3] == (3, 40.0, 86)
    metrics = soak.soak_metrics(slower, [found])
    assert metrics["slowdown"] == pytest.approx(0.4)
    assert metrics["throttled_share"] == pytest.approx(2 / 9)
    assert metrics["power_watts"] == pytest.approx(np.mean([454 + 4 * s for s in range(9)]))


def test_a_power_cap_is_no_throttling() -> None:
    capped = rows([(_reading(float(s), 90 * s, _gpu(60, 1700, ("power cap",))), 10 * s) for s in range(5)])
    found = soak.summarize_device(0, soak.align_series(capped, 40, 1, 40), 40)
    assert (found.throttled_share, found.reasons) == (0.0, ("power cap",))


def test_the_table_over_time_leaves_out_what_is_not_known() -> None:
    hot, unknown = _a_soak(), rows([(_reading(float(s), 0), 4 + 10 * (s - 1) if s else 0) for s in range(11)])
    both = [soak.align_series(each, 90, 1, 94) for each in (hot, unknown)]
    table = soak.time_table([0.1] * 60 + [0.2] * 30, both)
    assert len(table.rows) == 9
    at = {name: index for index, name in enumerate(table.columns)}
    assert "power W, all" not in at  # of one rank it is not known
    last = table.rows[-1]
    assert (last[at["hottest C"]], last[at["hottest rank"]]) == (86, 0)
    assert (last[at["call ms"]], last[at["slower by %"]]) == (200.0, 100.0)
    assert last[at["lowest SM clock MHz"]] == 1410
    assert last[at["clocks held down by"]] == "software thermal slowdown"
    alone = soak.time_table([0.1] * 90, [both[1]])
    assert "hottest C" not in alone.columns


class _Probe:
    """Readings as fast as they are asked for."""

    def __init__(self) -> None:
        self.at = itertools.count()

    def read(self) -> Counters:
        return _reading(float(next(self.at)), 0)


def test_the_sampler_reads_until_it_is_stopped() -> None:
    probe: Any = _Probe()
    calls = itertools.count()
    sampler = DeviceSampler(probe, lambda: next(calls), interval_seconds=0.001)
    sampler.start()
    found = sampler.stop()
    assert len(found) >= 2
    assert found == sampler.stop()  # asked again, nothing is added
    assert [row[1] for row in found] == list(range(len(found)))


def test_a_gpu_that_is_read_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    asked = []

    @contextmanager
    def watch(pci: str | None, uuid: str | None) -> Any:
        yield lambda: asked.append((pci, uuid)) or _gpu(70, 1980)
        asked.append("closed")

    monkeypatch.setattr(series_module.nvml, "open_state_reader", watch)
    monkeypatch.setattr(series_module, "gpu_addresses", lambda device: ("uuid", "0000:01:00.0"))
    of_device = series_module.DeviceSeries(torch.device("cpu"), lambda: 5)
    of_device.start()
    found = [dict(zip(COLUMNS, row, strict=True)) for row in of_device.stop()]
    assert {row["temperature_celsius"] for row in found} == {70}
    assert asked[0] == ("0000:01:00.0", "uuid")
    assert asked[-1] == "closed"
    of_device.stop()
    assert asked.count("closed") == 1
