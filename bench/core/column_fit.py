"""Makes a table fit a terminal by choosing columns, never by cutting cells.

Columns say how soon they may go (`Column.weight`), and a footnote names those that went. Columns that must stay do
stay, and a text that is too long goes on below itself.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.core import cell_text

if TYPE_CHECKING:
    from bench.core.table import Column, DisplayTable

GAP = "   "
MIN_ROOM = 30
"""Cells that a last column of text is given at least, whatever comes before it."""
LEAST_TEXT = 12
"""Cells that any column of text is given at least."""
MAIN = 1.0
"""Columns of a smaller weight go only if there is no room for them even next to texts that go on below themselves."""


def fit_columns(table: DisplayTable, width: int) -> DisplayTable:
    """The table without the columns for which there is no room, and a footnote that names them."""
    kept, gone = choose_columns(table, width)
    if not gone:
        return table
    note = f"not shown, the table is too wide: {', '.join(gone)}; --wide shows all"
    return replace(table, columns=kept, footnotes=(*table.footnotes, note))


def choose_columns(table: DisplayTable, width: int) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The columns for which there is room, and heads of the others; the lightest stay, those of one weight together.

    A heavier column that is narrow may stay where a lighter one that is wide may not.
    """
    needs = dict(zip(map(id, table.columns), needed_widths(table), strict=True))
    if not table.columns or _total_width(table.columns, needs) <= width:
        return table.columns, ()
    kept = [column for column in table.columns if column.weight <= 0]
    for weight in sorted({column.weight for column in table.columns if column.weight > 0}):
        more = [c for c in table.columns if c.weight == weight or any(c is other for other in kept)]
        if _total_width(more, needs, are_texts_narrow=weight < MAIN) <= width:
            kept = more
    gone = [c.head for c in table.columns if not any(c is other for other in kept)]
    return tuple(kept), tuple(dict.fromkeys(gone))


def needed_widths(table: DisplayTable, are_heads_whole: bool = False) -> list[int]:
    """Width of each column: of its cells, and of its head or, as heads can go on below themselves, their words."""
    widths = []
    for column in table.columns:
        head = cell_text.clean(column.head)
        words = [head] if are_heads_whole else head.split() or [""]
        widths.append(max(map(cell_text.width, [*words, *(cell_text.clean(column.show(row)) for row in table.rows)])))
    return widths


def room_of_columns(widths: Sequence[int]) -> int:
    """Width of columns with the gaps between them."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _total_width(columns: Sequence[Column], needs: dict[int, int], are_texts_narrow: bool = False) -> int:
    """Width of a table; a last column of text counts with its least width, since the rest of it goes on below."""
    widths = [needs[id(column)] for column in columns]
    if are_texts_narrow:
        widths = [
            min(width, LEAST_TEXT) if column.align == "left" else width
            for width, column in zip(widths, columns, strict=True)
        ]
    elif columns and columns[-1].align == "left" and len(columns) > 1:
        widths[-1] = min(widths[-1], MIN_ROOM)
    return room_of_columns(widths)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Split a line into lines of at most `width` cells, at blanks; a word that is wider behind a comma or the like.

    Lines after the first are indented. A line that fits stays as it is, blanks and all.
    """
    if cell_text.width(text) <= width:
        return [text]
    lines: list[str] = []
    for line in textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]:
        if cell_text.width(line) <= width:
            lines.append(line)
            continue
        start = indent if lines else line[: len(line) - len(line.lstrip())]
        first, *others = _break_word(line.strip(), width - max(len(start), len(indent)))
        lines += [start + first, *(indent + other for other in others)]
    return lines


def _break_word(text: str, width: int) -> list[str]:
    """Pieces of at most this many cells: broken behind a comma, a slash, a bracket, `_` or `=`, else anywhere."""
    lines = [""]
    for piece in re.findall(r"[^,/\[\]_= ]*[,/\[\]_= ]|[^,/\[\]_= ]+", text):
        for part in [piece] if cell_text.width(piece) <= width else piece:
            if lines[-1] and cell_text.width(lines[-1] + part) > width:
                lines.append("")
            lines[-1] += part
    return [line.rstrip() for line in lines]
