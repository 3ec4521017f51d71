"""Ranks that mpirun of Open MPI and mpiexec of MPICH start, on one host and on several, through the real command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import BENCH, SUITES, call, saved, start
from tests.support.namespaces import Hosts, hosts_or_skip

pytestmark = [pytest.mark.launchers, pytest.mark.ranks]

RUN = [*BENCH, "run", str(SUITES / "tiny.py"), "--preset", "smoke", "--budget", "10m", "-o"]
CASES = ["tiny/first", "tiny/second", "tiny/third"]
OPEN_MPI = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe"]
HYDRA = ["mpiexec.hydra"]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts, on the first of which mpirun and mpiexec run."""
    with hosts_or_skip(("alpha", "beta", "gamma"), tmp_path_factory.mktemp("hosts")) as nodes:
        yield nodes


def hosts(folder: Path) -> list[str]:
    """Each rank's host, by the only result file in a folder, which has all cases."""
    file = saved(folder)
    assert [m["case"] for m in file.measurements] == CASES
    assert all(m["status"] == "ok" for m in file.measurements)
    return [rank["host"] for rank in file.ranks()]


def outcome(command: list[str]) -> tuple[int, str, str]:
    process = start(command, launcher=True)
    out, errors = process.communicate(timeout=100)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    "launcher", [pytest.param(OPEN_MPI, marks=needs(OPEN_MPI[0])), pytest.param(HYDRA, marks=needs(HYDRA[0]))]
)
def test_ranks_of_mpi_on_one_host_make_one_file(launcher: list[str], tmp_path: Path) -> None:
    code, out, errors = outcome([*launcher, "-n", "2", *RUN, str(tmp_path)])
    assert code == 0, errors
    assert out.count("saved: ") == 1
    assert len(hosts(tmp_path)) == 2


@pytest.mark.long
@needs("mpiexec.hydra")
def test_hydra_s_ranks_on_two_hosts_learn_through_pmi_where_rank_0_is(nodes: Hosts, tmp_path: Path) -> None:
    launcher = [*HYDRA, "-launcher", "ssh", "-launcher-exec", str(nodes.remote_shell)]
    done = nodes.call("alpha", *launcher, "-hosts", "beta,alpha", "-n", "2", "-ppn", "1", *RUN, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert hosts(tmp_path) == ["beta", "alpha"]


def open_mpi_on(names: str, nodes: Hosts, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    launcher = [*OPEN_MPI, "--mca", "plm_rsh_agent", str(nodes.remote_shell), "--host", names, *options]
    return nodes.call("alpha", *launcher, "-n", "2", *RUN, str(folder))


@pytest.mark.long
@needs("mpirun.openmpi")
def test_open_mpi_s_ranks_on_two_hosts_meet_at_mpirun_s_host(nodes: Hosts, tmp_path: Path) -> None:
    done = open_mpi_on("alpha:1,beta:1", nodes, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hosts(tmp_path) == ["alpha", "beta"]


@pytest.mark.long
@needs("mpirun.openmpi")
def test_open_mpi_s_ranks_away_from_mpirun_stop_with_the_option_that_makes_them_meet(
    nodes: Hosts, tmp_path: Path
) -> None:
    address = nodes.addresses["beta"]
    stopped = open_mpi_on("beta:1,gamma:1", nodes, tmp_path)
    assert stopped.returncode == 2
    line = next(line for line in stopped.stderr.splitlines() if line.startswith("bench: error: "))
    assert line.endswith(f"is not the host of rank 0; type: mpirun -x MASTER_ADDR={address} ... bench run")
    assert not list(tmp_path.glob("*.jsonl"))
    done = open_mpi_on("beta:1,gamma:1", nodes, tmp_path, "-x", f"MASTER_ADDR={address}")
    assert done.returncode == 0, done.stderr
    assert hosts(tmp_path) == ["beta", "gamma"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "2"}, "type: flux run ... bash -c 'RANK=$FLUX_TASK_RANK "),
        ({"PMIX_RANK": "0", "PMIX_NAMESPACE": "prterun-a-1@1"}, "type: prterun ... bash -c 'RANK=$PMIX_RANK "),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK=0 and WORLD_SIZE=2 without MASTER_ADDR; set MASTER_ADDR"),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"},
            "MASTER_PORT=99999: 1 to 65535; ",
        ),
    ],
)
def test_what_is_not_joined_is_one_line_at_once(variables: dict[str, str], words: str, tmp_path: Path) -> None:
    done = call("run", str(SUITES / "tiny.py"), "-o", str(tmp_path), **variables)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
