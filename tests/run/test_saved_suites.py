from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.run.saved_suites import refuse_foreign_suites

SUITE = "def cases(machine):\n    return []\n\n\ndef prepare(params, rank):\n    return None\n"
RESULT = Path("stranger.jsonl")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(SUITE)
    path.chmod(0o644)
    return path


def test_one_s_own_suite_and_names_are_taken(suite: Path) -> None:
    refuse_foreign_suites(RESULT, [str(suite), "collective", "a-plugin", str(suite.parent / "gone.py")])


@pytest.mark.parametrize(
    "source",
    [
        "from other import cases, prepare\n",
        "from other import *\n",
        "import x\ncases = x.cases\nprepare = x.prepare\n",
        "def cases(:\n",
    ],
)
def test_what_may_be_a_suite_is_taken(suite: Path, source: str) -> None:
    suite.write_text(source)
    refuse_foreign_suites(RESULT, [str(suite)])


@pytest.mark.parametrize("source", ["import shutil\nshutil.rmtree('x')\n", "def cases(machine):\n    return []\n", ""])
def test_a_file_that_is_no_suite_is_not_run(suite: Path, source: str) -> None:
    suite.write_text(source)
    with pytest.raises(BenchError, match=r"stranger.jsonl: its plan runs the file '.*mine.py', which is not a suite"):
        refuse_foreign_suites(RESULT, [str(suite)])


def test_what_every_user_can_change_is_not_run(suite: Path) -> None:
    suite.chmod(0o646)
    with pytest.raises(BenchError, match="which every user of this machine can change; if it is to run, name it"):
        refuse_foreign_suites(RESULT, [str(suite)])
    suite.chmod(0o664)
    refuse_foreign_suites(RESULT, [str(suite)])
    suite.parent.chmod(0o777)
    with pytest.raises(BenchError, match="lies in a folder that every user of this machine can change"):
        refuse_foreign_suites(RESULT, [str(suite)])
    suite.parent.chmod(0o1777)  # as /tmp: nobody can replace another user's file
    refuse_foreign_suites(RESULT, [str(suite)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_user_s_file_is_not_run(suite: Path) -> None:
    os.chown(suite, 12345, 12345)
    with pytest.raises(BenchError, match="which belongs to user 12345"):
        refuse_foreign_suites(RESULT, [str(suite)])
    os.chown(suite.parent, 12345, 12345)  # a container's folder: root works in somebody's checkout
    refuse_foreign_suites(RESULT, [str(suite)])
