"""A comparison as it is shown: tables for people, plain rows for programs, annotations for a build on GitHub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from bench.analysis.compare.comparison import Comparison
from bench.core import sparklines
from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import MISSING, brief_text, show_number, show_share, show_text, show_value
from bench.records.metrics import TIME
from bench.records.rows import Row
from bench.stats import change_test

MAX_MARKDOWN = 60_000
"""Bytes that a comment on a pull request may have, with room below GitHub's 65,536 characters."""
USELESS = 10.0
"""A change of more than so many times says only that nothing is known."""

SORTS: dict[str, Callable[[Row], Any]] = {
    "verdict": lambda row: (change_test.VERDICTS.index(row["verdict"]), -abs(row["change"])),
    "change": lambda row: -row["change"],
    "case": lambda row: row["case"],
    "base": lambda row: -row["base"],
}
"""Name -> key; what it puts first is most telling."""


def show(
    comparison: Comparison,
    output: str = "table",
    colour: bool = False,
    everything: bool = False,
    sort: str = "verdict",
    gate: str | None = None,
    width: int | None = None,
) -> str:
    """A comparison in a format: JSON is one object, CSV the cases alone; both have all cases.

    Tables have those that are not `same`, or all with `everything`. `github` is `markdown`, for the step's summary.
    `gate` is the gate's line, which JSON has as well.
    """
    rows = sorted(comparison.cases, key=SORTS[sort])
    if output == "csv":
        return csv_text(rows)
    if output == "json":
        return json_text(as_object(comparison, rows) | {"gate": gate})
    displayed = tables(comparison, everything, sort, narrow=output == "table" and width is not None)
    if output == "table":
        return render(displayed, "table", colour, width)
    return _fit_markdown(displayed)


def as_object(comparison: Comparison, rows: Sequence[Row]) -> dict[str, Any]:
    """Object that `--format json` prints."""
    counts = comparison.counts()
    return {
        "names": [side.name for side in comparison.sides],
        "paired": comparison.paired,
        "threshold": comparison.threshold,
        "shared": comparison.shared,
        "differences": list(comparison.differences),
        "cases": list(rows),
        "only_base": list(comparison.only_base),
        "only_new": list(comparison.only_new),
        "not_ok": list(comparison.not_ok),
        "counts": {name: counts[name] for name in change_test.VERDICTS},
    }


def tables(
    comparison: Comparison, everything: bool = False, sort: str = "verdict", narrow: bool = False
) -> list[DisplayTable]:
    """Tables of what is shared, what differs, the cases (those not `same`, or all), and what cannot be compared.

    `narrow`: sides are called base and new in the heads, and their names stand below.
    """
    rows = sorted(comparison.cases, key=SORTS[sort])
    shared = tuple(f"{name}: {brief_text(value)}" for name, value in comparison.shared.items() if value is not None)
    result = [DisplayTable("Shared by all", (), (), shared or ("nothing",))]
    if comparison.differences:
        values = [value_column(index, side.name) for index, side in enumerate(comparison.sides)]
        result.append(DisplayTable("Differences", (text_column("field"), *values), comparison.differences))
    result.append(_cases(comparison, rows, everything, narrow))
    listed = (
        ("Only on the base", comparison.only_base, ("name", "not on")),
        ("Only on the new side", comparison.only_new, ("name", "only on")),
    )
    for title, lacking, (key, head) in listed:
        if lacking:
            result.append(
                DisplayTable(title, (text_column("case"), text_column(key, head), text_column("status")), lacking)
            )
    if comparison.not_ok:
        columns = [text_column("name", "side"), *map(text_column, ("case", "status", "reason"))]
        result.append(DisplayTable("Not ok", tuple(columns), comparison.not_ok))
    return result


def value_column(index: int, name: str) -> Column:
    """The column of one side in rows of differences."""
    return Column(name, lambda row: brief_text(row["values"][index]), "left")


def _cases(comparison: Comparison, rows: Sequence[Row], everything: bool, narrow: bool) -> DisplayTable:
    """A row per case and metric, with the columns of every side."""
    news = comparison.sides[1:]
    by_case: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault((row["case"], row["metric"]), {})[row["name"]] = row
    shown = [
        by_side
        for by_side in by_case.values()
        if everything or any(row["verdict"] != "same" for row in by_side.values())
    ]
    notes: dict[str, int] = {}
    table_rows = tuple(_table_row(by_side, notes) for by_side in shown)
    columns = [text_column("case")]
    if {row["metric"] for row in rows} - {TIME}:
        columns.append(text_column("metric"))
    heads = _heads(comparison, narrow)
    columns += [column("base", heads[0], show_text, weight=2), column("base_spread", "±", show_text, weight=5)]
    for new, name in zip(news, heads[1:], strict=True):
        columns += [
            Column(head or name, partial(_cell, name=new.name, key=key), _ALIGN.get(key, "right"), weight)
            for key, (head, weight) in _NEW_CELLS.items()
            if key != ("verdict" if narrow else "brief")
        ]
    if notes:
        columns.append(text_column("marks", "notes"))
    numbered = tuple(f"[{number}] {note}" for note, number in notes.items())
    closing = _closing_notes(comparison, len(by_case) - len(shown))
    if narrow:
        called = zip(heads, (side.name for side in comparison.sides), strict=True)
        closing = [", ".join(f"{head}: {show_text(name)}" for head, name in called), *closing]
    return DisplayTable(_title(comparison), tuple(columns), table_rows, (*numbered, *closing))


