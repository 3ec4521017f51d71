"""A snapshot of this machine for `bench doctor`, so that each check is a pure function.

Gathering is the only part that asks the machine. How gloo finds its address follows torch's
torch/csrc/distributed/c10d/ProcessGroupGloo.cpp: the interfaces that GLOO_SOCKET_IFNAME names, else the
first address of the host's own name that can be bound, else the loopback address.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bench.measure.doctor.launcher_check import Joining, look
from bench.measure.launchers.place import LauncherRank
from bench.measure.launchers.threads import threads_per_rank
from bench.measure.system import cgroup, devices, host
from bench.measure.system.backends import DEFAULT_FOR_DEVICE
from bench.measure.system.host_tuning import HostTuning, read_host_tuning
from bench.measure.system.kernel_log import KernelLog, read_driver_errors
from bench.measure.system.nvml import GpuFacts, gather_gpus
from bench.measure.system.pcie import gpus_without_driver
from bench.measure.system.rdma_ports import RdmaPort, read_rdma_ports
from bench.records.lines.parts import Finding


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One host at one moment; None is unknown."""

    device_type: str
    num_ranks: int
    """Ranks of this host."""
    backend: str
    torch_version: str
    torch_gpus: tuple[str, ...] = ()
    """Names of the GPUs that torch sees, in its order."""
    present_gpus: int = 0
    """GPUs that the kernel's drivers show."""
    without_driver: tuple[str, ...] = ()
    """PCI addresses of GPUs that their driver left alone."""
    unusable: str | None = None
    """Complaint about accelerators that torch cannot use; None: there are none."""
    gpus: tuple[GpuFacts, ...] = ()
    """NVML's facts of the GPUs that torch sees, or of all if it is not known which these are."""
    no_gpu_facts: str | None = None
    """Reason for which NVML gave no facts."""
    kernel_log: KernelLog = field(default_factory=KernelLog)
    """Errors of NVIDIA's drivers."""
    rdma_ports: tuple[RdmaPort, ...] = ()
    tuning: HostTuning = field(default_factory=HostTuning)
    own_process_id: int | None = None
    usable_cores: int = 1
    affinity_cores: int | None = None
    logical_cores: int | None = None
    cores_by_node: Mapping[int, int] = field(default_factory=dict)
    """NUMA node with cores -> how many of them this process may use."""
    gpu_nodes: Mapping[int, int | None] = field(default_factory=dict)
    """GPU, by torch's number, that ranks of this process use -> NUMA node; None if the board does not say."""
    quota_cores: float | None = None
    load: float | None = None
    """Load average over one minute."""
    omp_num_threads: str | None = None
    memory_available_bytes: int | None = None
    shm_bytes: int | None = None
    num_hosts: int = 1
    """Hosts of the job that this process belongs to."""
    gloo_interfaces: tuple[str, ...] = ()
    """Interfaces named in GLOO_SOCKET_IFNAME."""
    interfaces: tuple[str, ...] = ()
    """Network interfaces of this host."""
    hostname: str = ""
    host_address: str | None = None
    """First address of the host's name that can be bound here; None: it has none."""
    nccl_interfaces: str = ""
    """NCCL_SOCKET_IFNAME as it is set."""
    joining: Joining = field(default_factory=Joining)
    """The launcher that started this process, and the place where its ranks would meet."""


def gather(preset: str = "standard", root: Path = host.ROOT, environ: Mapping[str, str] = os.environ) -> Facts:
    """Ask the machine. Imports torch, and asks NVML first, so that this process is not yet on a GPU."""
    gpus, no_gpu_facts = gather_gpus()
    names, uuids, trouble = torch_gpus()
    import torch

    device_type = "cuda" if names else "cpu"
    cores = host.usable_cores(root)
    affinity, load = host.cpu_affinity(), host.load_averages(root)
    joining = look(environ)
    return Facts(
        device_type=device_type,
        num_ranks=local_ranks(joining.rank) or devices.default_ranks(device_type, preset, len(names), cores),
        backend=DEFAULT_FOR_DEVICE[device_type],
        torch_version=str(torch.__version__),
        torch_gpus=names,
        present_gpus=host.present_gpus(root),
        without_driver=gpus_without_driver(root),
        unusable=trouble or host.unusable_accelerators(len(names), root),
        gpus=visible_gpus(gpus, uuids),
        no_gpu_facts=no_gpu_facts,
        kernel_log=read_driver_errors(root),
        rdma_ports=read_rdma_ports(root),
        tuning=read_host_tuning(root),
        own_process_id=os.getpid(),
        usable_cores=cores,
        affinity_cores=None if affinity is None else len(affinity),
        logical_cores=host.count_cores(root)[0],
        cores_by_node={node: len(own.intersection(affinity or own)) for node, own in host.numa_cores(root).items()},
        gpu_nodes=gpu_numa_nodes(len(names), joining.rank, root),
        quota_cores=cgroup.quota_cores(root),
        load=load[0] if load else None,
        omp_num_threads=None if ignores_omp(environ, joining.rank) else environ.get("OMP_NUM_THREADS"),
        memory_available_bytes=host.available_host_memory_bytes(root),
        shm_bytes=host.filesystem_bytes(root / "dev/shm")[0],
        num_hosts=num_hosts(environ, joining.rank),
        gloo_interfaces=tuple(filter(None, environ.get("GLOO_SOCKET_IFNAME", "").split(","))),
        interfaces=host.network_interfaces(root),
        hostname=socket.gethostname(),
        host_address=usable_address(socket.gethostname()),
        nccl_interfaces=environ.get("NCCL_SOCKET_IFNAME", ""),
        joining=joining,
    )


