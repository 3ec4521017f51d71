"""Runs whose file others want or take away, and that signals end, through the real command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records.file import load
from tests.support.command import BENCH, SUITES, TORCHRUN, call, saved, start

TINY = str(SUITES / "tiny.py")
QUICK = ("--preset", "smoke", "--budget", "10m")
TWO_LAUNCHES = (TINY, *QUICK, "--launches", "2")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files, in which a run is to leave nothing."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def left(temporary: Path) -> list[str]:
    return [path.name for path in temporary.iterdir() if path.name.startswith("bench-")]


def wait_for(run: subprocess.Popen[str], text: str) -> str:
    """What a run said up to a text."""
    assert run.stderr is not None
    said = ""
    for line in run.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.jsonl")
    return path


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


@pytest.mark.ranks
def test_a_run_holds_its_file_outlives_its_loss_and_ends_in_order(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / "out"
    run = start([*BENCH, "run", *TWO_LAUNCHES, "-o", str(folder)], launcher=True, TMPDIR=str(temporary))
    wait_for(run, " 1/6 ")
    path = only(folder)
    assert len(left(temporary)) == 1
    second = call("run", "--resume", str(path))
    assert second.returncode == 2
    assert f"is being written by process {run.pid} on {os.uname().nodename} (bench run, since " in second.stderr
    assert call("show", str(path)).returncode == 0  # readers are not refused
    replace(path)
    wait_for(run, "warning: ")
    for _ in range(6):
        run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 143, err
    (rescued,) = folder.glob("*-rescued-*.jsonl")
    assert f"saved: {rescued}" in out
    assert err.splitlines()[-1] == f"interrupted; go on with: bench run --resume {rescued}"
    assert "Traceback" not in err
    result = load(rescued)
    assert len(result.measurements) >= 2
    assert result.end is not None
    assert (result.end.status, result.end.exit_code) == ("interrupted", 143)
    assert result.end.reason == f"{path} was replaced by another file"
    assert left(temporary) == []
    assert not [entry for entry in folder.iterdir() if entry.name.endswith(".lock")]


@pytest.mark.ranks
@pytest.mark.seeded
@pytest.mark.parametrize(
    ("number", "times", "code"), [(signal.SIGINT, 6, 130), (signal.SIGHUP, 1, 129), (signal.SIGTERM, 1, 143)]
)
def test_signals_end_a_run_in_order(tmp_path: Path, temporary: Path, number: int, times: int, code: int) -> None:
    run = start([*BENCH, "run", *TWO_LAUNCHES, "-o", str(tmp_path)], launcher=True, TMPDIR=str(temporary))
    wait_for(run, " 1/6 ")
    for _ in range(times):
        run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("interrupted", code)
    assert err.count("interrupted") == 1
    assert "Traceback" not in err
    assert left(temporary) == []


@pytest.mark.seeded
def test_a_signal_before_anything_is_measured_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    run = start([*BENCH, "run", TINY, *QUICK, "-o", str(tmp_path / "out")], launcher=True, TMPDIR=str(temporary))
    wait_for(run, "devices: ")
    for _ in range(6):
        run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err == "" or err.splitlines()[-1] == "interrupted; nothing was measured"
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == left(temporary) == []


@pytest.mark.ranks
@pytest.mark.seeded
def test_the_next_run_removes_what_a_killed_one_left_and_may_have_its_file(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / "out"
    run = start([*BENCH, "run", TINY, *QUICK, "-o", str(folder)], launcher=True, TMPDIR=str(temporary))
    wait_for(run, " 1/3 ")
    run.kill()
    run.communicate(timeout=30)
    assert len(left(temporary)) == 1
    resumed = call("run", "--resume", str(only(folder)), TMPDIR=str(temporary))
    assert resumed.returncode == 0, resumed.stderr
    assert left(temporary) == []
    assert [entry.name for entry in folder.iterdir()] == [only(folder).name]


@pytest.mark.ranks
@pytest.mark.seeded
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("redirection", "code"), [(">/dev/full", 2), (">&-", 0), ("2>&-", 0), ("2>/dev/full", 0)])
def test_streams_that_take_nothing_cost_no_result(tmp_path: Path, redirection: str, code: int) -> None:
    command = " ".join([*BENCH, "run", TINY, *QUICK, "-o", str(tmp_path)])
    run = start(["bash", "-c", f"exec {command} {redirection}"])
    _, err = run.communicate(timeout=120)
    assert run.returncode == code, err
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("complete", 0)
    assert set(file.statuses().values()) == {"ok"}
    if code:
        assert (
            f"cannot write the output: No space left on device; send it elsewhere, or make room; the "
            f"result is saved: {file.path}" in err
        )
    assert "Traceback" not in err


@pytest.mark.ranks
@pytest.mark.launchers
@pytest.mark.seeded
@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (replace, "was replaced by another file"),
        (lambda path: os.truncate(path, 100), "was cut off by another program"),
        (Path.unlink, "was deleted"),
    ],
)
def test_a_joined_run_outlives_the_loss_of_its_file_between_two_launches(
    tmp_path: Path, lose: Callable[[Path], object], reason: str
) -> None:
    words = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *BENCH, "run", *TWO_LAUNCHES]
    run = start([*words, "-o", str(tmp_path)], launcher=True)
    wait_for(run, "Rough, from launch 1 of 2")
    path = only(tmp_path)
    second = call("run", "--resume", str(path))
    assert second.returncode == 2
    assert "is being written by process" in second.stderr
    lose(path)
    _, err = run.communicate(timeout=120)
    (rescued,) = tmp_path.glob("*-rescued-*.jsonl")
    result = load(rescued)
    assert {(record.launch, record.case) for record in result.measurements} == {
        (launch, f"tiny/{op}") for launch in (0, 1) for op in ("first", "second", "third")
    }
    assert result.end is not None
    assert (result.end.status, result.end.exit_code) == ("failed", 3)
    assert result.end.reason == f"{path} {reason}"
    assert f"warning: {path} {reason}; everything measured is saved in {rescued}" in err


@pytest.mark.ranks
@pytest.mark.seeded
def test_both_files_of_an_alternation_are_held_and_one_that_is_replaced_loses_nothing(tmp_path: Path) -> None:
    words = [*BENCH, "ab", TINY, "--preset", "smoke", "--pairs", "2", "--a", "X=1", "--b", "X=2", "-o", str(tmp_path)]
    run = start(words, launcher=True)
    wait_for(run, "pair 1 of 2: b")
    (path,) = tmp_path.glob("ab_a-*.jsonl")
    second = call("run", "--resume", str(path))
    assert second.returncode == 2
    assert f"is being written by process {run.pid} on {os.uname().nodename} (bench ab, since " in second.stderr
    replace(path)
    _, err = run.communicate(timeout=240)
    assert run.returncode == 3, err
    (rescued,) = tmp_path.glob("ab_a-*-rescued-*.jsonl")
    assert {record.launch for record in load(rescued).measurements} == {0, 1}
    assert f"everything measured is saved in {rescued}" in err
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".lock")]


@pytest.mark.ranks
@pytest.mark.seeded
def test_a_signal_to_an_alternation_ends_its_launch_in_order(tmp_path: Path, temporary: Path) -> None:
    words = [*BENCH, "ab", TINY, "--preset", "smoke", "--pairs", "2", "--a", "X=1", "--b", "X=2"]
    run = start([*words, "-o", str(tmp_path / "out")], launcher=True, TMPDIR=str(temporary))
    wait_for(run, "pair 1 of 2: b")
    for _ in range(6):
        run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 143, err
    assert err.splitlines()[-1].startswith("interrupted; saved: ")
    assert err.count("interrupted") == 1
    assert "Traceback" not in err
    assert left(temporary) == []
    assert not [entry for entry in (tmp_path / "out").iterdir() if entry.name.endswith(".lock")]
