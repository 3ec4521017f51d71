"""Text of a table's cell as a terminal shows it: without control characters, and how wide it is."""

from __future__ import annotations

import re
import unicodedata


def clean(text: str) -> str:
    """The text with control and format characters as visible escapes, and every white space as one blank."""
    if text.isprintable():
        return text
    blank = re.sub(r"[\t\n\r\v\f\x85\u2028\u2029]+", " ", text)
    return "".join(_escape(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in blank)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def width(text: str) -> int:
    """Cells of a terminal: wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
