"""The exclusive lock on the result file of a run that is under way; readers need none.

It is an flock of the file itself, which ends with the processes that hold its descriptor, however they end. A file next
to it names the holder. Where the file system has no flock, that file is the lock (`bench.records.run_file.lock_note`).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.errors import BenchError
from bench.records.run_file.lock_note import LockNote, Owner

NO_FLOCK = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS))
"""Errors of a file system without flock."""
Flock = Callable[[int, int], object]


class FileLock:
    """The lock on an open result file; `has_note` says that the note next to it is this process's to remove."""

    def __init__(self, note: LockNote, by_note: bool, has_note: bool = True) -> None:
        self._note = note
        self.by_note = by_note
        self.has_note = has_note

    @classmethod
    def take(cls, path: Path, descriptor: int, program: str, flock: Flock = fcntl.flock) -> FileLock:
        """Lock a file. Raises BenchError, with the holder's name, if another process has it locked."""
        note = LockNote(path, Owner.this_process(program))
        try:
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(path, _name_holder(path, note.read())) from error
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            holder = note.take()
            if holder is not None:
                raise _held(path, holder.name()) from error
            return cls(note, by_note=True)
        note.write()
        return cls(note, by_note=False)

    @property
    def token(self) -> str:
        return self._note.owner.token

    @classmethod
    def inherit(cls, path: Path, program: str, token: str, by_note: bool, has_note: bool) -> FileLock:
        """The lock that an earlier process took and passed on with its descriptor."""
        note = LockNote(path, Owner.this_process(program, token))
        if by_note and has_note:
            note.keep_fresh()
        return cls(note, by_note, has_note)

    def taken_over_by(self) -> str | None:
        """Name of another process that has the lock now, since this one gave no sign of life for too long."""
        if not self.by_note:
            return None
        owner = self._note.read()
        return owner.name() if owner is not None and owner.token != self.token else None

    def release(self) -> None:
        """Give the note up; the flock goes with the file's descriptor."""
        if self.has_note:
            self._note.remove()


def _held(path: Path, holder: str) -> BenchError:
    return BenchError(f"{str(path)!r} is being written by {holder}; wait for it to end, or end it first")


def _name_holder(path: Path, owner: Owner | None) -> str:
    """Name of the process that has an flock on a file: by its note, or by the kernel's list of locks on this host."""
    if owner is not None and not owner.is_dead_here():
        return owner.name()
    process_id = _flock_holder(path)
    return "another process" if process_id is None else f"process {process_id} on this host"


def _flock_holder(path: Path) -> int | None:
    """Process that holds an flock on a file, by /proc/locks; None: unknown."""
    with suppress(OSError, ValueError, IndexError):
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and words[5].endswith(f":{inode}") and int(words[4]) > 0:
                return int(words[4])
    return None


def is_open_at(path: Path, descriptor: int) -> bool:
    """True if the path names the file of a descriptor."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
