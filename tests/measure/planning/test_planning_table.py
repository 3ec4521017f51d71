"""The planning table in tests/data/planning.md is that of this code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import DATA, ROOT


@pytest.mark.long
def test_the_planning_table_is_up_to_date() -> None:
    """Made again by `python -m tests.support.planning_table`; the diff shows what a change plans."""
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.planning_table"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert made == (DATA / "planning.md").read_text()
