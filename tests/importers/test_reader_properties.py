"""Damaged texts through the cleaning and the readers: the product's own error or cases, and no number from nowhere.

Each number that a reader returns stands in the text, up to its unit; each line of a text is accounted for once. A
fixed seed; `--hypothesis-profile long` tries 5,000 texts.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.importers import registry
from bench.importers.reading import ImportedText, ImportHints
from bench.importers.source.cleaning import CleanText, clean_text
from tests import DATA
from tests.support.damage import damaged_text

NUM_EXAMPLES = 1500
HINTS = (
    ImportHints(),
    ImportHints(op="all_reduce", num_ranks=2),
    ImportHints(op="all_gather", num_ranks=16),
    ImportHints(num_ranks=8),
)
PREFIXES = (
    "[0] ",
    "[1,0]<stdout>:",
    "2026-01-31T12:00:00.5Z ",
    "> ",
    "- ",
    "7: ",
    "\x1b[1m",
    "(w pid=1, ip=192.0.2.1) ",
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.A)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.A)


@cache
def seeds() -> list[str]:
    """Texts of all samples, long ones cut so that damage hits a part that matters."""
    paths = sorted(path for path in (DATA / "import").rglob("*") if path.is_file())
    assert len(paths) > 100
    return [clean_text(path.read_bytes()).text for path in paths]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    data = draw(damaged_text(draw(st.sampled_from(seeds()))))
    if draw(st.integers(0, 3)) == 0:
        prefix = draw(st.sampled_from(PREFIXES)).encode()
        data = b"\n".join(prefix + line for line in data.split(b"\n"))
    if draw(st.integers(0, 9)) == 0:
        data = data.decode(errors="replace").encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-16-le"])))
    return data


def numbers_of(text: str) -> list[float]:
    """Absolute values of all numbers in a text, sorted, also those that are glued to others."""
    found = {abs(float(match)) for match in _NUMBER.findall(text)}
    found |= {float(match.replace(",", "")) for match in _GROUPED.findall(text)}
    for match in re.findall(r"[\d.]+", text, re.A):  # a number behind the point of another, or behind a digit
        parts = [match[start:] for start in range(min(len(match), 12))]
        found |= {float(part) for part in parts if _NUMBER.fullmatch(part)}
    return sorted(found)


def is_stated(value: float, numbers: Sequence[float]) -> bool:
    at = bisect.bisect_left(numbers, value * (1 - 1e-9))
    return at < len(numbers) and numbers[at] <= value * (1 + 1e-9)


def read_all(text: CleanText, hints: ImportHints) -> ImportedText | None:
    """The outcome of reading; None if the product refuses the text."""
    try:
        return registry.read_text(Path("in.txt"), text, hints, None)
    except BenchError:
        return None


def check_numbers(read: ImportedText, text: CleanText) -> None:
    stated = numbers_of("\n".join((*text.lines, *text.originals)))
    for reading in read.readings:
        amounts = [reading.params.get(name, 0) for name in ("num_bytes", "global_batch_size")]
        amounts += [reading.work.bytes or 0] if reading.work is not None else []
        for seconds in reading.seconds:
            times = [seconds * unit for unit in (1.0, 1e6, 1e9)]
            rates = [float(amount) / seconds * unit for amount in amounts for unit in (1.0, 1e-6, 1e-9)]
            is_difference = reading.params.get("op") == "time_to_train" and is_between(seconds * 1e3, stated)
            assert is_difference or any(is_stated(value, stated) for value in (*times, *rates)), (reading, seconds)


def is_between(milliseconds: float, stated: Sequence[float]) -> bool:
    """True if two stated times are so far apart."""
    return any(is_stated(value + milliseconds, stated) for value in stated)


def check_ledger(read: ImportedText, text: CleanText) -> None:
    """A text: every line once. JSON: only its keys and results."""
    places = [line.where for line in read.ledger]
    assert len(places) == len(set(places))
    if read.format == "text":
        assert places == [f"line {number}" for number in range(1, len(text.lines) + 1)] or len(text.lines) == 0


def run(num_examples: int) -> dict[str, int]:
    """Number of texts that were refused, and that were read."""
    outcomes = {"refused": 0, "read": 0}

    @settings(
        max_examples=num_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(texts(), st.sampled_from(HINTS))
    def each(data: bytes, hints: ImportHints) -> None:
        try:
            text = clean_text(data)
        except BenchError:
            outcomes["refused"] += 1
            return
        read = read_all(text, hints)
        outcomes["refused" if read is None else "read"] += 1
        if read is not None:
            check_numbers(read, text)
            check_ledger(read, text)

    each()
    return outcomes


def test_damaged_texts_are_refused_or_read_without_a_number_from_nowhere() -> None:
    outcomes = run(300)
    assert min(outcomes.values()) > 30


@pytest.mark.long
def test_many_damaged_texts() -> None:
    outcomes = run(max(NUM_EXAMPLES, settings().max_examples))
    assert min(outcomes.values()) > 150


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=60), max_size=12))
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
def test_cleaning_keeps_the_number_of_lines_and_cleans_once(lines: list[str]) -> None:
    """A cleaned text has the lines of the file, and holds no control characters that a reader would split at."""
    try:
        text = clean_text("\n".join(["# OSU MPI Latency Test v7.5", *lines]).encode())
    except BenchError:
        return
    assert len(text.lines) == len(text.originals)
    assert len(text.text.splitlines()) == len(text.lines)


@pytest.mark.parametrize("value", ["1_000", "\u0663", "1e", "0x10", "--1", "1,5", " ", ""])
def test_what_python_takes_for_a_number_and_no_tool_prints(value: str) -> None:
    from bench.importers.reading import number

    assert number(value) is None


def test_json_results_are_accounted_for() -> None:
    data: dict[str, Any] = json.loads((DATA / "import" / "nccl.json").read_text())
    data["novelty"] = 1
    read = read_all(clean_text(json.dumps(data).encode()), ImportHints())
    assert read is not None
    counts = read.ledger.counts()
    assert (counts["unknown"], counts["unread"]) == (1, 0)
    assert [line.where for line in read.ledger.of_kind("unknown")] == ["key 'novelty'"]
