"""A copy in memory of what a run has written to its result file, which outlives a replaced process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator

from bench.records.run_file import disk

CHUNK = 2**20


class KeptBytes:
    """An anonymous file in memory; processes that inherit its descriptor add to the same copy."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _anonymous_file() if descriptor is None else descriptor
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def add(self, data: bytes) -> None:
        """Add data as a whole. Raises OSError if the limit of this process on files is too low."""
        before = self.size
        try:
            disk.write_at(self.descriptor, data, before)
        except OSError:
            os.ftruncate(self.descriptor, before)
            raise

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        offset = start
        while data := os.pread(self.descriptor, CHUNK, offset):
            yield data
            offset += len(data)

    def copy_to(self, descriptor: int, start: int = 0) -> None:
        """Write all of it from `start` on to the same place of an open file. Raises OSError."""
        for data in self.chunks(start):
            disk.write_at(descriptor, data, start)
            start += len(data)

    def begins(self, descriptor: int, size: int) -> bool:
        """True if an open file begins with the first `size` bytes of it."""
        for offset in range(0, size, CHUNK):
            num_bytes = min(CHUNK, size - offset)
            if os.pread(descriptor, num_bytes, offset) != os.pread(self.descriptor, num_bytes, offset):
                return False
        return True


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("bench-records")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
