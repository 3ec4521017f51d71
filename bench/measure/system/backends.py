"""Table of communication backends: which device they serve, and what runs on it.

A new backend is one new row. Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True)
class Backend:
    """One row: a `torch.distributed` backend with the device type whose tensors it moves."""

    name: str
    device_type: str
    dtypes: tuple[str, ...]
    """Floating types worth measuring there, the first of which is the default."""
    unsupported_ops: frozenset[str]
    """Collectives that this backend does not offer."""
    has_graphs: bool
    frees_peers: bool
    """True: a rank that leaves its groups sets free the ranks that wait for it there. gloo closes its connections; a
    kernel of NCCL spins until its process ends."""


# float16 matrix multiplication has no fast kernel on most CPUs (measured on a Sapphire Rapids Xeon with torch 2.13:
# 0.7 GFLOP/s against 125 in float32), so it is not among the CPU's types.
BACKENDS: dict[str, Backend] = {
    "gloo": Backend("gloo", "cpu", ("float32", "bfloat16"), frozenset(), has_graphs=False, frees_peers=True),
    # On ROCm builds of torch the same name selects RCCL, and `cuda` is the device type of AMD GPUs.
    "nccl": Backend(
        "nccl", "cuda", ("bfloat16", "float16", "float32"), frozenset(), has_graphs=True, frees_peers=False
    ),
}

DEFAULT_FOR_DEVICE = {"cpu": "gloo", "cuda": "nccl"}


def resolve(device_type: str, backend: str | None) -> Backend:
    """The row to use for a device type; a named backend that cannot serve it raises BenchError, never falls back."""
    name = backend or DEFAULT_FOR_DEVICE[device_type]
    if name not in BACKENDS:
        raise BenchError(f"no backend named {name!r}; there are: {', '.join(BACKENDS)}")
    row = BACKENDS[name]
    if row.device_type != device_type:
        raise BenchError(
            f"backend {name} moves {row.device_type} tensors, but the device is {device_type}; "
            f"use --backend {DEFAULT_FOR_DEVICE[device_type]}, or --device {row.device_type} if there is one"
        )
    return row
