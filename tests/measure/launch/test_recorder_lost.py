"""A recorder whose file is lost, or takes no more lines: exit code, end line, and what the run says."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bench.records.file import load
from bench.records.run_file import run_file
from bench.records.run_file.run_file import NoRoomError
from tests.support.plans import a_plan
from tests.support.recorders import READY, Heard, Recorders, begun, kinds, record


def test_a_run_goes_on_in_another_file_says_so_and_ends_with_3(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    recorder.handle(READY)
    recorder.handle(begun(0))
    recorder.handle(record(plan, 0))
    path.unlink()
    recorder.handle(begun(1))
    recorder.handle(record(plan, 1))
    assert recorder.path != path
    assert recorder.finish() == 3
    result = load(recorder.path)
    assert [each.case for each in result.measurements] == [plan.left_out[0].id, plan.cases[0].id, plan.cases[1].id]
    assert result.end is not None
    assert (result.end.status, result.end.exit_code) == ("failed", 3)
    assert result.end.reason == f"{path} was deleted"
    assert isinstance(recorder.progress, Heard)
    (said,) = [call[1] for call in recorder.progress.calls if call[0] == "say"]
    assert said.startswith(f"warning: {path} was deleted; everything measured is saved in {recorder.path}")
    assert recorder.confirm(3) == 3


def test_a_file_that_is_lost_before_the_end_line_is_seen(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder()
    recorder.handle(READY)
    path.rename(path.with_name("moved"))
    assert recorder.finish() == 3
    assert kinds(recorder.path)[-1] == "end"


def test_a_signal_keeps_its_code_and_the_reason_is_in_the_end_line(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder()
    recorder.handle(READY)
    path.unlink()
    recorder.end("interrupted", 143)
    end = load(recorder.path).end
    assert end is not None
    assert (end.status, end.exit_code) == ("interrupted", 143)


def test_nothing_is_called_saved_of_a_file_that_is_lost_after_its_end(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder()
    recorder.handle(READY)
    assert recorder.finish() == 0
    assert recorder.confirm(0) == 0
    path.write_bytes(path.read_bytes()[:-30])
    assert recorder.confirm(0) == 3
    result = load(recorder.path)
    assert result.end is not None
    assert (result.end.status, result.end.exit_code) == ("failed", 3)
    assert recorder.path != path


def test_a_line_that_nothing_takes_ends_the_run_with_a_reason(
    a_recorder: Recorders, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    recorder.handle(READY)

    def full(descriptor: int, offset: int, num_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_file.disk, "reserve", full)
    recorder.handle(begun(0))
    with pytest.raises(NoRoomError, match=r"No space left on device\), and no other folder takes the result") as caught:
        recorder.handle(record(plan, 0))
    recorder.trouble = str(caught.value)
    recorder.end("failed", 3)
    result = load(path)
    assert result.end is not None
    assert result.end.reason.startswith(f"{path} takes no more lines (No space left on device), and no other")
    assert recorder.writer.is_saved
