"""Plain English in pages, READMEs, help texts, docstrings and printed texts: habits to avoid, and short sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support import english_texts
from tests.support.english_rules import RULES, Rule
from tests.support.english_texts import Hit, Sentence

ALLOWED = ROOT / "tests" / "data" / "english_allowed.txt"
MAX_ALLOWED = 10
FOLDERS = ("bench", "bench/workloads", "bench/predict", "suites", "results", "scripts", "tests")
PAGES = [ROOT / "README.md", *(ROOT / name / "README.md" for name in FOLDERS), *(ROOT / "bench" / "docs").glob("*.md")]
SOURCES = sorted(path for top in ("bench", "suites") for path in (ROOT / top).rglob("*.py"))


def allowed() -> list[list[str]]:
    """[place, habit, words of the sentence, reason] of each exception."""
    lines = ALLOWED.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line.strip() and not line.startswith("#")]


def sources() -> Iterator[Sentence]:
    for path in SOURCES:
        yield from english_texts.docstrings(path)
        yield from english_texts.messages(path)


def is_allowed(hit: Hit) -> bool:
    return any(
        hit.sentence.place.startswith(place) and hit.rule == habit and words in hit.sentence.text
        for place, habit, words, _ in allowed()
    )


def found(sentences: Iterator[Sentence]) -> str:
    """One line per hit, for the reader of a failed test."""
    hits = (hit for sentence in sentences for hit in english_texts.hits(sentence))
    return "\n".join(str(hit) for hit in hits if not is_allowed(hit))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_habit_is_caught_and_plain_english_is_left_alone(rule: Rule) -> None:
    assert rule.search(rule.caught)
    assert not rule.search(rule.fine)


def test_sentences_are_cut_where_they_end() -> None:
    text = "One `run` (see e.g. Qn, 1993) ends. Its file, `a.b c`, is kept as J. Cohen has it.\n\n# Head\n- item one\n"
    page = [each.text for each in english_texts.page_sentences(ROOT / "x.md", text)]
    assert page == ["One CODE ends.", "Its file, CODE, is kept as J. Cohen has it.", "Head", "item one"]
    table = "| a | **b** [c](d.md) |\n```\nNone where there is none\n```\n<!-- so many -->\n"
    assert [each.text for each in english_texts.page_sentences(ROOT / "x.md", table)] == ["a", "b c"]
    listed = "Parts:\n\n    first    the time of it\n             all\n    second   the rest\n\n  bench run what\n"
    assert [each.text for each in english_texts.prose_sentences("x", "help", listed)] == [
        "Parts:",
        "the time of it all",
        "the rest",
    ]


def test_a_long_sentence_is_found() -> None:
    words = " ".join(["word"] * 31)
    assert [hit.rule for hit in english_texts.hits(Sentence("x", "page", words))] == [english_texts.TOO_LONG]
    assert not list(english_texts.hits(Sentence("x", "docstring", words)))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_in_plain_english(page: Path) -> None:
    assert found(english_texts.page_sentences(page)) == ""


def test_help_texts_are_in_plain_english() -> None:
    sentences = list(english_texts.help_sentences())
    assert len(sentences) > 200
    assert found(iter(sentences)) == ""


def test_docstrings_and_printed_texts_are_in_plain_english() -> None:
    sentences = [
        each for path in SOURCES for read in (english_texts.docstrings, english_texts.messages) for each in read(path)
    ]
    assert len(sentences) > 4000
    assert found(iter(sentences)) == ""


def test_exceptions_are_few_and_needed() -> None:
    """An exception without a reason, or one that no sentence needs any more, is removed."""
    rows = allowed()
    assert len(rows) <= MAX_ALLOWED
    assert all(len(row) == 4 and row[3] for row in rows)
    sentences = [each for page in PAGES for each in english_texts.page_sentences(page)]
    sentences += english_texts.help_sentences()
    sentences += [
        each for path in SOURCES for read in (english_texts.docstrings, english_texts.messages) for each in read(path)
    ]
    hits = [hit for sentence in sentences for hit in english_texts.hits(sentence)]
    for place, habit, words, _ in rows:
        assert any(h.sentence.place.startswith(place) and h.rule == habit and words in h.sentence.text for h in hits), (
            words
        )
