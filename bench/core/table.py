"""Tables as data, and how they are shown: terminal, Markdown, CSV, JSON.

Text in a table comes from files that others wrote: every cell, head, title and footnote goes through the escape of
its form (`bench.core.cell_text`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO, get_args

from bench.core import terminal_table
from bench.core.cell_text import clean, escape_csv, escape_json, escape_markdown
from bench.core.styles import Style
from bench.core.values import show_text
from bench.errors import BenchError

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[str, ...] = get_args(Format)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column: its head with the unit, and what people read in it of a row."""

    head: str
    show: Callable[[Row], str]
    align: Literal["left", "right"] = "right"
    weight: float = 0
    """Columns of the largest weight go first if a terminal has no room (`bench.core.column_fit`); 0: never, below 1:
    only if texts that go on below themselves make no room."""
    style: Callable[[Row], Style | None] | None = None
    """Style of a row's cell on a terminal with colour; Markdown and CSV have none."""


def column(
    key: str,
    head: str,
    show: Callable[[Any], str],
    align: Literal["left", "right"] = "right",
    weight: float = 0,
    style: Callable[[Any], Style | None] | None = None,
) -> Column:
    """A column of one raw value; `style` gives the style of a value."""
    return Column(
        head, lambda row: show(row.get(key)), align, weight, None if style is None else lambda row: style(row.get(key))
    )


def text_column(key: str, head: str | None = None, style: Callable[[Any], Style | None] | None = None) -> Column:
    """A column of one text, headed by its key if nothing else is given."""
    return column(key, key if head is None else head, show_text, "left", style=style)


STATUS_STYLES: Mapping[str, Style] = {"failed": "red", "invalid": "red", "skipped": "dim"}
"""Status of a case -> its style."""


def status_column(key: str = "status", head: str | None = None) -> Column:
    """A column of statuses of cases, in their colours."""
    return text_column(key, head, STATUS_STYLES.get)


@dataclass(frozen=True)
class DisplayTable:
    """Rows of raw values with the columns to show of them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()


def render(tables: Sequence[DisplayTable], output: str, colour: bool = False, width: int | None = None) -> str:
    """Tables in a format, ending in a newline. Raises BenchError for a format that there is not.

    No cell is ever cut: the width is what the cells need, or with `width` columns are chosen that fit a terminal of it.
    Only a terminal gets colour.
    """
    if output not in _RENDERERS:
        raise BenchError(f"--format {output}: there are {', '.join(FORMATS)}")
    if output == "table" and width is not None:
        return _terminal(tables, colour, width)
    return _RENDERERS[output](tables, colour)


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """NO_COLOR wins over FORCE_COLOR (no-color.org, force-color.org); else only a terminal has colour."""
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or stream.isatty()


def _terminal(tables: Sequence[DisplayTable], colour: bool, width: int | None = None) -> str:
    return "\n".join(terminal_table.draw(table, colour, width) for table in tables)


def _cells(table: DisplayTable) -> list[list[str]]:
    return [[clean(column.show(row)) for column in table.columns] for row in table.rows]


def _markdown(tables: Sequence[DisplayTable], colour: bool) -> str:
    return "\n".join(map(_markdown_table, tables))


def _markdown_table(table: DisplayTable) -> str:
    lines = [f"**{escape_markdown(table.title)}**", ""] if table.title else []
    if table.rows:
        lines.append(_pipes([column.head for column in table.columns]))
        lines.append("|" + "|".join(" ---: " if c.align == "right" else " :--- " for c in table.columns) + "|")
        lines += [*map(_pipes, _cells(table)), ""]
    lines += [line for note in table.footnotes for line in (escape_markdown(note), "")]
    return "\n".join(lines)


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(cell, is_cell=True) for cell in cells) + " |"


def _csv(tables: Sequence[DisplayTable], colour: bool) -> str:
    return csv_text([row for table in tables for row in table.rows])


def csv_text(rows: Sequence[Row]) -> str:
    """Raw values under one head, each parameter a column of its own; an unknown value is an empty cell.

    No text is a formula for a spreadsheet: see `bench.core.cell_text.escape_csv`.
    """
    flat = [flat_row(row) for row in rows]
    heads = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape_csv(str(head)) for head in heads])
    writer.writerows([_csv_cell(row.get(head, "")) for head in heads] for row in flat)
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else escape_csv(str(value))


def flat_row(row: Row) -> dict[str, Any]:
    """A row of plain cells: `params` becomes `op` and `param_*`, a list becomes text."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name == "params":
            cells["op"] = value.get("op")
            cells |= {f"param_{key}": cell for key, cell in value.items() if key != "op"}
        elif isinstance(value, Mapping):
            cells |= {f"{name}_{key}": cell for key, cell in value.items()}
        else:
            cells[name] = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return cells


def _json(tables: Sequence[DisplayTable], colour: bool) -> str:
    return json_text([dict(row) for table in tables for row in table.rows])


def json_text(value: Any) -> str:
    """Indented strict JSON in ASCII, of which no terminal and no CI runner obeys a part."""
    return escape_json(json.dumps(value, indent=2, allow_nan=False)) + "\n"


_RENDERERS: dict[str, Callable[[Sequence[DisplayTable], bool], str]] = {
    "table": _terminal,
    "markdown": _markdown,
    "csv": _csv,
    "json": _json,
}
