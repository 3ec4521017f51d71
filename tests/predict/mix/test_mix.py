"""Mixed clusters: plans against every other, the catalogue's fleet, and files with known speeds."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.cli import call
from bench.predict.mix.plans import MAX_UNITS, best_units, rate
from tests.support.results import header, measurement, save

MS = 1_000_000
FLEET = ["H100-SXM-80GB=150000", "H200-SXM-141GB=50000", "GB200-SXM=20000"]


@pytest.mark.parametrize("speeds", [(1.0, 2.5), (3.0, 1.0, 2.2), (1.0, 1.0)])
def test_no_other_plan_is_better(speeds: tuple[float, ...]) -> None:
    counts = [5, 3, 7][: len(speeds)]
    found = rate(counts, speeds, best_units(counts, speeds))
    every = product(range(1, MAX_UNITS + 1), repeat=len(speeds))
    assert found == pytest.approx(max(rate(counts, speeds, units) for units in every))
    assert found <= sum(count * speed for count, speed in zip(counts, speeds, strict=True)) + 1e-9


def test_caps_of_memory_are_kept() -> None:
    assert best_units([1, 1], [1.0, 4.0], most=[16, 2])[1] <= 2


def test_the_fleet_by_catalogue_loses_an_eighth_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["mix", *FLEET, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["parallelism"] for row in rows] == ["data", "tensor", "pipeline"]
    row = rows[0]
    assert {round(each["even_penalty"], 3) for each in rows} == {0.122}
    assert row["balanced_penalty"] < rows[1]["balanced_penalty"] < 0.122  # the finer the units, the better
    assert row["source"] == "catalogue"
    assert not [name for name in row if "usd" in name]
    assert call(["mix", *FLEET]) == 0
    assert "not measured: peak dense bf16" in capsys.readouterr().out


def test_a_unit_that_fills_the_memory_leaves_nothing_to_balance(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["mix", "H100-SXM-80GB=4", "GB200-SXM=4", "--unit-gb", "70", "--format", "json"]) == 0
    row, *fixed = json.loads(capsys.readouterr().out)["rows"]
    assert [each["balanced"] for each in fixed] == [None, None]  # 8 heads a rank do not fit
    assert row["balanced_units"] == "1 : 2"
    assert row["even_penalty"] > row["balanced_penalty"] > 0.05


def training(milliseconds: float, **params: Any) -> dict[str, Any]:
    """1,000 tokens a step of two ranks."""
    case = "training/run[" + ",".join(f"{k}={v}" for k, v in sorted(params.items())) + "]"
    samples = [[round(milliseconds * MS) + n * 100 for n in range(9)]] * 2
    return measurement(case, samples, tokens=1000, flops=1e9)


def files(tmp_path: Path) -> tuple[str, str]:
    small = save(tmp_path / "small.jsonl", header(), training(100, batch=1, sequence=512), training(50, sequence=64))
    records = [training(50, batch=1, sequence=512), training(40, batch=4, sequence=512)]
    return str(small), str(save(tmp_path / "large.jsonl", header(), *records))


def test_each_kind_alone_takes_its_own_best_and_the_mix_what_both_can_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = files(tmp_path)
    arguments = [f"{small}=4", f"{large}=4", "--price", "small=1", "--price", "large=2", "--format", "json"]
    assert call(["mix", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    long, _, _, short, *_ = found["rows"]
    assert "sequence=512" in long["workload"]
    assert long["configuration"] == "batch=1"
    assert long["alone_large"] == pytest.approx(4 * 1000 / 2 / 0.040, rel=1e-3)
    assert long["even"] == pytest.approx(8 * 1000 / 2 / 0.100, rel=1e-3)
    assert long["balanced"] == pytest.approx(long["bound"], rel=1e-3)
    assert long["balanced_units"] == "1 : 2"
    hourly = 4 * 1 + 4 * 2
    assert long["even_usd_per_million_tokens"] == pytest.approx(hourly / 3600 / long["even"] * 1e6)
    low, high = (long[f"even_usd_per_million_tokens_{end}"] for end in ("low", "high"))
    assert low <= long["even_usd_per_million_tokens"] <= high
    assert short["even"] is None
    assert short["verdict"] == "not measured on every kind"
    alone = [use for use in found["uses"] if use["train_on"] == "large" and "512" in use["workload"]]
    assert alone[0]["serve_on"] == "small"
    assert alone[0]["serving"] is None


def test_a_penalty_below_the_models_error_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = files(tmp_path)
    names = {"predicted_even_seconds": ["s", "neither"], "balanced_seconds": ["s", "lower"]}
    mixed = measurement(
        "heterogeneous/data", [[100 * MS] * 9] * 2, derived={"predicted_even_seconds": 0.19}, metrics=names
    )
    path = save(tmp_path / "mixed.jsonl", header(), mixed)
    assert call(["mix", f"{small}=4", f"{large}=4", "--measured", str(path), "--format", "json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["model_error"] == pytest.approx(0.9, abs=0.01)
    assert row["verdict"].startswith("not shown")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["H100-SXM-80GB"], "FILE=COUNT"),
        (["H100-SXM-80GB=0", "H200-SXM-141GB=1"], "a count is 1 or more"),
        (["H100-SXM-80GB=4"], "two or more different kinds"),
        (["H100-SXM-80GB=4", "nowhere.jsonl=4"], "nowhere.jsonl: no such file, and no accelerator of the catalogue"),
        (["H100-SXM-80GB=4", "H100-SXM-80GB=8"], "two kinds are called 'H100-SXM-80GB'"),
        (["H100-SXM-80GB=4", "H200-SXM-141GB=4", "--unit-gb", "90"], "has 80 GB, which hold not one unit"),
        (["H100-SXM-80GB=4", "H200-SXM-141GB=4", "--price", "B200=3"], "--price B200=3: NAME=USD_PER_HOUR"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["mix", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
