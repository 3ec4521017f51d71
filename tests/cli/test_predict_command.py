"""`bench predict` as it is called, its plots' data, and its constants against published runs that were not fitted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bench.cli import call
from bench.predict.calibration.network_lines import fit_line
from tests import ROOT

REFERENCE = str(ROOT / "results/reference/reference-2-xeon-cores-gloo.jsonl")
SMALL = ("predict", "--model", "llama3-8b", "--gpus", "64", "--batch", "256", "--tp", "2", "--pp", "2")


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(list(arguments)) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(asked(capsys, *arguments, "--format", "json"))
    return document


def test_a_prediction_says_what_it_is_and_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    short = asked(capsys, *SMALL)
    out = asked(capsys, *SMALL, "--all")
    assert out.startswith(short)
    for text in ("Predicted, not measured", "Best splits", "Memory by part", "goodput", "Not modelled", "recorded 20"):
        assert text in " ".join(out.split())
    assert out.lower().count("predicted") == 1
    assert "Matrix" not in out
    document = as_json(capsys, *SMALL)
    assert document["status"] == "predicted, not measured"
    assert document["not_modelled"]
    (found,) = document["rows"]
    best = found["predicted"]
    assert (best["tp"], best["pp"], best["devices"]) == (2, 2, 64)
    assert best["step_seconds_low"] < best["step_seconds"] < best["step_seconds_high"]
    assert found["assumptions"]
    rows = list(csv.DictReader(io.StringIO(asked(capsys, *SMALL, "--format", "csv"))))
    assert {row["status"] for row in rows} <= {"predicted, not measured", ""}


def test_scaling_money_failures_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "plots"
    more = ("--sweep", "gpus=8..64", "--own", "years=5", "--spot", "--preemptions", "0.1", "--waiting", "1e5",
            "--failure-domain", "feed=16:1000h:1h", "--plots", str(folder))  # fmt: skip
    (found,) = as_json(capsys, *SMALL, *more)["rows"]
    scaling = found["predicted_scaling"]
    assert {row["devices"] for row in scaling} == {8, 16, 32, 64}
    assert all(row["efficiency"] <= 1.1 for row in scaling)
    money = {row["option"]: row for row in found["predicted_money"]}
    assert set(money) == {"rent", "spot", "own"}
    assert money["spot"]["goodput"] < money["rent"]["goodput"]
    assert 0 < money["own"]["break_even_utilisation"] < 1
    assert money["rent"]["waiting_usd"] > 0
    names = {path.name for path in folder.iterdir()}
    assert {"predicted_scaling.png", "predicted_cost.png", "predicted_goodput.csv", "predicted_break_even.png"} <= names
    assert call([*SMALL, "--plots", str(folder)]) == 2  # never overwrites
    assert "is there already" in capsys.readouterr().err


def test_a_mixed_fleet_goes_through_the_same_code(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = ("predict", "--model", "llama3-70b", "--accelerator", "H100=512,B200=256", "--batch", "1024")
    rows = as_json(capsys, *fleet, "--pp", "4")["rows"][0]["predicted_fleet"]
    assert [(row["mode"], row["devices"]) for row in rows] == [
        ("even", 512), ("even", 256), ("balanced", 512), ("balanced", 256)
    ]  # fmt: skip
    assert rows[2]["tokens_per_s"] >= rows[0]["tokens_per_s"]
    assert max(row["waiting_share"] for row in rows[:2]) > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpus", "8"), "no model: give --model NAME"),
        (("--model", "gpt9", "--gpus", "8"), "no model named 'gpt9'"),
        (("--model", "llama3-8b"), "Give --gpus"),
        (("--model", "llama3-8b", "--gpus", "0"), "at least 1"),
        (("--model", "llama3-8b", "--gpus", "64,0"), "--gpus 64,0: a whole number of at least 1"),
        (("--model", "llama3-8b", "--gpus", "many"), "or several to compare"),
        (("--model", "llama3-405b", "--gpus", "8"), "llama3-405b on 8 H100-SXM-80GB: no split fits into 80 GB"),
        (
            ("--model", "llama3-8b", "--gpus", "8", "--tp", "8", "--mtbf", "60s", "--restart", "2h"),
            "the run never ends",
        ),
        (("--model", "llama3-8b", "--gpus", "8", "--stack", "best"), "no stack named 'best'"),
        (("--model", "llama3-8b", "--gpus", "8", "--sweep", "8..16"), "such as gpus=8..100000"),
        (("--model", "llama3-8b", "--accelerator", "H100,B200"), "how many of each"),
        (("--model", "llama3-8b", "--accelerator", "H100=x"), "whole number"),
        (("--model", "llama3-8b", "--gpus", "8", "--layers", "3"), "by its name, or by its numbers"),
        (("--model", "llama3-8b", "--gpus", "8", "--price", "B200=2"), "the accelerator is H100"),
        (("--model", "llama3-8b", "--gpus", "8", "--failure-domain", "feed"), "NAME=DEVICES:TIME"),
        (("--model", "llama3-8b", "--gpus", "16", "--accelerator", "A100-SXM-80GB", "--tp", "1"), "give --nic-gbit"),
        (("--model", "llama3-8b", "--gpus", "8", "--precision", "fp32"), "no peak rate of precision 'fp32'"),
        (("--model", "llama3-8b", "--gpus", "8", "--ep", "0"), "--ep 0: has to be at least 1"),
        (("--model", "llama3-8b", "--gpus", "8", "--microbatch", "0"), "--microbatch 0: has to be at least 1"),
        (("--model", "llama3-8b", "--gpus", "8", "--tp", "0"), "--tp 0: has to be at least 1"),
        (("--model", "llama3-8b", "--gpus", "8", "--recompute", "foo"), "--recompute foo: there are: none, selective"),
        (("--model", "llama3-8b", "--gpus", "8", "--schedule", "dual"), "--schedule dual: there are: gpipe, 1f1b"),
        (("--model", "llama3-8b", "--gpus", "8", "--link-gb-per-s", "inf"), "has to be above 0, and finite"),
        (("--model", "llama3-8b", "--gpus", "8", "--ep", "8"), "no split of 8 devices"),
    ],
)
def test_mistakes_end_in_one_line(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    *progress, last = error.splitlines()
    assert message in last
    assert all(line.startswith("trying splits of") for line in progress)  # on a busy machine it takes over a second


def test_a_size_of_expert_parallelism_that_some_splits_can_have_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "predict", "--model", "qwen3-30b-a3b", "--gpus", "128", "--ep", "64", "--microbatch", "1")
    assert found["rows"][0]["predicted"]["ep"] == 64


def test_measured_rates_take_the_place_of_the_catalogues(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ("--layers", "4", "--hidden", "256", "--heads", "4", "--vocab", "1024", "--sequence", "256", "--batch", "8")
    common = ("predict", "--from", REFERENCE, "--precision", "fp32", "--stack", "torchtitan", *shape)
    (found,) = as_json(capsys, *common, "--gpus", "2")["rows"]
    assert any("measured: all_reduce of 2 ranks" in row["assumption"] for row in found["assumptions"])
    (half,) = as_json(capsys, *common, "--gpus", "2", "--device-share", "0.5")["rows"]
    assert half["predicted"]["compute_seconds"] > 1.8 * found["predicted"]["compute_seconds"]
    assert call([*common, "--gpus", "2", "--precision", "fp8"]) == 2
    assert "take one of them" in capsys.readouterr().err
    assert call([*common, "--gpus", "1000"]) == 2  # across hosts nothing was measured
    assert "--nic-gbit" in capsys.readouterr().err
    (far,) = as_json(capsys, *common, "--gpus", "1000", "--nic-gbit", "100")["rows"]
    assert far["predicted"]["devices"] == 1000


def test_a_line_is_found_again_and_noise_gives_no_negative_rate() -> None:
    sizes = (1024, 65536, 1048576, 67108864)
    line = fit_line("all_reduce", 2, {n: 1e-4 + n / 1e9 for n in sizes})
    assert line.latency_seconds == pytest.approx(1e-4)
    assert line.bytes_per_s == pytest.approx(1e9)
    assert fit_line("x", 2, {1024: 1e-3, 2048: 1e-4}).bytes_per_s > 0
    assert fit_line("x", 2, {1024: 1e-6, 2048: 1e-3}).latency_seconds >= 0
