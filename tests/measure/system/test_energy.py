"""Joules from fake sensors: NVML's counter and power, a powercap tree whose counter wraps around, and none at all."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.measure.system import energy
from bench.records import file, rows
from bench.records.lines.parts import Energy
from tests.measure.system.test_nvml import NVMLError, fake
from tests.support.ranks import on_ranks
from tests.support.results import measurement, save

PCI, UUID = "0000:17:00.0", "GPU-0"
HANDLES = {"nvmlDeviceGetHandleByPciBusId": lambda name: 0, "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3"}


def powercap(root: Path, *zones: tuple[str, str, int, int]) -> Path:
    """A tree of (folder, name, energy_uj, max_energy_range_uj)."""
    for folder, name, microjoules, span in zones:
        path = root / "sys/class/powercap" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "name").write_text(f"{name}\n")
        (path / "energy_uj").write_text(f"{microjoules}\n")
        (path / "max_energy_range_uj").write_text(f"{span}\n")
    return root


def test_the_counter_of_a_gpu_is_read_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([1_000_000, 1_000_000, 1_300_000])  # asked once whether it is there
    module = fake(HANDLES | {"nvmlDeviceGetTotalEnergyConsumption": lambda handle: next(counts)})
    monkeypatch.setitem(sys.modules, "pynvml", module)
    clock = iter([10.0, 13.0])
    with energy.open_meter("cuda", PCI, UUID, True) as meter:
        row = energy.measure_window(meter, lambda: None, 10, lambda: next(clock))
    assert (row.source, row.scope, row.joules, row.seconds) == ("nvml_counter", "device", 300.0, 3.0)
    found = energy.combine([row, row])
    assert found is not None
    assert found.joules == pytest.approx(60.0)
    assert not module.state.running


def test_without_a_counter_power_is_sampled_and_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = HANDLES | {
        "nvmlDeviceGetName": "NVIDIA GH200 480GB",
        "nvmlDeviceGetTotalEnergyConsumption": NVMLError("Not Supported"),
        "nvmlDeviceGetPowerUsage": 250_000,
    }
    monkeypatch.setitem(sys.modules, "pynvml", fake(answers))
    now = iter([float(n) for n in range(1000)])
    monkeypatch.setattr(energy.clock, "monotonic_seconds", lambda: next(now))
    with energy.open_meter("cuda", PCI, UUID, True) as meter:
        before, after = meter.joules(), meter.joules()
    assert (meter.source, meter.scope) == ("nvml_sampled", "device + CPU")
    assert before is not None
    assert after is not None
    assert (after - before) % 250.0 == 0.0
    assert after > before


def test_rapl_packages_are_added_and_a_wrap_is_not_a_loss(tmp_path: Path) -> None:
    zones = [("intel-rapl:0", "package-0", 9_000_000, 10_000_000), ("intel-rapl:1", "package-1", 0, 10_000_000)]
    parts = [("intel-rapl:0:0", "core", 5, 10), ("intel-rapl:2", "psys", 7, 10_000_000)]
    root = powercap(tmp_path, *zones, *parts)
    with energy.open_meter("cpu", None, None, True, root) as meter:
        assert (meter.source, meter.scope, meter.joules()) == ("rapl", "CPU packages of the host", 0.0)
        powercap(
            root,
            ("intel-rapl:0", "package-0", 1_000_000, 10_000_000),
            ("intel-rapl:1", "package-1", 3_000_000, 10_000_000),
        )
        assert meter.joules() == pytest.approx(2.0 + 3.0)
        powercap(root, ("intel-rapl:0", "package-0", 4_000_000, 10_000_000))
        assert meter.joules() == pytest.approx(2.0 + 3.0 + 3.0)
        (root / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
        assert meter.joules() is None


def test_what_cannot_be_read_is_none_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with energy.open_meter("cpu", None, None, True, tmp_path) as meter:
        assert (meter.source, meter.reason) == ("none", "no RAPL package in the powercap tree")
    root = powercap(tmp_path, ("intel-rapl:0", "package-0", 1, 10))
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")  # as where only root may read it
    with energy.open_meter("cpu", None, None, True, root) as meter:
        assert "root only" in str(meter.reason)
    with energy.open_meter("cpu", None, None, False, root) as meter:
        assert meter.reason == "read by the first rank of the host"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with energy.open_meter("cuda", PCI, UUID, True) as meter:
        assert "amdsmi is not installed" in str(meter.reason)
        assert energy.measure_idle_watts(meter, lambda seconds: None) is None
        found = energy.combine([energy.unmeasured_row(meter, 9.0)])
    assert found is not None
    assert (found.source, found.joules, found.idle_watts) == ("none", None, None)
    assert energy.combine(None) is None


def test_amds_counter_is_found_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    smi: Any = fake({})
    counts = iter([1000, 2000])
    smi.AmdSmiException = NVMLError
    smi.amdsmi_init = lambda: None
    smi.amdsmi_get_processor_handles = lambda: [7, 8]
    smi.amdsmi_get_gpu_device_bdf = lambda handle: {7: "0000:03:00.0", 8: "0000:17:00.0"}[handle]
    smi.amdsmi_get_energy_count = lambda handle: {
        "energy_accumulator": next(counts) * handle,
        "counter_resolution": 15.3,
    }
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    with energy.open_meter("cuda", PCI, UUID, True) as meter:
        assert meter.source == "amd_counter"
        assert meter.joules() == pytest.approx(2000 * 8 * 15.3e-6)


def test_a_short_window_says_nothing() -> None:
    meter = energy.Meter("nvml_counter", "device", None, lambda: 5.0)
    times = iter([0.0, 1.5])
    row = energy.measure_window(meter, lambda: None, 3, lambda: next(times))
    assert row.joules is None
    assert "less than the 2 s" in str(row.reason)
    longer = energy.unmeasured_row(meter, 1.0)
    assert "--preset full" in str(longer.reason)
    mixed = energy.combine([replace(row, joules=6.0, calls=3), row])
    assert mixed is not None
    assert mixed.joules is None


@pytest.mark.parametrize(("call_seconds", "told"), [(1e-3, False), (0.81e-3, False), (0.79e-3, True), (5e-6, True)])
def test_a_window_that_calls_do_not_fill_is_told(call_seconds: float, told: bool) -> None:
    """3000 calls in 3 s: of 1 ms each they fill it, of 5 us the device was idle for most of it."""
    joules = iter([0.0, 300.0])
    meter = energy.Meter("nvml_counter", "device", None, lambda: next(joules))
    times = iter([0.0, 3.0])
    row = energy.add_busy_share(energy.measure_window(meter, lambda: None, 3000, lambda: next(times)), call_seconds)
    found = energy.combine([replace(row, busy_share=1.0), row])
    assert found is not None
    assert found.busy_share == pytest.approx(1000 * call_seconds)
    assert msgspec.convert(msgspec.to_builtins(found), Energy) == found
    assert [note.startswith("energy: calls fill less than 80%") for note in energy.energy_notes(found)] == [True] * told


def test_nothing_is_told_of_a_window_that_was_not_measured() -> None:
    meter = energy.Meter("nvml_counter", "device", None, lambda: 5.0)
    short = energy.add_busy_share(energy.unmeasured_row(meter, 1.0), 1e-6)
    found = energy.combine([short])
    assert energy.energy_notes(found) == energy.energy_notes(None) == []
    assert found is not None
    assert found.busy_share is None


def test_idle_power_is_measured_once() -> None:
    joules = iter([0.0, 210.0])
    meter = energy.Meter("rapl", energy.PACKAGES, None, lambda: next(joules))
    waited: list[float] = []
    idle = energy.Idle()
    ticks = iter([0.0, 2.1])
    for _ in range(2):
        assert idle.measure(meter, waited.append, lambda: next(ticks)) == pytest.approx(100.0)
    assert len(waited) == 1


def test_joules_become_metrics(tmp_path: Path) -> None:
    spans = [[rank, 0, "forward", 0, 0, 0, 600_000] for rank in (0, 1)]
    found = {"source": "nvml_counter", "scope": "device", "reason": None, "joules": 4.0, "idle_watts": 150.0}
    record = measurement(nanoseconds=[[1_000_000], [1_000_000]], bytes=2_000_000_000, tokens=8)
    record |= {"energy": found, "spans": spans, "traced_call_ns": [[1_000_000], [1_000_000]]}
    (row,) = rows.case_rows([file.load(save(tmp_path / "a.jsonl", record))])
    assert (row["joules"], row["joules_per_token"], row["joules_per_gb"]) == (4.0, 0.5, 2.0)
    assert row["joules_waiting"] == pytest.approx(1.6)
    assert (row["idle_watts"], row["energy_source"], row["energy_scope"]) == (150.0, "nvml_counter", "device")
    (bare,) = rows.case_rows([file.load(save(tmp_path / "b.jsonl", measurement()))])
    assert (bare["joules"], bare["energy_source"]) == (None, None)


def window_on(context: Any) -> dict[str, Any]:
    """What a rank's energy pass makes of a work of about a millisecond, with a meter of 100 W on the first rank."""
    import time
    from contextlib import contextmanager

    from bench.core.clock import cpu_clock
    from bench.measure.engine.passes.energy_window import measure_energy
    from bench.measure.engine.timing.sampler import Samples
    from bench.measure.engine.timing.stop_rule import Limits
    from bench.suite import Work

    energy.MIN_WINDOW_SECONDS, energy.WINDOW_SECONDS, energy.MIN_CASE_SECONDS = 0.05, 0.1, 0.2
    source = "rapl" if context.index == 0 else "none"
    meter = energy.Meter(source, energy.PACKAGES, None, lambda: 100.0 * time.monotonic())

    @contextmanager
    def fake_meter(*arguments: Any) -> Any:
        yield meter

    energy.open_meter = fake_meter  # type: ignore[assignment]
    counts = {"run": 0, "reset": 0}
    idle = energy.Idle()

    def work() -> None:
        counts["run"] += 1
        time.sleep(0.001)

    def reset() -> None:
        counts["reset"] += 1

    own = Work(variants={"full": work}, check=lambda: (0.0, 0.0), reset=reset)
    # The slower rank decides how many calls a window has.
    samples = Samples({"full": 1}, {"full": [1_000_000 * (1 + context.index)] * 3}, "time", None, 1)
    short = measure_energy(context, own, cpu_clock(), samples, Limits(0.02, 0.1), idle, lambda seconds: None)
    row = measure_energy(context, own, cpu_clock(), samples, Limits(0.02, 0.3), idle, lambda seconds: None)
    return {"short": short, "row": row, **counts}


def test_all_ranks_make_the_same_window_and_the_meter_gives_its_joules() -> None:
    first, second = on_ranks(2, window_on)
    assert first["run"] == first["reset"] == second["run"] == 50  # 0.1 s of calls of 2 ms
    assert "(--preset full, or --budget)" in first["short"].reason
    assert first["row"].joules == pytest.approx(100.0 * first["row"].seconds, rel=0.05)
    assert first["row"].busy_share == pytest.approx(50 * 0.001 / first["row"].seconds)
    assert first["short"].busy_share is None
    assert first["row"].idle_watts == pytest.approx(100.0, rel=0.05)
    found = energy.combine([first["row"], second["row"]])
    assert found is not None
    assert found.joules == pytest.approx(first["row"].joules / 50)
    assert found.rank_joules == [found.joules, None]
