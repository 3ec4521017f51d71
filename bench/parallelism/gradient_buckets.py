"""Messages of data parallelism: DDP's buckets and FSDP's groups of layers.

Pure arithmetic; importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wrapping:
    """The choices of a case; those of the other operation have no meaning."""

    op: str
    bucket_mb: int = 25
    """ddp: a bucket is full from this many MiB on."""
    layers_per_group: int = 1
    """fsdp: layers that gather their weights together; 0: the whole model at once."""
    reshard_after_forward: bool = True
    """fsdp: weights are given up after the forward, and gathered again for the backward."""


def buckets(sizes: Sequence[int], cap: int) -> list[int]:
    """Bytes of the buckets that gradients of `sizes` bytes fill, in the order in which they come: a bucket is sent when
    it has `cap` bytes or more (torch's DDP does so where `bucket_cap_mb` is given, its reducer.cpp)."""
    full, filled = [], 0
    for size in sizes:
        filled += size
        if filled >= cap:
            full.append(filled)
            filled = 0
    return [*full, filled] if filled else full


def groups(num_layers: int, layers_per_group: int) -> list[range]:
    """Layers that are wrapped together; none if the whole model is one group."""
    if not layers_per_group:
        return []
    starts = range(0, num_layers, layers_per_group)
    return [range(start, min(start + layers_per_group, num_layers)) for start in starts]
