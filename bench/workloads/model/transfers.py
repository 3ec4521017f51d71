"""Copies between a host's memory and its devices: what each operation copies, from where to where, and its check.

Every copy is one `Tensor.copy_`, on the current stream if a device takes part in it. Sources hold whole numbers,
different from copy to copy, and the check compares every element that arrived.
Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.errors import BenchError, Skip
from bench.measure.system.devices import gpu_addresses
from bench.measure.system.host import pci_numa_node
from bench.measure.system.memory import numa
from bench.suite import Check, TimedCheck
from bench.workloads.comm.exact_check import PERIOD, pattern, poison
from bench.workloads.comm.timed_outputs import combined_check
from bench.workloads.model.host_memory import BoundThreads, HostBuffer
from bench.workloads.model.timed_results import BufferLooks

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

NEAR, FAR = "near", "far"
SOURCES = 16
"""Patterns of test data; ranks next to one another and the copies of a rank have different ones."""


@dataclass(frozen=True)
class Places:
    """NUMA nodes of one rank."""

    topology: numa.Topology
    near: int | None
    """Node of the rank's GPU, or of the cores that copy; None if it is not known."""
    far: int | None

    def node(self, name: str) -> int | None:
        return self.far if name == FAR else self.near

    def cores(self, node: int | None) -> frozenset[int]:
        return frozenset() if node is None else self.topology.cores.get(node, frozenset())

    def require_far(self) -> None:
        """Raises Skip with the reason why no memory is far."""
        count = len(self.topology.with_memory())
        if not count:
            raise Skip("the kernel shows no NUMA nodes: no memory is known to be far; node=near measures the copy")
        if count == 1:
            raise Skip("1 NUMA node: no memory is far; node=near measures a copy within it")
        if self.near is None:
            raise Skip("the kernel does not say which NUMA node is near this GPU, so none is known to be far")