def local_ranks(rank: LauncherRank | None) -> int | None:
    """Ranks on this host of the job to join; None: there is none, or its launcher does not say."""
    return None if rank is None else rank.local_world_size


def torch_gpus() -> tuple[tuple[str, ...], list[Any], str | None]:
    """(names, UUIDs) of the GPUs that torch sees, and what to say if it sees some and cannot use them."""
    import torch

    try:
        properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    except RuntimeError as error:  # a driver that is too old, a device that fell off the bus
        first = (str(error).splitlines() or ["no reason given"])[0]
        return (), [], f"CUDA does not start: {first}; look at nvidia-smi and dmesg, or ask for --device cpu"
    return tuple(facts.name for facts in properties), [getattr(facts, "uuid", None) for facts in properties], None


def gpu_numa_nodes(num_gpus: int, rank: LauncherRank | None, root: Path = host.ROOT) -> dict[int, int | None]:
    """NUMA nodes of the GPUs that torch sees; if a launcher has given this process one of them, of that one."""
    import torch

    local = None if rank is None else rank.local_index
    # A process that sees one GPU has that one, whatever its number on the host is.
    indices = [local] if local is not None and num_gpus > 1 and local < num_gpus else range(num_gpus)
    addresses = {index: devices.gpu_addresses(torch.device("cuda", index))[1] for index in indices}
    return {index: None if pci is None else host.pci_numa_node(pci, root) for index, pci in addresses.items()}


def visible_gpus(gpus: tuple[GpuFacts, ...], uuids: list[Any]) -> tuple[GpuFacts, ...]:
    """NVML's facts of the GPUs with these UUIDs, which torch gives without the `GPU-` before them."""
    wanted = {str(uuid).removeprefix("GPU-") for uuid in uuids if uuid is not None}
    visible = tuple(gpu for gpu in gpus if str(gpu.uuid).removeprefix("GPU-") in wanted)
    return visible or gpus


def num_hosts(environ: Mapping[str, str], rank: LauncherRank | None = None) -> int:
    """Hosts of the job: torchrun's agents, the nodes of a Slurm job, or those that the ranks need; 1: unknown."""
    count = environ.get("GROUP_WORLD_SIZE") or environ.get("SLURM_NNODES") or ""
    if count.isdigit():
        return max(1, int(count))
    local = local_ranks(rank)
    return 1 if rank is None or not local else -(-rank.world_size // local)


def ignores_omp(environ: Mapping[str, str], rank: LauncherRank | None) -> bool:
    """Return True if OMP_NUM_THREADS is torchrun's own, which a run does not take."""
    set_threads = threads_per_rank(environ, rank, num_cores=64, local_ranks=1)
    return environ.get("OMP_NUM_THREADS") == "1" and set_threads != 1


def usable_address(
    name: str,
    resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    bind: Callable[[Any], bool] | None = None,
) -> str | None:
    """The first address of a host name that this machine can bind, as gloo looks for one; None: it has none."""
    try:
        addresses = resolve(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return None
    bind = bind or _can_bind
    return next((str(entry[4][0]) for entry in addresses if bind(entry)), None)


def _can_bind(entry: Any) -> bool:
    family, kind, protocol, _, address = entry
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return True if only this host can reach an address."""
    return ip_address(address.partition("%")[0]).is_loopback


Check = Callable[[Facts], Iterable[Finding]]
"""One rule of the doctor."""
