"""Sizes down and operations across, for suites whose cases differ in these alone: what people compare at a glance.

One table has the time of every size, one the bus bandwidth of the large ones. A type or another variant is a block of
rows of its own if it was measured for several operations and sizes; cases that fit no block are in a list below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.core.column_fit import needed_widths, room_of_columns
from bench.core.table import Column, DisplayTable
from bench.core.terminal_table import as_text
from bench.core.values import counted, digits, first_few, show_size
from bench.records.case_names import SHORT_TYPES, name_cases, split_id
from bench.records.metrics import BUS_BANDWIDTH, METRICS
from bench.report import cells, footnotes
from bench.stats import intervals

Row = Mapping[str, Any]

SIZE = "num_bytes"
LARGE_BYTES = 64 * 2**10
"""From here on a link's bandwidth matters, below it only the time that it takes to start."""
LEAST = 2
"""Operations and sizes of a block at least: fewer make a list."""


@dataclass(frozen=True)
class Grid:
    """The blocks of a suite, and the cases that fit into none."""

    operations: tuple[str, ...]
    blocks: Mapping[str, Mapping[int, Mapping[str, Row]]]
    """Words of a variant, empty for the plain cases -> size -> operation -> row."""
    others: tuple[Row, ...]

    def rows(self) -> list[Row]:
        """The cases that are in a block."""
        return [row for sizes in self.blocks.values() for row_of in sizes.values() for row in row_of.values()]


def grid(rows: Sequence[Row]) -> Grid | None:
    """Blocks of the cases of a suite; None if most of them fit into none."""
    found: dict[tuple[tuple[str, str], ...], dict[int, dict[str, Row]]] = {}
    for row in rows:
        _, operation, params = split_id(row["case"])
        size = digits(params.get(SIZE, ""))
        if operation and size is not None:
            variant = tuple(sorted((name, value) for name, value in params.items() if name != SIZE))
            found.setdefault(variant, {}).setdefault(size, {})[operation] = row
    blocks = {variant: dict(sorted(sizes.items())) for variant, sizes in sorted(found.items()) if _is_block(sizes)}
    placed = {row["case"] for sizes in blocks.values() for row_of in sizes.values() for row in row_of.values()}
    if len(placed) * 2 < len(rows) or not blocks:
        return None
    common = set.intersection(*map(set, blocks))
    counts: dict[str, int] = {}
    for row in rows:
        if row["case"] in placed:
            operation = split_id(row["case"])[1]
            counts[operation] = counts.get(operation, 0) + 1
    operations = sorted(counts, key=lambda name: (-counts[name], name))
    words = {_words([pair for pair in variant if pair not in common]): sizes for variant, sizes in blocks.items()}
    return Grid(tuple(operations), words, tuple(row for row in rows if row["case"] not in placed))


def _is_block(sizes: Mapping[int, Mapping[str, Row]]) -> bool:
    return len(sizes) >= LEAST and len({name for row_of in sizes.values() for name in row_of}) >= LEAST


def _words(pairs: Sequence[tuple[str, str]]) -> str:
    """A variant as people say it: `bf16`, `streamed`."""
    words = (name if value == "true" else SHORT_TYPES.get(value, value) for name, value in pairs)
    return " ".join(word.replace("_", " ") for word in words)


def size_tables(suite: str, found: Grid, width: int | None, said: frozenset[footnotes.Key]) -> Iterator[DisplayTable]:
    """Tables of the time and of the bus bandwidth of the cases in blocks, each within the width."""
    rows = found.rows()
    time = [_error_line(rows), *_notes(rows, said)]
    yield from _split(f"{suite}: time", found, cells.show_time, 0, width, [line for line in time if line])
    if any(row.get(BUS_BANDWIDTH) is not None for row in rows):
        bandwidth = METRICS[BUS_BANDWIDTH]
        show = partial(cells.show_metric, metric=bandwidth)
        largest = max(size for sizes in found.blocks.values() for size in sizes)
        least = LARGE_BYTES if largest >= LARGE_BYTES else 0
        yield from _split(f"{suite}: {bandwidth.head}", found, show, least, width, [])


def _error_line(rows: Sequence[Row]) -> str:
    """The error bars of a table that has no room for them, in one line."""
    errors = [(share, row["case"]) for row in rows if (share := cells.error(row)) is not None]
    if not errors:
        return ""
    middle = cells.show_error_share(intervals.median([share for share, _ in errors]))
    share, case = max(errors)
    name = name_cases(row["case"] for row in rows).within(case)
    return f"±: median {middle}, at most {cells.show_error_share(share)} ({name})"


def _notes(rows: Sequence[Row], said: frozenset[footnotes.Key]) -> list[str]:
    """Footnotes with the names of their cases, since cells have no room for numbers."""
    names = name_cases(row["case"] for row in rows)
    lines = []
    for key, note in footnotes.collect(rows).items():
        if key in said:
            continue
        count = len(note.cases)
        where = "" if count == len(rows) else first_few([names.within(case) for case in note.cases])
        where = f"{counted(count, 'case')}" if count > len(rows) / 2 and where else where
        lines.append(f"{note.text}: {where}" if where else note.text)
    return lines


def _split(
    title: str, found: Grid, show: Callable[[Row], str], least: int, width: int | None, notes: Sequence[str]
) -> Iterator[DisplayTable]:
    """One table, or several of a part of the operations each if they do not fit next to one another."""
    rows = tuple(_table_rows(found, show, least))
    operations = [name for name in found.operations if any(row.get(name) for row in rows)]

    def has_room(names: Sequence[str]) -> bool:
        return width is None or room_of_columns(needed_widths(as_text(_table(title, rows, names)))) <= width

    parts = _even_parts(operations, has_room)
    for number, part in enumerate(parts, 1):
        yield _table(title, rows, part, notes if number == len(parts) else ())


def _even_parts(names: Sequence[str], has_room: Callable[[Sequence[str]], bool]) -> list[Sequence[str]]:
    """The names in as few parts as there is room for, of about the same number; each alone if nothing has room."""
    for count in range(1, len(names) + 1):
        length = -(-len(names) // count)
        parts = [names[start : start + length] for start in range(0, len(names), length)]
        if all(map(has_room, parts)):
            return parts
    return [[name] for name in names]


def _table(title: str, rows: tuple[Row, ...], operations: Sequence[str], notes: Sequence[str] = ()) -> DisplayTable:
    columns = [Column(name.replace("_", " "), partial(_cell, operation=name)) for name in operations]
    filled = tuple(row for row in rows if any(row.get(name) for name in operations))
    return DisplayTable(title, (Column("size", lambda row: str(row["size"])), *columns), filled, tuple(notes))


def _cell(row: Row, operation: str) -> str:
    """A cell; empty if there is no such case."""
    return str(row.get(operation, ""))


def _table_rows(found: Grid, show: Callable[[Row], str], least: int) -> Iterator[Row]:
    for words, sizes in found.blocks.items():
        for size, row_of in sizes.items():
            if size >= least:
                shown = {operation: show(row) for operation, row in row_of.items()}
                yield {"size": f"{words} {show_size(size)}".strip(), **shown}
