"""What is read around a measure phase, from a made-up /proc and /sys, and what becomes of it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from bench.measure.system import counters, nvml
from bench.measure.system.counters import CoreTicks, Counters, Probe
from bench.measure.system.interference_probe import RankInterval, Watch, combine, rank_interval, watch_machine
from bench.records.file import load
from bench.records.interference import merged, worst
from bench.records.lines.decoding import UnreadableLineError, structure
from bench.records.lines.parts import HostInterference, Interference
from bench.records.rows import case_rows
from tests.measure.system.test_nvml import NVMLError, fake
from tests.support.results import MILLISECOND, header, measurement, save

CPU = torch.device("cpu")
TICK = 1 / os.sysconf("SC_CLK_TCK")
STAT = """cpu  300 10 100 1000 20 5 6 40 7 0
cpu0 100 10 50 500 10 5 6 20 7 0
cpu1 200 0 50 500 10 0 0 20 0 0
intr 13116307 0 0
"""


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def cgroup_files(stat: str) -> dict[str, object]:
    return {
        "proc/self/cgroup": "0::/job",
        "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "sys/fs/cgroup/cgroup.procs": "",
        "sys/fs/cgroup/job/cpu.stat": stat,
    }


def test_all_that_the_kernel_shows_is_read(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu1"
    root = tree(
        tmp_path,
        {
            "proc/stat": STAT,
            "proc/self/task/11/schedstat": "500 30 2",
            "proc/self/task/12/schedstat": "900 70 5",
            "proc/self/task/13/schedstat": "nonsense",
            f"{cpu}/cpufreq/scaling_cur_freq": 2_100_000,
            f"{cpu}/thermal_throttle/core_throttle_count": 3,
            f"{cpu}/thermal_throttle/package_throttle_count": 4,
            **cgroup_files("usage_usec 9\nnr_periods 10\nnr_throttled 2\nthrottled_usec 1500000"),
        },
    )
    seen = Probe(root=root, cores=[1]).read()
    assert seen.ticks == CoreTicks(busy=250, steal=20, total=780)
    assert seen.waits_ns == {"11": 30, "12": 70}
    assert seen.frequency_hz == 2_100_000_000
    assert seen.thermal_counts == (3, 4)
    assert [quota for quota in seen.quotas if quota] == [(2, 1.5)]
    assert seen.cpu_seconds is not None
    assert seen.cpu_seconds > 0
    # Both cores: user, nice and system are busy; interrupts belong to no process; guest time is in user already.
    assert Probe(root=root, cores=[0, 1]).read().ticks == CoreTicks(410, 40, 100 + 200 + 10 + 100 + 1000 + 20 + 11 + 40)


@pytest.mark.parametrize("stat", ["", "cpu0 1 2", "cpu0 a b c d e f g h", "cpu9 1 1 1 1 1 1 1 1"])
def test_what_a_container_hides_is_unknown(tmp_path: Path, stat: str) -> None:
    root = tree(tmp_path, {"proc/stat": stat, "proc/self/cgroup": ""})
    seen = Probe(root=root, cores=[0]).read()
    assert (seen.ticks, seen.frequency_hz, seen.waits_ns, seen.quotas) == (None, None, {}, ())
    assert seen.thermal_counts == (None, None)
    found = shown([rank_interval(seen, seen, "a", [0])])
    assert found["hosts"] == [{"host": "a"}]
    assert set(found["ranks"][0]) == {"rank", "seconds", "cpu_seconds", "involuntary_switches"}


def shown(intervals: list[RankInterval]) -> dict[str, Any]:
    """The disturbance as the file has it, without what is unknown."""
    plain: dict[str, Any] = msgspec.to_builtins(combine(intervals))
    assert msgspec.convert(plain, Interference) == combine(intervals)
    return plain


def test_version_1_counts_nanoseconds(tmp_path: Path) -> None:
    files: dict[str, object] = {
        "proc/self/cgroup": "1:cpu:/",
        "proc/self/mountinfo": "32 31 0:29 / /cg rw - cgroup cgroup rw,cpu",
        "cg/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 2500000000",
    }
    assert Probe(root=tree(tmp_path, files), cores=[]).read().quotas == ((4, 2.5),)


START = Counters(
    at_seconds=10.0,
    cpu_seconds=1.0,
    preemptions=5,
    waits_ns={"1": 1_000_000_000, "2": 0},
    ticks=CoreTicks(1000, 10, 5000),
    frequency_hz=3_000_000_000,
    thermal_counts=(7, None),
    quotas=((1, 0.5), None),
    gpu=None,
)


def after(**changes: Any) -> Counters:
    return replace(START, at_seconds=12.0, **changes)


def test_one_rank_by_hand() -> None:
    late = after(
        cpu_seconds=2.5,
        preemptions=9,
        waits_ns={"1": 1_500_000_000, "2": 100, "3": 600_000_000},  # 3 was born meanwhile
        frequency_hz=2_000_000_000,
        thermal_counts=(9, None),
        quotas=((3, 0.75), None),
    )
    row = rank_interval(START, late, "a", [0, 3])
    assert row.core_mask == "9"
    assert row.thermal_events == 2
    assert msgspec.to_builtins(row.rank) == {
        "seconds": 2.0,
        "cpu_seconds": 1.5,
        "run_delay_share": pytest.approx(0.3),
        "involuntary_switches": 4,
        "quota_throttled_periods": 2,
        "quota_throttled_seconds": 0.25,
        "frequency_before_hz": 3_000_000_000,
        "frequency_after_hz": 2_000_000_000,
    }


def rank_row(cpu_seconds: float, cores: list[int] | None, busy: int, total: int = 400, host: str = "a") -> RankInterval:
    late = after(cpu_seconds=1.0 + cpu_seconds, ticks=CoreTicks(1000 + busy, 10 + 20, 5000 + total))
    return rank_interval(START, late, host, cores)


def test_other_load_is_the_busy_time_that_no_rank_used() -> None:
    # 400 ticks of two shared cores, 300 busy, of which the ranks used 100 + 80.
    rows = [rank_row(100 * TICK, [0, 1], 300), rank_row(80 * TICK, [0, 1], 298)]
    (host,) = shown(rows)["hosts"]
    assert host["other_load_share"] == pytest.approx(120 / 400)
    assert host["other_load_noise_share"] == pytest.approx(0.05)
    assert (host["steal_share"], host["busy_share"]) == pytest.approx((0.05, 0.75))
    # More than the kernel counted: noise, not a negative load.
    (host,) = shown([rank_row(310 * TICK, [0, 1], 300)])["hosts"]
    assert host["other_load_share"] == 0


def test_cores_count_once_whether_ranks_share_them_or_not() -> None:
    pinned = [rank_row(100 * TICK, [0], 150, 200), rank_row(100 * TICK, [1], 50, 200), rank_row(0, [1], 50, 200)]
    (host,) = shown(pinned)["hosts"]
    assert host["busy_share"] == pytest.approx(200 / 400)
    within = [rank_row(100 * TICK, [0, 1], 300), rank_row(100 * TICK, [1], 50, 200)]
    (host,) = shown(within)["hosts"]
    assert host["other_load_share"] == pytest.approx(100 / 400)
    partly = [rank_row(0, [0, 1], 300), rank_row(0, [1, 2], 300)]
    assert shown(partly)["hosts"] == [{"host": "a", "thermal_events": 0}]
    whole = [rank_row(0, None, 300), rank_row(0, None, 300)]
    assert shown(whole)["hosts"][0]["busy_share"] == pytest.approx(0.75)


def test_hosts_are_told_apart_and_other_ranks_have_nothing() -> None:
    rows = [rank_row(0, [0], 100), rank_row(0, [0], 200, host="b")]
    hosts = shown(rows)["hosts"]
    assert [(h["host"], h["busy_share"]) for h in hosts] == [("a", 0.25), ("b", 0.5)]
    assert combine(None) is None


def test_above_64_ranks_the_worst_of_all_is_kept() -> None:
    rows = [rank_row(n * TICK, [0], 100) for n in range(65)]
    (row,) = shown(rows)["ranks"]
    assert row["num_ranks"] == 65
    assert row["cpu_seconds"] == pytest.approx(64 * TICK)


def test_visits_are_merged_into_the_worst_of_each() -> None:
    one = {
        "hosts": [{"host": "a", "steal_share": 0.1}, {"host": "b", "steal_share": 0.3}],
        "ranks": [{"rank": 0, "frequency_after_hz": 3, "gpu_clock_reasons_after": ["power cap"]}],
    }
    two = {
        "hosts": [{"host": "a", "steal_share": 0.2}],
        "ranks": [{"rank": 0, "frequency_after_hz": 2, "gpu_clock_reasons_after": ["power cap", "board limit"]}],
    }
    both = merged([msgspec.convert(one, Interference), None, msgspec.convert(two, Interference)])
    assert msgspec.to_builtins(both) == {
        "hosts": [{"host": "a", "steal_share": 0.2}, {"host": "b", "steal_share": 0.3}],
        "ranks": [{"rank": 0, "frequency_after_hz": 2, "gpu_clock_reasons_after": ["power cap", "board limit"]}],
    }
    assert merged([None]) is None
    assert worst(HostInterference, []) == HostInterference()


def test_the_own_process_is_watched_for_real() -> None:
    with watch_machine(CPU, "here") as watch:
        sum(range(100_000))
        watch.end()
    found = shown([watch.interval()])
    assert found["hosts"][0]["host"] == "here"
    assert found["ranks"][0]["seconds"] > 0


def test_nothing_is_read_after_work_that_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(probe: Probe) -> Counters:
        reads.append(probe)
        return START

    monkeypatch.setattr(Probe, "read", read)
    with pytest.raises(ValueError, match="boom"), watch_machine(CPU, "here"):
        raise ValueError("boom")
    assert len(reads) == 1


GPU_ANSWERS = {
    "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
    "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1410, 2: 2619}[kind],
    "nvmlDeviceGetTemperature": lambda handle, sensor: 71 + sensor,
    "nvmlDeviceGetPowerUsage": 698_500,
}


def test_a_gpu_is_found_by_its_address_else_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def by_address(name: str) -> int:
        asked.append(name)
        raise NVMLError("Not Found")

    def by_uuid(name: str) -> int:
        asked.append(name)
        return 1

    finders = {"nvmlDeviceGetHandleByPciBusId": by_address, "nvmlDeviceGetHandleByUUID": by_uuid}
    module = fake(GPU_ANSWERS | finders)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with nvml.open_state_reader("0000:1b:00.0", "abc") as read:
        state = read()
    assert asked == ["0000:1b:00.0", "GPU-abc"]
    assert state == nvml.GpuState(
        clock_reasons=("power cap",),
        sm_clock_hz=1_410_000_000,
        memory_clock_hz=2_619_000_000,
        temperature_celsius=71,
        power_watts=698.5,
    )
    assert not module.state.running


def test_without_bindings_or_address_there_is_no_gpu_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    for address in ("0000:1b:00.0", None):
        with nvml.open_state_reader(address, None) as read:
            assert read() is None


def test_both_moments_of_a_gpu_are_in_the_row() -> None:
    state = nvml.GpuState(
        clock_reasons=(), sm_clock_hz=1980, memory_clock_hz=None, temperature_celsius=40, power_watts=200.0
    )
    before = replace(START, gpu=state)
    late = after(gpu=replace(state, clock_reasons=("power cap",), sm_clock_hz=1410, temperature_celsius=70))
    row = msgspec.to_builtins(rank_interval(before, late, "a", [0]).rank)
    assert {name: value for name, value in row.items() if name.startswith("gpu_")} == {
        "gpu_sm_clock_before_hz": 1980,
        "gpu_sm_clock_after_hz": 1410,
        "gpu_temperature_before_celsius": 40,
        "gpu_temperature_after_celsius": 70,
        "gpu_power_before_watts": 200.0,
        "gpu_power_after_watts": 200.0,
        "gpu_clock_reasons_before": [],
        "gpu_clock_reasons_after": ["power cap"],
    }


def gpu_state(mhz: int, *reasons: str, watts: float = 600.0) -> nvml.GpuState:
    return nvml.GpuState(
        clock_reasons=reasons, sm_clock_hz=mhz * 10**6, memory_clock_hz=None, temperature_celsius=60, power_watts=watts
    )


def test_a_gpu_is_read_while_it_works_and_only_then_it_counts(tmp_path: Path) -> None:
    """Idle before and after, at 1980 MHz with no reason; at work it runs into its power cap."""
    idle, capped = gpu_state(1980, watts=120.0), gpu_state(1410, "power cap", watts=700.0)
    states = iter([idle, capped, gpu_state(1500, "power cap", "board limit"), idle, idle])
    busy = iter([True, True, False])  # by the end of the third reading the work was done
    watch = Watch(Probe(read_gpu=lambda: next(states), root=tmp_path, cores=[0]), "a")
    for _ in range(3):
        watch.look(lambda: next(busy))
    watch.end()
    row = msgspec.to_builtins(watch.interval().rank)
    assert row["gpu_sm_clock_at_work_hz"] == 1_410_000_000
    assert row["gpu_power_at_work_watts"] == 700.0
    assert row["gpu_clock_reasons_at_work"] == ["power cap", "board limit"]
    assert "gpu_memory_clock_at_work_hz" not in row
    assert (row["gpu_sm_clock_after_hz"], row["gpu_clock_reasons_after"]) == (1_980_000_000, [])
    found = shown([watch.interval()])
    case = disturbed_row(tmp_path / "a", found)
    assert case["throttle_reasons"] == ["GPU power cap", "GPU board limit"]
    assert (case["clock_before_hz"], case["clock_after_hz"]) == (1_980_000_000, 1_410_000_000)


def test_a_gpu_that_nvml_does_not_know_is_not_looked_at(tmp_path: Path) -> None:
    watch = Watch(Probe(root=tmp_path, cores=[0]), "a")
    watch.look(lambda: True)
    watch.end()
    assert not [name for name in msgspec.to_builtins(watch.interval().rank) if name.startswith("gpu_")]


def disturbed_row(tmp_path: Path, *found: Any, samples: list[int] | None = None) -> dict[str, Any]:
    rows = [samples or [MILLISECOND] * 30]
    records = [measurement("s/a", rows, launch, disturbance=each) for launch, each in enumerate(found)]
    return case_rows([load(save(tmp_path / "a.jsonl", header(1), *records))])[0]


def test_a_case_has_the_worst_of_its_launches(tmp_path: Path) -> None:
    one = {"hosts": [{"host": "a", "steal_share": 0.01, "other_load_share": 0.2, "other_load_noise_share": 0.19}]}
    two = {
        "hosts": [{"host": "a", "steal_share": 0.03, "other_load_share": 0.1, "other_load_noise_share": 0.02}],
        "ranks": [{"rank": 0, "seconds": 2.0, "run_delay_share": 0.4, "quota_throttled_seconds": 0.01,
                   "frequency_before_hz": 3_000, "frequency_after_hz": 2_700}],
    }  # fmt: skip
    row = disturbed_row(tmp_path, one, two, None)
    assert (row["steal_share"], row["run_delay_share"]) == (0.03, 0.4)
    assert (row["other_load_share"], row["other_load_noise_share"]) == (0.1, 0.02)  # farther above its noise
    assert (row["clock_before_hz"], row["clock_after_hz"]) == (3_000, 2_700)
    assert (row["throttled"], row["throttle_reasons"]) == (False, [])  # 0.5% of the phase
    assert (row["drift"], row["modes"]) == (0.0, 1)


@pytest.mark.parametrize(
    ("part", "reasons"),
    [
        ({"ranks": [{"rank": 0, "seconds": 2.0, "quota_throttled_seconds": 0.5}]}, ["CPU quota"]),
        ({"hosts": [{"host": "a", "thermal_events": 2}]}, ["CPU too hot"]),
        ({"ranks": [{"rank": 0, "gpu_clock_reasons_after": ["sync boost", "power cap"]}]}, ["GPU power cap"]),
        ({"hosts": [{"host": "a", "steal_share": 0.1}]}, None),
        (None, None),
    ],
)
def test_what_held_it_back_is_named(tmp_path: Path, part: Any, reasons: list[str] | None) -> None:
    row = disturbed_row(tmp_path, part)
    assert row["throttle_reasons"] == reasons
    assert row["throttled"] is (None if reasons is None else True)


def test_few_samples_tell_no_drift_and_no_modes(tmp_path: Path) -> None:
    row = disturbed_row(tmp_path, None, samples=[MILLISECOND] * 19)
    assert (row["drift"], row["modes"], row["steal_share"]) == (None, None, None)
    risen = disturbed_row(tmp_path / "b", None, samples=[(100 + n) * 10_000 for n in range(31)])
    assert risen["drift"] == pytest.approx(1.255 / 1.045 - 1)


@pytest.mark.parametrize(
    "value",
    [
        [], {"hosts": {}}, {"hosts": [3]}, {"hosts": [{"host": 1}]}, {"ranks": [{"rank": "x"}]},
        {"ranks": [{"gpu_clock_reasons_after": "hot"}]}, {"hosts": [{"steal_share": "half"}]},
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(value: Any) -> None:
    with pytest.raises(UnreadableLineError, match="disturbance"):
        structure(measurement(disturbance=value))


def test_usage_is_unknown_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert counters._usage() == (None, None)
    usage = SimpleNamespace(ru_utime=1.5, ru_stime=0.25, ru_nivcsw=4)
    monkeypatch.setitem(sys.modules, "resource", SimpleNamespace(getrusage=lambda who: usage, RUSAGE_SELF=0))
    assert counters._usage() == (1.75, 4)
