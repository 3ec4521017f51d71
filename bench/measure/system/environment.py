"""The environment of a result: devices, hosts, versions, settings and variables that change speed.

Variables are those of an allow list (`bench.records.privacy.variables`), never the whole environ. An unknown value is
None. Functions that read the system's files take the root of the file system, so that another
tree can be read.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

import bench
from bench.core.process_environment import own_names
from bench.measure.system import devices
from bench.measure.system.cgroup import read_text
from bench.measure.system.host import (
    ROOT,
    cpu_affinity,
    cpu_model,
    describe_host,
    gpu_driver,
    memory_info,
    pci_numa_node,
    present_gpus,
)
from bench.measure.system.slow_types import slow_types
from bench.records.environments import architecture
from bench.records.lines.header import Environment, HostFacts, RankFacts
from bench.records.lines.parts import Cell
from bench.records.privacy.variables import kept_value, kept_variables

if TYPE_CHECKING:
    import torch

    from bench.measure.launchers.place import Place


DISTRIBUTION = "distributed-training-bench"

GIT_TIMEOUT_SECONDS = 10.0


def describe_rank(device: torch.device, place: Place, root: Path = ROOT) -> RankFacts:
    """One rank and its device; runs on every rank."""
    import torch

    on_cpu = device.type == "cpu"
    visible, present = torch.cuda.device_count(), present_gpus(root)
    threads = os.environ.get("OMP_NUM_THREADS")
    return msgspec.structs.replace(
        _cpu_facts(root) if on_cpu else _gpu_facts(device, root),
        rank=place.index,
        host=socket.gethostname(),
        host_index=place.host_index,
        local_index=place.local_index,
        device_type=device.type,
        visible_devices=visible,
        # Drivers under WSL and some containers show nothing: then it is not known.
        present_devices=present if present >= visible else None,
        num_threads=torch.get_num_threads(),
        num_interop_threads=torch.get_num_interop_threads(),
        omp_num_threads=kept_value("OMP_NUM_THREADS", threads) if threads is not None else None,
        cpu_affinity=cpu_affinity(),
    )


def _cpu_facts(root: Path) -> RankFacts:
    return RankFacts(device_name=cpu_model(root), memory_bytes=memory_info(root).get("MemTotal"))


def _gpu_facts(device: torch.device, root: Path) -> RankFacts:
    import torch

    facts = torch.cuda.get_device_properties(device)
    uuid, pci = devices.gpu_addresses(device)
    return RankFacts(
        device_name=facts.name,
        memory_bytes=facts.total_memory,
        driver=gpu_driver(root),
        uuid=uuid,
        pci_bus_id=pci,
        numa_node=None if pci is None else pci_numa_node(pci, root),
        mig=" MIG " in facts.name or str(uuid).startswith("MIG-"),
    )


def versions() -> dict[str, str | None]:
    """Versions of the product and of what it depends on; None for what is not there. (gloo has no version.)"""
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
        "numpy": _installed_version("numpy"),
    }


def _installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def named_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that change speed, with the values that a file keeps; none that `bench` set itself."""
    return kept_variables(environ, own_names(environ).__contains__)


def settings(torch: ModuleType, device_type: str = "cpu") -> dict[str, Cell | list[str]]:
    """The switches of torch that change speed, as they stand; None for one that this torch does not have.

    `fp32_precision` is `ieee`, `tf32`, or `none` for torch's default (ieee in matmul, tf32 in cuDNN). `slow_types` are
    those of `bench.measure.system.slow_types` on devices of that type; it is there only if any is.
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
    """The product's git commit, with `-dirty` if tracked files were changed; None outside its checkout.

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


def describe_alone(device_type: str) -> Environment:
    """A header's environment before the ranks met: this host, versions, variables, settings and commit."""
    import torch

    return Environment(
        hosts={socket.gethostname(): describe_host()},
        versions=dict(versions()),
        variables=dict(named_variables(os.environ)),
        settings=settings(torch, device_type),
        commit=commit(),
    )


def collect(ranks: list[RankFacts], hosts: dict[str, HostFacts]) -> Environment:
    """A header's environment, from every rank's `describe_rank` and every host's `describe_host` by name.

    Versions, variables, settings and commit are those of the process that calls it, rank 0.
    """
    import torch

    return Environment(
        architecture=architecture(ranks, hosts),
        hosts=hosts,
        ranks=ranks,
        versions=dict(versions()),
        variables=dict(named_variables(os.environ)),
        settings=settings(torch, ranks[0].device_type or "cpu" if ranks else "cpu"),
        commit=commit(),
    )
