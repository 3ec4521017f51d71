"""Each form of output shows a text as it is, and nobody obeys it."""

from __future__ import annotations

import csv
import io
import json
import time
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import cell_text
from bench.core.cell_text import FORMS, clean, encodable, escape_csv, escape_markdown, guard
from bench.core.table import csv_text, json_text
from tests.support import obeyed
from tests.support.hostile import TEXTS

ANY_TEXT = st.one_of(st.sampled_from(TEXTS), st.text(), st.lists(st.sampled_from(TEXTS[:-1]), max_size=3).map("".join))


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(ANY_TEXT)
def test_no_form_lets_a_text_be_obeyed(text: str) -> None:
    assert not obeyed.faults_of_terminal(clean(text))
    assert clean(clean(text)) == clean(text)
    for form in ("markdown", "markdown label"):
        assert not obeyed.faults_of_markdown(f"before\n\n{FORMS[form](text)}\n\nafter")
    assert not obeyed.faults_of_markdown(
        f"| a | b |\n| --- | --- |\n| {escape_markdown(text, is_cell=True)} | {{}} |\n"
    )
    assert not obeyed.faults_of_markdown(f"![{FORMS['markdown label'](text)}](<x_files/a-1.png>)")
    assert not obeyed.faults_of_csv(csv_text([{"a": text, text: 1}]))
    assert not obeyed.faults_of_json(json_text({"a": [text]}))
    element = f'<p title="{FORMS["html"](text)}">{FORMS["svg"](text)}</p>'
    assert [each.tag for each in ElementTree.fromstring(element).iter()] == ["p"]
    line = f"::notice title={FORMS['workflow property'](text)}::{FORMS['workflow'](text)}"
    assert "\n" not in line
    assert not obeyed.faults_of_workflow(line)
    assert not obeyed.faults_of_terminal(guard(f"{text}\nmore").replace("\t", " "))


def test_json_means_the_same_after_it_was_escaped() -> None:
    value = ["##[error]x", "#", "###", "\x7f", "\\u0023", "\ud800"]
    assert json.loads(json_text(value)) == value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), ("\t=x", " '=x"), ("\r=x", " '=x"),
        ("a; =x", "a; '=x"), ("-1.5e-3", "-1.5e-3"), ("+5%", "+5%"), ("-", "'-"), ("a-b", "a-b"),
        ("2 = 1+1", "2 = 1+1"),
    ],
)  # fmt: skip
def test_a_text_is_no_formula_and_a_number_stays_one(text: str, cell: str) -> None:
    assert escape_csv(text) == cell


def test_numbers_and_flags_of_a_csv_are_left_alone() -> None:
    text = csv_text([{"a": -1, "b": -0.5, "c": True, "d": None, "e": ["=x", 1], "=f": "-3"}])
    assert list(csv.reader(io.StringIO(text))) == [
        ["a", "b", "c", "d", "e", "'=f"],
        ["-1", "-0.5", "True", "", "'=x; 1", "-3"],
    ]


@pytest.mark.parametrize(
    "text", ["all_reduce[num_bytes=4]", "a::b", "::1", "~2.0 ms", "a_b", "-5", "5 GB/s (10%)", "# of"]
)
def test_harmless_texts_stay_as_they_are(text: str) -> None:
    assert clean(text) == text
    assert escape_markdown(text, is_cell=True) == text


def test_a_line_that_was_wrapped_begins_no_command() -> None:
    assert guard("words\n::error::x\n  \x1b[31m::add-mask::y") == "words\n\\::error::x\n  \x1b[31m\\::add-mask::y"
    assert guard("\x1b[1mbold\x1b[0m") == "\x1b[1mbold\x1b[0m"
    assert guard("\x1b[2J\x9b") == "\\x1b[2J\\x9b"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "no-such-encoding"])
def test_any_text_can_be_encoded(encoding: str) -> None:
    shown = encodable("é█\ud800漢", encoding)
    shown.encode("ascii" if encoding.startswith("no") else encoding)
    assert ("é" in shown) == (encoding not in ("ascii", "no-such-encoding"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", ["x", "#", "-", "=", "`", "[", ";", ":", "a:", "~", " ", "\x00", "&a"])
def test_no_escape_takes_the_square_of_the_length(form: str, sign: str) -> None:
    began = time.process_time()
    FORMS[form](sign * 20_000)
    guard(sign * 20_000)
    assert time.process_time() - began < 2  # a search that goes back takes minutes
    assert FORMS[form] in vars(cell_text).values()
