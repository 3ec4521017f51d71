"""Tables of a comparison: the cases of each new side, what only one side has, and how their environments differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.analysis.compare import settling
from bench.analysis.compare.change_text import show_change, show_factor, show_interval
from bench.analysis.compare.work_changes import change_size
from bench.core import sparklines
from bench.core.table import Column, DisplayTable, column, status_column, text_column
from bench.core.values import MISSING, brief_text, counted, show_share, show_value
from bench.records.case_names import CaseNames
from bench.records.metrics import TIME
from bench.records.rows import Row
from bench.stats import change_test

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.core.styles import Style

__all__ = ["show_change", "show_factor", "show_interval"]

SORTS: dict[str, Callable[[Row], Any]] = {
    "verdict": lambda row: (change_test.VERDICTS.index(row["verdict"]), -change_size(row["change"])),
    "change": lambda row: -row["change"],
    "case": lambda row: row["case"],
    "base": lambda row: -row["base"],
}
"""Name -> key; the most informative come first."""
FOUR_COLUMNS = 100
"""Width up to which a table of cases has four columns: values are next to them only on a wider screen."""
DIGEST = "suite "
"""Beginning of fields that hold digests of code: few people read them, so they come last."""
_STYLES: dict[str, Style] = {"slower": "red", "faster": "green", "unclear": "dim"}


@dataclass(frozen=True)
class View:
    """How much of a comparison is shown, and in which order."""

    everything: bool = False
    """True: also the cases that are the same, and all rows."""
    sort: str = "verdict"
    width: int | None = None
    """Columns of the screen; None: as many as it takes, with all columns."""
    most_rows: int | None = None
    """Rows of each table of cases; None: all."""


def sorted_rows(comparison: Comparison, sort: str) -> list[Row]:
    return sorted(comparison.cases, key=SORTS[sort])


def tables(comparison: Comparison, everything: bool = False, sort: str = "verdict") -> list[DisplayTable]:
    """All tables: the cases first, then what only one side has, the environments last."""
    view = View(everything, sort)
    return [*case_tables(comparison, view), *absence_tables(comparison), *environment_tables(comparison)]


def case_tables(comparison: Comparison, view: View) -> list[DisplayTable]:
    """One table per new side and metric."""
    by_table: dict[tuple[str, str], list[Row]] = {}
    for row in sorted_rows(comparison, view.sort):
        by_table.setdefault((row["name"], row["metric"]), []).append(row)
    sides = [side.name for side in comparison.sides[1:]]
    keys = sorted(by_table, key=lambda key: sides.index(key[0]))
    if not keys:
        return [DisplayTable(_title(comparison, name), (), (), (_NOTHING,)) for name in sides]
    made = [_case_table(comparison, by_table[key], view) for key in keys]
    shared = _shared_parameters(comparison.names)
    if shared and (view.everything or view.width is None):
        made[-1] = DisplayTable(made[-1].title, made[-1].columns, made[-1].rows, (*made[-1].footnotes, shared))
    return made


_NOTHING = "No common case is ok on both sides."


def _title(comparison: Comparison, name: str, metric: str = TIME) -> str:
    by = "" if metric == TIME else f", {metric}"
    return f"{name} against {comparison.sides[0].name}{by}{', in pairs of launches' if comparison.paired else ''}"


def _shared_parameters(names: CaseNames) -> str:
    """Parameters that cases of a suite share, which their names leave out."""
    lines = [f"{suite} {line}" for suite, of_suite in names.shared.items() for line in of_suite]
    return f"Same in all cases of a kind: {'; '.join(lines)}" if lines else ""


def _case_table(comparison: Comparison, rows: Sequence[Row], view: View) -> DisplayTable:
    """Case, change, interval and verdict of one new side; on a wide screen both values, too."""
    told = [row for row in rows if view.everything or row["verdict"] != "same"]
    shown = told if view.most_rows is None or view.everything else told[: view.most_rows]
    one = settling.settle(comparison, 1, rows[0]["name"])
    values = view.width is None or view.width > FOUR_COLUMNS
    columns = [
        Column("case", lambda row: comparison.name_of(row["case"]), "left"),
        *(_value_columns(view.width is None) if values else ()),
        column("change", "change", show_change),
        Column("95% interval", show_interval, "left"),
        Column("verdict", lambda row: _verdict(row, one), "left", style=lambda row: _STYLES.get(row["verdict"])),
    ]
    notes = [_counts(comparison, rows, len(told) - len(shown)), *_notes(shown, one, view, comparison.threshold)]
    title = _title(comparison, rows[0]["name"], rows[0]["metric"])
    return DisplayTable(title, tuple(columns), tuple(shown), tuple(notes))


def _value_columns(with_spread: bool) -> Iterator[Column]:
    for side in ("base", "new"):
        yield Column(side, lambda row, side=side: show_value(row[side], row["unit"]), weight=2)  # type: ignore[misc]
        if with_spread:
            yield Column("±", lambda row, side=side: _spread(row, side), weight=5)  # type: ignore[misc]
    if with_spread:
        yield Column("less|more", lambda row: sparklines.bar(row["change"]), "left", 4)


def _spread(row: Row, side: str) -> str:
    """The farther end of the side's interval, with the variance that the verdict took, as a factor."""
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    return MISSING if low is None or high is None else show_factor(max(row[side] / low, high / row[side]))


