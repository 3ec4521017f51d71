"""The table of all cases of a comparison: a row per case, with every machine's change and verdict first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.analysis.compare.change_text import show_change, show_factor
from bench.analysis.compare.comparison_tables import SORTS
from bench.core.table import Column, DisplayTable
from bench.core.values import MISSING, show_quantity, show_share
from bench.report.page.change_chart import signed

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.records.case_names import CaseNames
    from bench.records.rows import Row

USELESS = 10.0
"""Ends of an interval that are further apart than this many times say only that little is known."""


def all_cases(comparison: Comparison, names: CaseNames) -> DisplayTable:
    """The largest changes that are shown come first, those with a wide interval behind them."""
    by_case: dict[str, dict[str, Row]] = {}
    for row in sorted(comparison.cases, key=_order):
        by_case.setdefault(row["case"], {})[row["name"]] = row
    base, *news = comparison.sides
    several = len(news) > 1
    columns = [Column("case", lambda row: names.across(row["case"]), "left")]
    for new in news:
        head = f"{new.name} against {base.name}" if several else "change and verdict"
        columns.append(_side_column(head, new.name, _change))
    columns.append(Column(base.name, lambda row: show_quantity(_first(row)["base"], _first(row)["unit"])))
    columns += [_side_column(new.name, new.name, _value) for new in news]
    rows = tuple({"case": case, "sides": of_case} for case, of_case in by_case.items())
    return DisplayTable("", tuple(columns), rows, tuple(_notes(comparison, len(by_case))))


def _order(row: Row) -> tuple[Any, ...]:
    return (_is_wide(row), SORTS["verdict"](row))


def _is_wide(row: Row) -> bool:
    low, high = row["change_low"], row["change_high"]
    return low is None or high is None or 1 + high > USELESS * (1 + low)


def _first(row: Mapping[str, Any]) -> Row:
    first: Row = next(iter(row["sides"].values()))
    return first


def _side_column(head: str, name: str, show: Callable[[Row], str]) -> Column:
    return Column(head, partial(_cell, name=name, show=show), "left" if show is _change else "right")


def _cell(row: Mapping[str, Any], name: str, show: Callable[[Row], str]) -> str:
    return show(row["sides"][name]) if name in row["sides"] else MISSING


def _value(row: Row) -> str:
    return show_quantity(row["new"], row["unit"])


def _change(row: Row) -> str:
    """`1.88x ▼ slower, 1.50x to 2.37x`."""
    low, high = row["change_low"], row["change_high"]
    if low is None or high is None:
        return f"{show_change(row['change'])}, one launch: no error bar"
    words = "no difference shown" if row["verdict"] == "unclear" else signed(row["verdict"])
    interval = f"{show_factor(1 + low)} to {show_factor(1 + high)}"
    if _is_wide(row):
        interval = f"at least {show_factor(1 + low)}" if row["change"] > 0 else f"at most {show_factor(1 + high)}"
    return f"{show_change(row['change'])} {words}, {interval}"


def _notes(comparison: Comparison, num_cases: int) -> list[str]:
    counts = {new.name: _counts(comparison.cases, new.name) for new in comparison.sides[1:]}
    return [
        *(f"{name}, of {num_cases} cases: {words}." for name, words in counts.items()),
        "A change is the time over the base's, of geometric means of the launches, with its 95% interval. Slower and "
        "faster: the interval excludes no change, false discoveries controlled at 5%; same: it lies within "
        f"{show_share(comparison.threshold)}; no difference shown: neither.",
    ]


def _counts(rows: Sequence[Row], name: str) -> str:
    verdicts = [row["verdict"] for row in rows if row["name"] == name]
    words = {"slower": "slower", "faster": "faster", "same": "the same", "unclear": "without a shown difference"}
    return ", ".join(f"{verdicts.count(verdict)} {said}" for verdict, said in words.items())
