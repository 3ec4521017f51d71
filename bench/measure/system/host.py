"""Facts of one host: processor, cores, memory, operating system, load, and the GPUs that its kernel shows.

Read from the files that Linux keeps; on another system most of it is unknown, and unknown is None. Every
function takes the root of the file system, so that another tree can be read.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import socket
import struct
from pathlib import Path

from bench.measure.system import cgroup
from bench.measure.system.cgroup import read_int, read_text
from bench.records.lines.header import HostFacts

ROOT = Path("/")
_SIOCGIFFLAGS, _IFF_UP, _IFF_LOOPBACK = 0x8913, 0x1, 0x8  # netdevice(7), linux/if.h

# Arm processors give numbers instead of a model name: (implementer, part) -> core, from util-linux's
# sys-utils/lscpu-arm.c. NVIDIA Grace has Neoverse V2 cores.
ARM_CORES = {
    ("0x41", "0xd0c"): "Arm Neoverse N1",
    ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd49"): "Arm Neoverse N2",
    ("0x41", "0xd4f"): "Arm Neoverse V2",
}


# Vendor, what its torch is built for, the variable that hides its GPUs, and where the kernel shows them.
_NVIDIA_WORDS = ("NVIDIA", "CUDA", "CUDA_VISIBLE_DEVICES", "/proc/driver/nvidia/gpus")
_AMD_WORDS = ("AMD", "ROCm", "HIP_VISIBLE_DEVICES", "/dev/kfd")


def describe_host(root: Path = ROOT) -> HostFacts:
    """This host as it is now."""
    logical, physical, sockets = count_cores(root)
    memory = memory_info(root)
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    shm_total, shm_free = filesystem_bytes(root / "dev/shm")
    return HostFacts(
        hostname=socket.gethostname(),
        cpu_model=cpu_model(root),
        cpu_architecture=platform.machine(),
        logical_cores=logical,
        physical_cores=physical,
        sockets=sockets,
        numa_nodes=len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        usable_cores=usable_cores(root),
        cpu_quota_cores=cgroup.quota_cores(root),
        cpu_governor=read_text(frequency / "scaling_governor"),
        cpu_max_frequency_hz=_scale(read_int(frequency / "scaling_max_freq"), 1000),
        cpu_frequency_hz=_current_frequency_hz(root),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        memory_limit_bytes=cgroup.memory_limit_bytes(root),
        shm_bytes=shm_total,
        shm_free_bytes=shm_free,
        os=os_name(root),
        kernel=platform.release(),
        virtualised=virtualised(root),
        load_averages=load_averages(root),
        present_gpus=present_gpus(root),
        gpu_driver=gpu_driver(root),
    )


def cpu_model(root: Path = ROOT) -> str | None:
    """The processor's name as the kernel gives it; on Arm the name of its cores."""
    info = _cpuinfo(root)
    named = info.get("model name") or ARM_CORES.get((info.get("CPU implementer", ""), info.get("CPU part", "")))
    return named or platform.processor() or platform.machine() or None


