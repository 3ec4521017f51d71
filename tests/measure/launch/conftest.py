"""A result file in its making, and recorders on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.measure.launch.recorder import Recorder
from bench.measure.planning.plan import Plan
from bench.records.file import Result
from bench.records.run_file.run_file import RunFile
from tests.support.plans import a_plan
from tests.support.recorders import Heard, Recorders


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture
def a_recorder(path: Path) -> Iterator[Recorders]:
    """Makes recorders on `path`, whose files are closed in the end."""
    writers: list[RunFile] = []

    def make(plan: Plan | None = None, resumed: Result | None = None, **changes: Any) -> Recorder:
        writers.append(RunFile.create(path) if resumed is None else RunFile.resume(path))
        return Recorder(
            plan=plan or a_plan(2),
            writer=writers[-1],
            progress=Heard(),
            command=["bench", "run", "./sum.py"],
            run_id="0123456789abcdef",
            resumed=resumed,
            **changes,
        )

    yield make
    for writer in writers:
        writer.close()
