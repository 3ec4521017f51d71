"""Text of a file's bytes: UTF-8, UTF-16 and cp1252, with and without a byte-order mark.

A PowerShell redirection writes UTF-16, and editors of Windows write cp1252. A file of neither is refused: a table that
was decoded wrongly may still have digits in it.
"""

from __future__ import annotations

import codecs
import re

from bench.errors import BenchError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "a byte-order mark"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16 with a byte-order mark"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16 with a byte-order mark"),
)
"""Beginning of a file -> its encoding, and what to call it in a note."""
_SAMPLE = 4096
"""Bytes at the beginning that tell UTF-16 without a mark from other encodings."""
_MOSTLY = 0.8
"""Share of zero bytes in one half of the pairs at which a text is UTF-16: its characters are nearly all ASCII."""
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no log has; escape (1b) begins colour codes."""


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, and how it was encoded unless that is plain UTF-8.

    Raises BenchError for bytes that are not text.
    """
    for mark, encoding, what in _MARKS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding), what
    if (unmarked := _unmarked_utf16(data)) is not None:
        return _decoded(data, unmarked), "UTF-16"
    try:
        return data.decode(), None
    except UnicodeDecodeError as error:
        return _windows_text(data, error), "cp1252"


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BenchError(
            f"its first bytes say {encoding}, but byte {error.start} is none; name what the tool wrote"
        ) from error


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 of ASCII characters has a zero in every second byte."""
    sample = data[: _SAMPLE // 2 * 2]
    if len(data) % 2 or len(sample) < 4:
        return None
    pairs = len(sample) / 2
    if sample[1::2].count(0) > _MOSTLY * pairs and not sample[::2].count(0):
        return "utf-16-le"
    if sample[::2].count(0) > _MOSTLY * pairs and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def _windows_text(data: bytes, error: UnicodeDecodeError) -> str:
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = "\x00"
    if _CONTROLS.search(text):
        raise BenchError(
            f"no text in UTF-8, UTF-16 or cp1252 (byte {error.start}); name what the tool wrote"
        ) from error
    return text