def _verdict(row: Mapping[str, Any], one: settling.Settling) -> str:
    """`slower`, or `unclear (+5, 6 min)`: the further launches that would settle it, and their time."""
    if row["verdict"] != "unclear" or row["change_low"] is None:
        return str(row["verdict"])
    further = settling.further_launches(row)
    if further is None:
        return "unclear (varies)"
    time = "" if one.seconds is None else f", {settling.show_minutes(further * one.seconds)}"
    return f"unclear (+{further}{time})"


def _counts(comparison: Comparison, rows: Sequence[Row], num_hidden: int) -> str:
    """Counts of verdicts, and of the rows that are not shown."""
    counts = {name: sum(row["verdict"] == name for row in rows) for name in change_test.VERDICTS}
    words = {"same": f"the same within {show_share(comparison.threshold)}"}
    text = f"{counted(len(rows), 'case')}: {', '.join(f'{n} {words.get(name, name)}' for name, n in counts.items())}"
    return f"{text}; {num_hidden} more rows: --all" if num_hidden else text


def _notes(shown: Sequence[Row], one: settling.Settling, view: View, threshold: float) -> Iterator[str]:
    unclear = [row for row in shown if row["verdict"] == "unclear"]
    known = [row for row in unclear if row["change_low"] is not None]
    if len(known) < len(unclear):
        yield "unclear: one launch per side has no error bar: measure with --launches 3, or use bench ab"
    settled = [further for row in known if (further := settling.further_launches(row)) is not None]
    if settled:
        some = one._replace(launches=settled[0], seconds=one.seconds and settled[0] * one.seconds)
        first = next(row for row in known if settling.further_launches(row) is not None)
        yield f"{_verdict(first, one)}: {some.words()}, would settle it"
    if len(settled) < len(known):
        yield f"unclear (varies): {settling.TOO_NOISY}; over {settling.MOST_FURTHER} more launches would be needed"
    if view.width is None or view.everything:
        yield (
            "Values are geometric means of the launches' medians; the change is new over base. same: the interval of "
            f"the change lies within {show_share(threshold)}; slower, faster: it excludes no change, with false "
            "discoveries controlled at 5%."
        )


def absence_tables(comparison: Comparison) -> list[DisplayTable]:
    """Cases that only one side has, and those that are not ok on one, each with its reason."""
    result = []
    listed = (
        ("Only on the base", comparison.only_base, ("name", "not on")),
        ("Only on the new side", comparison.only_new, ("name", "only on")),
    )
    for title, lacking, (key, head) in listed:
        if lacking:
            result.append(DisplayTable(title, (text_column("case"), text_column(key, head), status_column()), lacking))
    if comparison.not_ok:
        columns = (text_column("name", "side"), text_column("case"), status_column(), text_column("reason"))
        result.append(DisplayTable("Not ok", columns, comparison.not_ok))
    return result


_BRIEF_FACTS = {
    "ranks": "ranks {}", "backend": "{}", "versions.torch": "torch {}", "versions.nccl": "NCCL {}",
    "preset": "preset {}", "launches": "launches {}", "hosts": "host {}",
}  # fmt: skip
"""Fact -> its words in the line of what is the same in all."""


def shared_line(comparison: Comparison) -> str:
    """`Same in all: 2 ranks, gloo, torch 2.13.0`: the facts that people ask for; the others are in a table."""
    facts = [
        words.format(comparison.shared[name])
        for name, words in _BRIEF_FACTS.items()
        if comparison.shared.get(name) is not None
    ]
    return f"Same in all: {', '.join(facts)}" if facts else ""


def environment_tables(comparison: Comparison) -> list[DisplayTable]:
    """Differences between the sides, and facts that all share; digests of code come last."""
    result = []
    rows = sorted(comparison.differences, key=lambda row: row["field"].startswith(DIGEST))
    if rows:
        values = [value_column(index, side.name) for index, side in enumerate(comparison.sides)]
        result.append(DisplayTable("Differences", (text_column("field"), *values), tuple(rows)))
    facts = sorted(comparison.shared.items(), key=lambda fact: fact[0].startswith(DIGEST))
    shared = tuple(f"{name}: {brief_text(value)}" for name, value in facts if value is not None)
    result.append(DisplayTable("Shared by all", (), (), shared or ("nothing",)))
    return result


def value_column(index: int, name: str) -> Column:
    """The column of one side in rows of differences."""
    return Column(name, lambda row: brief_text(row["values"][index]), "left")
