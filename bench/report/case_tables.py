"""Tables that cases carry besides their numbers (matrix of pairs, time by part, series), as they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.table import Column, DisplayTable
from bench.core.values import is_number, show_number, show_quantity, show_text
from bench.records.case_names import name_cases
from bench.records.file import Result
from bench.records.lines.parts import Cell, TableRows
from bench.records.rows import case_groups

NUM_KEPT = 2
MAX_ROWS = 40
"""A series over time may have thousands; all of them are in the file."""


def case_tables(result: Result, has_ids: bool = False) -> list[DisplayTable]:
    """Every table of every measured case of a file, of the first launch that has it."""
    groups = case_groups([result])
    names = name_cases(groups)
    return [
        _display_table(case if has_ids else names.across(case), table)
        for case, group in groups.items()
        if group.status == "ok"
        for table in group.leader.tables.values()
    ]


def _display_table(name: str, table: TableRows) -> DisplayTable:
    """Rows beyond MAX_ROWS are thinned evenly, first and last included, and a footnote says so."""
    rows, columns, notes = table.rows, table.columns, list(table.notes)
    if len(rows) > MAX_ROWS:
        notes.append(f"{MAX_ROWS} of {len(rows)} rows, evenly spaced; the file has all")
        rows = [rows[round(n * (len(rows) - 1) / (MAX_ROWS - 1))] for n in range(MAX_ROWS)]
    shown = tuple({str(index): cell for index, cell in enumerate(row)} for row in rows)
    known = [index for index in range(len(columns)) if any(row[index] is not None for row in rows)]
    heads = tuple(_column(str(index), columns[index], [row[index] for row in rows]) for index in known)
    title = f"{name}: {table.title}" if table.title else name
    return DisplayTable(title, heads, shown, tuple(notes))


UNITS: Mapping[str, str] = {"GB/s": "GB/s", "seconds": "s"}
"""Word of a head that is a unit -> the unit that the cells then have with the prefix that fits."""


def _column(key: str, head: str, cells: list[Cell]) -> Column:
    numbers = all(cell is None or is_number(cell) for cell in cells)
    # If there is no room the last columns give way first; what a row is about stays.
    weight = 0 if int(key) < NUM_KEPT else int(key)
    words = head.replace("_", " ").split(" ")
    unit = next((UNITS[word] for word in (words[0], words[-1]) if word in UNITS), None) if len(words) > 1 else None
    if unit is not None and numbers:
        return Column(_without_unit(words), lambda row: show_quantity(_number(row.get(key)), unit), weight=weight)
    return Column(" ".join(words), lambda row: _cell(row.get(key)), "right" if numbers else "left", weight)


def _without_unit(words: Sequence[str]) -> str:
    """The head of a column whose cells have the unit; a rank stays one: `rank 0` of `GB/s 0`."""
    rest = " ".join(words[1:] if words[0] in UNITS else words[:-1])
    return f"rank {rest}" if rest.isdecimal() else rest


def _number(cell: Cell) -> float | None:
    return cell if is_number(cell) else None


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Whole numbers are counts and indices: 1234 ranks are not 1,230.
    return show_number(value) if isinstance(value, float) else show_text(value)
