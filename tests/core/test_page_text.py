"""A page as a terminal shows it: nothing wider than asked but code, comments gone, links as commands and paths."""

from __future__ import annotations

import pytest

from bench.core.cell_text import width as cell_width
from bench.core.page_text import page_text, title

TOPICS = ("comparing", "ci")


def test_comments_go_and_code_stays_as_it_is() -> None:
    command = "bench show results/reference/reference-2-xeon-cores-gloo.jsonl --where=something-long"
    page = f"# A title\n\n<!-- output: x -->\n```\n{command}\n  <!-- code -->\n```\n<!-- two\nlines -->\nText.\n"
    assert page_text(page, TOPICS, 40) == f"# A title\n\n{command}\n  <!-- code -->\n\nText.\n"
    assert f"    {command}\n      <!-- code -->\n" in page_text(page, TOPICS, 100)


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[verdicts](comparing.md#verdicts)", "verdicts (`bench help comparing`)"),
        ("[comparing.md](comparing.md)", "`bench help comparing`"),
        ("[`ci`](ci.md)", "`ci` (`bench help ci`)"),
        ("[evidence](../../results/evidence/README.md)", "evidence (results/evidence/README.md)"),
        ("[results/gpu](../../results/gpu/)", "results/gpu"),
        ("[torch](https://pytorch.org/#x)", "torch (https://pytorch.org/#x)"),
        ("[below](#costs)", "below"),
        ("`frame[a](b)`", "`frame[a](b)`"),
        ("**Bold** text", "Bold text"),
    ],
)
def test_links_and_bold(link: str, shown: str) -> None:
    assert page_text(link, TOPICS, 100) == shown + "\n"


def test_paragraphs_and_items_are_wrapped() -> None:
    page = "One two\nthree.\n\n- an item of\n  two lines\n- another\n\n1. first\n"
    assert page_text(page, (), 12) == "One two\nthree.\n\n- an item of\n  two lines\n- another\n\n1. first\n"
    assert page_text("- one two three", (), 9) == "- one two\n  three\n"


def test_headings_are_bold_with_colour() -> None:
    assert page_text("## A\ntext", (), 80, colour=True) == "\x1b[1m## A\x1b[0m\ntext\n"


def test_a_table_is_drawn_or_listed() -> None:
    page = "| name | unit | meaning |\n| --- | ---: | --- |\n| `a\\|b` | s | time |\n| c |  | " + "word " * 30 + "|\n"
    lines = page_text(page, (), 100).splitlines()
    assert [line.split() for line in lines[:3:2]] == [["name", "unit", "meaning"], ["`a|b`", "s", "time"]]
    assert max(map(cell_width, lines)) <= 100
    page = "| name | a | b | c |\n| --- | --- | --- | --- |\n| x | " + "word " * 9 + "| | more words |\n"
    assert page_text(page, (), 40).splitlines() == [
        "- x: a: word word word word word word",
        "  word word word; c: more words",
    ]


def test_title() -> None:
    assert title("<!-- x -->\n# The title\n\n## Another\n") == "The title"
    assert title("text") == ""
