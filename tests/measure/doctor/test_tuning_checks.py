"""Settings of the host that the doctor names, and a node in a tree of its own that has several faults."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.doctor import facts as gathering
from bench.measure.doctor.checks import Facts, examine, gather
from bench.measure.doctor.tuning_checks import check_tuning
from bench.measure.system.host_tuning import HostTuning
from bench.measure.system.pcie import gpus_without_driver
from bench.measure.system.rdma_ports import RdmaPort
from tests.measure.doctor.test_checks import CPU_NODE, GPU_NODE, healthy_gpu, trouble, with_gpu
from tests.measure.system.test_host_tuning import write_cpu, write_gpu
from tests.measure.system.test_kernel_log import SXID, XID, write_log
from tests.measure.system.test_rdma_ports import write_port

GOOD = HostTuning(is_virtual=False, governors={"performance": 4}, sleep_state="C1", wake_microseconds=1)
NIC = RdmaPort(device="mlx5_0", number=1, state="ACTIVE")


def found(facts: Facts = GPU_NODE, **changes: Any) -> list[tuple[str, str]]:
    """(what, value) of what is not ok; each is a warning to watch, and says what to do."""
    bad = [each for each in check_tuning(replace(facts, tuning=replace(GOOD, **changes))) if each.level != "ok"]
    assert all((each.level, each.action) == ("warn", "watch") and each.remedy for each in bad)
    return [(each.what, each.value) for each in bad]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (
            {"governors": {"powersave": 3, "performance": 1}},
            ("CPU governor", "powersave on 3 cores"),
        ),
        (
            {"sleep_state": "C6", "wake_microseconds": 133},
            ("C-states", "idle cores may sleep in C6, 133 us to wake"),
        ),
        ({"iommu_types": frozenset({"DMA-FQ"})}, ("IOMMU", "it translates the addresses of GPUs (DMA-FQ)")),
        ({"redirecting_ports": ("0000:12:04.0",)}, ("PCIe ACS", "redirects peers at 0000:12:04.0")),
    ],
)
def test_a_setting_that_costs_is_found(changes: dict[str, Any], finding: tuple[str, str]) -> None:
    assert found(**changes) == [finding]


def test_little_locked_memory_matters_to_rdma_alone() -> None:
    assert found(memlock_bytes=8 * 2**20) == []
    assert found(replace(GPU_NODE, rdma_ports=(NIC,)), memlock_bytes=8 * 2**20) == [("memlock", "8 MiB")]
    assert found(replace(GPU_NODE, rdma_ports=(NIC,)), memlock_bytes=math.inf) == []


@pytest.mark.parametrize(
    ("facts", "changes"),
    [
        (GPU_NODE, {"iommu_types": frozenset({"identity"})}),
        # In a virtual machine, and on Arm, these are as they have to be.
        (GPU_NODE, {"iommu_types": frozenset({"DMA"}), "redirecting_ports": ("x",), "is_virtual": True}),
        (GPU_NODE, {"iommu_types": frozenset({"DMA"}), "redirecting_ports": ("x",), "is_virtual": None}),
        (CPU_NODE, {"sleep_state": "C6", "wake_microseconds": 133}),
    ],
)
def test_a_setting_that_is_right_is_not_found(facts: Facts, changes: dict[str, Any]) -> None:
    assert found(facts, **changes) == []


def test_settings_that_are_right_are_one_line_where_there_are_devices() -> None:
    node = replace(GPU_NODE, rdma_ports=(NIC,), tuning=replace(GOOD, has_unread_ports=True))
    (line,) = (each.line() for each in check_tuning(node))
    assert line == (
        "ok: host tuning: governor performance, idle cores wake in 1 us, ACS unknown (root may read it), "
        "memlock unlimited"
    )
    assert list(check_tuning(replace(CPU_NODE, tuning=GOOD))) == []


def test_persistence_that_is_off_is_one_warning_for_all_gpus() -> None:
    off = replace(GPU_NODE, gpus=tuple(healthy_gpu(index, persistence=False) for index in range(2)))
    assert trouble(off) == [("warn", "GPU persistence", "off on GPU 0, 1")]
    assert trouble(with_gpu(persistence=None)) == []
    assert any("GPUs without a finding" in each.value for each in examine(off))


def test_a_gpu_that_its_driver_left_alone_fails(tmp_path: Path) -> None:
    for bus in range(3):
        device = tmp_path / f"sys/bus/pci/devices/0000:{bus:02x}:00.0"
        device.mkdir(parents=True)
        for name, text in (("vendor", "0x10de"), ("class", "0x030200"), ("device", "0x2330")):
            (device / name).write_text(f"{text}\n")
    assert gpus_without_driver(tmp_path) == ()  # no driver is loaded: another finding
    for bus in range(2):
        (tmp_path / f"sys/bus/pci/devices/0000:{bus:02x}:00.0/driver").mkdir()
    assert gpus_without_driver(tmp_path) == ("0000:02:00.0",)
    (finding,) = [each for each in examine(replace(GPU_NODE, without_driver=("0000:02:00.0",))) if each.level == "fail"]
    assert (finding.what, finding.action) == ("GPUs", "reboot")
    (tmp_path / "sys/bus/pci/devices/0000:02:00.0/device").write_text("0x1db1\n")  # of another kind: for a display
    assert gpus_without_driver(tmp_path) == ()


def test_every_finding_about_a_gpu_has_an_action() -> None:
    bad = {
        "mig": True,
        "process_ids": (7,),
        "ecc_uncorrected": 1,
        "remapping_pending": True,
        "remapping_failed": True,
        "clock_reasons": ("hardware slowdown",),
        "pcie_width": 8,
        "pcie_generation_max": 4,
        "persistence": False,
        "without_p2p": (0,),
    }
    findings = [each for each in examine(with_gpu(**bad)) if each.level != "ok"]
    assert len(findings) >= 9
    assert all(each.action for each in findings)
    assert {each.action for each in findings} == {"isolate", "reset", "watch"}


def test_a_node_with_several_faults_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, XID, SXID)
    for index in range(4):
        down = {"state": "1: DOWN", "phys_state": "2: Polling"} if index == 2 else {}
        write_port(tmp_path, f"mlx5_{index}", pci=f"0000:{index + 64:02x}:00.0", **down)
    write_cpu(tmp_path, governor="ondemand")
    write_gpu(tmp_path, acs=0x1D, domain="DMA")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(gathering, "gather_gpus", lambda: ((healthy_gpu(0, pci="00000000:91:00.0"),), None))
    findings = examine(gather(root=tmp_path, environ={}))
    acted = {each.what: each.action for each in findings if each.action}
    assert acted == {
        "GPU 0 Xid 79": "reboot",
        "PCI 0000:06:00 SXid 20034": "reset",
        "port mlx5_2": "isolate",
        "CPU governor": "watch",
        "C-states": "watch",
        "IOMMU": "watch",
        "PCIe ACS": "watch",
    } | ({"memlock": "watch"} if "memlock" in acted else {})  # by the limits of whoever runs the tests
