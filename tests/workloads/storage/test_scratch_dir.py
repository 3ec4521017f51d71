"""Folders of a case: one at a time, with room, and none left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.core.process.held_folder import LOCK, MARK, HeldFolder
from bench.errors import BenchError, Skip
from bench.measure.engine.rank import RankContext
from bench.measure.launchers.place import Place
from bench.workloads.storage import scratch_dir
from tests.support.ranks import cpu_machine


def one_rank() -> RankContext:
    import torch

    nobody: Any = None
    return RankContext(Place(0, 1, 0, 1), cpu_machine(1), "gloo", torch.device("cpu"), nobody, nobody, nobody)


def test_a_folder_is_new_and_goes_with_its_holder(tmp_path: Path) -> None:
    path, held = scratch_dir.new_scratch(one_rank(), str(tmp_path), "x", per_host=True)
    assert held is not None
    assert path.parent == tmp_path
    (path / "file").write_text("text")
    held.close()
    held.close()
    assert not list(tmp_path.iterdir())
    path, held = scratch_dir.new_scratch(one_rank(), str(tmp_path), "x", per_host=False)
    assert path.is_dir()
    del held  # a case that broke closes nothing, but forgets its work
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / "bench-x-left"
    (left / "deep").mkdir(parents=True)
    (left / LOCK).write_bytes(MARK)  # nobody holds its lock
    other = tmp_path / "bench-x-without-lock"
    other.mkdir()
    first = HeldFolder(tmp_path, "x")
    second = HeldFolder(tmp_path, "x")
    assert {path.name for path in tmp_path.iterdir()} == {first.path.name, second.path.name, other.name}


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"rank 0: folder=.*: there is no such folder; make it, or give"):
        scratch_dir.new_scratch(one_rank(), str(tmp_path / "nowhere"), "x", per_host=True)
    assert scratch_dir.parent_folder(scratch_dir.TEMPORARY).is_dir()


def test_room_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(scratch_dir.shutil, "disk_usage", lambda path: Usage(2**30))
    scratch_dir.require_room(one_rank(), str(tmp_path), 2**29)
    with pytest.raises(Skip, match=r"has 1\.00 GiB free, and 1\.16 GiB are needed"):
        scratch_dir.require_room(one_rank(), str(tmp_path), 2**30)
