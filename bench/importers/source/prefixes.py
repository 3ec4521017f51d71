"""Prefixes of launchers, log collectors, mails and pages, learnt from the text itself.

A prefix is the part of a line before a line's known beginning (`bench.importers.source.anchors`). Its shape (digits and
words may differ, all else is literal) is before at least two such lines, and before most lines around them.
So `[1,0]<stdout>:`, a time stamp, `(Worker pid=12, ip=192.0.2.1) ` and `> > ` need no list of tools. A tool that writes
a row in pieces has the prefix in the middle of the row, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.importers.source.anchors import ANCHOR

MIN_ANCHORS = 2
"""Known lines that need a prefix of one shape: a single one may be a remark in front of a quoted line."""
MIN_SHARE = 0.5
"""Share of the lines from the first to the last known one that have the shape."""
MAX_LENGTH = 200
MAX_SHAPES = 8
_OF_JSON = set('"{}')
"""Characters before a key of JSON which are JSON themselves."""
_TOKEN = re.compile(r"[\w.@+-]*\d[\w.@+-]*|[A-Za-z_][\w.@-]*|\s+|.")
_WORDS_ALONE = re.compile(r"(?:\[\\w\.@\+-\]\+|\\d\+|\\s\+)+")
"""Shape of a prefix without punctuation."""
_CLOCK = re.compile(r"\d+(?:[.:]\d+)+[A-Za-z]*")
"""Time of a line; no row begins with a size of this form."""
_PLAIN = re.compile(r"[\w\s.*/+-]*")
_ROW = re.compile(r"\s*-?\d")


@dataclass(frozen=True)
class Prefix:
    """A prefix as it is before one line: its shape, and whether it may be in the middle of a row too."""

    start: re.Pattern[str]
    inner: re.Pattern[str] | None
    is_count: bool
    """True for line numbers alone: each has to follow the one before."""


def taken_off(lines: Sequence[str]) -> tuple[list[str], Counter[str], str | None]:
    """The lines without prefixes, how many lines each kind was taken off, and an example of a prefix."""
    kinds: Counter[str] = Counter()
    example: str | None = None
    result = list(lines)
    for _ in range(MAX_SHAPES):  # a quoted log has one prefix around another only if they differ from line to line
        found = _learn(result)
        if found is None:
            break
        prefix, first = found
        before = result
        result = _stripped(result, prefix, kinds)
        example = example or first.strip()
        if result == before:
            break
    return result, kinds, example


def _learn(lines: Sequence[str]) -> tuple[Prefix, str] | None:
    """The most common prefix of known lines, and one as it is in the text; None if there is none."""
    places = [(index, line[: match.start()]) for index, line in enumerate(lines) if (match := ANCHOR.search(line))]
    shapes: dict[str, list[tuple[int, str]]] = {}
    for index, text in places:
        if text.strip() and len(text) <= MAX_LENGTH and not _OF_JSON & set(text):
            shapes.setdefault(_shape(text), []).append((index, text))
    for shape, found in sorted(shapes.items(), key=lambda item: -len(item[1])):
        if len(found) < MIN_ANCHORS:
            return None
        prefix = _prefix(shape, [text for _, text in found])
        around = [line for line in lines[found[0][0] : found[-1][0] + 1] if line.strip()]
        if sum(prefix.start.match(line) is not None for line in around) >= MIN_SHARE * len(around):
            return prefix, found[0][1]
    return None


def _shape(text: str) -> str:
    """Pattern of a prefix: words and numbers may differ, punctuation is literal."""
    parts = [_part(token) for token in _TOKEN.findall(text.strip())]
    return "".join(parts)


def _part(token: str) -> str:
    if token.isspace():
        return r"\s+"
    if token.isdigit():
        return r"\d+"
    return r"[\w.@+-]+" if re.match(r"\w", token[-1]) and re.search(r"\w", token) else re.escape(token)


def _prefix(shape: str, texts: Sequence[str]) -> Prefix:
    """The prefix of a shape. One of words alone is literal: a row begins with a word too."""
    is_count, text = shape == r"\d+", texts[0]
    if not is_count and _WORDS_ALONE.fullmatch(shape):
        shape = f"(?:{'|'.join(sorted({_literal(each.strip()) for each in texts}))})"
    marks = re.sub(r"[\w\s.#>*|@+-]", "", text)
    ends_open = text[-1:].isspace() and re.match(r"\w", text.strip()[-1]) is not None
    start = re.compile(rf"\s*{shape}(?:\s|$)" if ends_open or is_count else rf"\s*{shape}\s?")
    return Prefix(start, _inner(text.strip()) if marks else None, is_count)


def _literal(text: str) -> str:
    """Pattern of a prefix of words alone: as it is, but for the time of the line."""
    words = re.findall(r"\s+|\S+", text)
    return "".join(_CLOCK.pattern if _CLOCK.fullmatch(word) else re.escape(word) for word in words)


def _inner(text: str) -> re.Pattern[str]:
    """Pattern of the prefix in the middle of a row, where it may be glued to a number: its numbers are as long."""
    parts = []
    for token in re.findall(r"\d+|[A-Za-z_]+|\s+|.", text):
        if token.isspace():
            parts.append(r"\s+")
        elif token.isdigit():
            parts.append(rf"\d{{{len(token)}}}")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts))


def _stripped(lines: Sequence[str], prefix: Prefix, kinds: Counter[str]) -> list[str]:
    result: list[str] = []
    last: int | None = None
    for line in lines:
        match = prefix.start.match(line)
        if match is not None and prefix.is_count:
            value = int(match[0].strip()[:9])
            match, last = (match, value) if last is None or 0 < value - last <= 2 else (None, last)
        rest = line
        if match is not None:
            kinds["line numbers" if prefix.is_count else "prefixes"] += 1
            rest = line[match.end() :]
            if prefix.inner is not None and _ROW.match(rest) and not _PLAIN.fullmatch(rest):
                rest = _without_inner(rest, _inner(match[0].strip()), prefix, kinds)
        result.append(rest)
    return result


def _without_inner(rest: str, inner: re.Pattern[str], prefix: Prefix, kinds: Counter[str]) -> str:
    """The row without the prefixes in its middle: that of the line itself, or another of its lengths."""
    cut, number = inner.subn(" ", rest)
    if not number and prefix.inner is not None:
        cut, number = prefix.inner.subn(" ", rest)
    kinds["prefixes in the middle of rows"] += number > 0
    return cut
