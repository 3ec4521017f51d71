"""A folder for as long as its process lives, and the removal of those whose process died.

A lock on a file in the folder, which ends with its process however it ended, tells the two apart. Only folders that
this user owns are removed, and only those whose file has the words that are written into it here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PREFIX = "bench-"
LOCK = "in-use.lock"
MARK = b"bench made this folder, and removes it\n"
"""Words in that file: a folder of the user's own is not removed, whatever its name."""
_NO_LOCKS = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS))
"""Errors of a file system without locks; a folder there is never taken for abandoned, since it has no file LOCK."""


class HeldFolder:
    """A new folder that this process holds; others may use its `path`.

    It is removed by `close`, at the end of a `with`, or when it is forgotten. That of a process that was killed is
    removed by the next that is made next to it.
    """

    def __init__(self, parent: Path, name: str) -> None:
        remove_abandoned(parent)
        self.path, lock = _new_folder(parent, f"{PREFIX}{name}-")
        self.close = weakref.finalize(self, _remove, self.path, lock)
        """Removes the folder; calling it again does nothing."""

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _new_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """A new folder and the descriptor of its lock; None if the file system has no locks."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        file = path / LOCK
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            os.close(lock)
            if error.errno not in _NO_LOCKS:
                raise
            file.unlink()
            return path, None
        if _is_at(file, lock):
            with suppress(OSError):  # a full disk: it is not removed if this process is killed
                os.write(lock, MARK)
            return path, lock
        os.close(lock)  # another process took it for abandoned before it was locked, and has removed it


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path, lock: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of dead processes; what is in use, of another user or not surely ours stays."""
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        if not (_is_own(path.parent, stat.S_ISDIR) and _is_own(path, stat.S_ISREG)):
            continue
        try:
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use
            os.close(lock)
            continue
        if _is_at(path, lock) and os.pread(lock, len(MARK), 0) == MARK:
            _remove(path.parent, lock)
        else:
            os.close(lock)


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and is_kind(found.st_mode)
