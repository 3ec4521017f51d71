"""The account of a file's lines: each is read, known not to be data, an unreadable row, or unknown.

A line that no reader asked for is not passed over: `noise` lists the known kinds, a line of many numbers counts as a
row that could not be read, and any other is unknown and named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from bench.core.cell_text import clean
from bench.importers.source.noise import noise

Kind = Literal["read", "not data", "unread", "unknown"]
MAX_CHARACTERS = 120
"""Length at which a line is cut."""
MAX_WORDS = 6
"""First words of an unknown line that are named."""
MIN_NUMBERS = 4
"""Numbers of a line that is taken for a row, if they are at least half of its words."""
_NUMBER = re.compile(r"[-+]?(\d[\d,.]*([eE][-+]?\d+)?|nan|inf|N/A)\*?", re.I)


@dataclass(frozen=True)
class LedgerLine:
    """One line of a text, or one entry of JSON, and what became of it."""

    where: str
    """`line 14`, and in JSON `result 3`, counted from 1."""
    kind: Kind
    text: str
    why: str = ""
    """The thing it was read as, or the reason."""

    @property
    def first_words(self) -> str:
        """Beginning of the line, for a note."""
        words = self.text.split()
        return " ".join(words[:MAX_WORDS]) + (" ..." if len(words) > MAX_WORDS else "")


@dataclass
class Ledger:
    """Lines in their order. A line that is noted twice keeps its last kind: a row begun may turn out unreadable."""

    lines: dict[str, LedgerLine] = field(default_factory=dict)

    def read(self, where: str | int, text: str, what: str) -> None:
        """Note a line that was read as `what`."""
        self._note(where, "read", text, what)

    def skip(self, where: str | int, text: str, why: str) -> None:
        """Note a line that is known not to be data."""
        self._note(where, "not data", text, why)

    def unread(self, where: str | int, text: str, why: str = "") -> None:
        """Note a row that could not be read."""
        self._note(where, "unread", text, why)

    def other(self, where: str | int, text: str) -> None:
        """Note a line that the reader does not know: noise, a row in another form, or unknown."""
        why = noise(text)
        if why is not None:
            self.skip(where, text, why)
        elif looks_like_row(text):
            self.unread(where, text, "looks like a row, but fits no table")
        else:
            self._note(where, "unknown", text, "")

    def of_kind(self, kind: Kind) -> tuple[LedgerLine, ...]:
        """The lines of one kind, in their order."""
        return tuple(line for line in self if line.kind == kind)

    def counts(self) -> Counter[Kind]:
        """Number of lines per kind."""
        return Counter(line.kind for line in self)

    def __iter__(self) -> Iterator[LedgerLine]:
        return iter(self.lines.values())

    def _note(self, where: str | int, kind: Kind, text: str, why: str) -> None:
        place = where if isinstance(where, str) else f"line {where}"
        self.lines[place] = LedgerLine(place, kind, clean(text.strip())[:MAX_CHARACTERS], clean(why))


def looks_like_row(text: str) -> bool:
    """True if a line begins with a number and holds numbers mostly, as a row of a table does."""
    words = text.replace("|", " ").split()
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    return bool(words) and words[0][0].isdigit() and numbers >= MIN_NUMBERS and 2 * numbers >= len(words)
