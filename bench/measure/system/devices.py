"""The devices that a run takes: their type, the number of ranks to start, and the memory of a rank."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.measure.system import host
from bench.measure.system.host import ROOT, available_host_memory_bytes

if TYPE_CHECKING:
    import torch

CPU_RANKS_OF_SMOKE = 2
CPU_RANKS = (2, 8)
"""Fewest and most ranks that a run on CPU starts unasked."""


def gpu_addresses(device: torch.device) -> tuple[str | None, str | None]:
    """(UUID, PCI address) of torch's device; None if its build of torch does not tell, and on a CPU."""
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
    """Ranks that a run starts unasked: one per GPU; on CPU 2 for smoke, else one per usable core, from 2 to 8."""
    if device_type != "cpu":
        return num_gpus
    fewest, most = CPU_RANKS
    return CPU_RANKS_OF_SMOKE if preset == "smoke" else min(most, max(fewest, num_cores))


def choose_device(wanted: str) -> tuple[str, int]:
    """The device type and the number of visible GPUs. Raises BenchError for what is not there, or would be hidden."""
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu":
        return "cpu", num_gpus
    unusable = host.unusable_accelerators(num_gpus)
    if unusable:
        raise BenchError(unusable)
    if wanted == "cuda" and not num_gpus:
        raise BenchError(
            "--device cuda: torch sees no GPU here; `bench doctor` says why, --device cpu measures the CPU"
        )
    return ("cuda", num_gpus) if num_gpus else ("cpu", 0)
