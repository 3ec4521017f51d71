"""The file `.NAME.lock` next to a result file: which process writes it, on which host.

On a file system without flock it is the lock as well: it is made as a whole or not at all, its time is renewed every
`BEAT_SECONDS`, and one that was not renewed for `STALE_SECONDS` is a dead process's.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.core import clock
from bench.records.run_file.disk import cannot_lock

BEAT_SECONDS = 10.0
STALE_SECONDS = 120.0


@dataclass(frozen=True)
class Owner:
    """The process that writes a result file."""

    host: str
    process_id: int
    program: str
    """`bench run` or `bench ab`."""
    started: str
    """Time at which it took the file, ISO 8601 in UTC."""
    token: str
    """Random; tells apart what else is equal."""

    @staticmethod
    def this_process(program: str, token: str | None = None) -> Owner:
        token = secrets.token_hex(8) if token is None else token
        return Owner(socket.gethostname(), os.getpid(), program, clock.stamp(), token)

    def name(self) -> str:
        return f"process {self.process_id} on {self.host} ({self.program}, since {self.started})"

    def is_dead_here(self) -> bool:
        """True if it ran on this host and is gone."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process_id, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return False


class LockNote:
    """The note of one owner; another one's may lie in its place."""

    def __init__(self, path: Path, owner: Owner, now: Callable[[Path], float] | None = None) -> None:
        self.file = path.with_name(f".{path.name}.lock")
        self.owner = owner
        self._now = _time_there if now is None else now
        self._over = threading.Event()
        self._written = self.file
        """The same file by a path that a renamed folder does not change."""

    def read(self) -> Owner | None:
        """The owner that the note names; None if there is no note, or it cannot be read."""
        return _read(self.file)

    def write(self) -> None:
        """Name the owner, for others to read: the lock is another one. A folder that takes no file has no note."""
        with suppress(OSError):
            self._draft().replace(self.file)
            self._hold_folder()

    def _hold_folder(self) -> None:
        """Find the note again in the end, although its folder may have another name by then."""
        folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, folder)
        held = Path(f"/proc/self/fd/{folder}")
        if held.is_dir():
            self._written = held / self.file.name

    def take(self) -> Owner | None:
        """Make the note if there is none, or only a stale one; returns the owner that has it. Raises BenchError."""
        try:
            draft = self._draft()
        except OSError as error:
            raise cannot_lock(self.file, error) from error
        try:
            for _ in range(2):
                with suppress(FileExistsError):
                    os.link(draft, self.file)  # fails if the note is there: one of several processes makes it
                    self.keep_fresh()
                    return None
                owner = self.read()
                if owner is not None and not self._is_stale(owner):
                    return owner
                self._set_aside(owner)
            return self.read() or self.owner
        except OSError as error:
            raise cannot_lock(self.file, error) from error
        finally:
            draft.unlink(missing_ok=True)

    def _draft(self) -> Path:
        draft = self.file.with_name(f"{self.file.name}.{self.owner.token}")
        draft.write_text(json.dumps(asdict(self.owner)))
        return draft

    def _is_stale(self, owner: Owner) -> bool:
        try:
            age = self._now(self.file.parent) - self.file.stat().st_mtime
        except FileNotFoundError:
            return True
        return age > STALE_SECONDS or owner.is_dead_here()

    def _set_aside(self, owner: Owner | None) -> None:
        """Take a stale note away, but not one that another process has put in its place meanwhile."""
        aside = self.file.with_name(f"{self.file.name}.{self.owner.token}.old")
        with suppress(FileNotFoundError):
            self.file.rename(aside)
            moved = _read(aside)
            if moved is not None and owner is not None and moved.token != owner.token:
                with suppress(FileExistsError):
                    os.link(aside, self.file)
            aside.unlink()

    def keep_fresh(self) -> None:
        """Renew the note's time on a thread, until it is removed."""
        threading.Thread(target=self._beat, name="bench-lock", daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.file)

    def remove(self) -> None:
        """Remove the note if it is still this owner's."""
        self._over.set()
        owner = _read(self._written)
        if owner is not None and owner.token == self.owner.token:
            with suppress(OSError):
                self._written.unlink()


def _read(file: Path) -> Owner | None:
    try:
        return Owner(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _time_there(folder: Path) -> float:
    """Time by the clock that gives files their times, which is another host's on a network file system."""
    probe = folder / f".bench-time-{secrets.token_hex(4)}"
    probe.touch(exist_ok=False)
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