def count_cores(root: Path = ROOT) -> tuple[int | None, int | None, int | None]:
    """(logical cores, physical cores, sockets) that are on line; None if the kernel does not say."""
    topologies = list((root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology"))
    places = {(read_text(each / "physical_package_id"), read_text(each / "core_id")) for each in topologies}
    if not topologies or any(None in place for place in places):
        return os.cpu_count() if root == ROOT else None, None, None
    return len(topologies), len(places), len({package for package, _ in places})


def cpu_affinity() -> list[int] | None:
    """Cores that this process is bound to, or None if the system cannot say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def usable_cores(root: Path = ROOT) -> int:
    """Whole cores that this process can keep busy: within its affinity and its CPU quota, at least one."""
    cores = len(cpu_affinity() or range(os.cpu_count() or 1))
    quota = cgroup.quota_cores(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def memory_info(root: Path = ROOT) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = (read_text(root / "proc/meminfo") or "").splitlines()
    matches = (re.fullmatch(r"(\S+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: int(match[2]) * 1024 for match in matches if match}


def available_host_memory_bytes(root: Path = ROOT) -> int:
    """Memory that new work can take on this host: what the kernel has available, within the memory limit."""
    available = memory_info(root).get("MemAvailable")
    if available is None:
        import psutil

        available = int(psutil.virtual_memory().available)
    room = cgroup.memory_room_bytes(root)
    return available if room is None else min(available, room)


def filesystem_bytes(path: Path) -> tuple[int | None, int | None]:
    """(size, free) of the file system that holds a folder; None if there is no such folder."""
    try:
        facts = os.statvfs(path)
    except OSError:
        return None, None
    return facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize


def load_averages(root: Path = ROOT) -> list[float] | None:
    """Load over 1, 5 and 15 minutes."""
    parts = (read_text(root / "proc/loadavg") or "").split()
    return [float(part) for part in parts[:3]] if len(parts) >= 3 else None


def os_name(root: Path = ROOT) -> str | None:
    """The distribution's name, such as `Ubuntu 24.04.1 LTS`."""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', read_text(root / "etc/os-release") or "", re.M)
    return match[1] if match else platform.system() or None


def virtualised(root: Path = ROOT) -> bool | None:
    """Return True on a virtual machine, by a flag of x86 processors; None on others, which have none."""
    flags = _cpuinfo(root).get("flags")
    return None if flags is None else "hypervisor" in flags.split()


def present_gpus(root: Path = ROOT) -> int:
    """GPUs that the kernel's drivers show, visible to torch or not: NVIDIA's, and KFD nodes with SIMDs."""
    nvidia = _list_folder(root / "proc/driver/nvidia/gpus")
    nodes = [read_text(node / "properties") for node in _list_folder(root / "sys/class/kfd/kfd/topology/nodes")]
    return len(nvidia) + sum(bool(re.search(r"^simd_count [1-9]", node or "", re.M)) for node in nodes)


def unusable_accelerators(torch_cuda_count: int, root: Path = ROOT) -> str | None:
    """One line on accelerators that this machine has and torch does not see, with what to do; else None."""
    if torch_cuda_count:
        return None
    present = present_gpus(root)
    nvidia = bool(_list_folder(root / "proc/driver/nvidia/gpus"))
    # Where KFD's list of nodes can be read it is the truth: a machine may have the device file and no GPU.
    amd = not nvidia and (root / "dev/kfd").exists()
    if not nvidia and not (amd and (present or not _list_folder(root / "sys/class/kfd/kfd/topology/nodes"))):
        return None
    vendor, build, hidden, where = _NVIDIA_WORDS if nvidia else _AMD_WORDS
    number = f"{present or 'at least 1'} {vendor} GPU{'s' * (present > 1)}"
    return (
        f"this machine has {number} ({where}), but torch sees none; install a torch built for {build} "
        f"(pytorch.org/get-started), look at {hidden} and the driver, or ask for --device cpu"
    )


def gpu_driver(root: Path = ROOT) -> str | None:
    """Version of the loaded kernel driver of the GPUs."""
    return read_text(root / "sys/module/nvidia/version") or read_text(root / "sys/module/amdgpu/version")


def pci_numa_node(pci_bus_id: str, root: Path = ROOT) -> int | None:
    """NUMA node of a PCI device by its address (`0000:3b:00.0`); None if the board does not say."""
    node = read_int(root / "sys/bus/pci/devices" / pci_bus_id.lower() / "numa_node")
    return node if node is not None and node >= 0 else None


def numa_cores(root: Path = ROOT) -> dict[int, frozenset[int]]:
    """NUMA node -> its logical cores (Documentation/ABI/stable/sysfs-devices-node); nodes of memory alone are left
    out."""
    nodes = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        cores = core_list(read_text(folder / "cpulist") or "")
        if cores:
            nodes[int(folder.name.removeprefix("node"))] = cores
    return dict(sorted(nodes.items()))


def core_list(text: str) -> frozenset[int]:
    """The kernel's lists of cores, such as `0-3,8,10-11`; empty if it is none."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            return frozenset()
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def network_interfaces(root: Path = ROOT) -> tuple[str, ...]:
    """Names of this host's network interfaces."""
    return tuple(sorted(path.name for path in _list_folder(root / "sys/class/net")))


def loopback_interface() -> str | None:
    """Name of the network interface that is up and has the loopback flag; None: none is known.

    The kernel is asked, since /sys may be another network namespace's.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("16sH14x", name.encode(), 0)
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
            except OSError:  # gone in the meantime, or not Linux
                continue
            flags = struct.unpack("16sH14x", answer)[1]
            if flags & _IFF_UP and flags & _IFF_LOOPBACK:
                return name
    return None


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    first = (read_text(root / "proc/cpuinfo") or "").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _current_frequency_hz(root: Path) -> int | None:
    try:
        return round(float(_cpuinfo(root).get("cpu MHz", "")) * 1e6)
    except ValueError:
        return None


def _list_folder(path: Path) -> list[Path]:
    """List a folder; empty if it is missing or may not be read."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _scale(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor
