"""Tables that cases carry besides their numbers (matrix of pairs, time by part, series), as they are shown."""

from __future__ import annotations

from bench.core.table import Column, DisplayTable
from bench.core.values import is_number, show_number, show_text
from bench.records.file import Result
from bench.records.lines.parts import Cell, TableRows
from bench.records.rows import case_groups

NUM_KEPT = 2
MAX_ROWS = 40
"""A series over time may have thousands; all of them are in the file."""


def case_tables(result: Result) -> list[DisplayTable]:
    """Every table of every measured case of a file, of the first launch that has it."""
    tables = []
    for case, group in case_groups([result]).items():
        if group.status == "ok":
            tables += [_display_table(case, table) for table in group.leader.tables.values()]
    return tables


def _display_table(case: str, table: TableRows) -> DisplayTable:
    """Rows beyond MAX_ROWS are thinned evenly, first and last included, and a footnote says so."""
    rows, columns, notes = table.rows, table.columns, list(table.notes)
    if len(rows) > MAX_ROWS:
        notes.append(f"{MAX_ROWS} of {len(rows)} rows, evenly spaced; the file has all")
        rows = [rows[round(n * (len(rows) - 1) / (MAX_ROWS - 1))] for n in range(MAX_ROWS)]
    shown = tuple({str(index): cell for index, cell in enumerate(row)} for row in rows)
    heads = tuple(_column(str(index), head, [row[index] for row in rows]) for index, head in enumerate(columns))
    title = f"{case}: {table.title}" if table.title else case
    return DisplayTable(title, heads, shown, tuple(notes))


def _column(key: str, head: str, cells: list[Cell]) -> Column:
    numbers = all(cell is None or is_number(cell) for cell in cells)
    # Where there is no room the last columns give way first; what a row is about stays.
    weight = 0 if int(key) < NUM_KEPT else int(key)
    return Column(head, lambda row: _cell(row.get(key)), "right" if numbers else "left", weight)


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Whole numbers are counts and indices: 1234 ranks are not 1,230.
    return show_number(value) if isinstance(value, float) else show_text(value)
