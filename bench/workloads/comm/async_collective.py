"""A collective on some of the ranks, started and waited for apart, so that something else can run meanwhile.

With gloo a thread of its own carries it out, with NCCL a stream of the group's: waiting makes the current stream wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.suite import ITEM_BYTES, Params, TimedCheck, positive_int
from bench.workloads.comm.collectives import OPERATIONS, Buffers, Collective, Payload
from bench.workloads.comm.exact_check import fill, largest_error, poison
from bench.workloads.comm.timed_outputs import timed_check

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

OVERLAPPED = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
"""Operations that training starts and waits for later; each rank of the group gives and takes alike."""
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class GroupMember:
    """A rank as a group sees it: what test data are its own, and how many there are."""

    index: int
    world_size: int
    device: torch.device


@dataclass(frozen=True)
class AsyncCollective:
    """One rank's part of a collective on a group."""

    row: Collective
    payload: Payload
    buffers: Buffers
    member: Any
    start: Callable[[], Any]
    """Gives what is to be waited for."""
    restore: Callable[[], object]
    """The inputs as they were, if the operation replaces them."""
    timed_check: TimedCheck

    def run(self) -> None:
        self.start().wait()

    @property
    def num_bytes(self) -> int:
        """Bytes of the collective as nccl-tests counts them."""
        return self.payload.count * self.buffers.input.element_size()

    def arm(self) -> None:
        """Test data in, and nothing expected out."""
        poison(self.buffers.output)
        fill(self.buffers.input, self.member)

    def error(self) -> float:
        """Largest error of any element after a call: 0, or at least 1, or NaN."""
        return largest_error(self.buffers.output, self.row.expected(self.payload), self.member)


def num_elements(suite: str, params: Params, group_size: int) -> int:
    """Elements of a payload, a multiple of the group's size. Raises BenchError for a bad `num_bytes`."""
    num_bytes = positive_int(suite, params, "num_bytes")
    return max(1, num_bytes // ITEM_BYTES[str(params["dtype"])] // group_size) * group_size


def prepare_collective(
    op: str, count: int, dtype: str, ranks: Sequence[int], index: int, device: torch.device, group: dist.ProcessGroup
) -> AsyncCollective:
    """A collective of `count` elements among `ranks`, of which this rank is `index`."""
    import torch
    import torch.distributed as dist

    row, position = OPERATIONS[op], list(ranks).index(index)
    payload, member = Payload(count, len(ranks), position), GroupMember(position, len(ranks), device)
    empty = partial(torch.empty, dtype=getattr(torch, dtype), device=device)
    input_buffer = empty(row.input(payload))
    buffers = Buffers(input_buffer, empty(row.output(payload)) if row.output else input_buffer, None)
    as_rank: Any = member
    fill(input_buffer, as_rank)
    restore = partial(input_buffer.copy_, input_buffer.clone()) if row.reduces_in_place else _nothing
    start = partial(row.bind(dist, buffers), group=group, async_op=True)
    return AsyncCollective(row, payload, buffers, as_rank, start, restore, timed_check(row, payload, buffers))


def buffer_bytes(op: str, count: int, dtype: str, group_size: int, device_type: str) -> int:
    """Return the bytes of the tensors, the copy that restores them, and a backend's own (gloo at most a full copy)."""
    row, payload = OPERATIONS[op], Payload(count, group_size, 0)
    elements = row.input(payload) + (row.output(payload) if row.output else 0)
    copies = int(row.reduces_in_place) + int(device_type == "cpu")
    return (elements + copies * payload.count) * ITEM_BYTES[dtype]


def _nothing() -> None:
    return None
