"""Damage to files, drawn by hypothesis: one or two values of a result file, or places in the text of another tool."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Line = dict[str, Any]
Step = str | int

HUGE = "\x00huge\x00"
"""Stands for 1e999, which is JSON by its grammar and infinite as a float."""
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2**31, 2**63, 10**40, -(10**40), 0.5, -0.0, 1e308, HUGE,
        "", "x", "ok", "full", "\ud800", "\x1b[31m", "a" * 3000, "::error::x", "../../etc", "=1+1",
        [], [None], [[]], [[], [1]], [1, "x"], [["x"]], [{}], [1e308, 1e308],
        {}, {"": None}, {"x": {}}, {"x": [1]}, {"full": {"calls": 1, "nanoseconds": [[1], [1, 2]]}},
    ]
)  # fmt: skip
ALIKE: list[Any] = [
    0, 1, 2, 7, 63, 64, 10**9, 2**40, 2**61, -1, 0.0, 1e-300, -1.5, 1e99, True, False,
    "", "x", "ok", "failed", "skipped", "forward", "backward", "communication", "full", "bfloat16", "cuda", "é\u202e",
    "::error::x", "=1+1", "a" * 3000, [], {},
]  # fmt: skip
"""Values that may pass for others of their type."""

NUMBERS = [
    "nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999", "9" * 30, "9" * 400, "9" * 5000, "1e300", "1e-320",
    "-1", "-0", "0", "0.0", "", "1_000", "\u0663", "\u00b2", "0x10", "1e", "+5", "2147483648", "1048577", "null",
]  # fmt: skip
"""Words in the place of a number; `\u0663` and `\u00b2` are digits to Python, and only the first is a number."""
WORDS = [
    "", "\x1b[31m", "\x1b]0;x\x07", "\x00", "\udcff", "\udcc3(", "\u202e", "\ufeff", "\x85", "a" * 3000, "a" * 20_000,
    "#", "{", "}", "[", "]", '"', "\\", ":", ",", "=", "::error::x", "../../etc", "=1+1", "[" * 3000, "\n",
]  # fmt: skip
"""Words in the place of any other; `\udcff` stands for the byte ff, which is no UTF-8."""


def lines_of(path: Path) -> list[Line]:
    """The records of a file, its samples cut to a few, so that a mutation seldom hits one of thousands of them."""
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [_cut(json.loads(line)) for line in text.splitlines()]


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(item) for item in value[:7]]  # a span has seven parts
    return {key: _cut(item) for key, item in value.items()} if isinstance(value, dict) else value


def _paths(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


@st.composite
def damaged(draw: st.DrawFn, lines: list[Line]) -> str:
    """Text of a file in which one or two values are wrong."""
    copy: list[Any] = json.loads(json.dumps(lines))
    for _ in range(draw(st.integers(1, 2))):
        number = draw(st.integers(0, len(copy) - 1))
        path = draw(st.sampled_from(sorted(_paths(copy[number]), key=repr)))
        _change(draw, copy, (number, *path))
    return text_of(copy)


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> bytes:
    """A text in which one or two places are wrong, as bytes that need not be UTF-8."""
    for _ in range(draw(st.integers(1, 2))):
        change = draw(
            st.sampled_from([_change_lines, _change_words, _change_words, _change_number, _change_number, _cut_off])
        )
        text = change(draw, text)
    return text.encode(errors="surrogateescape")


def _change_lines(draw: st.DrawFn, text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(_rearranged(draw, lines)) if lines else text


def _change_words(draw: st.DrawFn, text: str) -> str:
    parts = re.split(r"(\s+|[,:{}\[\]])", text)
    at = draw(st.integers(0, len(parts) // 2)) * 2
    deed = draw(st.sampled_from(["replace", "add", "rearrange"]))
    if deed == "rearrange":
        parts[::2] = [*_rearranged(draw, parts[::2]), "", ""][: len(parts[::2])]
    else:
        parts[at] = parts[at] * (deed == "add") + draw(st.sampled_from(WORDS))
    return "".join(parts)


def _change_number(draw: st.DrawFn, text: str) -> str:
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text, re.ASCII))
    if not numbers:
        return text
    start, end = draw(st.sampled_from(numbers)).span()
    return text[:start] + draw(st.sampled_from(NUMBERS)) + text[end:]


def _cut_off(draw: st.DrawFn, text: str) -> str:
    return text[: draw(st.integers(0, len(text)))]


def _rearranged(draw: st.DrawFn, parts: list[str]) -> list[str]:
    """The parts with one removed, one doubled or two swapped."""
    first, second = draw(st.integers(0, len(parts) - 1)), draw(st.integers(0, len(parts) - 1))
    deed = draw(st.sampled_from(["remove", "double", "swap"]))
    if deed == "swap":
        parts[first], parts[second] = parts[second], parts[first]
        return parts
    return parts[:first] + parts[first : first + 1] * (2 * (deed == "double")) + parts[first + 1 :]


def text_of(lines: list[Any]) -> str:
    """The text of a file of these records."""
    return "".join(json.dumps(line).replace(json.dumps(HUGE), "1e999") + "\n" for line in lines)


def _change(draw: st.DrawFn, lines: list[Any], path: tuple[Step, ...]) -> None:
    parent: Any = lines
    for step in path[:-1]:
        parent = parent[step]
    last = path[-1]
    deed = draw(st.sampled_from(["replace", "alike", "alike", "remove", "double"]))
    alike = [value for value in ALIKE if type(value) is type(parent[last])]
    if deed == "remove" and len(path) > 1:
        del parent[last]
    elif deed == "double" and isinstance(parent, list):
        parent.insert(int(last), deepcopy(parent[int(last)]))
    elif deed == "alike" and alike:
        parent[last] = deepcopy(draw(st.sampled_from(alike)))
    else:
        parent[last] = deepcopy(draw(VALUES))


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, in this process."""
    from bench import cli

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = cli.call(list(arguments))
    return code, output.getvalue()
