"""A disk with little room: blocks that are set aside for the end line, and folders for what no longer fits."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path

from bench.errors import BenchError

END_ROOM = 4096
"""Bytes that stay set aside behind a file, for its end line."""
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reserve(descriptor: int, offset: int, num_bytes: int) -> None:
    """Set blocks aside behind the end of a file, whose size stays. Raises OSError if the disk or the quota is full.

    On a file system that cannot do that nothing is set aside.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(num_bytes)) == 0:
        return
    number = ctypes.get_errno()
    if number in _NO_ROOM:
        raise OSError(number, os.strerror(number))


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the bytes, or raise OSError."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        offset, left = offset + written, left[written:]


def folders_for(path: Path) -> Iterable[Path]:
    """Folders for the lines of a file that is lost, in the order in which a user would look: its own one first."""
    own = path.parent
    wanted = [own, own.parent]
    with suppress(OSError):  # the working directory was removed
        wanted.append(Path.cwd())
    with suppress(RuntimeError):  # there is no home
        wanted.append(Path.home())
    with suppress(OSError):  # no folder takes temporary files
        wanted.append(Path(tempfile.gettempdir()))
    return dict.fromkeys(folder for folder in wanted if folder.is_dir())


def create_rescued(path: Path, folder: Path) -> tuple[Path, FileIO]:
    """A new file in a folder, named after one that is lost. Raises OSError."""
    stem, suffixes = path.name.partition(".jsonl")[0], ".jsonl" + path.name.partition(".jsonl")[2]
    stem = stem.partition("-rescued-")[0]
    while True:
        with suppress(FileExistsError):
            found = folder / f"{stem}-rescued-{secrets.token_hex(2)}{suffixes}"
            return found, found.open("x+b", buffering=0)


def cannot_lock(file: Path, error: OSError) -> BenchError:
    return BenchError(
        f"cannot lock with {str(file)!r}: {error.strerror or error}; this file system has no flock, so that its folder "
        "has to take a lock file"
    )