_NEW_CELLS: dict[str, tuple[str | None, float]] = {
    "new": (None, 2),
    "new_spread": ("±", 5),
    "change": ("change", 1),
    "bar": ("less|more", 4),
    "interval": ("95% interval", 3),
    "verdict": ("verdict", 0),
    "brief": ("verdict", 0),
}
"""Cell -> head (None: the side's own name), and how soon it gives way if there is no room: on all sides at once."""
_ALIGN: dict[str, Literal["left", "right"]] = {"bar": "left"}


def _heads(comparison: Comparison, narrow: bool) -> list[str]:
    """Heads of the sides: their names, or short ones if there is little room."""
    names = [side.name for side in comparison.sides]
    if not narrow:
        return names
    return ["base", *(["new"] if len(names) == 2 else [f"new {number}" for number in range(1, len(names))])]


def _cell(row: Mapping[str, Any], name: str, key: str) -> str:
    cells = row["sides"].get(name)
    return MISSING if cells is None else str(cells[key])


def _table_row(by_side: Mapping[str, Row], notes: dict[str, int]) -> Row:
    first = next(iter(by_side.values()))
    reasons = dict.fromkeys(row["reason"] for row in by_side.values() if row["reason"])
    marks = [notes.setdefault(reason, len(notes) + 1) for reason in reasons]
    return {
        "case": first["case"],
        "metric": first["metric"],
        "base": _value(first, "base"),
        "base_spread": _spread(first, "base"),
        "sides": {name: _cells_of(row) for name, row in by_side.items()},
        "marks": ",".join(map(str, marks)),
    }


def _cells_of(row: Row) -> dict[str, str]:
    return {
        "new": _value(row, "new"),
        "new_spread": _spread(row, "new"),
        "change": show_change(row["change"]),
        "bar": sparklines.bar(row["change"]) if row["change"] is not None else MISSING,
        "interval": show_interval(row),
        "verdict": show_verdict(row),
        "brief": show_verdict(row).replace(" launches)", ")"),
    }


def _value(row: Row, side: str) -> str:
    return show_value(row[side], row["unit"])


def _spread(row: Row, side: str) -> str:
    """The farther end of the side's interval, with the variance that the verdict took."""
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    if low is None or high is None:
        return MISSING
    farthest = max(1 - low / row[side], high / row[side] - 1)
    return f"{100 * farthest:.1f}%" if farthest < USELESS else "unknown"


def show_change(change: float | None) -> str:
    """A change with its sign: `+3.1%`; more than twice as much as a factor."""
    if change is None:
        return MISSING
    return f"{100 * change:+.1f}%" if abs(change) < 1 else f"{show_number(1 + change)}x"


def show_interval(row: Row) -> str:
    low, high = row["change_low"], row["change_high"]
    if low is None or high is None:
        return MISSING
    return "unknown" if high > USELESS else f"{show_change(low)} to {show_change(high)}"


def show_verdict(row: Row) -> str:
    """`unclear (~12 launches)`: what would settle it."""
    if row["verdict"] != "unclear" or row["change_low"] is None:
        return str(row["verdict"])
    needed = row["launches_needed"]
    return f"unclear ({'>' if needed is None else '~'}{needed or change_test.MOST_LAUNCHES} launches)"


def _title(comparison: Comparison) -> str:
    what = "Change" if comparison.alike else "Architectures"
    return f"{what}, in pairs of launches" if comparison.paired else what


def _closing_notes(comparison: Comparison, num_hidden: int) -> list[str]:
    """Notes on how many cases have which verdict, and what the columns mean."""
    counts = comparison.counts()
    total = sum(counts.values())
    words = ", ".join(f"{counts[name]} {name}" for name in change_test.VERDICTS)
    if total == 0:
        return ["No common case is ok on both sides."]
    hidden = f"; {num_hidden} rows that are the same are not shown (--all)" if num_hidden else ""
    lines = [
        f"{total} verdicts: {words}{hidden}",
        "Values are geometric means of the launches' medians; ± is the farther end of their 95% interval. same: the "
        f"interval of the change lies within {show_share(comparison.threshold)}; slower, faster: it excludes no "
        "change, false discoveries controlled at 5%.",
    ]
    if any(row["change_low"] is None for row in comparison.cases):
        lines.append("One launch a side has no error bar, so no verdict: measure with --launches 3, or use bench ab.")
    if any(row["verdict"] == "unclear" and row["change_low"] is not None for row in comparison.cases):
        what = "pairs" if comparison.paired else "launches a side"
        lines.append(f"unclear (~N launches): about so many {what} would settle it.")
    return lines


def _fit_markdown(tables: Sequence[DisplayTable]) -> str:
    """Markdown fit to be pasted: the last tables' rows give way where it would be too long, and it says how many."""
    text = render(tables, "markdown")
    kept = {id(table): len(table.rows) for table in tables}
    while len(text.encode()) > MAX_MARKDOWN and any(kept.values()):
        longest = max(tables, key=lambda table: kept[id(table)])
        kept[id(longest)] //= 2
        text = render([_cut(table, kept[id(table)]) for table in tables], "markdown")
    return text


def _cut(table: DisplayTable, num_rows: int) -> DisplayTable:
    left_out = len(table.rows) - num_rows
    if not left_out:
        return table
    note = f"{left_out} more rows are left out to keep this short; --format json has all."
    return DisplayTable(table.title, table.columns, table.rows[:num_rows], (note, *table.footnotes))
