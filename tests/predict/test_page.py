"""A prediction as a page: labelled throughout, never over another file."""

from __future__ import annotations

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
    assert f"<h1>llama3-8b on 64 x H100-SXM-80GB, {LABEL}</h1>" in text
    assert "Nothing here was measured" in text
    for name in PLOTS:
        assert f'id="plot-predicted-{name}"' in text
    assert text.count(LABEL) > 10
    assert CAPTIONS.keys() == PLOTS.keys()
    assert call([*COMMAND, "-o", str(path)]) == 2
    assert "saving never overwrites" in capsys.readouterr().err


def test_another_ending_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*COMMAND, "-o", str(tmp_path / "p.pdf")]) == 2
    assert "the name has to end in .html" in capsys.readouterr().err
