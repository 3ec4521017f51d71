"""The result file of a run that is under way: locked against other runs, watched, and kept in memory too.

Before each line, and at the end, the path has to name the file that this run writes, with what it has written. If it
was replaced, cut off, deleted or moved, or takes no more lines, all lines are rescued into a file next to it, or in
another folder if need be, and the run goes on there.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core import clock, jsonl
from bench.core.jsonl import cannot_write
from bench.errors import BenchError
from bench.records.file import load
from bench.records.lines import decoding
from bench.records.lines.kinds import End
from bench.records.run_file import disk, trouble
from bench.records.run_file.file_lock import FileLock, is_open_at
from bench.records.run_file.kept_bytes import KeptBytes

if TYPE_CHECKING:
    from bench.records.lines.kinds import Line

MAX_NAMES = 100
"""Names that are tried for a new file."""
MOVED_CODE = 3
"""Exit code of a run whose lines lie in another file than it began."""


class NoRoomError(BenchError):
    """No file takes the lines of a run any more."""


class RunFile:
    """Appends records, each whole or not at all; every line of a `.gz` file is a gzip member of its own."""

    def __init__(self, path: Path, stream: FileIO, lock: FileLock, kept: KeptBytes, program: str) -> None:
        self.path = path
        self.moves: list[str] = []
        """Why the lines were rescued into another file, each time."""
        self.say: Callable[[str], object] = lambda text: None
        """Hears that the lines were rescued, and into which file."""
        self._stream = stream
        self._lock = lock
        self._kept = kept
        self._program = program
        self._size = 0
        """Bytes in the file; all that is kept, unless nothing takes it."""
        self._modified_ns: int | None = None
        """Time of the last change that this process knows of; None: none is known."""
        self._pack: Callable[[bytes], bytes] = gzip.compress if path.suffix == ".gz" else bytes
        self._is_open = True

    @classmethod
    def create(cls, name: Path | Callable[[], Path], program: str = "bench run") -> RunFile:
        """A new file; folders on the way are made. `name` may make another name if one is taken.

        Raises BenchError if it exists or cannot be written, or there is no room on its disk.
        """
        path, stream = _open_new(name)
        try:
            disk.reserve(stream.fileno(), 0, disk.END_ROOM)
            file = cls(path, stream, FileLock.take(path, stream.fileno(), program), KeptBytes(), program)
            file._note_change()
        except (OSError, BenchError) as error:
            stream.close()
            path.unlink(missing_ok=True)
            raise cannot_write(path, error) if isinstance(error, OSError) else error from error
        return file

    @classmethod
    def resume(cls, path: Path, program: str = "bench run") -> RunFile:
        """An existing result file, at its end, a torn last line cut off.

        Raises BenchError if it is none, cannot be written, or is another run's at this moment.
        """
        if not path.is_file():
            load(path)  # which says why
        try:
            stream, lock = _open_locked(path, program)
            file = cls(path, stream, lock, KeptBytes(), program)
            file._kept.add(stream.readall())
            file.take_over()
        except OSError as error:
            raise cannot_write(path, error) from error
        return file

    @classmethod
    def inherit(cls, orders: str, say: Callable[[str], object]) -> RunFile:
        """The file that another process passes on by `pass_on`; `say` hears if it was lost meanwhile.

        Raises NoRoomError if it is lost, and no other file can be made.
        """
        words = json.loads(orders)
        path, lock = Path(words["path"]), words["lock"]
        for name in ("descriptor", "kept"):
            os.set_inheritable(words[name], False)
        stream = os.fdopen(words["descriptor"], "r+b", buffering=0)
        held = FileLock.inherit(path, words["program"], lock["token"], lock["by_note"], lock["has_note"])
        file = cls(path, stream, held, KeptBytes(words["kept"]), words["program"])
        file.moves, file.say = list(words["moves"]), say
        file.take_over()
        file.check()
        return file

    def take_over(self, mends: bool = False) -> None:
        """Take note of what other processes of this run have written to the file, and to the copy in memory.

        `mends`: the last one may have died while it wrote a line, which is written again.
        """
        self._size, self._modified_ns = self._kept.size, None
        there = os.fstat(self._stream.fileno()).st_size
        if mends and there < self._size and self._kept.begins(self._stream.fileno(), there):
            self._size = there

    def pass_on(self, keeps_note: bool = True) -> tuple[str, tuple[int, int]]:
        """Orders for a process that goes on with the file, and the descriptors that it has to inherit.

        `keeps_note`: it gives the lock up in the end; else this process does.
        """
        descriptors = (self._stream.fileno(), self._kept.descriptor)
        lock = {"token": self._lock.token, "by_note": self._lock.by_note, "has_note": keeps_note}
        orders = {
            "path": str(self.path),
            "descriptor": descriptors[0],
            "kept": descriptors[1],
            "program": self._program,
            "moves": self.moves,
            "lock": lock,
        }
        return json.dumps(orders), descriptors

    @property
    def is_empty(self) -> bool:
        """True as long as no line was written."""
        return not self._kept.size

    @property
    def is_saved(self) -> bool:
        """True if any line lies in the file."""
        return self._size > 0

    def append(self, record: Line) -> None:
        """Write one line. Raises NoRoomError if no file takes it."""
        self.append_encoded(decoding.encode(record))

    def append_encoded(self, line: bytes) -> None:
        """Write a line that `bench.records.lines.decoding` takes. Raises NoRoomError if no file takes it."""
        try:
            self._kept.add(self._pack(line + b"\n"))
        except OSError as error:
            raise self._no_room(f"{self.path} {trouble.cannot_take(error)}") from error
        self._catch_up(whole=False)

    def check(self) -> None:
        """Look at the whole file, and rescue its lines if it is not as it was written. Raises NoRoomError."""
        self._catch_up(whole=True)

    def _catch_up(self, whole: bool) -> None:
        """Bring the file to what is kept, or rescue all of it."""
        reason = self._find_trouble(whole)
        if reason is None:
            try:
                self._write_rest()
                return
            except OSError as error:
                reason = trouble.cannot_take(error)
        self._rescue(reason)

    def _find_trouble(self, whole: bool) -> str | None:
        """Reason why the path is not this run's file any more; None if it is. `whole`: all of it is compared."""
        if not self._is_open:
            return trouble.differs_at(self.path, self._kept)
        descriptor = self._stream.fileno()
        reason = trouble.lost(self.path, descriptor, self._size)
        if reason is None and (whole or os.fstat(descriptor).st_mtime_ns != self._modified_ns):
            reason = None if self._kept.begins(descriptor, self._size) else trouble.CHANGED
            self._note_change()
        taken_by = None if reason else self._lock.taken_over_by()
        return reason if taken_by is None else f"was taken over by {taken_by}"

    def _note_change(self) -> None:
        self._modified_ns = os.fstat(self._stream.fileno()).st_mtime_ns

    def _write_rest(self) -> None:
        """Write what is kept and not in the file yet. Raises OSError."""
        left = self._kept.size - self._size
        if not left or not self._is_open:
            return
        descriptor = self._stream.fileno()
        disk.reserve(descriptor, self._size, left + disk.END_ROOM)
        try:
            self._kept.copy_to(descriptor, self._size)
        except OSError:
            with suppress(OSError):  # half a line would spoil the lines after it
                os.ftruncate(descriptor, self._size)
            raise
        finally:
            self._note_change()
        self._size = self._kept.size

    def _rescue(self, reason: str) -> None:
        """Write all lines to a new file, and go on with it. Raises NoRoomError if there is no place for one."""
        old, was_open = self.path, self._is_open
        new = self._open_rescued()
        reason = f"{old} {reason}"
        if new is None:
            raise self._no_room(reason)
        self.moves.append(reason)
        if was_open:
            self._end_old(f"{reason}: the whole run is in {new[0]}")
            self._let_go()
        self.path, self._stream, self._lock = new
        self._size = self._kept.size
        self._is_open = True
        self._note_change()
        self.say(f"warning: {reason}; everything measured is saved in {self.path}, and goes on there")

    def _no_room(self, reason: str) -> NoRoomError:
        remedy = f"go on with --resume {self.path}" if self.is_saved else "measure again"
        return NoRoomError(f"{reason}, and no other folder takes the result; make room, and {remedy}")

    def _open_rescued(self) -> tuple[Path, FileIO, FileLock] | None:
        """A new file with all that is kept, locked; None if no folder takes one."""
        for folder in disk.folders_for(self.path):
            try:
                path, stream = disk.create_rescued(self.path, folder)
            except OSError:
                continue
            try:
                disk.reserve(stream.fileno(), 0, self._kept.size + disk.END_ROOM)
                self._kept.copy_to(stream.fileno())
                os.fsync(stream.fileno())
                return path, stream, FileLock.take(path, stream.fileno(), self._program)
            except (OSError, BenchError):
                stream.close()
                path.unlink(missing_ok=True)
        return None

    def _end_old(self, reason: str) -> None:
        """End a file that takes no more lines, in the blocks that were set aside for that."""
        if not self._is_open or trouble.lost(self.path, self._stream.fileno(), self._size) is not None:
            return
        line = decoding.encode(End(ended=clock.stamp(), status="failed", exit_code=MOVED_CODE, reason=reason))
        with suppress(OSError):
            disk.write_at(self._stream.fileno(), self._pack(line + b"\n"), self._size)

    def end(self, record: End) -> None:
        """Write the end line wherever it can be written, and let the file go; it raises nothing.

        Lines that found no place before are tried once more.
        """
        with suppress(NoRoomError):
            self.append(record)
            self.close()
            return
        self._end_old(record.reason)
        self.close()

    def close(self) -> None:
        """Let the file go; one without any line is taken away. It raises nothing."""
        if self._is_open:
            self._is_open = False
            if self.is_empty and is_open_at(self.path, self._stream.fileno()):
                with suppress(OSError):
                    self.path.unlink()
            self._let_go()

    def _let_go(self) -> None:
        self._lock.release()
        with suppress(OSError):
            os.ftruncate(self._stream.fileno(), os.fstat(self._stream.fileno()).st_size)  # blocks that were set aside
        with suppress(OSError):
            self._stream.close()

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_new(name: Path | Callable[[], Path]) -> tuple[Path, FileIO]:
    """A file that was not there before. Raises BenchError."""
    for _ in range(1 if isinstance(name, Path) else MAX_NAMES):
        path = name if isinstance(name, Path) else name()
        if path.parent.exists() and not path.parent.is_dir():
            raise BenchError(f"{str(path.parent)!r} is a file, not a folder; choose a folder with -o")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path, path.open("x+b", buffering=0)
        except FileExistsError as error:
            taken = cannot_write(path, error)
        except OSError as error:
            raise cannot_write(path, error) from error
    raise taken


def _open_locked(path: Path, program: str) -> tuple[FileIO, FileLock]:
    """A result file that is open for writing and locked, without a torn last line. Raises OSError and BenchError."""
    while True:
        stream = path.open("r+b", buffering=0)
        try:
            lock = FileLock.take(path, stream.fileno(), program)
        except BaseException:
            stream.close()
            raise
        try:
            load(path)
            jsonl.repair_end(path)
            if is_open_at(path, stream.fileno()):
                return stream, lock
        except BaseException:
            lock.release()
            stream.close()
            raise
        lock.release()  # another process has replaced it, or a torn .gz file was mended by a new one
        stream.close()
