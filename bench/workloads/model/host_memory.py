"""Host memory of a known NUMA node, pinned or pageable, and the threads that work on it.

The memory is a mapping of its own: a caching allocator would reuse pages that an earlier case has put elsewhere. mbind
says which node its pages are to be on, before anything touches them. If the kernel refuses that, as containers do, a
thread on a core of the node touches them first. In either case the kernel is asked where they are.
Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError, Skip
from bench.measure.system.memory import page_nodes

MOST_ASKED = 4096
"""Pages of a buffer whose node is asked for, spread over it."""


class HostBuffer:
    """An array of float32 in host memory. Raises Skip if it cannot be put on its node, BenchError if not pinned."""

    def __init__(self, num_elements: int, node: int | None, cores: frozenset[int], is_pinned: bool) -> None:
        """`node`: where its pages are to be, None: anywhere; `cores` are those of the node."""
        self.node = node
        page = mmap.PAGESIZE
        self._num_bytes = -(-4 * num_elements // page) * page
        mapping = mmap.mmap(-1, self._num_bytes + 2 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        whole = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        page_nodes.fence(whole, len(mapping))
        self._address = whole + page
        refused = None if node is None else page_nodes.bind_pages(self._address, self._num_bytes, node)
        self.placed_by = "kernel" if node is None else "first touch" if refused else "mbind"
        with on_cores(cores if refused else frozenset()):
            ctypes.memset(self._address, 0, self._num_bytes)
        self.pages_found = Counter[int]()
        """Node -> number of pages that the kernel last said to be there; empty if it does not tell."""
        misplaced = self.misplaced()
        if misplaced:
            raise Skip(misplaced + (f" (mbind: {refused})" if refused else ""))
        self.tensor = torch.frombuffer(mapping, dtype=torch.float32, count=num_elements, offset=page)
        self._unpin = _pin(self, mapping, self._address, self._num_bytes) if is_pinned else None

    def misplaced(self) -> str | None:
        """Pages that the kernel says are on another node than theirs, now; None if it says of none."""
        distance = mmap.PAGESIZE * (-(-self._num_bytes // mmap.PAGESIZE // MOST_ASKED) | 1)
        asked = range(self._address, self._address + self._num_bytes, distance)
        self.pages_found = page_nodes.count_nodes(asked) or Counter()
        elsewhere = [(node, count) for node, count in sorted(self.pages_found.items()) if node != self.node]
        if self.node is None or not elsewhere:
            return None
        shown = ", ".join(f"{count} are on node {node}" for node, count in elsewhere)
        return f"of {self.pages_found.total()} pages of memory asked for on NUMA node {self.node}, {shown}"

    def close(self) -> None:
        """Unpins the memory; it is unmapped after the last tensor on it."""
        if self._unpin is not None:
            self._unpin()


def _pin(owner: HostBuffer, mapping: mmap.mmap, address: int, num_bytes: int) -> weakref.finalize[..., HostBuffer]:
    """Lock the pages for the device's own copies; returns what takes that back, at the latest with the buffer."""
    cuda: Any = torch.cuda  # untyped
    runtime = cuda.cudart()
    error = int(runtime.cudaHostRegister(address, num_bytes, 0))
    if error:
        raise BenchError(
            f"transfer: {num_bytes} bytes of host memory cannot be pinned (CUDA error {error}); "
            "look at free memory, or measure --set memory=pageable"
        )

    def unpin(_mapping: mmap.mmap) -> None:
        runtime.cudaHostUnregister(address)

    return weakref.finalize(owner, unpin, mapping)


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Run the block on some cores, as far as the process may use them; on any if there are none."""
    before = os.sched_getaffinity(0) if cores else set()
    if not cores & before:
        yield
        return
    os.sched_setaffinity(0, cores & before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class BoundThreads:
    """All threads of this process on the cores of a node, until `close`. Threads that start later inherit it."""

    def __init__(self, cores: frozenset[int]) -> None:
        """If a thread may use none of the cores, nothing is bound, and `is_bound` is False."""
        before = _affinities() if cores else {}
        self.is_bound = bool(before) and all(allowed & cores for allowed in before.values())
        kept = before if self.is_bound else {}
        self.close = weakref.finalize(self, _restore, kept)
        for thread, allowed in kept.items():
            _bind(thread, allowed & cores)


def _affinities() -> dict[int, set[int]]:
    """Thread of this process -> cores that it may use."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended in the meantime
            found[int(folder.name)] = os.sched_getaffinity(int(folder.name))
    return found


def _bind(thread: int, cores: set[int] | frozenset[int]) -> None:
    with suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)


def _restore(before: Mapping[int, set[int]]) -> None:
    """Give every thread its cores back, and those that have started since all of them."""
    everywhere = set[int]().union(*before.values())
    for thread in _affinities() if before else ():
        _bind(thread, before.get(thread, everywhere))
