"""The gate: whether a comparison lets a change pass, in one line and an exit code.

A gate fails on what is shown, never on what is suspected: where the whole interval of a case lies beyond the allowed
slow-down. What the interval leaves open is not decided, and a gate that decides nothing is no gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core import exit_codes
from bench.core.values import first_few, show_share
from bench.errors import BenchError
from bench.stats import distributions, intervals

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.records.rows import Row


UNKNOWN_SPREAD = 3
"""Launches to begin with if there is no error bar yet."""
MOST_LAUNCHES = 100
"""Launches beyond which more would not settle a case."""


@dataclass(frozen=True)
class Gate:
    """Limits that the user asked for."""

    fail_slower: float | None = None
    """The share by which a case may be slower."""
    fail_missing: bool = False
    """True if a case of the base that the new side lacks, or that is not ok there alone, fails the gate."""
    min_decided: float = 0.0
    """The share of cases that has to be decided."""
    allow_unlike: bool = False
    pair_seconds: float | None = None
    """Time of a pair of launches of `bench ab`; None: the sides were not measured in pairs."""

    @property
    def is_requested(self) -> bool:
        return self.fail_slower is not None or self.fail_missing


@dataclass(frozen=True)
class Ruling:
    """The last line, and the exit code."""

    line: str
    exit_code: int
    failing: tuple[Row, ...] = ()
    """The cases that are too slow."""


def rule(comparison: Comparison, gate: Gate) -> Ruling | None:
    """The ruling, or None if no gate was asked for. Raises BenchError if the architectures are not the same."""
    if not gate.is_requested:
        return None
    if not comparison.alike and not gate.allow_unlike:
        base, *others = comparison.sides
        other = next(side for side in others if side.architecture != base.architecture)
        raise BenchError(
            f"base ran on {base.architecture}, new on {other.architecture}: use bench ab, or --allow-unlike"
        )
    missing = _missing(comparison) if gate.fail_missing else []
    why = [f"{len(missing)} missing or not ok: {first_few(missing, more='')}"] if missing else []
    if gate.fail_slower is None:
        present = len(comparison.sides[0].groups) * (len(comparison.sides) - 1)
        return ruling(present, present, why, _needs(present, comparison, gate), gate.min_decided)
    limit = gate.fail_slower
    failing = [row for row in comparison.cases if _least_slowdown(row) > limit and row["verdict"] == "slower"]
    passing = [row for row in comparison.cases if _most_slowdown(row) <= limit]
    slower = [f"{len(failing)} slower by more than {show_share(limit)}"] if failing else []
    decided = len(failing) + len(passing)
    needs = _needs(decided, comparison, gate)
    return ruling(decided, len(comparison.cases), [*slower, *why], needs, gate.min_decided, failing)


def ruling(
    decided: int, total: int, why: Sequence[str], needs: str, min_decided: float, failing: Sequence[Row] = ()
) -> Ruling:
    """Ruling: failed if there is a reason `why`; an error that says what it `needs` if too little could be decided."""
    counts = f"decided {decided} of {total} cases"
    if why:
        return Ruling("; ".join(["Gate: FAILED", counts, *why]), exit_codes.GATE, tuple(failing))
    if decided == 0 or decided < min_decided * total:
        return Ruling(f"Gate: FAILED; {counts}; {needs}", exit_codes.USAGE)
    return Ruling(f"Gate: passed; {counts}", exit_codes.OK)


def _needs(decided: int, comparison: Comparison, gate: Gate) -> str:
    """Reason why so few were decided, and the remedy: time for each launch, launches, or neither."""
    wanted = "too few to say anything" if decided == 0 else f"fewer than {show_share(gate.min_decided)}"
    if not comparison.cases:
        return f"{wanted}: no case was measured on both sides, which takes more time for each launch, or fewer cases"
    if gate.fail_slower is None:
        return f"{wanted}: it needs cases that both sides have"
    launches = _launches_that_settle(decided, comparison, gate)
    if launches is None:
        return (
            f"{wanted}: the launches differ by more than launches can make up for; gate at more than "
            f"{show_share(gate.fail_slower)}, or measure where less else is at work"
        )
    if gate.pair_seconds is None:
        return f"{wanted}: it needs about {launches} launches a side"
    return (
        f"{wanted}: it needs about {launches} pairs: --pairs {launches} --budget {_time(launches * gate.pair_seconds)}"
    )


def _time(seconds: float) -> str:
    """A time as one would type it, with some room."""
    return f"{math.ceil(1.15 * seconds / 60)}m"


def _least_slowdown(row: Row) -> float:
    """The end of the interval that is kindest to the new side, as a share by which it is slower."""
    ends = (row["change_low"], row["change_high"])
    if None in ends:
        return -math.inf
    return float(ends[0] if row["better"] == "lower" else -ends[1])


def _most_slowdown(row: Row) -> float:
    ends = (row["change_low"], row["change_high"])
    if None in ends:
        return math.inf
    return float(ends[1] if row["better"] == "lower" else -ends[0])


def _missing(comparison: Comparison) -> list[str]:
    """Cases that are ok on the base, and on a new side are not there or not ok."""
    base, *news = comparison.sides
    return [
        case
        for new in news
        for case, group in base.groups.items()
        if group.status == "ok" and (case not in new.groups or new.groups[case].status != "ok")
    ]


def _launches_that_settle(decided: int, comparison: Comparison, gate: Gate) -> int | None:
    """Launches per side (or pairs) that would decide as many cases as are wanted; None: more than are made."""
    assert gate.fail_slower is not None
    limit = gate.fail_slower
    needed = sorted(
        launches
        for row in comparison.cases
        if not (_most_slowdown(row) <= limit or _least_slowdown(row) > limit)
        and (launches := _launches_of(row, limit)) is not None
    )
    lacking = max(1, math.ceil(gate.min_decided * len(comparison.cases)) - decided)
    return needed[lacking - 1] if len(needed) >= lacking else None


def _launches_of(row: Row, limit: float) -> int | None:
    """Launches with which a case's interval would no longer hold the limit; None: more than are made.

    The middle is taken to stay where it is. The width falls by the root of the launches, and by Student's t, whose
    degrees of freedom grow with them.
    """
    if row["change_low"] is None:
        return UNKNOWN_SPREAD
    low, middle, high = (math.log1p(row[name]) for name in ("change_low", "change", "change_high"))
    at = math.log1p(limit) if row["better"] == "lower" else math.log1p(-limit)
    made = min(row["base_launches"], row["new_launches"])
    one_launch = (high - low) / 2 * math.sqrt(made) / _t(made)
    return next((n for n in range(made + 1, MOST_LAUNCHES + 1) if one_launch * _t(n) < abs(middle - at) * n**0.5), None)


def _t(launches: int) -> float:
    return distributions.t_quantile(0.5 + intervals.CONFIDENCE / 2, max(1, launches - 1))
