"""Joined ranks that do not meet: each says so in one line, with the right exit code, and nobody waits without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import saved
from tests.support.meetings import WAYS, Way, try_way

pytestmark = pytest.mark.launchers

FAST = ("two world sizes", "a variable differs", "a suite fails on one rank", "a rank hangs once it has come")
"""Ways of which every test run tries one kind each; all are tried with `--all`."""


@pytest.mark.parametrize(
    "way", [pytest.param(way, id=way.name, marks=() if way.name in FAST else pytest.mark.long) for way in WAYS]
)
def test_ranks_that_do_not_meet_say_why(way: Way, tmp_path: Path) -> None:
    trial = try_way(way, tmp_path)
    assert trial.faults() == []


def test_the_file_says_who_was_missing(tmp_path: Path) -> None:
    (way,) = [way for way in WAYS if way.name == "a rank is not started"]
    trial = try_way(way, tmp_path)
    file = saved(tmp_path)
    assert file.measurements == []
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 2)
    assert file.end["reason"] == trial.outcomes[0].complaint
    assert "1 of 2 ranks; waiting for rank 1" in trial.outcomes[0].errors
