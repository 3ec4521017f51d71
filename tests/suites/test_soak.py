"""The soak through the real command, short, with a trace by torch's profiler; and its suite on ranks of a test."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_loader import load
from bench.workloads.trace.device_series import COLUMNS
from tests.support.command import call, saved
from tests.support.plans import lone_rank
from tests.support.ranks import cpu_machine, on_ranks, run_case

SUITE = load("soak")
TINY: dict[str, Any] = {"size": 64, "num_rounds": 2, "num_bytes": 4096, "seconds": 1}
CASE = "soak/run[num_bytes=4096,num_rounds=2,seconds=2,size=64]"


@pytest.mark.long
def test_a_soak_and_a_profile_of_it(tmp_path: Path) -> None:
    done = call("run", "--preset", "smoke", "--case", CASE, "--profile", "-o", str(tmp_path), "--launches", "1")
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    (record,) = file.measurements
    assert (record["status"], record["check"]["error_after"] <= 1.0) == ("ok", True)
    assert record["seconds"] >= 2.0
    assert set(record["variants"]) == {"full", "compute_only"}
    derived = record["derived"]
    assert derived["slowdown_low"] <= derived["slowdown"] <= derived["slowdown_high"]
    assert derived["hottest_celsius"] is None  # no GPU here: unknown, not 0
    # The series: at least the first and the last second, all calls counted.
    for own in record["per_rank"]:
        assert len(own["series"]) >= 3
        assert len(own["series"][0]) == len(COLUMNS)
        assert own["calls"] == own["series"][-1][1] >= record["stop"]["samples"]
    assert record["tables"]["over_time"]["rows"]
    assert [row[0] for row in record["tables"]["devices"]["rows"]] == [0, 1]
    assert "Over time" in call("show", str(file.path)).stdout
    # The traces: one a rank, beside the result, of this many calls.
    folder = tmp_path / record["profile"]["folder"]
    assert folder.name == f"{file.path.stem}.profile"
    assert f"profiles: {folder} (2 traces" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == sorted(record["profile"]["files"])
    for path in folder.iterdir():
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        names = [event["name"] for event in events]
        assert [f"call {n}" in names for n in range(4)] == [True, True, True, False]
        assert "aten::mm" in names
    # None of the profiler's calls is among the samples.
    assert "profile" not in record["variants"]


def test_products_and_sums_are_right_on_every_rank() -> None:
    params = [TINY, TINY | {"dtype": "bfloat16"}, TINY | {"num_bytes": 8}]
    for results in on_ranks(3, _exercise, params):
        for each in results:
            assert [check.passed for check in each["checks"]] == [True, True]
            assert each["flops"] == 2 * 64**3 * 2 * 3


def _exercise(rank: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run_case(rank, "soak", params) for params in rows]


def test_one_rank_has_no_collective() -> None:
    work = SUITE.prepare(SUITE.defaults | TINY, lone_rank())
    assert list(work.variants) == ["full"]
    assert work.min_seconds == 1.0
    assert "one rank" in work.notes[0]
    work.variants["full"]()
    assert work.per_rank is not None
    assert work.per_rank()["calls"] == 1
    error, tolerance, _ = work.check()
    assert error <= tolerance
    assert work.close is not None
    work.close()


def test_a_wrong_product_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.matmul

    def wrong(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        multiply(a, b, out=out)
        out[3, 5] += 50.0
        return out

    monkeypatch.setattr(torch, "matmul", wrong)
    work = SUITE.prepare(SUITE.defaults | TINY, lone_rank())
    error, tolerance, _ = work.check()
    assert error > tolerance
    assert work.close is not None
    work.close()


@pytest.mark.parametrize(
    "bad", [{"seconds": 0}, {"seconds": True}, {"size": 0}, {"num_rounds": 1.5}, {"num_bytes": -1}]
)
def test_a_bad_value_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=rf"^soak: {next(iter(bad))}="):
        SUITE.prepare(SUITE.defaults | TINY | bad, lone_rank())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_preset_has_its_case(device: str) -> None:
    for preset in PRESETS.values():
        machine = cpu_machine(2, preset.of_suites)
        machine = type(machine)(**machine.__dict__ | {"device_type": device})
        (params,) = SUITE.cases(machine)
        assert SUITE.min_seconds(params) == (15 if preset.name == "smoke" else 120)
        assert SUITE.memory_bytes(params, machine)
