"""The suite of mixed ranks through the real command, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.measure.planning.cases import declared_machine
from bench.measure.planning.suite_loader import load
from suites import heterogeneous
from tests.support.command import call, saved

SMALL = ("--set", "hidden=48", "--set", "sequence=16", "--set", "units=6")


@pytest.mark.long
@pytest.mark.seeded
def test_all_kinds_of_parallelism_stay_right_however_they_are_split(tmp_path: Path) -> None:
    """One run on 3 ranks: all splits against one device, before and after; splits and predictions are in the file."""
    arguments = (
        "--preset",
        "smoke",
        "--budget",
        "40s",
        "--launches",
        "1",
        "--visits",
        "1",
        "--set",
        "speed=0.25",
        "--set",
        "busy=0.5",
    )
    run = call("run", "heterogeneous", "--ranks", "3", *arguments, *SMALL, "-o", str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    file = saved(tmp_path)
    assert file.statuses() == dict.fromkeys(("data", "tensor", "pipeline"), "ok")
    for record in file.measurements:
        assert list(record["variants"]) == ["even", "balanced", "uniform"]
        assert record["traced_variants"] == [name for name in record["variants"] for _ in range(7)]
        (table,) = record["tables"].values()
        splits = {row[0]: row[1] for row in table["rows"]}
        assert splits["even"] == splits["uniform"] == "2 2 2"
        assert sum(map(int, splits["balanced"].split())) == 6
        assert any("emulated: rank 2 computes at 0.25" in note for note in record["notes"])
        assert record["derived"]["mixing_penalty"] is not None
        assert record["derived"]["predicted_even_seconds"] > 0
        assert record["derived"]["slowest_speed"] < 0.8
    assert "units a rank" in call("show", str(file.path)).stdout


def test_cases_crowd_no_cores() -> None:
    cases = load("heterogeneous").cases(declared_machine(4, "cpu", "smoke"))
    assert {(case["op"], case["busy"]) for case in cases} == {(op, 1.0) for op in ("data", "tensor", "pipeline")}
    assert {case["speed"] for case in load("heterogeneous").cases(declared_machine(4, "cuda", "full"))} == {0.5, 0.25}


@pytest.mark.parametrize(
    ("changes", "world_size", "said"),
    [
        ({}, 1, "one rank"),
        ({"units": 1}, 2, "units=1 are fewer than the 2 ranks"),
        ({"op": "tensor", "units": 7}, 2, "do not divide the 128 columns"),
        ({"hidden": 30}, 2, "num_heads=4 does not divide hidden=30"),
        ({"speed": 1.5}, 2, "speed=1.5 does not lie between"),
        ({"sequence": 0}, 2, "sequence=0 is less than 1"),
    ],
)
def test_what_has_no_meaning_is_skipped_with_the_numbers(changes: dict[str, Any], world_size: int, said: str) -> None:
    params = {"op": "data", "hidden": 32, "num_heads": 4, "num_layers": 1, "sequence": 8, "units": 4, "speed": 0.5}
    reason = heterogeneous._skip_reason(params | {"busy": 1.0} | changes, world_size)
    assert reason is not None
    assert said in reason
