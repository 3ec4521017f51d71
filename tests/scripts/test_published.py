"""Published runs as jobs and splits: what sources state reaches them, and predictions meet them as the README says."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT

SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def modules() -> Any:
    """Scripts, which are not a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "evidence"))
        patch.syspath_prepend(str(SCRIPTS))
        names = ("published", "published_settings", "validate_predict", "predict_step")
        yield {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="module")
def runs(modules: dict[str, ModuleType]) -> Any:
    good, left = modules["published"].runs()
    assert len(good) > 1000
    assert all(reason for _, reason in left)
    return good


def test_every_setting_and_every_statement_is_of_some_row(modules: dict[str, ModuleType]) -> None:
    settings = modules["published_settings"]
    texts = [settings.text_of(row) for row in modules["published"].rows()]
    for each in (*settings.SETTINGS, *settings.STATED):
        assert any(re.search(each.pattern, text) for text in texts), each.pattern
    assert all(each.source for each in settings.STATED)


@pytest.mark.parametrize(
    ("source", "model", "expected"),
    [
        # Tensor parallelism of a node first, then pipelines, and those not interleaved.
        ("cases_jan2021", "18.4B", {"tp": 8, "pp": 1, "interleave": 1}),
        ("cases_jan2021", "39.1B", {"tp": 8, "pp": 2, "interleave": 1}),
        ("MT-NLG", "530B", {"tp": 8, "pp": 35, "interleave": 1, "schedule": "1f1b"}),
        ("Llama 3 Herd", "405B", {"recompute": "none", "interleave": 8, "microbatch": 1}),
        # 32 sequences a replica in as many microbatches as there are stages' ranks.
        ("llama3_h100_202412", "405B", {"pp": 8, "dp": 8, "microbatch": 4}),
        # Experts over tensor ranks too: 32 of tp 2 x dp 16.
        ("26.04 NeMo", "Qwen3_235B", {"recompute": "none"}),
        ("26.02 NeMo", "Qwen3_235B", {"tp": 2, "dp": 16, "ep": 32}),
    ],
)
def test_what_sources_state_is_in_the_splits(runs: Any, source: str, model: str, expected: dict[str, object]) -> None:
    own = [run for run in runs if source in run.source and model in run.row["model"]]
    splits = [split for run in own for split in run.splits]
    assert any(all(getattr(split, name) == value for name, value in expected.items()) for split in splits)
    if "recompute" in expected:
        assert {split.recompute for split in splits} == {expected["recompute"]}


def test_torchtitans_interleaved_rows_have_two_stages_a_rank(runs: Any) -> None:
    own = [run for run in runs if "Interleaved1F1B" in run.row["notes"] and "202412" in run.source]
    assert own
    assert {(split.interleave, split.microbatch) for run in own for split in run.splits} == {(2, 4)}


def test_other_runs_are_read_from_plain_csv_and_none_of_them_counts_as_fitted(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    published = modules["published"]
    own = [row for row in published.rows() if "april2021" in row["source"]]
    path = tmp_path / "more.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(own[0]))
        writer.writeheader()
        writer.writerows(own)
    [row] = modules["validate_predict"].tables(everything=False, path=path)[0].rows
    assert (row["rows"], row["fitted"]) == (10, 0)


def test_steps_on_four_ranks_are_met_as_the_page_says(modules: dict[str, ModuleType]) -> None:
    """Predicted again from the saved suites on one and two ranks."""
    folder = SCRIPTS.parent / "results" / "evidence" / "predict"
    within = {}
    for part in ("lab", "cores"):
        runs = [modules["predict_step"].predictions(run)[1] for run in sorted((folder / part).iterdir())]
        medians = [abs(row["error"]) for row in modules["predict_step"]._rows(runs)]
        within[part] = sum(error <= 0.1 for error in medians), len(medians)
    assert within == {"lab": (7, 7), "cores": (5, 7)}


def test_published_runs_are_met_as_the_page_says(modules: dict[str, ModuleType]) -> None:
    tables = modules["validate_predict"].tables(everything=False)
    page = SCRIPTS.parent / "results" / "evidence" / "published.md"
    assert modules["validate_predict"].text(tables, "markdown") == page.read_text(encoding="utf-8")
    errors, memory, fit = tables
    assert {row["group"]: row["rows"] for row in fit.rows} == {"fitted": 386, "not fitted": 728}
    found = {row["source"]: row for row in errors.rows}

    def mean_error(mark: str) -> float:
        return next(float(row["mean_error"]) for source, row in found.items() if mark in source)

    # What vTrain claims of itself, on the same rows.
    assert mean_error("ground_truth_single") < 0.0837
    assert mean_error("ground_truth_multi") < 0.1473
    assert mean_error("april2021") < 0.05
    assert sum(bool(row["better"]) for row in found.values()) >= 25
    assert len(found) == 32
    assert all(row["mean_error"] < 0.1 for row in memory.rows)