def find_places(rank: RankContext) -> Places:
    """The nodes near to a rank and farthest from it.

    Near to a rank without a GPU is the node of its cores. If those are of several nodes, the ranks of a host are
    spread over them in order.
    """
    known = numa.topology()
    usable = known.with_memory()
    if rank.device.type == "cuda":
        address = gpu_addresses(rank.device)[1]
        own = None if address is None else pci_numa_node(address)
        near = own if own in usable else usable[0] if len(usable) == 1 else None
    else:
        own_nodes = [node for node in known.of_cores(os.sched_getaffinity(0)) if node in usable] if usable else []
        near = own_nodes[rank.local_index * len(own_nodes) // rank.local_world_size] if own_nodes else None
    return Places(known, near, None if near is None else known.farthest_from(near))


@dataclass(frozen=True)
class Copy:
    """A call, and what it leaves: each target with the number of the test data that it holds then."""

    run: Callable[[], object]
    written: tuple[tuple[Tensor, int], ...]


@dataclass
class CopyBuffers:
    """Makes the buffers of a rank's copies, and keeps them."""

    num_elements: int
    is_pinned: bool
    places: Places
    rank: RankContext
    hosts: list[HostBuffer] = field(default_factory=list)
    num_sources: int = 0

    def source(self, tensor: Tensor) -> tuple[Tensor, int]:
        """The tensor, filled with test data of its own, and their number."""
        number = (5 * self.rank.index + self.num_sources) % SOURCES
        self.num_sources += 1
        data = _data(number, tensor)
        for block in torch.split(tensor, PERIOD):
            block.copy_(data[: len(block)])
        return tensor, number

    def host(self, name: str) -> Tensor:
        """Host memory on the node `near` or `far`."""
        node = self.places.node(name)
        self.hosts.append(HostBuffer(self.num_elements, node, self.places.cores(node), self.is_pinned))
        if name == FAR and not self.hosts[-1].pages_found:
            raise Skip("the kernel does not tell on which NUMA node pages are, so no memory is known to be far")
        return self.hosts[-1].tensor

    def device(self, device: torch.device | None = None) -> Tensor:
        return torch.empty(self.num_elements, dtype=torch.float32, device=device or self.rank.device)


def host_to_device(buffers: CopyBuffers, node: str) -> dict[str, Copy]:
    (source, number), target = buffers.source(buffers.host(node)), buffers.device()
    return {"full": Copy(_copy(target, source), ((target, number),))}


def device_to_host(buffers: CopyBuffers, node: str) -> dict[str, Copy]:
    (source, number), target = buffers.source(buffers.device()), buffers.host(node)
    return {"full": Copy(_copy(target, source), ((target, number),))}


def both_ways(buffers: CopyBuffers, node: str) -> dict[str, Copy]:
    up, down = host_to_device(buffers, node)["full"], device_to_host(buffers, node)["full"]
    full = Copy(_at_once(up.run, down.run, buffers.rank.device), up.written + down.written)
    return {"full": full, "to_device": up, "to_host": down}


def device_to_device(buffers: CopyBuffers, _node: str) -> dict[str, Copy]:
    """To the memory of the next GPU that this process sees."""
    own = buffers.rank.device
    peer = torch.device("cuda", ((own.index or 0) + 1) % torch.cuda.device_count())
    (source, number), target = buffers.source(buffers.device()), buffers.device(peer)
    return {"full": Copy(_copy(target, source), ((target, number),))}


def host_to_host(buffers: CopyBuffers, node: str) -> dict[str, Copy]:
    """From memory of the node to memory near the cores that copy."""
    (source, number), target = buffers.source(buffers.host(node)), buffers.host(NEAR)
    return {"full": Copy(_copy(target, source), ((target, number),))}


def round_trip(buffers: CopyBuffers, node: str) -> dict[str, Copy]:
    """To the device and back, one after the other."""
    up = host_to_device(buffers, node)["full"]
    ((middle, number),) = up.written
    target = buffers.host(node)
    down = _copy(target, middle)

    def there_and_back() -> None:
        up.run()
        down()

    return {"full": Copy(there_and_back, ((middle, number), (target, number)))}


MAKERS: Mapping[str, Callable[[CopyBuffers, str], dict[str, Copy]]] = {
    "host_to_device": host_to_device,
    "device_to_host": device_to_host,
    "both_ways": both_ways,
    "device_to_device": device_to_device,
    "host_to_host": host_to_host,
    "latency": round_trip,
}
"""Operation -> how its variants are made; the first is the case itself."""


def _copy(target: Tensor, source: Tensor) -> Callable[[], object]:
    return partial(target.copy_, source, non_blocking=True)


def _at_once(first: Callable[[], object], second: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Both calls, the second on a stream of its own; what follows on the current stream waits for both."""
    cuda: Any = torch.cuda  # untyped
    aside = cuda.Stream(device)

    def run() -> None:
        current = torch.cuda.current_stream(device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            second()
        first()
        current.wait_stream(aside)

    return run


def _data(number: int, like: Tensor) -> Tensor:
    """One period of the whole numbers of a source."""
    return pattern((number,), SOURCES, min(PERIOD, len(like)), like.device).to(like.dtype)


class Transfers:
    """The variants of a case on one rank, their buffers, check and looks."""

    def __init__(self, op: str, node: str, buffers: CopyBuffers) -> None:
        """`node`: near or far; of a far one the same copy with near memory is a variant, too."""
        places = buffers.places
        if node == FAR:
            places.require_far()
        # The driver and this process copy with threads of their own: near the device, or on the node that is measured.
        self.binding = BoundThreads(places.cores(places.near) if len(places.topology.cores) > 1 else frozenset())
        self.buffers = buffers
        with ExitStack() as undone:
            undone.callback(self.close)  # if there is a reason to skip the case
            self.copies = MAKERS[op](buffers, node)
            if node == FAR:
                self.copies[NEAR] = MAKERS[op](buffers, NEAR)["full"]
            undone.pop_all()
        self._looks = {
            id(target): BufferLooks(target, tolerance=0.0)
            for copy in self.copies.values()
            for target, _ in copy.written
        }

    def timed_check(self, name: str) -> TimedCheck:
        """The look at a variant's timed calls."""
        return combined_check(*(self._looks[id(target)].timed_check for target, _ in self.copies[name].written))

    def check(self) -> Check:
        """The largest error of what any of the copies has written. Raises BenchError if pages were moved."""
        worst = 0.0
        for copy in self.copies.values():
            for target, _ in copy.written:
                poison(target)
            copy.run()
            self._synchronise()
            for target, number in copy.written:
                error = _largest_error(target, number)
                worst = worst if error <= worst else error
                self._looks[id(target)].learn()
        self._require_nodes()
        return Check(worst, 0.0)

    def _require_nodes(self) -> None:
        for buffer in self.buffers.hosts:
            misplaced = buffer.misplaced()
            if misplaced:
                raise BenchError(f"transfer: {misplaced}; set kernel.numa_balancing=0 while you measure")

    def _synchronise(self) -> None:
        if self.buffers.rank.device.type == "cuda":
            torch.cuda.synchronize(self.buffers.rank.device)

    def facts(self) -> dict[str, object]:
        """Where this rank's host memory is, as far as the kernel tells, in plain values."""
        return {
            "near_node": self.buffers.places.near,
            "bound": self.binding.is_bound,
            "buffers": [
                {
                    "node": buffer.node,
                    "placed_by": buffer.placed_by,
                    "pages": {str(node): count for node, count in sorted(buffer.pages_found.items())},
                }
                for buffer in self.buffers.hosts
            ],
        }

    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the memory to read the number rightly."""
        places, hosts = self.buffers.places, self.buffers.hosts
        if not hosts or len(places.topology.with_memory()) == 1:
            return ()
        if places.near is None:
            return ("the kernel does not say which NUMA node is near: the memory is on whichever it chose",)
        unconfirmed = not all(buffer.pages_found for buffer in hosts)
        unbound = f"threads may run on other NUMA nodes than {places.near}, which is near"
        return (
            *(("the kernel does not tell on which NUMA node the pages are",) if unconfirmed else ()),
            *(() if self.binding.is_bound else (unbound,)),
        )

    def close(self) -> None:
        for buffer in self.buffers.hosts:
            buffer.close()
        self.binding.close()


def _largest_error(target: Tensor, number: int) -> float:
    """The largest error of any element; NaN if one is NaN."""
    data = _data(number, target)
    errors = torch.stack([(block - data[: len(block)]).abs().max() for block in torch.split(target, PERIOD)])
    return math.nan if bool(errors.isnan().any()) else float(errors.max())
