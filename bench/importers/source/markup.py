"""Marks that terminals, pages and mails put around a text: colour codes, HTML, invisible characters, list marks.

Each is a row: its name for the note, and a function from a line to the line without it. A line stays a line, so that
line numbers are those of the file.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[ -/]*[0-Z\\^-~]"
)
"""Sequences of ECMA-48: colours and cursor movements, titles of windows, strings, and those of two characters."""
_BARE_COLOURS = re.compile(
    r"\[(?:\d{1,3};)*\d{1,3}m|\^\[\[[0-9;]*[A-Za-z]|\\x1b\[[0-9;]*m|\\033\[[0-9;]*m|\\e\[[0-9;]*m"
)
"""Colour codes whose escape character was lost, or is written out."""
_TAGS = re.compile(r"</?(?:pre|code|span|div|p|br|b|i|em|strong|font|tt|td|tr|samp|blockquote|h[1-6])\b[^<>]*/?>", re.I)
_ENTITIES = re.compile(r"&(?:[a-z]{2,8}|#\d{1,6}|#x[0-9a-f]{1,5});", re.I)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_MINUS = re.compile("[\u2010-\u2012\u2212\ufe63\uff0d](?=\\d)")
MIN_BARS = 3
"""Bars of a line that begins with one, above which it is a row of a table of Markdown."""
_TABLE_END = re.compile(r"\s*\|[\s|]*$")
_ESCAPED = re.compile(r"\\([#*_<\[\]`])")


def _without_bars(line: str) -> str:
    """A row of a Markdown table; and a bar that a page left at the end of a line is none of its words."""
    if line.lstrip().startswith("|") and line.count("|") > MIN_BARS:
        return line.replace("|", " ")
    return _TABLE_END.sub("", line) if line.endswith(("|", " ")) else line


def _last_overwrite(line: str) -> str:
    """A carriage return within a line moves to its beginning: the terminal shows the part that was written last."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def _unescaped(line: str) -> str:
    return html.unescape(_TAGS.sub(" ", line))


MARKS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("colour codes", lambda line: _ESCAPES.sub("", line) if "\x1b" in line else line),
    ("colour codes without their escape character", lambda line: _BARE_COLOURS.sub("", line)),
    ("text that a carriage return overwrote", lambda line: _last_overwrite(line) if "\r" in line else line),
    (
        "HTML marks",
        lambda line: _unescaped(line) if _TAGS.search(line) or _ENTITIES.search(line) else line,
    ),
    ("invisible characters", lambda line: _INVISIBLE.sub("", line)),
    ("blanks that are not ASCII", lambda line: _BLANKS.sub(" ", line)),
    ("minus signs that are not ASCII", lambda line: _MINUS.sub("-", line)),
    ("bars of a table", _without_bars),
    ("backslashes of Markdown", lambda line: _ESCAPED.sub(r"\1", line)),
)
"""Marks, taken off in this order. A further mark is a further row."""
