"""The page cache between files and their readers: what of a file is in it, and reading past it.

A file that was just written, or read once, is in memory: reading it again says nothing of the storage. So that suites
can tell the two apart, files are dropped from the cache (posix_fadvise with POSIX_FADV_DONTNEED: only pages that are
clean and mapped nowhere go) and counted in it (mincore). That is this kernel's cache: the disk of a virtual machine,
a RAID controller and a file server have caches of their own, of which nothing is known here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import Skip
from bench.measure.engine import control

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

CACHE_STATES = ("warm", "uncached")
"""Values of a suite's parameter `cache`: as it comes, which is warm after a first pass; dropped before every sample."""
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
"""Types of file systems that have no storage under them."""
MAX_COUNTED = 256
"""Files whose pages are counted: of more, evenly spaced ones."""
DROPPED = 0.02
"""Share of the pages that may be left in the cache for it to count as dropped: what the kernel still reads ahead."""


def file_system(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system that holds a path, such as `ext4`, from /proc/self/mounts; None if unknown."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        # Blanks in paths are written as octal escapes (fstab(5)).
        mount = fields[1].replace("\\040", " ") if len(fields) > 2 else ""
        deeper = mount and (best is None or len(mount) >= best[0])  # of two at one place the later covers the other
        if deeper and path.resolve().is_relative_to(mount):
            best = len(mount), fields[2]
    return best[1] if best else None


def notes(path: Path) -> tuple[str, ...]:
    """Return the notes on the file system under a case's files."""
    kind = file_system(path)
    if kind in IN_MEMORY:
        return (f"the files lie on {kind}: memory, and no storage is in this number; --set folder=PATH for another",)
    return (f"the files lie on {kind or 'a file system of unknown type'}",)


def drop_from_cache(paths: Iterable[Path]) -> None:
    """Ask the kernel to drop the files from its page cache: those of their pages that are clean and not mapped."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def sync(path: Path) -> None:
    """Returns when the file is on the storage, as far as the kernel knows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cached_share(paths: Sequence[Path]) -> float | None:
    """Share of the files' pages that are in the page cache (mincore(2)); None if that is not known."""
    stride = -(-len(paths) // MAX_COUNTED) or 1
    counts = [_cached_pages(path) for path in paths[::stride]]
    readable = [count for count in counts if count is not None]
    total = sum(pages for _, pages in readable)
    if len(readable) < len(counts) or not total:
        return None
    return sum(cached for cached, _ in readable) / total


def _cached_pages(path: Path) -> tuple[int, int] | None:
    """(pages in the cache, pages) of a file."""
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    size = path.stat().st_size
    if mincore is None or not size:
        return None if mincore is None else (0, 0)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        array = np.frombuffer(view, dtype=np.uint8)
        pages = -(-size // mmap.PAGESIZE)
        states = np.zeros(pages, dtype=np.uint8)
        failed = mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(states.ctypes.data))
        del array  # a view of a map that is to be closed
    return None if failed else (int((states & 1).sum()), pages)


def require_uncached(rank: RankContext, paths: Sequence[Path]) -> None:
    """Drop files from the cache, and see that they are gone. Raises Skip on all ranks if they are not on one."""
    folder_type = file_system(paths[0]) or "unknown"
    reason = None
    if folder_type in IN_MEMORY:
        reason = f"the files lie on {folder_type}, which is memory: nothing can be read past it"
    elif not hasattr(os, "posix_fadvise"):
        reason = "this system has no posix_fadvise"
    else:
        control.maxima(rank, [0])  # nobody reads or writes any more
        drop_from_cache(paths)
        share = cached_share(paths)
        if share is None:
            reason = "mincore does not tell here what is in the page cache"
        elif share > DROPPED:
            reason = f"{share:.0%} of the pages are still in the page cache after POSIX_FADV_DONTNEED ({folder_type})"
    reasons = [text for text in control.all_gather_json(rank, reason) if text is not None]
    if reasons:
        raise Skip(f"no uncached reads: {reasons[0]}")
