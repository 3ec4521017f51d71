"""Makes a table fit a terminal by choosing columns, never by cutting cells.

Columns say how soon they may go (`Column.weight`), and a footnote names those that went. What must stay stays, and a
text at the end of a line goes on below itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.core import cell_text

if TYPE_CHECKING:
    from bench.core.table import Column, DisplayTable

WIDTH = 100
GAP = "   "
MIN_ROOM = 30
"""Cells that a last column of text is given at least, whatever stands before it."""


def fit_columns(table: DisplayTable, width: int) -> DisplayTable:
    """The table without the columns for which there is no room; the lightest stay, those of one weight together.

    A heavier column that is narrow may stay where a lighter one that is wide may not.
    """
    needs = {id(column): _needed_width(column, table) for column in table.columns}
    if not table.columns or _total_width(table.columns, needs) <= width:
        return table
    kept = [column for column in table.columns if column.weight <= 0]
    for weight in sorted({column.weight for column in table.columns if column.weight > 0}):
        more = [c for c in table.columns if c.weight == weight or any(c is other for other in kept)]
        if _total_width(more, needs) <= width:
            kept = more
    gone = [c.head for c in table.columns if not any(c is other for other in kept)]
    if not gone:
        return table
    note = f"not shown for want of room: {', '.join(dict.fromkeys(gone))}; --wide shows all"
    return replace(table, columns=tuple(kept), footnotes=(*table.footnotes, note))


def _needed_width(column: Column, table: DisplayTable) -> int:
    return max(map(cell_text.width, map(cell_text.clean, [column.head, *(column.show(row) for row in table.rows)])))


def _total_width(columns: Sequence[Column], needs: dict[int, int]) -> int:
    """Width of a table; a last column of text counts with its least width, since the rest of it goes on below."""
    widths = [needs[id(column)] for column in columns]
    if columns[-1].align == "left" and len(columns) > 1:
        widths[-1] = min(widths[-1], MIN_ROOM)
    return sum(widths) + len(GAP) * (len(widths) - 1)


def wrap(text: str, width: int) -> list[str]:
    """Split a line into lines of at most so many characters, broken at blanks only."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
