"""Several launches of one joined run: fresh processes that meet again, one file, and a rank that is lost between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import BENCH, SUITES, TORCHRUN, saved, start
from tests.support.meetings import free_port

pytestmark = pytest.mark.launchers
TINY = str(SUITES / "tiny.py")
DIES_BEFORE_THE_SECOND_LAUNCH = """
import os, sys
if "--continuation" in sys.orig_argv:
    os._exit(9)
"""
WORDS = ("run", TINY, "--preset", "smoke", "--set", "op=first")


def _pair(folder: Path, *words: str, second: Mapping[str, str] | None = None) -> list[subprocess.Popen[str]]:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [*BENCH, *WORDS, *words, "-o", str(folder)]
    changes = ({}, second or {})
    return [start(command, launcher=True, **variables, **changes[rank], RANK=str(rank)) for rank in (0, 1)]


def _wait_for(folder: Path, found: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Wait until the lines of the file are as wanted; the test's own limit ends a wait in vain."""
    while True:
        for path in folder.glob("*.jsonl"):
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if found([json.loads(line) for line in whole]):
                return
        os.sched_yield()


@pytest.mark.long
def test_torchrun_s_ranks_make_three_launches_into_one_file(tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *BENCH, *WORDS, "--launches", "3"]
    process = start([*command, "-o", str(tmp_path)], launcher=True)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    file = saved(tmp_path)
    assert sorted({m.get("launch", 0) for m in file.measurements}) == [0, 1, 2]
    assert {m["status"] for m in file.measurements} == {"ok"}
    assert len(file.resumes) == 2
    assert file.end is not None
    assert file.end["exit_code"] == 0
    assert out.count("saved: ") == 1
    assert "launch 2 of 3: fresh processes meet again" in errors


@pytest.mark.long
def test_a_rank_that_is_lost_between_two_launches_is_named_and_the_rest_can_be_resumed(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "sitecustomize.py").write_text(DIES_BEFORE_THE_SECOND_LAUNCH)
    folder = tmp_path / "results"
    first, second = _pair(folder, "--launches", "2", "--join-timeout", "8s", second={"PYTHONPATH": str(lost)})
    _, errors = first.communicate(timeout=120)
    second.communicate(timeout=60)
    assert first.returncode == 3, errors
    assert second.returncode == 9
    reason = f"1 of 2 ranks came within 8 s; missing: {socket.gethostname()}: rank 1;"
    assert f"bench: error: {reason}" in errors
    file = saved(folder)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)
    assert file.end["reason"].startswith(reason)
    assert {m.get("launch", 0) for m in file.measurements} == {0}

    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    resumed = [
        start([*BENCH, "run", "--resume", str(file.path)], launcher=True, **variables, RANK=str(rank))
        for rank in (0, 1)
    ]
    for process in resumed:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    whole = saved(folder)
    assert whole.end is not None
    assert whole.end["status"] == "complete"
    assert {m.get("launch", 0) for m in whole.measurements} == {0, 1}


@pytest.mark.seeded
@pytest.mark.parametrize("kind", ["ranks", "measurement"])
def test_the_host_of_the_store_dies_and_each_survivor_says_so(kind: str, tmp_path: Path) -> None:
    first, second = _pair(tmp_path, "--set", "op=first,second,third")
    _wait_for(tmp_path, lambda lines: any(line["kind"] == kind for line in lines))
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert second.returncode in ((2, 3) if kind == "ranks" else (3,)), errors[-2000:]
    (line,) = [line for line in errors.splitlines() if line.startswith("bench: error: ")]
    assert "is gone: rank 0 died there" in line
    assert "Traceback" not in errors
    assert "frame #" not in errors


@pytest.mark.long
@pytest.mark.seeded
def test_the_agent_that_holds_the_store_dies_and_rank_0_ends_its_file(tmp_path: Path) -> None:
    port = str(free_port())
    agents = [
        start(
            [
                *TORCHRUN, "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1",
                f"--master-port={port}", "--no-python", *BENCH, "run", TINY, "--preset", "smoke", "-o", str(tmp_path),
            ],
            launcher=True,
        )
        for node in (0, 1)
    ]  # fmt: skip
    _wait_for(tmp_path, lambda lines: any(line["kind"] == "measurement" for line in lines))
    agents[0].kill()
    _wait_for(tmp_path, lambda lines: lines[-1]["kind"] == "end")
    outputs = [agent.communicate(timeout=60) for agent in agents]
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)
    reasons = [file.end.get("reason", ""), *(m.get("reason") or "" for m in file.measurements)]
    assert any("is gone: its agent of torchrun died there" in reason for reason in reasons), reasons
    assert "bench: error: rank 1 on " in outputs[1][1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_rank_0_alone_ends_all_ranks_and_accuses_none(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    both = _pair(tmp_path, "--set", "op=first,second,third")
    _wait_for(tmp_path, lambda lines: any(line["kind"] == "measurement" for line in lines))
    both[0].send_signal(number)
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [code, code], outputs
    assert all("Traceback" not in errors and "error:" not in errors for _, errors in outputs)
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("interrupted", code)
    assert all(m["status"] == "ok" for m in file.measurements)


@pytest.mark.long
@pytest.mark.seeded
def test_a_rank_0_that_is_frozen_is_not_waited_for_without_end(tmp_path: Path) -> None:
    first, second = _pair(tmp_path, "--set", "op=first,second,third", "--timeout", "5s")
    _wait_for(tmp_path, lambda lines: any(line["kind"] == "measurement" for line in lines))
    first.send_signal(signal.SIGSTOP)
    _, errors = second.communicate(timeout=90)
    assert second.returncode == 3, errors
    assert "is gone: rank 0 died there, or its host (it gives no answer)" in errors
    first.kill()
    first.communicate()


@pytest.mark.long
def test_closed_streams_keep_no_launch_from_being_made(tmp_path: Path) -> None:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *BENCH, *WORDS, "--launches", "2", "-o", str(tmp_path)]
    both = [start(command, launcher=True, **variables, RANK=str(rank)) for rank in (0, 1)]
    errors = [process.communicate(timeout=90)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert {m.get("launch", 0) for m in saved(tmp_path).measurements} == {0, 1}
