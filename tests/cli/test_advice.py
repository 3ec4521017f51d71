"""Commands that findings advise: `bench run` takes every one of them as it is printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bench.analysis.findings.kinds import NextStep, Unmeasured
from bench.analysis.findings.of_run import run_findings
from bench.cli.run_command import given_options
from bench.measure.planning.options import RunOptions
from bench.records.file import load

RESULTS = sorted(
    [
        *Path("results/reference").glob("*.jsonl*"),
        *Path("results/smoke").glob("*.jsonl*"),
        *Path("tests/data").rglob("*.jsonl"),
    ]
)


@pytest.mark.parametrize("path", RESULTS, ids=str)
def test_bench_run_takes_what_is_advised(path: Path) -> None:
    items = run_findings(load(path)).items
    advised = [item.command for item in items if isinstance(item, NextStep)]
    advised += [item.remedy for item in items if isinstance(item, Unmeasured)]
    for command in advised:
        words = shlex.split(command)
        if words[:2] == ["bench", "run"]:
            given = given_options(words[2:])
            RunOptions(**{name: given[name] for name in given}).refuse_mixed()
