"""Order of the cases of a suite: sizes of a sweep rise, else the case that is slowest against its ceiling comes first.

The order of the plan, which runs the most informative cases first, means nothing to a reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.records.case_names import split_id
from bench.records.metrics import CEILING_PERCENT

Row = Mapping[str, Any]
Params = Mapping[str, str]

FIRST = ("shape", "size", "num_bytes", "dtype")
"""Parameters by which cases of an operation are ordered before any other."""


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows of one suite in the order of their meaning; those of several files by their case."""
    if len({row.get("file") for row in rows}) > 1 or _is_sweep(rows):
        return sorted(rows, key=_by_value)
    return sorted(rows, key=_by_ceiling)


def _is_sweep(rows: Sequence[Row]) -> bool:
    """True if the cases of each operation differ in one number alone, and there are several of one of them."""
    by_operation: dict[str, list[Params]] = {}
    for row in rows:
        _, operation, params = split_id(row["case"])
        by_operation.setdefault(operation, []).append(params)
    return len(by_operation) < len(rows) and all(map(_differ_in_one_number, by_operation.values()))


def _differ_in_one_number(params: Sequence[Params]) -> bool:
    names = {name for other in params for name in other}
    differing = [name for name in names if len({other.get(name) for other in params}) > 1]
    return len(differing) <= 1 and all(number_of(other.get(name)) is not None for name in differing for other in params)


def number_of(text: str | None) -> float | None:
    """The number that a parameter of an id is; None for a word."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _by_ceiling(row: Row) -> tuple[Any, ...]:
    percent = row.get(CEILING_PERCENT)
    return percent is None, 0.0 if percent is None else percent, *_by_value(row)


def _by_value(row: Row) -> tuple[Any, ...]:
    """Operation, then the parameters: numbers by their value, words by the alphabet."""
    _, operation, params = split_id(row["case"])
    names = sorted(params, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return operation, [(name, *_rank(params[name])) for name in names], row["case"]


def _rank(text: str) -> tuple[bool, float, str]:
    number = number_of(text)
    return number is None, 0.0 if number is None else number, text
