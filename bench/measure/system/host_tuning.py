"""Settings of a host that make figures lower or less steady: clocks, sleep states, IOMMU, ACS, locked memory.

Files as the kernel documents them: admin-guide/pm/cpufreq.rst and cpuidle.rst, ABI/testing/sysfs-kernel-iommu_groups.
Every function takes the root of the file system.
"""

from __future__ import annotations

import math
import re
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.system.cgroup import read_int, read_text
from bench.measure.system.host import virtualised
from bench.measure.system.pcie import acs_redirects, is_gpu, is_switch_port

CAP_IPC_LOCK = 14  # linux/capability.h
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, kw_only=True)
class HostTuning:
    """Settings of one host; None and empty are unknown."""

    is_virtual: bool | None = None
    governors: Mapping[str, int] = field(default_factory=dict)
    """Clock policy -> cores that have it; `performance` too if the hardware prefers performance."""
    sleep_state: str = ""
    """Name of the deepest sleep state that is allowed."""
    wake_microseconds: int | None = None
    """Time to leave that state."""
    iommu_types: frozenset[str] = frozenset()
    """Domains of the GPUs: `identity` leaves their addresses as they are, `DMA` and `DMA-FQ` translate them."""
    redirecting_ports: tuple[str, ...] = ()
    """Ports of PCIe switches above GPUs and RDMA devices that send peer traffic up to the root."""
    has_unread_ports: bool = False
    """True: such ports exist whose settings only root may read."""
    memlock_bytes: float = math.inf
    """Memory that this process may lock."""


def read_host_tuning(root: Path = Path("/")) -> HostTuning:
    """Read all settings; each that the host does not show is left out."""
    sleep_state, wake = _deepest_sleep(root / "sys/devices/system/cpu/cpu0/cpuidle")
    devices = list(_peers(root))
    ports = {port for device in devices for port in _ports_above(device)}
    kinds = {port: is_switch_port(port / "config") for port in ports}
    redirecting = (port.name for port, kind in kinds.items() if kind and acs_redirects(port / "config"))
    types = (read_text(device / "iommu_group/type") for device in devices if is_gpu(device))
    return HostTuning(
        is_virtual=virtualised(root),
        governors=Counter(_governors(root / "sys/devices/system/cpu")),
        sleep_state=sleep_state,
        wake_microseconds=wake,
        iommu_types=frozenset(filter(None, types)),
        redirecting_ports=tuple(sorted(redirecting)),
        has_unread_ports=None in kinds.values(),
        memlock_bytes=memlock_bytes(root),
    )


def _governors(cores: Path) -> Iterator[str]:
    for folder in cores.glob("cpu[0-9]*/cpufreq"):
        governor = read_text(folder / "scaling_governor")
        if governor is not None:
            prefers = read_text(folder / "energy_performance_preference") == "performance"
            yield "performance" if prefers else governor


def _deepest_sleep(folder: Path) -> tuple[str, int | None]:
    """(name, microseconds to wake) of the state that takes longest to leave, of those that are allowed."""
    allowed = [
        (read_int(state / "latency") or 0, read_text(state / "name") or state.name)
        for state in sorted(folder.glob("state[0-9]*"))
        if read_int(state / "disable") in (0, None)
    ]
    wake, name = max(allowed, default=(None, ""))
    return name, wake


def _peers(root: Path) -> Iterator[Path]:
    """Folders of the GPUs and the RDMA devices, by their place in the tree of PCI devices."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if is_gpu(device) or (device / "infiniband").is_dir():
            yield device.resolve()


def _ports_above(device: Path) -> list[Path]:
    return [parent for parent in device.parents if _PCI_ADDRESS.fullmatch(parent.name)]


def memlock_bytes(root: Path = Path("/")) -> float:
    """Limit of locked memory of this process; infinite if it has none, or may exceed it."""
    status = read_text(root / "proc/self/status") or ""
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    may_exceed = capabilities is not None and int(capabilities[1], 16) >> CAP_IPC_LOCK & 1
    return math.inf if limit == resource.RLIM_INFINITY or may_exceed else float(limit)
