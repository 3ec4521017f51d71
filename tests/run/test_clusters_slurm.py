"""Ranks that a real Slurm starts on four nodes: steps, the shipped batch script, cancelled jobs, lost nodes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.command import BENCH, FAULTY, SUITES, saved
from tests.support.namespaces import wait_for_records
from tests.support.slurm import NODES, Slurm, slurm_or_skip

pytestmark = [pytest.mark.launchers, pytest.mark.ranks, pytest.mark.long]

TINY = str(SUITES / "tiny.py")
QUICK = ("--preset", "smoke", "--budget", "10m")
ONE_EACH = ("--gpus-per-node=0", "--ntasks-per-node=1", "--nodes=4")
"""In place of what the script asks for on machines with GPUs."""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")


@pytest.fixture(scope="module")
def shared_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_or_skip(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(shared_slurm: Slurm) -> Slurm:
    """A Slurm whose nodes are all there and idle, whatever the test before did to them."""
    shared_slurm.mend()
    return shared_slurm


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped script in a checkout whose set-up gives the Python that runs the tests."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "slurm.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup").write_text(f"echo {sys.executable}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_srun_makes_one_file_of_four_nodes(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.call("srun", "-N4", "-n4", *BENCH, "run", TINY, *QUICK, "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "4 ranks (joined through slurm)" in done.stderr
    file = saved(tmp_path)
    assert [m["case"] for m in file.measurements] == ["tiny/first", "tiny/second", "tiny/third"]
    assert [rank["host"] for rank in file.ranks()] == list(NODES)


def test_srun_names_a_node_that_has_just_died(slurm: Slurm, tmp_path: Path) -> None:
    slurm.crash("node3")
    done = slurm.call("srun", "-N4", "-n4", *BENCH, "run", TINY, *QUICK, "-o", str(tmp_path))
    assert done.returncode != 0
    assert "failed on node node3" in done.stderr


@pytest.mark.parametrize(
    ("how", "end"),
    [("job", ("interrupted", 143)), ("--signal=TERM", ("interrupted", 143)), ("step", None)],
    ids=["job", "step by SIGTERM", "step by SIGKILL"],
)
def test_a_cancelled_run_keeps_what_was_measured(
    slurm: Slurm, tmp_path: Path, how: str, end: tuple[str, int] | None
) -> None:
    """Slurm kills the tasks of a step at once; only a job's are told before."""
    command = [*BENCH, "run", FAULTY, *QUICK, "--set", "op=none,hang_all", "-o", str(tmp_path)]
    step = slurm.start("srun", "-N4", "-n4", *command)
    wait_for_records(tmp_path, 1)
    (name,) = slurm.call("squeue", "--steps", "--noheader", "--format=%i").stdout.split()
    target = name.partition(".")[0] if how == "job" else name
    cancelled = slurm.call("scancel", *([how] if how.startswith("--") else []), target)
    assert cancelled.returncode == 0, cancelled.stderr
    step.communicate(timeout=60)
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok"}
    assert (file.end and (file.end["status"], file.end["exit_code"])) == end


def test_the_batch_script_names_its_file_by_the_job(slurm: Slurm, checkout: Path) -> None:
    job = slurm.submit(*ONE_EACH, "scripts/slurm.sh", TINY, *QUICK, "--set", "op=first", "-o", "one two")
    state = slurm.wait_for_job(job, *ENDED)
    said = (checkout / f"bench-{job}.log").read_text()
    assert state["JobState"] == "COMPLETED", said
    file = saved(checkout / "one two")
    assert file.path.name == f"slurm-{job}.jsonl"
    assert len(file.ranks()) == 4


def test_a_requeued_job_finishes_its_file(slurm: Slurm, checkout: Path) -> None:
    job = slurm.submit(
        *ONE_EACH, "scripts/slurm.sh", FAULTY, *QUICK, "--timeout", "15s", "--set", "op=none,hang_all,last"
    )
    wait_for_records(checkout / "results", 1)
    assert slurm.call("scontrol", "requeue", job).returncode == 0
    slurm.wait_for_job(job, "PENDING")
    slurm.call("scontrol", "update", f"job={job}", "starttime=now")  # Slurm waits for two minutes otherwise
    slurm.wait_for_job(job, *ENDED)
    file = saved(checkout / "results")
    assert file.path.name == f"slurm-{job}.jsonl"
    assert len(file.resumes) == 1
    assert file.statuses() == {"none": "ok", "hang_all": "failed"}


def test_three_launches_are_made_in_one_job(slurm: Slurm, checkout: Path) -> None:
    job = slurm.submit(*ONE_EACH, "scripts/slurm.sh", TINY, *QUICK, "--launches", "3", "--set", "op=first")
    state = slurm.wait_for_job(job, *ENDED)
    assert state["JobState"] == "COMPLETED", (checkout / f"bench-{job}.log").read_text()
    file = saved(checkout / "results")
    assert [(m["launch"], m["status"]) for m in file.measurements] == [(0, "ok"), (1, "ok"), (2, "ok")]
    assert file.end is not None
    assert file.end["status"] == "complete"


@pytest.mark.seeded
def test_a_spare_node_takes_the_place_of_a_lost_one(slurm: Slurm, checkout: Path) -> None:
    suite = (TINY, *QUICK, "--launches", "3", "--set", "op=first")
    job = slurm.submit(*ONE_EACH, "scripts/slurm.sh", *suite, BENCH_NODES="3")
    wait_for_records(checkout / "results", 1)
    slurm.crash("node3")
    slurm.wait_for_job(job, *ENDED)
    said = (checkout / f"bench-{job}.log").read_text()
    assert "slurm.sh: lost node3; node1 node2 node4 go on" in said, said
    file = saved(checkout / "results")
    assert file.path.name == f"slurm-{job}.jsonl"
    measured = {m["launch"]: m["status"] for m in file.measurements}
    assert sorted(measured) == [0, 1, 2]
    assert measured[2] == "ok"
    hosts = [[rank["host"] for rank in line["environment"]["ranks"]] for line in file.resumes]
    assert hosts[-1] == ["node1", "node2", "node4"]


@pytest.mark.seeded
def test_too_few_nodes_that_are_left_end_the_job(slurm: Slurm, checkout: Path) -> None:
    job = slurm.submit(*ONE_EACH, "scripts/slurm.sh", FAULTY, *QUICK, "--timeout", "15s", "--set", "op=none,hang")
    wait_for_records(checkout / "results", 1)
    slurm.crash("node3")
    state = slurm.wait_for_job(job, *ENDED)
    said = (checkout / f"bench-{job}.log").read_text()
    assert "slurm.sh: lost node3; 3 of the 4 nodes that the run needs are left" in said, said
    assert state["ExitCode"] == "3:0"
    assert saved(checkout / "results").statuses()["none"] == "ok"


def test_a_job_of_too_few_nodes_is_refused(slurm: Slurm, checkout: Path) -> None:
    job = slurm.submit(*ONE_EACH, "scripts/slurm.sh", TINY, BENCH_NODES="9")
    assert slurm.wait_for_job(job, *ENDED)["ExitCode"] == "2:0"
    assert "BENCH_NODES=9: this job has 4 nodes" in (checkout / f"bench-{job}.log").read_text()
