"""Words for changes: factors of the new side over the base, their intervals and verdicts, each on one scale.

A change is a factor everywhere, `1.88x` for +88% and `0.912x` for -8.8%, so that an interval never mixes two scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.core.values import MISSING, counted, show_number, show_share
from bench.records.metrics import TIME

if TYPE_CHECKING:
    from bench.records.rows import Row
    from bench.stats.change_test import JudgedChange

FARTHEST = 100.0
"""Factors beyond which it only matters that they are large: an interval that goes on says that nothing is known."""
NO_DIFFERENCE = "no difference shown"
_NEAR = 0.1
"""Distance from 1 below which one more digit tells a change from none."""


def show_change(change: float | None) -> str:
    """A change as a factor with three digits: `1.88x`, `1.031x`."""
    return MISSING if change is None else show_factor(1 + change)


def show_factor(ratio: float, digits: int = 3) -> str:
    """A factor: `1.88x`; one digit more near 1, and no more than that it is large beyond FARTHEST."""
    if ratio > FARTHEST:
        return f"over {FARTHEST:.0f}x"
    if ratio < 1 / FARTHEST:
        return f"under {1 / FARTHEST:g}x"
    if ratio >= 1 and abs(ratio - 1) < _NEAR:
        digits += 1
    return f"{show_number(ratio, digits)}x"


def brief_factor(ratio: float) -> str:
    """A factor as people say it: `1.9x`; `1.04x` and `0.97x` near 1."""
    return show_factor(ratio, 2)


def show_interval(row: Mapping[str, Any]) -> str:
    """The 95% interval of a row's change, as factors: `1.50x to 2.37x`."""
    low, high = row["change_low"], row["change_high"]
    return MISSING if low is None or high is None else f"{show_factor(1 + low)} to {show_factor(1 + high)}"


def brief_interval(judged: JudgedChange) -> str | None:
    """The interval as people say it; None if there is no error bar."""
    if judged.change_low is None or judged.change_high is None:
        return None
    low, high = 1 + judged.change_low, 1 + judged.change_high
    digits = 2 if brief_factor(low) != brief_factor(high) else 3
    return f"{show_factor(low, digits)} to {show_factor(high, digits)}"


def told(row: Row) -> str:
    """A row's change with its interval, with the digits of a table: `3.31x as long (2.13x to 5.04x)`."""
    words = " as long" if row["metric"] == TIME else ""
    return f"{show_change(row['change'])}{words} ({show_interval(row)})"


def told_briefly(row: Row) -> str:
    """The same as people say it: `3.3x as long (2.1x to 5.0x)`; with all digits if the interval is a narrow one."""
    low, high = (brief_factor(1 + row[end]) for end in ("change_low", "change_high"))
    return told(row) if low == high else f"{as_long(1 + row['change'], row['metric'])} ({low} to {high})"


def verdict_words(judged: JudgedChange, threshold: float) -> str | None:
    """Words in place of a figure, if no change is shown; None if one is."""
    if judged.verdict == "same":
        return f"the same within {show_share(threshold)}"
    return NO_DIFFERENCE if judged.verdict == "unclear" else None


def as_long(ratio: float, metric: str) -> str:
    """The figure of a case or kind of work that has been named: `1.9x as long`; of another metric `0.52x`."""
    return f"{brief_factor(ratio)} as long" if metric == TIME else brief_factor(ratio)


def clause(name: str, base: str, ratio: float, metric: str, about: str = "") -> str:
    """`new takes 1.9x as long as base`; of another metric `new has 0.52x the tokens_per_s of base`."""
    brief = brief_factor(ratio)
    figure = f"{about}{brief}" if brief[0].isdecimal() else brief
    return (
        f"{name} takes {figure} as long as {base}" if metric == TIME else f"{name} has {figure} the {metric} of {base}"
    )


def cases_of(number: int, total: int) -> str:
    """`7 of 17 cases`; of all of them `all 3 cases`, `both cases`, `1 case`."""
    if number < total:
        return f"{number} of {counted(total, 'case')}"
    return {1: "1 case", 2: "both cases"}.get(total, f"all {total} cases")
