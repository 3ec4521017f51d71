"""Cases without a speed, and why: those of one reason stand together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.core.table import Column, DisplayTable, column, status_column, text_column
from bench.core.values import show_count, show_text
from bench.records.case_names import name_cases
from bench.records.rows import Row

WORST_FIRST = ("invalid", "failed", "skipped")


def no_speed(rows: Sequence[Row], has_ids: bool = False) -> DisplayTable:
    """The cases that are not ok, the worst first; a row has those of one file, status and reason."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: WORST_FIRST.index(row["status"])):
        grouped.setdefault((row.get("file"), row["status"], row["reason"]), []).append(row)
    names = name_cases(row["case"] for row in rows)
    shown = tuple(
        members[0]
        | {
            "count": len(members),
            "cases": ", ".join(row["case"] if has_ids else names.across(row["case"]) for row in members),
        }
        for members in grouped.values()
    )
    counted = [column("count", "number", show_count)] if len(shown) < len(rows) else []
    columns = (status_column(), text_column("reason"), *counted, _cases_column())
    return DisplayTable("No speed", columns, shown)


def not_measured(cases: Sequence[str], ending: str, has_ids: bool = False) -> DisplayTable:
    """Planned cases that a file does not have, since its run ended early."""
    names = name_cases(cases)
    text = ", ".join(case if has_ids else names.across(case) for case in cases)
    row = {"count": len(cases), "cases": text}
    return DisplayTable(f"Not measured ({ending})", (column("count", "number", show_count), _cases_column()), (row,))


def _cases_column() -> Column:
    return Column("cases", lambda row: show_text(row["cases"]), "left")
