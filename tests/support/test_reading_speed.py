"""The inputs of the speed of reading, at a small size: each is a result that every reader takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.records.file import load_many
from bench.records.rows import case_rows
from tests.support import reading_speed

SIZES = {"samples": (1, 50), "cases": (1, 40), "files": (4, 15), "ranks": (1, 20)}
"""Input -> files, and cases of each."""


@pytest.mark.parametrize("kind", SIZES)
def test_an_input_is_of_its_kind(kind: str, tmp_path: Path) -> None:
    make, commands = reading_speed.INPUTS[kind]
    results = load_many([make(tmp_path, 0.001 if kind != "samples" else 0.02)])
    num_files, num_cases = SIZES[kind]
    assert [len(case_rows([result])) for result in results] == [num_cases] * num_files
    assert all(row["status"] == "ok" for row in case_rows(results))
    assert commands


def test_a_command_is_timed_and_its_memory_told() -> None:
    run = reading_speed.timed([sys.executable, "-c", "b = bytes(50_000_000)"])
    assert run.seconds > 0
    assert run.memory_mb > 40
    with pytest.raises(SystemExit, match="exit code 3"):
        reading_speed.timed([sys.executable, "-c", "raise SystemExit(3)"])
