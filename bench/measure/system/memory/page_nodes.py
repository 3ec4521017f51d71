"""The NUMA node of pages of memory: where the kernel is to put them, and where it says that they are.

Two system calls, by number, since libc has no functions for them and libnuma is not on every machine. Neither needs
root. Containers often refuse both (Docker's seccomp profile does without CAP_SYS_NICE): the node of a mapping is then
read from /proc/self/numa_maps, which they leave readable.

Sources: mbind(2), move_pages(2), numa(7); the numbers are from arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from bench.measure.system.cgroup import read_text
from bench.measure.system.host import ROOT

_NUMBERS = {"x86_64": (237, 279), "aarch64": (235, 239)}
"""Architecture -> numbers of mbind and move_pages."""
_MPOL_BIND = 2
_LONG_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)


@cache
def _system_call() -> Callable[..., int]:
    call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    return call


def _numbers() -> tuple[int, int] | None:
    return _NUMBERS.get(platform.machine()) if os.uname().sysname == "Linux" else None


def fence(address: int, num_bytes: int) -> None:
    """Make the first and the last page of a mapping untouchable.

    The kernel joins neighbouring mappings that are alike, and numa_maps would list the pages of both as one.
    """
    for page in (address, address + num_bytes - mmap.PAGESIZE):
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0)


def bind_pages(address: int, num_bytes: int, node: int) -> str | None:
    """Have pages that were not touched yet put on a node, and on no other. Returns why the kernel refuses, or None.

    mbind holds for the addresses, whichever thread touches them first, and the kernel does not move such pages later.
    """
    numbers = _numbers()
    if numbers is None:
        return f"not known how to ask on {platform.machine()}"
    words = node // _LONG_BITS + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // _LONG_BITS] = 1 << node % _LONG_BITS
    # The kernel takes one bit less than it is told (mbind(2), on maxnode).
    arguments = (_MPOL_BIND, ctypes.addressof(mask), words * _LONG_BITS + 1, 0)
    return _refused(numbers[0], address, num_bytes, *arguments)


def _refused(number: int, *arguments: int) -> str | None:
    if _system_call()(ctypes.c_long(number), *map(ctypes.c_long, arguments)) == 0:
        return None
    return os.strerror(ctypes.get_errno())


def count_nodes(addresses: Sequence[int], root: Path = ROOT) -> Counter[int] | None:
    """Number of pages by node, of those at these addresses; None if the kernel does not tell of all of them.

    The addresses are of one mapping, in order, from its first page on.
    """
    return _asked(addresses) or _listed(addresses[0], root)


def _asked(addresses: Sequence[int]) -> Counter[int] | None:
    numbers = _numbers()
    if numbers is None:
        return None
    pages = (ctypes.c_void_p * len(addresses))(*addresses)
    found = (ctypes.c_int * len(addresses))()
    # No target nodes: move_pages then tells where the pages are, and moves none.
    arguments = (0, len(addresses), ctypes.addressof(pages), 0, ctypes.addressof(found), 0)
    if _refused(numbers[1], *arguments) is not None or min(found) < 0:
        return None
    return Counter(found)


def _listed(address: int, root: Path) -> Counter[int] | None:
    """Pages by node of the mapping that begins at an address, such as `7f01 default anon=4 dirty=4 N0=4`."""
    for line in (read_text(root / "proc/self/numa_maps") or "").splitlines():
        words = line.split()
        if words[0] == f"{address:x}" or words[0] == f"{address:08x}":
            counts = [word[1:].partition("=") for word in words if word[0] == "N" and "=" in word]
            return Counter({int(node): int(count) for node, _, count in counts if (node + count).isdecimal()}) or None
    return None
