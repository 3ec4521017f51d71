"""Folders that a process holds, and those that dead ones left."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.process import held_folder
from bench.core.process.held_folder import LOCK, MARK, HeldFolder, remove_abandoned
from tests import ROOT


def left(parent: Path, name: str, mark: bytes = MARK) -> Path:
    folder = parent / name
    (folder / "deep").mkdir(parents=True)
    (folder / LOCK).write_bytes(mark)
    return folder


def test_a_folder_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    with HeldFolder(tmp_path, "run") as folder:
        (folder / "file").touch()
        assert folder.name.startswith("bench-run-")
        remove_abandoned(tmp_path)
        assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    text = (
        "import sys, time\nfrom pathlib import Path\nfrom bench.core.process.held_folder import HeldFolder\n"
        "folder = HeldFolder(Path(sys.argv[1]), 'run')\nprint(folder.path, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        remove_abandoned(tmp_path)
        assert folder.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder.is_dir()
    HeldFolder(tmp_path, "other").close()
    assert list(tmp_path.iterdir()) == []


def test_only_folders_that_are_surely_its_own_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [
        left(tmp_path, "bench-of-a-user", b"my own lock"),
        left(tmp_path, "bench-empty-mark", b""),
        left(tmp_path, "other-name"),
    ]
    (tmp_path / "bench-without").mkdir()
    outside = left(tmp_path / "outside", "bench-x")
    (tmp_path / "bench-link").symlink_to(outside)
    inner = tmp_path / "bench-linked-lock"
    inner.mkdir()
    (inner / LOCK).symlink_to(outside / LOCK)
    left(tmp_path, "bench-dead")
    remove_abandoned(tmp_path)
    assert not (tmp_path / "bench-dead").exists()
    assert all(folder.is_dir() for folder in (*kept, tmp_path / "bench-without", outside, inner))
    of_another = left(tmp_path, "bench-dead")
    monkeypatch.setattr(held_folder.os, "geteuid", lambda: os.getuid() + 1)
    remove_abandoned(tmp_path)
    assert of_another.is_dir()


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if not swept and operation == fcntl.LOCK_EX:
            (found,) = tmp_path.iterdir()
            swept.append(found)
            (found / LOCK).unlink()
            found.rmdir()  # another process, between the two steps
        flock(descriptor, operation)

    monkeypatch.setattr(held_folder.fcntl, "flock", late)
    with HeldFolder(tmp_path, "run") as folder:
        assert [folder] == list(tmp_path.iterdir())
        assert folder != swept[0]


def test_without_flock_a_folder_is_never_taken_for_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(held_folder.fcntl, "flock", none)
    with HeldFolder(tmp_path, "run") as folder:
        assert list(folder.iterdir()) == []
        monkeypatch.undo()
        remove_abandoned(tmp_path)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
