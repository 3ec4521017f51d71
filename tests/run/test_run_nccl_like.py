"""Joined runs on a backend with NCCL's manners (`tests.support.nccl_like`): ranks that wait cannot be set free.

Fake only, as gloo frees the peers of a rank that leaves, and raises in them: that the error of one rank is what the
file says while its peers wait for ever, whichever rank it was; that such a run ends all its processes; and that a rank
which waits if no frame is torch's is not taken for the one that holds up the others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.run.test_run_attached import QUICK, ends, free_port
from tests.support.command import SUITES, TORCHRUN, Saved, saved

pytestmark = pytest.mark.launchers

SUITE = str(SUITES / "on_device.py")
BENCH = (
    sys.executable,
    "-c",
    "from tests.support.nccl_like import install; install(); from bench.cli import main; main()",
)
RUN = (*BENCH, "run", SUITE, *QUICK, "--backend", "nccl_like")


def joined(folder: Path, *ops: str, timeout: str = "60s") -> tuple[list[int], Saved]:
    """The exit codes of two ranks that nobody supervises, and the file of rank 0."""
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    variables["PYTHONPATH"] = str(ROOT)
    command = [*RUN, "--timeout", timeout, "--set", f"op={','.join(ops)}", "-o", str(folder)]
    results = ends([(command, variables | {"RANK": str(rank)}) for rank in (0, 1)])
    return [code for code, *_ in results], saved(folder)


def test_a_sound_run_is_measured(tmp_path: Path) -> None:
    codes, file = joined(tmp_path, "none", "last")
    assert codes == [0, 0]
    assert file.statuses() == {"none": "ok", "last": "ok"}


@pytest.mark.parametrize(("op", "rank"), [("raise_last", 1), ("raise_first", 0)])
@pytest.mark.seeded
def test_the_error_of_one_rank_is_what_the_file_says(tmp_path: Path, op: str, rank: int) -> None:
    codes, file = joined(tmp_path, op)
    assert codes == [3, 3]
    reason = file.of(op)["reason"]
    assert reason.startswith(f"rank {rank} (")
    assert "measure: RuntimeError: run went wrong" in reason
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)


@pytest.mark.seeded
def test_the_same_under_torchrun_which_ends_the_other_ranks(tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *RUN]
    variables = {"PYTHONPATH": str(ROOT)}
    ((code, _, _),) = ends([([*command, "--set", "op=none,raise_last", "-o", str(tmp_path)], variables)])
    assert code == 1  # torchrun makes 1 of every child's code; the file has ours
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok", "raise_last": "failed"}
    assert file.of("raise_last")["reason"].startswith("rank 1 (")
    assert file.end is not None
    assert file.end["exit_code"] == 3


@pytest.mark.seeded
def test_an_earlier_error_of_all_ranks_is_not_the_cause(tmp_path: Path) -> None:
    codes, file = joined(tmp_path, "prepare_all", "raise_last")
    assert codes == [3, 3]
    assert "prepare went wrong" in file.of("prepare_all")["reason"]
    assert "measure: RuntimeError: run went wrong" in file.of("raise_last")["reason"]


@pytest.mark.parametrize(
    "op",
    [*(pytest.param(op, marks=pytest.mark.long) for op in ("hang_check", "hang_prepare")), "hang_per_rank"],
)
@pytest.mark.seeded
def test_only_the_rank_that_hangs_is_named(tmp_path: Path, op: str) -> None:
    codes, file = joined(tmp_path, op, timeout="4s")
    assert codes == [3, 3]
    reason = file.of(op)["reason"]
    assert reason.startswith("no end within --timeout 4 s: rank 1 on ")
    assert reason.endswith("; the others wait in communication")
