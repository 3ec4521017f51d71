"""A prediction as a page: labelled throughout, never over another file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.cli import call
from bench.predict.page import CAPTIONS
from bench.predict.plots import PLOTS
from bench.predict.tables import LABEL

COMMAND = ["predict", "--model", "llama3-8b", "--gpus", "64", "--own", "utilisation=0.8", "--price", "2.95",
           "--sweep", "gpus=64..128"]  # fmt: skip


def test_a_page_holds_every_table_and_plot_and_says_that_nothing_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.html"
    assert call([*COMMAND, "-o", str(path)]) == 0
    assert f"saved {path}" in capsys.readouterr().err
    text = path.read_text()
    title = re.search(r"<h1>(.*)</h1>", text)
    assert title is not None
    assert re.match(
        r"[\d,.]+ days, [\d.]+ [kM] USD rented \| .* if 80% busy for 4 years: llama3-8b on 64 x H100", title[1]
    )
    for name in ("answer", *PLOTS):
        assert f'id="plot-predicted-{name}"' in text
    assert text.index("plot-predicted-answer") < text.index("<table")
    assert text.count(LABEL) == 1
    assert CAPTIONS.keys() == PLOTS.keys()
    assert call([*COMMAND, "-o", str(path)]) == 2
    assert "saving never overwrites" in capsys.readouterr().err


def test_a_page_of_two_sizes_has_both_answers_and_all_tables_of_each(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    command = ["predict", "--model", "llama3-8b", "--gpus", "64,128", "--tp", "2", "--price", "2.95", "-o", str(path)]
    assert call(command) == 0
    text = path.read_text()
    title = re.search(r"<h1>(.*)</h1>", text)
    assert title is not None
    assert re.match(r"llama3-8b: on 64 x H100 \d+ days and .* rented; on 128 x H100 \d+ days", title[1])
    assert text.count("Memory by part") == 2
    assert text.count('id="plot-predicted-answer"') == 1
    assert text.count(LABEL) == 1


def test_another_ending_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*COMMAND, "-o", str(tmp_path / "p.pdf")]) == 2
    assert "the name has to end in .html" in capsys.readouterr().err
