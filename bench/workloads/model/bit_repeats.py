"""Repeats of seeded computations whose bits must not change: a device that corrupts silently is found by its own work.

A product, an attention and a sum of whole numbers over the ranks have the same inputs each time. Their bits are
compared with those of the first time, on the device, and over ranks of like devices and software. A rounding error is
the same each time; a difference of one bit is a fault of the device, its memory or its links. Silent corruption in
fleets: H. D. Dixit et al., "Silent Data Corruptions at Scale" (2021), arXiv:2102.11245.

Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

LEARNING_CALLS = 3
"""First calls, which have to agree: an operation that is not deterministic here is not compared."""
PENDING_REPEATS = 64
"""Repeats whose outcome stays on the device before it is read, since reading waits for the device."""
MAX_KEPT = 20
"""Corrupted repeats that are named."""
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> the type in which its bits are compared."""


class Corruption(NamedTuple):
    """One repeat whose bits were not those of the first time."""

    operation: str
    repeat: int
    """Number of the repeat, from 1."""
    num_elements: int
    """Elements that differ."""


class BitRepeats:
    """Operations of one rank, repeated; every rank repeats them equally often, since one of them is a collective."""

    def __init__(self, operations: Mapping[str, Callable[[], Tensor]]) -> None:
        self._operations = dict(operations)
        self._references: dict[str, Tensor] = {}
        self._pending: list[tuple[str, int, Tensor]] = []
        self.corruptions: list[Corruption] = []
        self.repeats = 0
        self.num_corrupted = 0

    @property
    def operations(self) -> list[str]:
        """Names of all operations, those that are not compared too."""
        return list(self._operations)

    @property
    def compared(self) -> list[str]:
        """Operations that are compared."""
        return list(self._references)

    @property
    def bits_per_repeat(self) -> int:
        """Bits that are compared each time."""
        return sum(8 * bits.numel() * bits.element_size() for bits in self._references.values())

    def learn(self) -> None:
        """Take the bits of the first calls, once; an operation whose first calls differ is left out."""
        if self._references:
            return
        for name, run in self._operations.items():
            first = _bits(run()).clone()
            again = [bool((_bits(run()) != first).any()) for _ in range(LEARNING_CALLS - 1)]
            if not any(again):
                self._references[name] = first

    def repeat(self) -> None:
        """Compute everything once more, and compare it on the device."""
        self.repeats += 1
        for name, reference in self._references.items():
            differing = (_bits(self._operations[name]()) != reference).sum()
            self._pending.append((name, self.repeats, differing))
        if len(self._pending) >= PENDING_REPEATS * max(1, len(self._references)):
            self.read()

    def read(self) -> None:
        """Read what the repeats found."""
        counts = torch.stack([count for _, _, count in self._pending]).tolist() if self._pending else []
        for (name, repeat, _), count in zip(self._pending, counts, strict=True):
            if count:
                self.num_corrupted += 1
                self.corruptions = [*self.corruptions, Corruption(name, repeat, int(count))][:MAX_KEPT]
        self._pending.clear()

    def digests(self) -> list[int]:
        """A number for the bits of each operation, 0 for one that is not compared: alike on ranks of like devices."""
        return [
            _digest(self._references[name].cpu().numpy().tobytes()) if name in self._references else 0
            for name in self._operations
        ]


def seeded_operations(rank: RankContext, size: int, num_bytes: int) -> dict[str, Callable[[], Tensor]]:
    """The product [size, size] @ [size, size], an attention of as many numbers, and a sum of `num_bytes` of int64.

    The inputs are the same on all ranks, except those of the sum; one rank alone has no sum.
    """
    generator = torch.Generator().manual_seed(20_231)
    dtype = torch.float32 if rank.device.type == "cpu" else torch.bfloat16

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(rank.device, dtype)

    a, b = normal(size, size), normal(size, size)
    product = torch.empty_like(a)
    query, key, value = (normal(1, 4, size, 64) for _ in range(3))
    operations: dict[str, Callable[[], Tensor]] = {
        "product": lambda: torch.matmul(a, b, out=product),
        "attention": lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True),
    }
    if rank.world_size == 1:
        return operations
    own = torch.randint(-(2**40), 2**40, (num_bytes // 8,), generator=generator).to(rank.device) + rank.index
    total = torch.empty_like(own)

    def sum_of_ranks() -> Tensor:
        total.copy_(own)
        dist.all_reduce(total, group=rank.group)
        return total

    return operations | {"sum of whole numbers": sum_of_ranks}


def refuse_unlike_ranks(rank: RankContext, repeats: BitRepeats, device: str) -> None:
    """Compare the bits of all ranks with like devices and software. Raises BenchError on every rank if they differ."""
    own = torch.tensor([_digest(device.encode()), *repeats.digests()], dtype=torch.int64, device=rank.device)
    rows = [torch.empty_like(own) for _ in range(rank.world_size)]
    if rank.world_size == 1:
        return
    dist.all_gather(rows, own, group=rank.group)
    for column, name in enumerate(repeats.operations, 1):
        by_device: dict[int, dict[int, list[int]]] = {}
        for index, row in enumerate([row.tolist() for row in rows]):
            if row[column]:
                by_device.setdefault(row[0], {}).setdefault(row[column], []).append(index)
        for found in by_device.values():
            if len(found) > 1:
                few = min(found.values(), key=len)
                raise BenchError(
                    f"silent corruption: the {name} of rank {', '.join(map(str, few))} has other bits than that of "
                    f"{sum(map(len, found.values())) - len(few)} ranks with a like device and like software"
                )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().view(_WORDS[tensor.element_size()])


def _digest(data: bytes) -> int:
    """A positive number of 62 bits."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 2 | 1
