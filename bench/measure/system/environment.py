"""What machine a result was measured on: devices, hosts, versions, settings and variables that change speed.

Nothing private is recorded: variables are a named list of prefixes, never the whole environ. An unknown
value is None. Functions that read the system's files take the root of the file system, so that another
tree can be read.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bench
from bench.measure.system.cgroup import read_text
from bench.measure.system.host import (
    ROOT,
    available_host_memory_bytes,
    cpu_affinity,
    cpu_model,
    describe_host,
    gpu_driver,
    memory_info,
    pci_numa_node,
    present_gpus,
    unusable_accelerators,
    usable_cores,
)
from bench.measure.system.slow_types import slow_types
from bench.records.environments import architecture, differences

if TYPE_CHECKING:
    import torch

    from bench.measure.planning.place import Place

__all__ = [
    "architecture",
    "available_memory_bytes",
    "collect",
    "commit",
    "default_ranks",
    "describe_host",
    "describe_rank",
    "differences",
    "named_variables",
    "planned_memory_bytes",
    "present_gpus",
    "settings",
    "unusable_accelerators",
    "usable_cores",
    "versions",
]

DISTRIBUTION = "distributed-training-bench"

# Variables of the libraries underneath that change speed, or which devices are used.
VARIABLE_PREFIXES = (
    "AMD_",
    "ATEN_",
    "BLIS_",
    "CUBLAS_",
    "CUBLASLT_",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "FI_",
    "GLIBC_TUNABLES",
    "GLOO_",
    "GOMP_",
    "GPU_",
    "HIP_",
    "HIPBLASLT_",
    "HSA_",
    "KMP_",
    "LD_PRELOAD",
    "MALLOC_",
    "MIOPEN_",
    "MKL_",
    "NCCL_",
    "NVIDIA_TF32_OVERRIDE",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "RCCL_",
    "ROCBLAS_",
    "ROCR_",
    "TORCHINDUCTOR_",
    "TORCH_",
    "UCX_",
)
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH", re.I)

GIT_TIMEOUT_SECONDS = 10.0

CPU_RANKS_OF_SMOKE = 2
CPU_RANKS = (2, 8)
"""Fewest and most ranks that a run on CPU starts unasked."""


def describe_rank(device: torch.device, place: Place, root: Path = ROOT) -> dict[str, Any]:
    """One rank and its device, as plain JSON values; runs on every rank."""
    import torch

    on_cpu = device.type == "cpu"
    visible, present = torch.cuda.device_count(), present_gpus(root)
    return {
        "rank": place.index,
        "host": socket.gethostname(),
        "host_index": place.host_index,
        "local_index": place.local_index,
        "device_type": device.type,
        **(_cpu_device(root) if on_cpu else _gpu_device(device, root)),
        "visible_devices": visible,
        # Drivers under WSL and some containers show nothing: then it is not known.
        "present_devices": present if present >= visible else None,
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cpu_affinity": cpu_affinity(),
    }


def _cpu_device(root: Path) -> dict[str, Any]:
    return {
        "device_name": cpu_model(root),
        "memory_bytes": memory_info(root).get("MemTotal"),
        "driver": None,
        "uuid": None,
        "pci_bus_id": None,
        "numa_node": None,
        "mig": None,
    }


def _gpu_device(device: torch.device, root: Path) -> dict[str, Any]:
    import torch

    facts = torch.cuda.get_device_properties(device)
    uuid, pci = gpu_addresses(device)
    return {
        "device_name": facts.name,
        "memory_bytes": facts.total_memory,
        "driver": gpu_driver(root),
        "uuid": uuid,
        "pci_bus_id": pci,
        "numa_node": None if pci is None else pci_numa_node(pci, root),
        "mig": " MIG " in facts.name or str(uuid).startswith("MIG-"),
    }


def gpu_addresses(device: torch.device) -> tuple[str | None, str | None]:
    """(UUID, PCI address) of torch's device; None where its build of torch does not tell, and on a CPU."""
    if device.type == "cpu":
        return None, None
    import torch

    # Not every build of torch has these: ROCm builds and older ones lack some.
    facts = torch.cuda.get_device_properties(device)
    uuid = getattr(facts, "uuid", None)
    domain, bus, slot = (getattr(facts, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    pci = None
    if domain is not None and bus is not None and slot is not None:
        pci = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return None if uuid is None else str(uuid), pci


def versions() -> dict[str, str | None]:
    """Versions of the product and of what it stands on; None for what is not there. (gloo has no version.)"""
    import torch

    # Both modules are untyped.
    nccl: Any = torch.cuda.nccl
    cudnn: Any = torch.backends.cudnn
    has_nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    return {
        "bench": bench.__version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "rccl" if torch.version.hip else "nccl": ".".join(map(str, nccl.version())) if has_nccl else None,
        "cudnn": str(cudnn.version()) if cudnn.is_available() else None,
        "numpy": _installed("numpy"),
    }


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def named_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that change speed, by prefix; never one whose name speaks of a secret."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if name.startswith(VARIABLE_PREFIXES) and not SECRET.search(name)
    }


def settings(torch: ModuleType, device_type: str = "cpu") -> dict[str, Any]:
    """The switches of torch that change speed, as they stand; None for one that this torch does not have.

    `fp32_precision` is `ieee`, `tf32`, or `none` for torch's default (ieee in matmul, tf32 in cuDNN). `slow_types` are
    those of `bench.measure.system.slow_types` on devices of that type; it is there only where any is.
    """
    backends = torch.backends
    slow = sorted(slow_types(device_type))
    return {
        "matmul_fp32_precision": getattr(backends.cuda.matmul, "fp32_precision", None),
        "cudnn_conv_fp32_precision": getattr(getattr(backends.cudnn, "conv", None), "fp32_precision", None),
        "bf16_reduced_precision_reduction": backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "fp16_reduced_precision_reduction": backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": backends.cudnn.benchmark,
        "cudnn_deterministic": backends.cudnn.deterministic,
        "mkldnn": backends.mkldnn.enabled,
        "cpu_capability": backends.cpu.get_cpu_capability(),
        **({"slow_types": slow} if slow else {}),
    }


def commit(folder: Path | None = None) -> str | None:
    """The product's git commit, with `-dirty` where tracked files were changed; None outside its checkout.

    `folder` is the one that should be the checkout, by default the one that holds the package.
    """
    folder = Path(bench.__file__).resolve().parent.parent if folder is None else folder.resolve()
    # An installed package may lie in a checkout of something else, such as a virtual environment inside a
    # project.
    if f'name = "{DISTRIBUTION}"' not in (read_text(folder / "pyproject.toml") or ""):
        return None
    if _git(folder, "rev-parse", "--show-toplevel") != str(folder):
        return None
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return head and head + ("-dirty" if changed else "")


def _git(folder: Path, *words: str) -> str | None:
    # Variables such as GIT_DIR, set in a hook, would lead git to another repository.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "--no-optional-locks", *words]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=GIT_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def collect(ranks: list[dict[str, Any]], hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A header's environment, from every rank's `describe_rank` and every host's `describe_host` by name.

    Versions, variables, settings and commit are those of the process that calls it, rank 0.
    """
    import torch

    return {
        "architecture": architecture(ranks, hosts),
        "hosts": hosts,
        "ranks": ranks,
        "versions": versions(),
        "variables": named_variables(os.environ),
        "settings": settings(torch, ranks[0]["device_type"] if ranks else "cpu"),
        "commit": commit(),
    }


def available_memory_bytes(device: torch.device, local_world_size: int, root: Path = ROOT) -> int:
    """Memory that one rank may take now: the device's free memory, or its share of what the host has left."""
    if device.type != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return available_host_memory_bytes(root) // max(1, local_world_size)


def release_cached_memory(device: torch.device) -> None:
    """Give back what torch's allocator keeps of a GPU's memory for itself: the driver counts it as taken.

    Tensors in reference cycles wait for the collector, which counts objects and not bytes.
    """
    if device.type == "cpu":
        return
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def planned_memory_bytes(device_type: str, local_world_size: int, root: Path = ROOT) -> int:
    """Memory that a rank of this host can have at most, for a plan: the smallest total of the GPUs that its ranks take,
    or a rank's share of what the host has left.

    Opens no CUDA context, unlike the free memory of `available_memory_bytes`: the process that only supervises must
    take nothing of GPU 0, which in compute mode EXCLUSIVE_PROCESS would be lost to its rank. Properties are read
    without one (torch's aten/src/ATen/cuda/CUDAContext.cpp; CUDA's cudaMemGetInfo is of a context, its
    cudaGetDeviceProperties of a device).
    """
    if device_type == "cpu":
        return available_host_memory_bytes(root) // max(1, local_world_size)
    import torch

    used = range(max(1, min(torch.cuda.device_count(), local_world_size)))
    return min(int(torch.cuda.get_device_properties(index).total_memory) for index in used)


def default_ranks(device_type: str, preset: str, num_gpus: int, num_cores: int) -> int:
    """Ranks that a run starts unasked: one a GPU; on CPU 2 for smoke, else one a usable core, from 2 to 8."""
    if device_type != "cpu":
        return num_gpus
    fewest, most = CPU_RANKS
    return CPU_RANKS_OF_SMOKE if preset == "smoke" else min(most, max(fewest, num_cores))
