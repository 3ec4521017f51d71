"""Draws a table for a terminal: never wider than it, and no cell is cut.

First heads go on below themselves, then columns give way (`bench.core.column_fit`), then texts go on below themselves.
Drawn here rather than by rich, which cuts cells at a width and takes a millisecond a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from bench.core.cell_text import clean
from bench.core.cell_text import width as cell_width
from bench.core.column_fit import GAP, LEAST_TEXT, MIN_ROOM, fit_columns, needed_widths, room_of_columns, wrap
from bench.core.styles import Style, style

if TYPE_CHECKING:
    from bench.core.table import Column, DisplayTable

WARNING = "warning: "
"""Beginning of lines that may not be overlooked."""


INDENT = "  "


class Cell(NamedTuple):
    """Text of one row and column."""

    text: str
    style: Style | None = None


def draw(table: DisplayTable, colour: bool, width: int | None) -> str:
    """The table as text that ends in a newline, in `width` columns; None: as wide as its cells are."""
    shown = table if width is None else fit_columns(as_text(table), width)
    lines = [style(line, "bold", colour) for line in _wrapped(shown.title, width)] if shown.title else []
    if shown.rows and shown.columns:
        lines += _rows(shown, colour, width)
    for note in shown.footnotes:
        name: Style = "yellow" if note.startswith(WARNING) else "dim"
        lines += [style(line, name, colour) for line in _wrapped(note, width)]
    return "\n".join(lines) + "\n"


def as_text(table: DisplayTable) -> DisplayTable:
    """The table with the texts and styles of its cells, made once: to choose columns takes the width of each."""
    keys = [(f"text {index}", f"style {index}") for index in range(len(table.columns))]
    columns = tuple(
        replace(column, show=itemgetter(text), style=itemgetter(name))
        for column, (text, name) in zip(table.columns, keys, strict=True)
    )
    rows = tuple(
        {key: part for pair, cell in zip(keys, row, strict=True) for key, part in zip(pair, cell, strict=True)}
        for row in _cells(table)
    )
    return replace(table, columns=columns, rows=rows)


def _cells(table: DisplayTable) -> list[list[Cell]]:
    return [
        [Cell(clean(column.show(row)), column.style(row) if column.style else None) for column in table.columns]
        for row in table.rows
    ]


def _wrapped(text: str, width: int | None) -> list[str]:
    return [clean(text)] if width is None else wrap(clean(text), width)


def _rows(table: DisplayTable, colour: bool, width: int | None) -> list[str]:
    """The head, a rule and the rows."""
    columns = table.columns
    widths = needed_widths(table, are_heads_whole=True)
    if width is not None and room_of_columns(widths) > width:
        widths = _narrowed(needed_widths(table), columns, width)
    heads = [Cell(clean(column.head), "bold") for column in columns]
    lines = _drawn(heads, widths, columns, colour, at_the_bottom=True)
    lines.append("-" * room_of_columns(widths))
    for row in _cells(table):
        lines += _drawn(row, widths, columns, colour)
    return lines


def _narrowed(widths: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """Widths of which columns of text give up as much as lies beyond the width, the last first, then the widest."""
    narrowed = list(widths)
    texts = [index for index, column in enumerate(columns) if column.align == "left"]
    texts.sort(key=lambda index: (index != len(columns) - 1, -widths[index]))
    for least in (MIN_ROOM, LEAST_TEXT):
        for index in texts:
            beyond = room_of_columns(narrowed) - width
            narrowed[index] -= max(0, min(beyond, narrowed[index] - least))
    return narrowed


def _drawn(
    cells: Sequence[Cell], widths: Sequence[int], columns: Sequence[Column], colour: bool, at_the_bottom: bool = False
) -> list[str]:
    """Lines of one row: a cell that is wider than its column goes on below itself."""
    parts = [
        _lines_of(cell.text, width, is_indented=index == 0 and columns[0].align == "left" and not at_the_bottom)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    height = max(map(len, parts))
    if at_the_bottom:
        parts = [[""] * (height - len(part)) + part for part in parts]
    else:
        parts = [part + [""] * (height - len(part)) for part in parts]
    return [
        _line([Cell(text, cell.style) for text, cell in zip(texts, cells, strict=True)], widths, columns, colour)
        for texts in zip(*parts, strict=True)
    ]


def _lines_of(text: str, width: int, is_indented: bool) -> list[str]:
    """Lines of a cell; those after the first are indented in a first column, or they read as rows of their own."""
    if cell_width(text) <= width:
        return [text]
    lines = wrap(text, width)
    if not is_indented:
        return lines
    rest = text.removeprefix(lines[0]).lstrip()
    return [lines[0], *(INDENT + line for line in wrap(rest, width - len(INDENT)))]


def _line(cells: Sequence[Cell], widths: Sequence[int], columns: Sequence[Column], colour: bool) -> str:
    line = ""
    for index, (cell, width, column) in enumerate(zip(cells, widths, columns, strict=True)):
        blanks = " " * (width - cell_width(cell.text))
        text = style(cell.text, cell.style, colour)
        line += ("" if index == 0 else GAP) + (blanks + text if column.align == "right" else text + blanks)
    return line.rstrip()
