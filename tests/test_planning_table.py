"""The planning table in tests/data/planning.md is that of this code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data"


def test_the_planning_table_is_up_to_date() -> None:
    """Made anew by `python -m tests.planning_table > tests/data/planning.md`; the diff shows what a change plans."""
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.planning_table"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert made == (DATA / "planning.md").read_text()
