"""What stands out among equals, as it is shown: tables for people, plain rows for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from bench.analysis.compare.outlier_search import OutlierSearch, name_few
from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import MISSING, brief_text, show_count, show_number, show_share, show_value
from bench.records.metrics import TIME
from bench.stats import outliers
from bench.stats.robust_score import MIN_SIBLINGS

_SMALLEST_P = 0.001
_JSON_FIELDS = ("by", "members", "outlier", "metric", "num_cases", "shared", "differences")


def show(found: OutlierSearch, form: str = "table", colour: bool = False) -> str:
    """JSON is one object, CSV the rows that stand out and those that are unclear; `github` is Markdown."""
    if form == "csv":
        return csv_text([*found.rows, *found.unclear])
    if form == "json":
        return json_text(as_object(found))
    return render(tables(found), "markdown" if form == "github" else form, colour)


def as_object(found: OutlierSearch) -> dict[str, Any]:
    """What `--format json` prints; `cases` are those that stand out."""
    whole = asdict(found)
    return {
        **{name: whole[name] for name in _JSON_FIELDS},
        "cases": list(found.rows),
        "unclear": list(found.unclear),
        "partial": list(found.partial),
        "standing_out": {member: dict(counts) for member, counts in found.standing_out().items()},
        "summary": found.summary(),
    }


def tables(found: OutlierSearch) -> list[DisplayTable]:
    """What all share, what differs, who stands out, which cases only some have; the summary is the last line."""
    shared = [f"{name}: {brief_text(value)}" for name, value in found.shared.items() if value is not None]
    head = f"{len(found.members)} {found.by}s in {found.num_cases} cases: {name_few(found.members)}"
    parts = [
        DisplayTable("Equals", (), (), (head,)),
        DisplayTable("Shared by all", (), (), tuple(shared or ("nothing",))),
    ]
    if found.differences:
        columns = (text_column("field"), Column("values", _values, "left"))
        parts.append(DisplayTable("Differences", columns, found.differences))
    if found.partial:
        parts.append(_partial_table(found))
    parts.append(outlier_table(found))
    parts.append(DisplayTable("", (), (), (found.summary(),)))
    return parts


def outlier_table(found: OutlierSearch) -> DisplayTable:
    """The rows that stand out, and what is to be known of them."""
    columns = (
        text_column("member", found.by),
        Column("case", _case, "left"),
        Column("time" if found.metric == TIME else found.metric, partial(_value, "value")),
        Column("siblings' median", partial(_value, "siblings_median")),
        Column("siblings' range", _range),
        column("ratio", "ratio", lambda value: f"{show_number(value)}x"),
        text_column("verdict"),
        column("adjusted_p", "adjusted p", _p_value),
    )
    return DisplayTable("Standing out", columns, found.rows, tuple(_notes(found)))


def _notes(found: OutlierSearch) -> list[str]:
    notes = [] if found.rows else ["none"]
    notes.append(
        f"Standing out: at least {show_share(found.outlier)} from the siblings' median, and more than chance explains "
        f"({show_share(outliers.FALSE_DISCOVERIES)} false discoveries over all {found.by}s and cases)."
    )
    if found.unclear:
        told = list(dict.fromkeys(f"{row['member']}: {_case(row)}" for row in found.unclear))
        notes.append(f"Unclear: as far from the siblings, but chance may explain it: {name_few(told)}.")
    if len(found.members) <= MIN_SIBLINGS:
        notes.append(
            f"With {len(found.members)} {found.by}s the spread of so few siblings cannot show an outlier: each is "
            "judged by its own launches against theirs, and unclear where there are none to compare."
        )
    if found.num_launches == (1, 1):
        notes.append("One launch each: what stands out may be that launch; measure again before a machine is blamed.")
    return notes


def _partial_table(found: OutlierSearch) -> DisplayTable:
    columns = (
        Column("case", _case, "left"),
        column("num_members", f"{found.by}s that have it", show_count),
        Column("lacking", _lacking_members, "left"),
    )
    return DisplayTable(f"Not on every {found.by}", columns, found.partial)


def _case(row: Mapping[str, Any]) -> str:
    return str(row["case"]) if row["variant"] is None else f"{row['case']} {row['variant']}"


def _range(row: Mapping[str, Any]) -> str:
    return f"{_value('siblings_low', row)} to {_value('siblings_high', row)}"


def _value(key: str, row: Mapping[str, Any]) -> str:
    return show_value(row[key], row["unit"])


def _p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return f"<{_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"


def _lacking_members(row: Mapping[str, Any]) -> str:
    return name_few([f"{each['member']} ({each['status']})" for each in row["lacking"]])


def _values(row: Mapping[str, Any]) -> str:
    return "; ".join(f"{brief_text(each['value'])}: {name_few(each['members'])}" for each in row["values"])
