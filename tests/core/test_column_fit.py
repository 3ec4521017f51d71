"""Tables that fit a terminal, and small pictures in cells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.cli import call
from bench.core import sparklines
from bench.core.cell_text import width as cell_width
from bench.core.column_fit import fit_columns
from bench.core.styles import Style
from bench.core.table import Column, DisplayTable, column, render, text_column
from bench.core.terminal import PIPE_WIDTH
from bench.core.values import show_text
from bench.records.file import load
from bench.report import result_tables
from tests import ROOT
from tests.support.results import header, measurement, not_ok, save

REFERENCE = sorted((ROOT / "results" / "reference").glob("*.jsonl"))
EVIDENCE = sorted((ROOT / "results" / "evidence" / "data").glob("**/*.jsonl.gz"))[:3]


def table(**weights: float) -> DisplayTable:
    columns = tuple(column(name, name, show_text, weight=weight) for name, weight in weights.items())
    return DisplayTable("t", columns, (dict.fromkeys(weights, "x" * 10),))


@pytest.mark.parametrize(
    ("weights", "width", "kept"),
    [
        ({"a": 0, "b": 1, "c": 2}, 36, "abc"),
        ({"a": 0, "b": 1, "c": 2}, 35, "ab"),
        ({"a": 0, "b": 2, "c": 1}, 35, "ac"),
        ({"a": 0, "b": 1, "c": 1}, 35, "a"),  # one kind on two sides: both or none
        ({"a": 0, "b": 0}, 10, "ab"),  # what must stay stays
    ],
)
def test_the_lightest_columns_stay_and_a_footnote_names_the_others(
    weights: dict[str, float], width: int, kept: str
) -> None:
    found = fit_columns(table(**weights), width)
    assert "".join(c.head for c in found.columns) == kept
    gone = [name for name in weights if name not in kept]
    footnote = f"not shown, the table is too wide: {', '.join(gone)}; --wide shows all"
    assert found.footnotes == ((footnote,) if gone else ())


def test_a_text_at_the_end_goes_on_below_itself_and_loses_nothing() -> None:
    words = [f"word{n}" for n in range(40)]
    long = DisplayTable("t", (column("a", "a", show_text), column("b", "reason", show_text, "left")),
                 ({"a": "x" * 30, "b": " ".join(words)},))  # fmt: skip
    text = render([long], "table", width=80)
    assert max(map(cell_width, text.splitlines())) <= 80
    assert [word for line in text.splitlines()[3:] for word in line.split() if word.startswith("word")] == words


def test_a_long_title_goes_on_in_a_second_line_and_loses_nothing() -> None:
    title = f"training_step/run[{'x' * 60}]: Time by part of a traced step, mean over the traced calls"
    long = DisplayTable(title, (column("a", "a", show_text),), ({"a": "1"},))
    lines = render([long], "table", width=100).splitlines()
    assert max(map(cell_width, lines)) <= 100
    assert " ".join(lines[:2]) == title
    assert render([long], "table").splitlines()[0] == title  # without a width nothing is broken


def test_show_and_compare_fit_a_hundred_columns_and_wide_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    commands = (["show", str(REFERENCE[0])], ["compare", *map(str, EVIDENCE)])
    for command in commands:
        assert call(command) == 0
        narrow = capsys.readouterr().out
        assert max(map(cell_width, narrow.splitlines())) <= PIPE_WIDTH
        assert call([*command, "--wide"]) == 0
        wide = capsys.readouterr().out
        assert max(map(cell_width, wide.splitlines())) > PIPE_WIDTH


def test_what_all_cases_share_stands_once(tmp_path: Path) -> None:
    records = [measurement(f"tensor_parallel/mlp[batch=1,hidden={n},sequence=8]") for n in (4, 8)]
    path = save(tmp_path / "a.jsonl", header(), *records, not_ok("tensor_parallel/mlp[batch=2]", "failed", "x"))
    narrow = result_tables.tables([load(path)], width=PIPE_WIDTH)
    assert "mlp hidden 4   ~" in narrow
    assert "mlp: batch=1, sequence=8" in narrow
    assert "mlp[batch=1,hidden=4,sequence=8]" in result_tables.tables([load(path)], width=PIPE_WIDTH, has_ids=True)


def test_a_shape_shows_two_modes_and_few_samples_have_none() -> None:
    text = sparklines.shape(np.array([1.0] * 50 + [2.0] * 50), 2.0)
    assert text is not None
    assert (text[0], text[-1]) == ("█", "█")
    assert set(text[1:-1]) == {"▁"}
    assert sparklines.shape(np.full(19, 1.0), 1.0) is None
    assert sparklines.shape(np.full(30, 1.0), 1.0) == "█▁▁▁▁▁▁▁"


@pytest.mark.parametrize(("change", "text"), [(0.0, "     |     "), (0.5, "     |■■■■■"), (-0.2, "   ■■|     "),
                                              (9.0, "     |■■■■■")])  # fmt: skip
def test_a_bar_is_full_at_half_as_much_again(change: float, text: str) -> None:
    assert sparklines.bar(change) == text


VERDICT_STYLES: dict[str, Style] = {"slower": "red"}
STYLED = DisplayTable(
    "t",
    (
        text_column("case"),
        column("verdict", "verdict", show_text, "left", style=VERDICT_STYLES.get),
        Column("change", lambda row: f"{row['change']}x", style=lambda row: "dim" if row["change"] < 2 else None),
    ),
    ({"case": "a", "verdict": "slower", "change": 3}, {"case": "b", "verdict": "same", "change": 1}),
    ("warning: a rank died", "a note"),
)


def test_cells_have_styles_on_a_terminal_with_colour_and_nowhere_else() -> None:
    text = render([STYLED], "table", colour=True, width=80)
    for part in (
        "\x1b[31mslower\x1b[0m", "\x1b[2m1x\x1b[0m", "\x1b[33mwarning: a rank died\x1b[0m", "\x1b[2ma note\x1b[0m"
    ):  # fmt: skip
        assert part in text
    assert "\x1b[31msame" not in text
    plain = render([STYLED], "table", width=80)
    assert re.sub(r"\x1b\[\d+m", "", text) == plain
    for form in ("markdown", "csv", "json"):
        assert "\x1b" not in render([STYLED], form, colour=True)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_line_is_wider_than_the_terminal_whatever_is_in_it(width: int) -> None:
    long_id = "collective/all_reduce[" + ",".join(f"parameter_{n}=123456789" for n in range(6)) + "]"
    shown = DisplayTable(
        f"title of {long_id}",
        (text_column("case"), text_column("reason"), column("n", "a head of several words", show_text)),
        ({"case": long_id, "reason": "it failed since " + "x" * 90, "n": 7},),
        (f"Ceiling: {long_id}, as measured in the same file", "y" * 130),
    )
    lines = render([shown], "table", width=width).splitlines()
    assert max(map(cell_width, lines)) <= width
    assert long_id in "".join("".join(line.split("   ")[0] for line in lines).split("case")[-1].split())
    assert "y" * 130 in "".join(lines)


def test_heads_go_on_below_themselves_before_a_column_goes() -> None:
    columns = (column("a", "exposed communication", show_text), column("b", "own work", show_text, weight=1))
    shown = DisplayTable("", columns, ({"a": "12", "b": "3"},))
    assert render([shown], "table", width=24).splitlines() == [
        "      exposed    own", "communication   work", "--------------------", "           12      3",
    ]  # fmt: skip
    assert render([shown], "table", width=32).splitlines()[0] == "exposed communication   own work"
