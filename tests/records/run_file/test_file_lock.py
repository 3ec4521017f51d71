"""The lock on a run's file, by flock and, where the file system has none, by the note next to it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.run_file import file_lock
from bench.records.run_file.file_lock import FileLock
from bench.records.run_file.lock_note import STALE_SECONDS, LockNote, Owner
from tests.support.results import measurement, save

CASE = "collective/barrier"


def no_flock(number: int) -> file_lock.Flock:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "a.jsonl", measurement(CASE))


def test_a_second_one_is_refused_and_hears_who_has_it(path: Path) -> None:
    with path.open("r+b") as one, path.open("r+b") as two:
        lock = FileLock.take(path, one.fileno(), "bench ab")
        with pytest.raises(BenchError) as caught:
            FileLock.take(path, two.fileno(), "bench run")
        said = str(caught.value)
        assert f"a.jsonl' is being written by process {os.getpid()} on {os.uname().nodename} (bench ab, since 2" in said
        assert "wait for it to end, or end it first" in said
        lock.release()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.jsonl"]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs /proc/locks")
def test_without_a_note_the_kernel_names_the_holder(path: Path) -> None:
    holder = (
        "import fcntl, sys, time\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('has it', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with path.open("r+b") as stream, pytest.raises(BenchError, match=f"process {process.pid} on this host"):
            FileLock.take(path, stream.fileno(), "bench run")
        process.communicate(b"")


@pytest.mark.parametrize("number", sorted(file_lock.NO_FLOCK))
def test_where_there_is_no_flock_the_note_is_the_lock(path: Path, number: int) -> None:
    with path.open("r+b") as one, path.open("r+b") as two:
        lock = FileLock.take(path, one.fileno(), "bench run", no_flock(number))
        assert lock.taken_over_by() is None
        with pytest.raises(BenchError, match=f"is being written by process {os.getpid()} on "):
            FileLock.take(path, two.fileno(), "bench run", no_flock(number))
        lock.release()
        FileLock.take(path, two.fileno(), "bench run", no_flock(number)).release()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.jsonl"]


def owner(host: str = "elsewhere", process_id: int = 12) -> Owner:
    return Owner(host, process_id, "bench run", "2026-01-31T12:00:00.000+00:00", "0123abcd")


def test_the_note_of_another_host_holds_until_it_is_stale(path: Path) -> None:
    LockNote(path, owner()).write()
    made = LockNote(path, owner()).file.stat().st_mtime
    fresh = LockNote(path, owner("here"), now=lambda _: made + STALE_SECONDS - 1)
    assert fresh.take() == owner()
    stale = LockNote(path, Owner.this_process("bench run"), now=lambda _: made + STALE_SECONDS + 1)
    assert stale.take() is None
    assert stale.read() == stale.owner
    stale.remove()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.jsonl"]


def test_the_note_of_a_dead_process_of_this_host_is_stale_at_once(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    LockNote(path, owner(os.uname().nodename, process.pid)).write()
    note = LockNote(path, Owner.this_process("bench run"))
    assert note.take() is None
    note.remove()


def test_a_note_that_another_took_over_is_seen_and_not_removed(path: Path) -> None:
    with path.open("r+b") as stream:
        lock = FileLock.take(path, stream.fileno(), "bench run", no_flock(errno.ENOLCK))
        LockNote(path, owner()).write()
        assert lock.taken_over_by() == "process 12 on elsewhere (bench run, since 2026-01-31T12:00:00.000+00:00)"
        lock.release()
    assert LockNote(path, owner()).read() == owner()


def test_a_note_is_removed_from_a_folder_that_was_renamed(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    path = save(tmp_path / "before" / "a.jsonl", measurement(CASE))
    with path.open("r+b") as stream:
        lock = FileLock.take(path, stream.fileno(), "bench run")
        path.parent.rename(tmp_path / "after")
        lock.release()
    assert [entry.name for entry in (tmp_path / "after").iterdir()] == ["a.jsonl"]


def test_a_note_that_is_damaged_names_nobody_and_is_replaced(path: Path) -> None:
    note = LockNote(path, Owner.this_process("bench run"))
    note.file.write_text("{")
    assert note.read() is None
    assert note.take() is None
    note.remove()


def test_a_folder_without_flock_that_takes_no_file_is_the_users_to_mend(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: LockNote) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(LockNote, "_draft", refuse)
    with path.open("r+b") as stream, pytest.raises(BenchError, match=r"cannot lock with .*Permission denied"):
        FileLock.take(path, stream.fileno(), "bench run", no_flock(errno.ENOSYS))
    with path.open("r+b") as stream:  # with flock the note is a courtesy
        FileLock.take(path, stream.fileno(), "bench run").release()


def test_other_errors_of_the_lock_are_not_hidden(path: Path) -> None:
    with path.open("r+b") as stream, pytest.raises(OSError, match="Input/output"):
        FileLock.take(path, stream.fileno(), "bench run", no_flock(errno.EIO))
