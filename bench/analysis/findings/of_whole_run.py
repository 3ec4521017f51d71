"""Findings on a run as a whole: its common change, cases that stand out of it, and the kernels that no side changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.analysis.compare.change_text import brief_factor, brief_interval, show_factor, verdict_words
from bench.analysis.findings.kinds import Figure, Remark

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.analysis.compare.whole_run import WholeRun
    from bench.records.rows import Row

NAME = "the run as a whole"
MOST_NAMED = 2
"""Cases against the rest that are remarked on; the table and JSON have all."""


def whole_figure(comparison: Comparison, new: Side, prefix: str = "") -> list[Figure]:
    """The common change of a new side, as one figure; none if it was not judged."""
    whole = comparison.whole(new.name)
    if whole is None:
        return []
    judged, interval = whole.judged, brief_interval(whole.judged)
    words = [interval or "no error bar", verdict_words(judged, comparison.threshold) if interval else None]
    words.append(f"what all {whole.num_cases} cases share")
    return [
        Figure(
            group="change",
            name=prefix + NAME,
            text=brief_factor(1 + judged.change),
            value=1 + judged.change,
            unit="x",
            low=None if judged.change_low is None else 1 + judged.change_low,
            high=None if judged.change_high is None else 1 + judged.change_high,
            of=", ".join(word for word in words if word),
        )
    ]


def whole_words(whole: WholeRun, threshold: float) -> str:
    """`the run as a whole: no difference shown (0.95x to 1.04x)`."""
    interval = brief_interval(whole.judged) or "no error bar"
    words = verdict_words(whole.judged, threshold) or f"{brief_factor(1 + whole.judged.change)} as long"
    return f"{NAME}: {words} ({interval})"


def stands_out(row: Row) -> bool:
    """True for a case that is undecided as it is, and slower or faster than the rest of its run."""
    return row["verdict"] == "unclear" and row.get("relative_verdict") in ("slower", "faster")


def whole_remarks(comparison: Comparison) -> Iterator[Remark]:
    """Remarks on cases against the rest of a run, and on controls that differ."""
    for whole in comparison.wholes:
        rows = [row for row in comparison.cases if row["name"] == whole.name and stands_out(row)]
        for row in sorted(rows, key=lambda row: -abs(row["relative_change"]))[:MOST_NAMED]:
            yield Remark(
                text=f"{comparison.name_of(row['case'])} on {whole.name} is {_against_rest(row)}; "
                f"{whole_words(whole, comparison.threshold)}",
                remedy="",
                weight=1 + abs(row["relative_change"]),
                case=row["case"],
            )
    for name in dict.fromkeys(control.name for control in comparison.controls):
        differ = [one for one in comparison.controls if one.name == name and one.judged.verdict in ("slower", "faster")]
        if differ:
            texts = [
                f"{one.control} {brief_factor(1 + one.judged.change)} ({brief_interval(one.judged)})" for one in differ
            ]
            yield Remark(
                text=f"bench's own kernels, the same on both sides, took another time on {name}: {', '.join(texts)}",
                remedy="The machine was not the same: measure again, or in pairs with bench ab",
                weight=2.0,
            )


def _against_rest(row: Row) -> str:
    """`1.18x the rest of the run (1.09x to 1.28x), slower`."""
    low, high = show_factor(1 + row["relative_low"]), show_factor(1 + row["relative_high"])
    change = show_factor(1 + row["relative_change"])
    return f"{row['relative_verdict']} than the rest of the run: {change} ({low} to {high})"
