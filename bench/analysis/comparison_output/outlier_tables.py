"""Display of outliers among peers: tables for people, plain rows for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from bench.analysis.compare.outlier_search import OutlierSearch, name_few
from bench.analysis.findings.kinds import Answer, as_objects
from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import MISSING, brief_text, show_count, show_number, show_share, show_value
from bench.records.metrics import TIME
from bench.stats import outliers
from bench.stats.robust_score import MIN_SIBLINGS

_SMALLEST_P = 0.001
_JSON_FIELDS = ("by", "members", "outlier", "metric", "num_cases", "shared", "differences")


def show(search: OutlierSearch, form: str = "table", colour: bool = False, width: int | None = None) -> str:
    """JSON is one object, CSV the rows that stand out and those that are unclear."""
    if form == "csv":
        return csv_text([*search.rows, *search.unclear])
    if form == "json":
        return json_text(as_object(search))
    return render(tables(search), form, colour, width)


def as_object(search: OutlierSearch) -> dict[str, Any]:
    """Object that `--format json` prints; `rows` are the cases that stand out."""
    whole = asdict(search)
    return {
        "rows": list(search.rows),
        "findings": as_objects([Answer(search.summary())]),
        **{name: whole[name] for name in _JSON_FIELDS},
        "unclear": list(search.unclear),
        "partial": list(search.partial),
        "standing_out": {member: dict(counts) for member, counts in search.standing_out().items()},
        "summary": search.summary(),
    }


def tables(search: OutlierSearch) -> list[DisplayTable]:
    """The summary and who stands out, then which cases only some have, what differs, what all share."""
    shared = [f"{name}: {brief_text(value)}" for name, value in search.shared.items() if value is not None]
    head = f"{len(search.members)} {search.by}s in {search.num_cases} cases: {name_few(search.members)}"
    parts = [DisplayTable(search.summary(), (), (), (head,)), outlier_table(search)]
    if search.partial:
        parts.append(_partial_table(search))
    if search.differences:
        columns = (text_column("field"), Column("values", _values, "left"))
        parts.append(DisplayTable("Differences", columns, search.differences))
    parts.append(DisplayTable("Shared by all", (), (), tuple(shared or ("nothing",))))
    return parts


def outlier_table(search: OutlierSearch) -> DisplayTable:
    """The rows that stand out, and what is to be known of them."""
    columns = (
        text_column("member", search.by),
        Column("case", _case, "left"),
        Column("time" if search.metric == TIME else search.metric, partial(_value, "value")),
        Column("siblings' median", partial(_value, "siblings_median")),
        Column("siblings' range", _range),
        column("ratio", "ratio", lambda value: f"{show_number(value)}x"),
        text_column("verdict"),
        column("adjusted_p", "adjusted p", _p_value),
    )
    return DisplayTable("Standing out", columns, search.rows, tuple(_notes(search)))


def _notes(search: OutlierSearch) -> list[str]:
    notes = [] if search.rows else ["none"]
    notes.append(
        f"Standing out: at least {show_share(search.outlier)} from the siblings' median, and more than chance explains "
        f"({show_share(outliers.FALSE_DISCOVERIES)} false discoveries over all {search.by}s and cases)."
    )
    if search.unclear:
        unclear = list(dict.fromkeys(f"{row['member']}: {_case(row)}" for row in search.unclear))
        notes.append(f"Unclear: as far from the siblings, but chance may explain it: {name_few(unclear)}.")
    if len(search.members) <= MIN_SIBLINGS:
        notes.append(
            f"With {len(search.members)} {search.by}s the spread of the siblings cannot show an outlier: each is "
            "judged by its own launches against theirs, and unclear if there are none to compare."
        )
    if search.num_launches == (1, 1):
        notes.append("One launch each: what stands out may be that launch; measure again before a machine is blamed.")
    return notes


def _partial_table(search: OutlierSearch) -> DisplayTable:
    columns = (
        Column("case", _case, "left"),
        column("num_members", f"{search.by}s that have it", show_count),
        Column("lacking", _lacking_members, "left"),
    )
    return DisplayTable(f"Not on every {search.by}", columns, search.partial)


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
    return name_few([f"{lacking['member']} ({lacking['status']})" for lacking in row["lacking"]])


def _values(row: Mapping[str, Any]) -> str:
    return "; ".join(f"{brief_text(value['value'])}: {name_few(value['members'])}" for value in row["values"])
