"""Findings on a terminal and as Markdown and JSON: the same list."""

from __future__ import annotations

import pytest

from bench.analysis.findings import markdown, screen
from bench.analysis.findings.kinds import (
    Answer,
    Correctness,
    DataState,
    Figure,
    Findings,
    NextStep,
    Remark,
    Unmeasured,
)

FINDINGS = Findings(
    "2 x core (gloo)",
    (
        Answer("plain trains 1.9x as fast"),
        DataState("rough", "one launch."),
        Figure(group="reached", name="matrix product", text="60 GFLOP/s", share=1.0, of="best of 4"),
        Figure(group="reached", name="all-reduce", text="0.5 GB/s", share=0.26, of="26% of the link"),
        Figure(group="step", name="forward", text="25%", share=0.25, of="73 ms"),
        Remark(text="small", remedy="Look", weight=1.0),
        Remark(text="large", remedy="Why: bench explain last", weight=9.0),
        Remark(text="middle", remedy="", weight=5.0),
        Remark(text="tiny", remedy="Nothing", weight=0.5),
        Correctness("all 3 measured cases", 3, 0),
        Unmeasured(text="out of time", num_cases=9, remedy="bench run --resume last"),
        NextStep(purpose="all numbers", command="bench show last"),
    ),
)


def test_blocks_come_in_the_order_in_which_people_read() -> None:
    lines = screen.lines(FINDINGS, 100)
    assert lines[:3] == ["plain trains 1.9x as fast", "2 x core (gloo)", "ROUGH FIGURES: one launch."]
    starts = ("REACHED", "WHERE A TRAINING STEP GOES", "WHAT STANDS OUT", "CORRECT", "NOT MEASURED", "NEXT")
    places = [next(n for n, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)


def test_three_remarks_the_weightiest_first_and_no_stop_behind_a_command() -> None:
    text = screen.show(FINDINGS, 100)
    assert "  1  large. Why: bench explain last\n  2  middle.\n  3  small. Look.\n" in text
    assert "tiny" not in text
    assert [o["text"] for o in FINDINGS.to_json() if o["kind"] == "stands_out"] == ["small", "large", "middle", "tiny"]


def test_a_bar_is_as_long_as_its_share() -> None:
    rows = {line.split()[0]: line for line in screen.lines(FINDINGS, 100) if "█" in line}
    assert rows["matrix"].count("█") == screen.NUM_BAR_CELLS
    assert rows["all-reduce"].count("█") == int(0.26 * screen.NUM_BAR_CELLS)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, screen.lines(FINDINGS, width))) <= width


def test_colour_is_never_the_only_sign() -> None:
    coloured = screen.show(FINDINGS, 100, colour=True)
    assert "\x1b[33mROUGH FIGURES" in coloured
    plain = screen.show(FINDINGS, 100)
    assert "\x1b" not in plain


def test_a_wrong_result_is_said_in_red_and_in_words() -> None:
    findings = Findings("", (Correctness("1 of 2 results: a: wrong", 1, 1),))
    assert screen.show(findings, 100, colour=True) == "\x1b[31mWRONG\x1b[0m  1 of 2 results: a: wrong\n"


def test_control_characters_do_not_reach_the_terminal() -> None:
    hostile = Findings("a\x1b[2Jb", (Remark(text="c\x07", remedy=""), Figure(group="reached", name="\x1b", text="1")))
    assert "\x1b" not in screen.show(hostile, 100)
    assert "\x07" not in screen.show(hostile, 100)


def test_markdown_has_the_same_list() -> None:
    text = markdown.show(FINDINGS)
    assert text.startswith("**plain trains 1.9x as fast**\n")
    for words in ("matrix product: 60 GFLOP/s (best of 4)", "1. large.", "Not measured: 9", "`bench show last`"):
        assert words in text


def test_json_names_the_kind_of_each() -> None:
    kinds = ["answer", "state", "figure", "stands_out", "correct", "not_measured", "next"]
    assert list(dict.fromkeys(each["kind"] for each in FINDINGS.to_json())) == kinds


@pytest.mark.parametrize("num_figures", range(8, 24))
def test_a_screen_has_room_for_the_lines_behind_it_however_much_is_found(num_figures: int) -> None:
    figures = [Figure(group="reached", name=f"work {n}", text="1 s") for n in range(num_figures)]
    remarks = [Remark(text=f"remark {n} " + "word " * 30, remedy="", weight=float(n)) for n in range(3)]
    found = Findings(
        "a head", (DataState("good", "data"), *figures, *remarks, NextStep(purpose="next", command="bench"))
    )
    shown = screen.lines(found, 100)
    fewest = num_figures + 7  # head, state, title, title and one remark of two lines, next step
    assert len(shown) <= max(screen.MAX_LINES - screen.LINES_AFTER, fewest)
    assert sum("remark" in line for line in shown) == min(3, max(1, (28 - num_figures - 5) // 2))
