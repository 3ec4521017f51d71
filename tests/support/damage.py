"""Damage to real result files, drawn by hypothesis: one or two values of a file replaced, removed or doubled."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Line = dict[str, Any]
Step = str | int

HUGE = "\x00huge\x00"
"""Stands for 1e999, which is JSON by its grammar and infinite as a float."""
VALUES = st.sampled_from(
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


def lines_of(path: Path) -> list[Line]:
    """The records of a file, its samples cut to a few, so that a mutation seldom hits one of thousands of them."""
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [_cut(json.loads(line)) for line in text.splitlines()]


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(item) for item in value[:6]]
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
        parent.insert(int(last), parent[int(last)])
    elif deed == "alike" and alike:
        parent[last] = draw(st.sampled_from(alike))
    else:
        parent[last] = draw(VALUES)


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, in this process."""
    from bench import cli

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = cli.call(list(arguments))
    return code, output.getvalue()
