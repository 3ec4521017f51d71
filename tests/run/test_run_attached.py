"""Ranks that somebody else started: torchrun on one node and two, a plain environment, Slurm's variables."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.support.command import BENCH, FAULTY, SUITES, TORCHRUN, Saved, call, saved, start

pytestmark = pytest.mark.launchers

TINY = str(SUITES / "tiny.py")
QUICK = ("--preset", "smoke", "--budget", "10m")
"""Seed 0 happens to leave two and three cases in the order in which they are given."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ends(processes: list[tuple[list[str], dict[str, str]]]) -> list[tuple[int, str, str]]:
    """Start commands side by side; each one's exit code and output."""
    running = [start(command, launcher=True, **variables) for command, variables in processes]
    outputs = [process.communicate(timeout=100) for process in running]
    return [(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]


def ids(file: Saved) -> list[str]:
    return [m["case"] for m in file.measurements]


@pytest.mark.long
def test_torchrun_measures_the_same_cases_as_local_ranks(tmp_path: Path) -> None:
    bench = ["--no-python", *BENCH, "run", TINY, *QUICK, "-o"]
    torchrun = [*TORCHRUN, "--standalone", "--nproc-per-node=2", *bench, str(tmp_path / "torchrun")]
    ((code, out, errors),) = ends([(torchrun, {})])
    assert code == 0, errors
    local = call("run", TINY, *QUICK, "-o", str(tmp_path / "local"))
    assert local.returncode == 0, local.stderr
    joined, own = saved(tmp_path / "torchrun"), saved(tmp_path / "local")
    assert ids(joined) == ids(own)
    threads = [[r["num_threads"] for r in file.ranks()] for file in (joined, own)]
    assert threads[0] == threads[1]
    assert out.count("saved: ") == 1  # rank 0 alone says what came out
    assert len(re.findall(r" 3/3  (?!\+)", errors)) == 1  # "+1 repeats ..." are no cases


@pytest.mark.long
def test_torchrun_on_two_nodes_makes_one_file(tmp_path: Path) -> None:
    port = free_port()
    agents = [
        (
            [
                *TORCHRUN, "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1",
                f"--master-port={port}", "--no-python", *BENCH, "run", TINY, *QUICK, "-o", str(tmp_path),
            ],
            {},
        )
        for node in (0, 1)
    ]  # fmt: skip
    for code, _, errors in ends(agents):
        assert code == 0, errors
    assert ids(saved(tmp_path)) == ["tiny/first", "tiny/second", "tiny/third"]


@pytest.mark.seeded
def test_a_raise_on_one_rank_is_outlived_under_torchrun(tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *BENCH, "run", FAULTY, *QUICK]
    ((code, _, _),) = ends([([*command, "--set", "op=raise_one,last", "-o", str(tmp_path)], {})])
    assert code == 1  # torchrun makes 1 of every child's code; the file has ours
    file = saved(tmp_path)
    assert file.statuses() == {"raise_one": "failed", "last": "ok"}
    assert "rank 1" in file.of("raise_one")["reason"]
    assert file.end is not None
    assert file.end["exit_code"] == 3


@pytest.mark.seeded
def test_a_killed_rank_ends_the_run_under_torchrun(tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *BENCH, "run", FAULTY, *QUICK]
    ((code, _, _),) = ends([([*command, "--set", "op=none,kill,last", "-o", str(tmp_path)], {})])
    assert code == 1
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok", "kill": "failed"}
    assert "rank 1 on " in file.of("kill")["reason"]
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)


@pytest.mark.seeded
def test_a_hang_ends_the_run_of_a_plain_environment(tmp_path: Path) -> None:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [*BENCH, "run", FAULTY, *QUICK, "--timeout", "3s", "--set", "op=none,hang,last", "-o", str(tmp_path)]
    results = ends([(command, variables | {"RANK": str(rank)}) for rank in (0, 1)])
    assert [code for code, *_ in results] == [3, 3]
    assert results[1][2] == ""  # rank 0 ended in order, and said why
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok", "hang": "failed"}
    assert "rank 1 on " in file.of("hang")["reason"]
    assert "faulty.py" in file.of("hang")["reason"]


def slurm(**variables: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "localhost"} | variables


def test_a_slurm_step_is_joined(tmp_path: Path) -> None:
    command = [*BENCH, "run", TINY, *QUICK, "-o", str(tmp_path)]
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": str(free_port())}
    tasks = [slurm(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **step) for rank in (0, 1)]
    results = ends([(command, variables) for variables in tasks])
    assert [code for code, *_ in results] == [0, 0], results
    file = saved(tmp_path)
    assert ids(file) == ["tiny/first", "tiny/second", "tiny/third"]
    assert file.header["plan"]["launches"] == 1


@pytest.mark.long
def test_a_slurm_batch_shell_starts_its_own_ranks(tmp_path: Path) -> None:
    done = call("run", TINY, *QUICK, "--set", "op=first", "-o", str(tmp_path), **slurm(SLURM_PROCID="0"))
    assert done.returncode == 0, done.stderr
    assert "started here" in done.stderr
    assert saved(tmp_path).header["plan"]["world_size"] == 2


def test_only_rank_0_complains_of_a_mistake(tmp_path: Path) -> None:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [*BENCH, "run", TINY, "--visits", "0", "-o", str(tmp_path)]
    results = ends([(command, variables | {"RANK": str(rank)}) for rank in (0, 1)])
    assert [code for code, *_ in results] == [2, 2]
    assert "--visits 0" in results[0][2]
    assert results[1][2] == ""
    assert not list(tmp_path.iterdir())
