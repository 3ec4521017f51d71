"""Settings of a host in a tree of its own: clocks, sleep states, IOMMU, ACS and locked memory."""

from __future__ import annotations

import math
import resource
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.system.host_tuning import memlock_bytes, read_host_tuning
from bench.measure.system.pcie import _read, acs_redirects, is_switch_port

ROOT_PORT, DOWNSTREAM_PORT = 4, 6
SOURCE_VALIDATION, REQUEST_REDIRECT = 0x01, 0x04


def config_space(port_type: int, acs: int | None) -> bytes:
    """A bridge's configuration space, with a power management capability before the PCI Express one."""
    space = bytearray(4096)
    space[0x34] = 0x40
    space[0x40:0x44] = bytes([0x01, 0x60, 0, 0])
    space[0x60:0x64] = bytes([0x10, 0x00, port_type << 4 | 2, 0])
    struct.pack_into("<I", space, 0x100, 0x0001 | 0x140 << 20)  # error reporting, then the next
    if acs is not None:
        struct.pack_into("<IHH", space, 0x140, 0x000D, 0x5F, acs)
    return bytes(space)


def write_gpu(root: Path, acs: int | None = 0, domain: str = "identity", readable: bool = True) -> None:
    """Write a GPU under a root port and a port of a switch, with the group of its IOMMU."""
    buses = root / "sys/devices/pci0000:10"
    root_port, switch_port = buses / "0000:10:01.0", buses / "0000:10:01.0/0000:11:00.0/0000:12:04.0"
    gpu = switch_port / "0000:13:00.0"
    gpu.mkdir(parents=True)
    (root_port / "config").write_bytes(config_space(ROOT_PORT, REQUEST_REDIRECT))
    (switch_port.parent / "config").write_bytes(config_space(5, None))
    space = config_space(DOWNSTREAM_PORT, acs)
    (switch_port / "config").write_bytes(space if readable else space[:64])
    (gpu / "vendor").write_text("0x10de\n")
    (gpu / "class").write_text("0x030200\n")
    (gpu / "iommu_group").mkdir()
    (gpu / "iommu_group/type").write_text(f"{domain}\n")
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "sys/bus/pci/devices/0000:13:00.0").symlink_to(gpu)


def write_cpu(root: Path, flags: str = "fpu", governor: str = "performance", preference: str = "") -> None:
    """Write the settings of two cores, with sleep states as Linux names them."""
    for core in range(2):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
        if preference:
            (folder / "energy_performance_preference").write_text(f"{preference}\n")
    for number, (name, latency) in enumerate((("POLL", 0), ("C1", 1), ("C6", 133))):
        folder = root / f"sys/devices/system/cpu/cpu0/cpuidle/state{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "latency").write_text(f"{latency}\n")
        (folder / "disable").write_text("0\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")


def test_clocks_and_sleep_states_are_read(tmp_path: Path) -> None:
    write_cpu(tmp_path, governor="powersave")
    tuning = read_host_tuning(tmp_path)
    assert dict(tuning.governors) == {"powersave": 2}
    assert (tuning.sleep_state, tuning.wake_microseconds, tuning.is_virtual) == ("C6", 133, False)
    (tmp_path / "sys/devices/system/cpu/cpu0/cpuidle/state2/disable").write_text("1\n")
    assert read_host_tuning(tmp_path).wake_microseconds == 1


def test_hardware_that_prefers_performance_is_as_good(tmp_path: Path) -> None:
    write_cpu(tmp_path, governor="powersave", preference="performance")
    assert dict(read_host_tuning(tmp_path).governors) == {"performance": 2}


@pytest.mark.parametrize(
    ("acs", "ports"),
    [(REQUEST_REDIRECT, ("0000:12:04.0",)), (0x1D, ("0000:12:04.0",)), (SOURCE_VALIDATION, ()), (0, ()), (None, ())],
)
def test_ports_of_switches_that_redirect_are_named(tmp_path: Path, acs: int | None, ports: tuple[str, ...]) -> None:
    write_gpu(tmp_path, acs)
    tuning = read_host_tuning(tmp_path)
    assert tuning.redirecting_ports == ports
    assert not tuning.has_unread_ports


def test_ports_that_only_root_may_read_are_unknown(tmp_path: Path) -> None:
    write_gpu(tmp_path, REQUEST_REDIRECT, readable=False)
    tuning = read_host_tuning(tmp_path)
    assert (tuning.redirecting_ports, tuning.has_unread_ports) == ((), True)


def test_the_iommu_s_domain_is_that_of_the_gpu(tmp_path: Path) -> None:
    write_gpu(tmp_path, domain="DMA-FQ")
    assert read_host_tuning(tmp_path).iommu_types == {"DMA-FQ"}


def test_nothing_is_known_of_an_empty_tree(tmp_path: Path) -> None:
    tuning = read_host_tuning(tmp_path)
    assert (dict(tuning.governors), tuning.wake_microseconds, tuning.iommu_types) == ({}, None, frozenset())
    assert (tuning.redirecting_ports, tuning.has_unread_ports, tuning.is_virtual) == ((), False, None)


@pytest.mark.parametrize(
    ("limit", "capabilities", "expected"),
    [
        (8 << 20, "0000000000000000", 8 << 20),
        (8 << 20, "0000000000004000", math.inf),  # CAP_IPC_LOCK
        (resource.RLIM_INFINITY, "0000000000000000", math.inf),
    ],
)
def test_locked_memory_is_limited_unless_the_process_may_exceed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, capabilities: str, expected: float
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(f"Name:\tbench\nCapEff:\t{capabilities}\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert memlock_bytes(tmp_path) == expected


@settings(derandomize=True, max_examples=60)
@given(st.binary(max_size=600))
def test_no_configuration_space_is_too_strange(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("pci") / "config"
    path.write_bytes(content)
    known = _read(path) is not None
    assert (is_switch_port(path) in (True, False), acs_redirects(path) in (True, False)) == (known, known)
