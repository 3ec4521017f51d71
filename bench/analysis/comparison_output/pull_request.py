"""A comparison as Markdown for a pull request: the gate, the answer, the worst three; the rest folds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.compare import comparison_tables
from bench.analysis.compare.change_text import told
from bench.analysis.compare.comparison_tables import View
from bench.analysis.compare.work_changes import change_size
from bench.analysis.findings.comparison_remarks import WHOLE_RUN
from bench.analysis.findings.kinds import MAX_REMARKS, Answer, Correctness, DataState, Figure, Unmeasured
from bench.analysis.findings.of_comparison import comparison_findings
from bench.core.cell_text import escape_markdown
from bench.core.table import DisplayTable, render
from bench.core.values import counted

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.gate import Ruling
    from bench.analysis.findings.kinds import Findings
    from bench.records.rows import Row

MAX_BYTES = 60_000
"""Bytes that a comment on a pull request may have, with room below GitHub's 65,536 characters."""
NUM_WORST = 3
CHANGED = ("slower", "faster")


class Folded(NamedTuple):
    """A part that the reader folds out."""

    title: str
    texts: Sequence[str]
    tables: Sequence[DisplayTable]


def show(comparison: Comparison, ruling: Ruling | None = None, sort: str = "verdict", everything: bool = False) -> str:
    """Markdown that ends in a newline, at most MAX_BYTES: rows of the longest tables give way, and it says how many."""
    findings = comparison_findings(comparison)
    opening = [*([f"**{escape_markdown(ruling.line)}**"] if ruling is not None else []), *_opening(findings)]
    opening += _worst(comparison, ruling)
    tables = comparison_tables.case_tables(comparison, View(everything, sort, comparison_tables.FOUR_COLUMNS))
    changed, others = zip(*(_by_change(table) for table in tables), strict=True)
    folded = [
        ("Change by kind of work, and why", _explanations(findings), []),
        ("Cases that are undecided or the same", [], [table for table in others if table.rows]),
        ("Cases that only one side has, or that are not ok", [], comparison_tables.absence_tables(comparison)),
        ("Environments", [], comparison_tables.environment_tables(comparison)),
    ]
    return _fit(opening, changed, [Folded(*parts) for parts in folded if any(parts[1:])])


def _by_change(table: DisplayTable) -> tuple[DisplayTable, DisplayTable]:
    """The table's rows that are slower or faster with the counts, and the others with what would settle them."""
    changed = tuple(row for row in table.rows if row["verdict"] in CHANGED)
    others = tuple(row for row in table.rows if row["verdict"] not in CHANGED)
    return replace(table, rows=changed, footnotes=table.footnotes[:1]), replace(
        table, rows=others, footnotes=table.footnotes[1:]
    )


def _opening(findings: Findings) -> list[str]:
    parts = [escape_markdown(answer.text) for answer in findings.of_kind(Answer)]
    parts += [
        f"{state.quality.capitalize()} data: {escape_markdown(state.text)}" for state in findings.of_kind(DataState)
    ]
    wholes = [figure for figure in findings.of_kind(Figure) if figure.name.endswith(WHOLE_RUN)]
    return parts + [escape_markdown(f"{one.name[0].upper()}{one.name[1:]}: {one.text} ({one.of})") for one in wholes]


def _worst(comparison: Comparison, ruling: Ruling | None) -> list[str]:
    """The worst three of the slower cases; those that fail the gate come first."""
    failing = list(ruling.failing) if ruling is not None else []
    slower = [row for row in comparison.cases if row["verdict"] == "slower" and row not in failing]
    worst = [*failing, *sorted(slower, key=lambda row: -change_size(row["change"]))][:NUM_WORST]
    several = len(comparison.sides) > 2
    lines = [f"{n}. {_line(row, comparison.name_of(row['case']), several)}" for n, row in enumerate(worst, 1)]
    return ["\n".join(["Worst:", "", *lines])] if lines else []


def _line(row: Row, name: str, several: bool) -> str:
    side = f" on {row['name']}" if several else ""
    return escape_markdown(f"{name}: {told(row)}{side}")


def _explanations(findings: Findings) -> list[str]:
    parts = []
    figures = [f"- {escape_markdown(f'{one.name}: {one.text} ({one.of})')}" for one in findings.of_kind(Figure)]
    if figures:
        parts.append("\n".join(figures))
    remarks = findings.remarks()[:MAX_REMARKS]
    parts += [escape_markdown(f"{remark.text}. {remark.remedy}".rstrip()) for remark in remarks]
    parts += [escape_markdown(wrong.text) for wrong in findings.of_kind(Correctness) if wrong.num_wrong]
    parts += [
        f"Not measured: {counted(lacking.num_cases, 'case')}, {escape_markdown(lacking.text)}"
        for lacking in findings.of_kind(Unmeasured)
    ]
    return parts


def _fit(opening: Sequence[str], changed: Sequence[DisplayTable], folded: Sequence[Folded]) -> str:
    """The whole, with fewer rows of the longest tables until it is short enough."""
    every = [*changed, *(table for part in folded for table in part.tables)]
    kept = {id(table): len(table.rows) for table in every}

    def text() -> str:
        parts = [*opening, *(_markdown(_cut(table, kept[id(table)])) for table in changed)]
        for part in folded:
            inner = [*part.texts, *(_markdown(_cut(table, kept[id(table)])) for table in part.tables)]
            parts += [f"<details><summary>{part.title}</summary>", *inner, "</details>"]
        return "\n\n".join(parts) + "\n"

    shown = text()
    while len(shown.encode()) > MAX_BYTES and any(kept.values()):
        longest = max(every, key=lambda table: kept[id(table)])
        kept[id(longest)] //= 2
        shown = text()
    return shown


def _markdown(table: DisplayTable) -> str:
    return render([table], "markdown").strip()


def _cut(table: DisplayTable, num_rows: int) -> DisplayTable:
    left_out = len(table.rows) - num_rows
    if not left_out:
        return table
    note = f"{left_out} more rows are left out to keep this short; --format json has all."
    return replace(table, rows=table.rows[:num_rows], footnotes=(note, *table.footnotes))
