"""Messages between ranks besides the measured work: votes, counts and gathers over the control group.

All of it is plain JSON or whole numbers on a gloo group of its own; none of it ever runs inside a timed part.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from bench.records.lines.parts import encode_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from bench.measure.engine.rank import RankContext

Kind = TypeVar("Kind")


def broadcast_numbers(rank: RankContext, numbers: Sequence[int]) -> list[int]:
    """Rank 0's whole numbers, on every rank; every rank passes as many."""
    return _exchange(rank, numbers, lambda dist, tensor: dist.broadcast(tensor, src=0, group=rank.control))


def maxima(rank: RankContext, numbers: Sequence[int]) -> list[int]:
    """Element by element, the largest of the ranks' numbers, on every rank."""
    return _exchange(
        rank, numbers, lambda dist, tensor: dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=rank.control)
    )


def _exchange(rank: RankContext, numbers: Sequence[int], call: Callable[[Any, torch.Tensor], object]) -> list[int]:
    """Run a collective of torch.distributed, in place, on whole numbers."""
    if rank.world_size == 1:
        return list(numbers)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(list(numbers), dtype=torch.int64)
    call(dist, tensor)
    return [int(n) for n in tensor.tolist()]


def gather_numbers(rank: RankContext, numbers: Sequence[int]) -> list[list[int]] | None:
    """Every rank's numbers (equally many) as rows, on rank 0; None elsewhere."""
    if rank.world_size == 1:
        return [list(numbers)]
    import torch

    rows = _gather(rank, torch.tensor(list(numbers), dtype=torch.int64))
    return None if rows is None else [[int(n) for n in row.tolist()] for row in rows]


def gather_json(rank: RankContext, value: Any) -> list[Any] | None:
    """Every rank's JSON-able value, on rank 0; None elsewhere."""
    if rank.world_size == 1:
        return [value]
    import torch

    text = json.dumps(value, allow_nan=False).encode()
    longest = maxima(rank, [len(text)])[0]
    padded = torch.frombuffer(bytearray(text.ljust(longest)), dtype=torch.uint8)
    rows = _gather(rank, padded)
    return None if rows is None else [json.loads(bytes(row.tolist())) for row in rows]


def all_gather_json(rank: RankContext, value: Any) -> list[Any]:
    """Every rank's JSON-able value, on every rank."""
    gathered = gather_json(rank, value)
    if rank.world_size == 1:
        assert gathered is not None
        return gathered
    import torch
    import torch.distributed as dist

    text = json.dumps(gathered).encode() if rank.index == 0 else b""
    length = broadcast_numbers(rank, [len(text)])[0]
    tensor = torch.frombuffer(bytearray(text.ljust(length)), dtype=torch.uint8)
    dist.broadcast(tensor, src=0, group=rank.control)
    values: list[Any] = json.loads(bytes(tensor.tolist()))
    return values


def gather(rank: RankContext, value: Kind, kind: type[Kind]) -> list[Kind] | None:
    """Every rank's value of a type that msgspec knows, on rank 0; None elsewhere."""
    rows = gather_json(rank, _plain(value))
    return None if rows is None else [msgspec.convert(row, kind) for row in rows]


def all_gather(rank: RankContext, value: Kind, kind: type[Kind]) -> list[Kind]:
    """Every rank's value of a type that msgspec knows, on every rank."""
    return [msgspec.convert(row, kind) for row in all_gather_json(rank, _plain(value))]


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value, enc_hook=encode_numbers)


def _gather(rank: RankContext, tensor: torch.Tensor) -> list[torch.Tensor] | None:
    import torch
    import torch.distributed as dist

    if rank.index == 0:
        rows = [torch.empty_like(tensor) for _ in range(rank.world_size)]
        dist.gather(tensor, rows, dst=0, group=rank.control)
        return rows
    dist.gather(tensor, dst=0, group=rank.control)
    return None
