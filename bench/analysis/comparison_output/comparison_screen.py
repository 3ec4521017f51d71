"""A comparison on a terminal: the answer first, the change by kind of work, the cases, what differs, what next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.analysis.compare import comparison_tables
from bench.analysis.compare.comparison import Comparison
from bench.analysis.compare.comparison_tables import View
from bench.analysis.findings import screen
from bench.analysis.findings.comparison_remarks import whole_figure
from bench.analysis.findings.kinds import (
    Answer,
    Correctness,
    DataState,
    Findings,
    Item,
    NextStep,
    Remark,
    Unmeasured,
)
from bench.analysis.findings.of_comparison import comparison_findings, figures_of
from bench.core.column_fit import wrap
from bench.core.table import DisplayTable, render

FEWEST_ROWS, MOST_ROWS = 3, 12
"""Rows of a table of cases: as many as leave the screen at MAX_LINES, within these."""
MAX_LINES = 30
LINES_AROUND = 6
"""Lines of a table of cases besides its rows, and of blank lines, about."""


@dataclass(frozen=True)
class Screen:
    """The terminal or file that it is shown on, and how much is shown."""

    width: int = 100
    colour: bool = False
    wide: bool = False
    """True: all columns of tables, however wide."""
    everything: bool = False
    environments: bool = False
    sort: str = "verdict"


def show(comparison: Comparison, on: Screen) -> str:
    """The comparison as text that ends in a newline; nothing is wider than the screen, unless `wide`."""
    findings = comparison_findings(comparison)
    blocks = [_lines(findings, on, "", Answer, DataState)]
    ending = _lines(findings, on, "", Remark, Correctness, Unmeasured, NextStep)
    shared = comparison_tables.shared_line(comparison)
    ending = [*(wrap(shared, on.width) if shared else []), *([""] if shared and ending else []), *ending]
    figures = {side.name: _figures(comparison, number, on) for number, side in enumerate(comparison.sides[1:], 1)}
    used = sum(map(len, [blocks[0], ending, *figures.values()])) + LINES_AROUND * len(figures)
    rows = max(FEWEST_ROWS, min(MOST_ROWS, (MAX_LINES - used) // max(1, len(figures))))
    view = View(on.everything, on.sort, None if on.wide else on.width, rows)
    told: set[str] = set()
    for table in comparison_tables.case_tables(comparison, view):
        name = str(table.rows[0]["name"]) if table.rows else ""
        if name in figures and name not in told:
            blocks.append(figures[name])
            told.add(name)
        blocks.append(_rendered([table], on))
    if on.everything:
        blocks.append(_rendered(comparison_tables.absence_tables(comparison), on))
    blocks.append(ending)
    if on.environments:
        blocks.append(_rendered(comparison_tables.environment_tables(comparison), on))
    return _joined(blocks)


def show_beside(comparison: Comparison, on: Screen) -> str:
    """A short form behind another screen: the answer, the cases, and in one line each what only one side has."""
    findings = comparison_findings(comparison)
    tables = comparison_tables.case_tables(comparison, View(width=on.width, most_rows=MOST_ROWS))
    blocks = [
        _lines(findings, on, "", Answer, DataState),
        *(_rendered([table], on) for table in tables),
        _lines(findings, on, "", Remark, Correctness, Unmeasured),
    ]
    return _joined(blocks)


def _joined(blocks: Sequence[Sequence[str]]) -> str:
    """Text of the blocks, apart by blank lines; the last go first if a screen has no room for them."""
    filled = [block for block in blocks if block]
    room = MAX_LINES - sum(map(len, filled))
    is_scrolled = room < -MAX_LINES // 2
    lines: list[str] = []
    for number, block in enumerate(filled):
        lines += [*([""] if number > 0 and (is_scrolled or number <= max(1, room)) else []), *block]
    return "\n".join(lines) + "\n"


def _figures(comparison: Comparison, number: int, on: Screen) -> list[str]:
    """Changes by kind of work, unless each kind has one case, which the table has, and that of the run as a whole."""
    side = comparison.sides[number]
    works = [work for work in comparison.works if work.name == side.name]
    prefix = f"{side.name}: " if len(comparison.sides) > 2 else ""
    figures = whole_figure(comparison, side, prefix)
    if any(len(work.cases) > 1 for work in works):
        # The answer lists the kinds without a figure.
        figures = [figure for figure in figures_of(comparison, side, prefix) if figure.value is not None] + figures
    if not figures:
        return []
    return screen.lines(Findings("", tuple(figures)), on.width, on.colour)


def _lines(findings: Findings, on: Screen, head: str, *kinds: type[Item]) -> list[str]:
    """Lines of the findings of some kinds."""
    items = tuple(item for item in findings.items if isinstance(item, kinds))
    return screen.lines(replace(findings, head=head, items=items), on.width, on.colour) if items else []


def _rendered(tables: Sequence[DisplayTable], on: Screen) -> list[str]:
    if not tables:
        return []
    return render(tables, "table", on.colour, None if on.wide else on.width).rstrip("\n").split("\n")
