"""The gate: whether a comparison lets a change pass, in one line and an exit code.

A gate fails on what is shown, never on what is suspected: if the whole interval of a case lies beyond the allowed
slow-down. A case that the interval leaves open is not decided, and a gate that decides nothing is not a gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.compare import settling
from bench.analysis.compare.change_text import told_briefly
from bench.analysis.compare.work_changes import change_size
from bench.core import exit_codes
from bench.core.values import counted, first_few, show_share
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
    """The line that says it, and the exit code."""

    line: str
    exit_code: int
    failing: tuple[Row, ...] = ()
    """The cases that are too slow, the worst first."""
    undecided: tuple[Row, ...] = ()
    """The cases whose intervals hold the limit."""
    missing: tuple[str, ...] = ()
    """Cases that fail since the new side lacks them, or they are not ok there."""


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
    why = [
        f"{len(missing)} missing or not ok: {first_few(list(map(comparison.name_of, missing)), more=' and {} more')}"
    ]
    why = why if missing else []
    if gate.fail_slower is None:
        present = len(comparison.sides[0].groups) * (len(comparison.sides) - 1)
        passed = f"{counted(present, 'case')} of the base are there and ok"
        needs = _needs(present, comparison, gate, ())
        return ruling(present, present, why, passed, needs, gate.min_decided, missing=missing)
    limit = gate.fail_slower
    outcomes = [(row, outcome(row, limit)) for row in comparison.cases]
    failing = [row for row, found in outcomes if found == "failed"]
    failing.sort(key=lambda row: -change_size(row["change"]))
    undecided = [row for row, found in outcomes if found == "undecided"]
    decided, total = len(outcomes) - len(undecided), len(outcomes)
    why = [
        *([_slower(failing, comparison)] if failing else []),
        *why,
        *([f"{len(undecided)} undecided"] if undecided else []),
    ]
    why = why if failing or missing else []
    passed = f"nothing slower by more than {show_share(limit)} in {decided} of {counted(total, 'case')}"
    if undecided:
        passed += f"; {_undecided_words(undecided, comparison, gate)}"
    needs = _needs(decided, comparison, gate, undecided)
    return ruling(decided, total, why, passed, needs, gate.min_decided, failing, undecided, missing)


def outcome(row: Row, limit: float) -> str:
    """`failed`: shown to be slower by more than the limit; `passed`: shown not to be; else `undecided`."""
    if _least_slowdown(row) > limit and row["verdict"] == "slower":
        return "failed"
    return "passed" if _most_slowdown(row) <= limit else "undecided"


def ruling(
    decided: int,
    total: int,
    why: Sequence[str],
    passed: str,
    needs: str,
    min_decided: float,
    failing: Sequence[Row] = (),
    undecided: Sequence[Row] = (),
    missing: Sequence[str] = (),
) -> Ruling:
    """Ruling: failed if there is a reason `why`; an error that says what it `needs` if too little could be decided."""
    rows = tuple(failing), tuple(undecided), tuple(missing)
    if why:
        return Ruling(f"Gate: FAILED: {'; '.join(why)}", exit_codes.GATE, *rows)
    if decided == 0 or decided < min_decided * total:
        return Ruling(f"Gate: FAILED: {decided} of {counted(total, 'case')} decided, {needs}", exit_codes.USAGE, *rows)
    return Ruling(f"Gate: passed: {passed}", exit_codes.OK, *rows)


def _slower(failing: Sequence[Row], comparison: Comparison) -> str:
    """`all_reduce 1 MiB 3.3x as long (2.1x to 5.0x) and 6 others`."""
    worst = failing[0]
    text = f"{comparison.name_of(worst['case'])} {told_briefly(worst)}"
    return text + (f" and {counted(len(failing) - 1, 'other')}" if len(failing) > 1 else "")


def _undecided_words(undecided: Sequence[Row], comparison: Comparison, gate: Gate) -> str:
    """`4 undecided, about 4 min more would settle 3`."""
    limit = gate.fail_slower or 0.0
    needed = sorted(further for row in undecided if (further := _further_launches(row, limit)) is not None)
    if not needed:
        return f"{len(undecided)} undecided: {settling.TOO_NOISY} for a gate of {show_share(limit)}"
    launches = needed[(len(needed) - 1) // 2]
    some = settling.settle(comparison, launches, undecided[0]["name"])
    if gate.pair_seconds is not None:
        some = some._replace(seconds=launches * gate.pair_seconds)
    more = some.words() if some.seconds is None else f"about {settling.show_minutes(some.seconds)} more"
    settled = sum(number <= launches for number in needed)
    return f"{len(undecided)} undecided, {more} would settle {settled}"


def _needs(decided: int, comparison: Comparison, gate: Gate, undecided: Sequence[Row]) -> str:
    """Reason why no more were decided, and the remedy: time for each launch, launches, or neither."""
    wanted = "too few for a verdict" if decided == 0 else f"fewer than {show_share(gate.min_decided)}"
    if not comparison.cases:
        return f"{wanted}: no case was measured on both sides, which takes more time for each launch, or fewer cases"
    if gate.fail_slower is None:
        return f"{wanted}: it needs cases that both sides have"
    launches = _launches_that_settle(decided, comparison, gate)
    if launches is None:
        return (
            f"{wanted}: {settling.TOO_NOISY}; gate at more than {show_share(gate.fail_slower)}, or measure where less "
            "else is at work"
        )
    if gate.pair_seconds is not None:
        budget = f"--pairs {launches} --budget {_time(launches * gate.pair_seconds)}"
        return f"{wanted}: it needs about {launches} pairs: {budget}"
    made = min((min(row["base_launches"], row["new_launches"]) for row in undecided), default=0)
    return f"{wanted}: {settling.settle(comparison, max(1, launches - made), undecided[0]['name']).words()}, would do"


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
        if outcome(row, limit) == "undecided" and (launches := _launches_of(row, limit)) is not None
    )
    lacking = max(1, math.ceil(gate.min_decided * len(comparison.cases)) - decided)
    return needed[lacking - 1] if len(needed) >= lacking else None


def _further_launches(row: Row, limit: float) -> int | None:
    """Further launches with which a case would be decided; None: more than anyone waits for."""
    launches = _launches_of(row, limit)
    further = None if launches is None else max(1, launches - min(row["base_launches"], row["new_launches"]))
    return further if further is not None and further <= settling.MOST_FURTHER else None


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
