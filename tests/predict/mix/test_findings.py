"""The answer of `bench mix`: its figures are those of the rows, names, and what is not known is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cli import call
from bench.predict.mix.findings import show_loss
from tests import ROOT
from tests.support.results import header, measurement, save

PLAIN, SLOW = (str(ROOT / "results/emulated" / name) for name in ("plain", "slow-rank"))
H100, H200 = (str(ROOT / f"results/gpu/{name}/{name}-steps.jsonl") for name in ("h100", "h200"))
MIXES = [
    [f"{PLAIN}=16", f"{SLOW}=48"],
    [f"{PLAIN}=7", f"{SLOW}=1"],
    [f"{H100}=16", f"{H200}=48"],
    ["H100=16", "H200=48"],
    ["H100=150000", "H200=50000", "GB200=20000"],
    ["H100=16", "H200=48", "--unit-gb", "20"],
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(["mix", *arguments]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(said(capsys, *arguments, "--format", "json"))
    return document


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [finding for finding in document["findings"] if finding["kind"] == kind]


def result(tmp_path: Path, name: str, milliseconds: float, case: str = "training/run[batch=1]") -> str:
    samples = [[round(milliseconds * 1e6) + n * 100 for n in range(9)]] * 2
    (tmp_path / name).parent.mkdir(exist_ok=True)
    return str(save(tmp_path / name, header(), measurement(case, samples, tokens=1000, flops=1e9)))


@pytest.mark.parametrize("arguments", MIXES)
def test_the_screen_fits_and_repeats_no_id(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *arguments).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if "dtype=" in line]
    everything = said(capsys, *arguments, "--all").splitlines()
    assert max(map(len, everything)) <= 100
    assert everything[: len(lines)] == lines
    assert not [line for line in everything if "verdict" in line]


@pytest.mark.parametrize("arguments", MIXES[:3])
def test_figures_of_the_answer_are_those_of_a_row(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, *arguments)
    (answer,) = of_kind(document, "answer")
    figures = [finding for finding in of_kind(document, "figure") if finding["group"] == "loss"]
    lead = next(row for row in document["rows"] if row["workload"] == figures[0]["case"])
    assert lead["workload"].startswith("training_step")
    assert f"{show_loss(lead['even_penalty'])}" in answer["text"]
    assert f"microbatches out {lead['balanced_units']} wins" in answer["text"]
    assert answer["text"].endswith(f"all but {show_loss(lead['balanced_penalty'])}")
    for figure in figures:
        rows = [row for row in document["rows"] if row["workload"] == figure["case"]]
        assert figure["value"] == figure["share"] == rows[0]["even_penalty"]
        assert figure["text"].lstrip("~") == show_loss(figure["value"])
        assert any(f"{row['balanced_units']} " in figure["of"] for row in rows)
    assert len({figure["name"] for figure in figures}) == len(figures)


def test_equal_peaks_say_what_is_not_known_and_give_no_loss(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "H100=16", "H200=48")
    flat = " ".join(text.split())
    assert flat.startswith("Equal peaks in bf16 (989 TFLOP/s): this mix is not limited by compute;")
    assert "memory (80 and 141 GB) and memory bandwidth (3.35 and 4.8 TB/s) differ" in flat
    assert "the network between the kinds is not known" in flat
    assert "0.0" not in text
    assert not of_kind(as_json(capsys, "H100=16", "H200=48"), "figure")


def test_speeds_that_overlap_give_a_rough_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [f"{result(tmp_path, name, 100)}=4" for name in ("a.jsonl", "b.jsonl")]
    document = as_json(capsys, *parts)
    assert "may be chance" in of_kind(document, "answer")[0]["text"]
    assert document["rows"][0]["verdict"].startswith("within chance")


def test_files_that_are_alike_take_the_name_of_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [f"{result(tmp_path, f'{name}/run.jsonl', ms)}=4" for name, ms in (("old", 100), ("new", 50))]
    document = as_json(capsys, *parts)
    assert [kind["name"] for kind in document["kinds"]] == ["old", "new"]
    document = as_json(capsys, parts[0], f"fast={parts[1]}", "--price", "fast=2", "--price", "run=1")
    assert [kind["name"] for kind in document["kinds"]] == ["run", "fast"]
    assert of_kind(document, "figure")[-1]["unit"] == "USD per million tokens"
    same = parts[0]
    assert call(["mix", same, same]) == 2
    assert "name them: a=" in capsys.readouterr().err


def test_a_path_with_an_equals_sign_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = result(tmp_path, "batch=1.jsonl", 100)
    document = as_json(capsys, f"{odd}=4", f"x={odd}=4")
    assert [kind["name"] for kind in document["kinds"]] == ["batch=1", "x"]


def test_without_a_training_step_the_answer_names_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = (f"{result(tmp_path, n, ms, 'tensor_parallel/mlp[tp=2]')}=4" for n, ms in (("s", 100), ("f", 50)))
    (answer,) = of_kind(as_json(capsys, slow, fast), "answer")
    assert "in tensor parallel work (no training step was measured on every kind)" in answer["text"]
    assert "heads out" in answer["text"]
    slow, fast = (f"{result(tmp_path, n, ms, 'inference/decode[batch=1]')}=4" for n, ms in (("s2", 100), ("f2", 50)))
    (answer,) = of_kind(as_json(capsys, slow, fast), "answer")
    total = 4 * 1000 / 2 / 0.1 + 4 * 1000 / 2 / 0.05
    assert f"{total:,.0f} tokens/s" in answer["text"]


def test_work_that_no_two_kinds_share_gives_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = result(tmp_path, "one", 100, "training/run[sequence=1]")
    other = result(tmp_path, "other", 100, "training/run[sequence=2]")
    document = as_json(capsys, f"{one}=4", f"{other}=4")
    assert of_kind(document, "answer")[0]["text"].startswith("Nothing was measured on every kind")
    assert of_kind(document, "not_measured")[0]["num_cases"] == 2
    assert not of_kind(document, "figure")


def test_markdown_begins_with_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, f"{PLAIN}=16", f"{SLOW}=48", "--format", "markdown")
    assert text.startswith("**Training on all 64 in lockstep loses ")
    assert "| work |" in said(capsys, f"{PLAIN}=16", f"{SLOW}=48", "--format", "markdown", "--all")
