"""Results side by side: medians, spread and ratio of every case that both sides have.

A side is one file, or several whose launches count as launches of one run. First comes what all sides share
and how they differ; then the numbers; then what only one side has and what is not ok. Nothing is dropped, and
no verdict is given: a ratio without an interval between launches proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any

from bench import frame
from bench.errors import BenchError
from bench.frame import Row
from bench.result import Result, load_many
from bench.table import (
    MISSING,
    Column,
    Table,
    column,
    csv_text,
    json_text,
    render,
    show_number,
    show_seconds,
    show_text,
)

Paths = str | PathLike[str] | Iterable[str | PathLike[str]]

_PLAN_FIELDS = ("preset", "backend", "device_type", "launches", "precision", "seed", "threads_per_rank")
_MAX_SHOWN = 80
"""Characters of a differing value in a table; JSON has all of them."""


@dataclass(frozen=True)
class Side:
    """One of what is compared."""

    name: str
    results: tuple[Result, ...]
    rows: dict[str, Row]
    """Case id -> its row over all files."""


@dataclass(frozen=True)
class Comparison:
    """The base first, then the others."""

    sides: tuple[Side, ...]
    shared: dict[str, Any]
    differences: tuple[Row, ...]
    """{"field", "values": [one a side]}."""
    cases: tuple[Row, ...]
    """One a case and new side, of the time: suite, case, metric, name (of the new side), base, base_low,
    base_high, new, new_low, new_high, ratio (new / base), change (ratio - 1)."""
    only: tuple[Row, ...]
    """{"case", "name", "status"} of each case that a side has and another lacks."""
    not_ok: tuple[Row, ...]
    """{"case", "name", "status", "reason"}."""


def compare_paths(base: Paths, news: Sequence[Paths], output: str = "table", colour: bool = False) -> str:
    """Compare saved results, each side a file, a folder of launches or a glob; ready to print."""
    return show(compare(load_many(base), [load_many(new) for new in news]), output, colour)  # type: ignore[arg-type]


def compare(base: Sequence[Result], news: Sequence[Sequence[Result]]) -> Comparison:
    """Put each of `news` beside `base`. Raises BenchError for a single side, and for no common case."""
    if not news:
        raise BenchError("there is one result to compare; name a second")
    given = [base, *news]
    sides = tuple(
        Side(
            name,
            tuple(results),
            {case: frame.group_row(group) for case, group in frame.groups(results).items()},
        )
        for name, results in zip(_names(given), given, strict=True)
    )
    for side in sides[1:]:
        if not set(side.rows) & set(sides[0].rows):
            raise BenchError(
                f"no common case: {sides[0].name} has {_examples(sides[0])}, "
                f"{side.name} has {_examples(side)}; measure the same with `bench run --like FILE`"
            )
    facts = [_facts(side.results[0]) for side in sides]
    shared = {key: value for key, value in facts[0].items() if all(other.get(key) == value for other in facts[1:])}
    pairs = [_pair(sides[0], side, case) for side in sides[1:] for case in sides[0].rows if _ok(case, sides[0], side)]
    hosts = [side.results[0].hosts() for side in sides]
    if all(each == hosts[0] for each in hosts):  # where not, the environment knows if a published copy hides them
        shared["hosts"] = ", ".join(hosts[0]) or None
    return Comparison(
        sides=sides,
        shared=shared,
        differences=tuple(_differences(sides, facts)),
        cases=tuple(pairs),
        only=tuple(_only(sides)),
        not_ok=tuple(_not_ok(sides)),
    )


def _examples(side: Side) -> str:
    first = next(iter(side.rows), None)
    return "no case" if first is None else f"{len(side.rows)} such as {first}"


def _names(given: Sequence[Sequence[Result]]) -> list[str]:
    """The sides' names: labels, else architectures, else files; numbered where even those are the same."""
    candidates = [
        [results[0].label for results in given],
        [results[0].architecture for results in given],
        [results[0].path.name for results in given],
    ]
    for names in candidates:
        if all(names) and len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(candidates[-1], 1)]


def _facts(result: Result) -> Row:
    """What a run is, in plain fields; equal ones are stated once."""
    plan, environment = result.plan, result.environment
    versions = environment.get("versions") or {}
    return {
        "label": result.label,
        "architecture": result.architecture,
        "ranks": plan.get("world_size"),
        **{name: plan.get(name) for name in _PLAN_FIELDS},
        **{f"versions.{name}": value for name, value in versions.items()},
        "commit": environment.get("commit"),
        **{f"suite {suite['name']} (SHA-256)": suite.get("sha256") for suite in plan.get("suites", [])},
    }


def _differences(sides: Sequence[Side], facts: Sequence[Row]) -> list[Row]:
    """Every field of the runs, and of their environments where it changes speed, that is not the same."""
    from bench.environment import differences

    found: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for each in facts for name in each):
        values = [each.get(name) for each in facts]
        if any(value != values[0] for value in values):
            found[name] = values
    environments = [side.results[0].environment for side in sides]
    for index, environment in enumerate(environments[1:], 1):
        for name, base, new in differences(environments[0], environment):
            if name not in facts[0]:
                found.setdefault(name, [base] * len(sides))[index] = new
    for side in sides:
        for result in side.results[1:]:
            unlike = differences(side.results[0].environment, result.environment)
            if unlike:
                names = ", ".join(name for name, _, _ in unlike)
                found[f"within {side.name}, {result.path.name}"] = [names if s is side else None for s in sides]
    return [{"field": name, "values": values} for name, values in found.items()]


def _ok(case: str, *sides: Side) -> bool:
    rows = [side.rows.get(case) for side in sides]
    return all(row is not None and row["seconds_median"] for row in rows)


def _pair(base: Side, new: Side, case: str) -> Row:
    one, two = base.rows[case], new.rows[case]
    ratio = two["seconds_median"] / one["seconds_median"]
    return {
        "suite": one["suite"],
        "case": case,
        "metric": "seconds_median",
        "name": new.name,
        "base": one["seconds_median"],
        "base_low": one["seconds_low"],
        "base_high": one["seconds_high"],
        "new": two["seconds_median"],
        "new_low": two["seconds_low"],
        "new_high": two["seconds_high"],
        "ratio": ratio,
        "change": ratio - 1,
    }


def _only(sides: Sequence[Side]) -> list[Row]:
    every = set[str].intersection(*(set(side.rows) for side in sides))
    return [
        {"case": case, "name": side.name, "status": row["status"]}
        for side in sides
        for case, row in side.rows.items()
        if case not in every
    ]


def _not_ok(sides: Sequence[Side]) -> list[Row]:
    return [
        {"case": case, "name": side.name, "status": row["status"], "reason": row["reason"]}
        for side in sides
        for case, row in side.rows.items()
        if row["status"] != "ok"
    ]


def show(comparison: Comparison, output: str = "table", colour: bool = False) -> str:
    """A comparison in a format: JSON is one object with its fields and the sides' names, CSV the cases alone."""
    if output == "csv":
        return csv_text(comparison.cases)
    if output == "json":
        fields = ("shared", "differences", "cases", "only", "not_ok")
        names = [side.name for side in comparison.sides]
        return json_text({"names": names, **{field: getattr(comparison, field) for field in fields}})
    return render(_tables(comparison), output, colour)


def _tables(comparison: Comparison) -> list[Table]:
    sides = comparison.sides
    heads = [
        _text("name", "side"),
        _text("case", "case"),
        _text("status", "status"),
        _text("reason", "reason"),
    ]
    shared = tuple(f"{name}: {_brief(value)}" for name, value in comparison.shared.items() if value is not None)
    tables = [Table("Shared by all", (), (), shared or ("nothing",))]
    if comparison.differences:
        columns = [_text("field", "field"), *(_value_of(index, side) for index, side in enumerate(sides))]
        tables.append(Table("Differences", tuple(columns), comparison.differences))
    tables.append(_medians(comparison))
    if comparison.only:
        tables.append(Table("Not on every side", tuple(heads[:3]), comparison.only))
    if comparison.not_ok:
        tables.append(Table("Not ok", tuple(heads), comparison.not_ok))
    return tables


def _text(key: str, head: str) -> Column:
    return column(key, head, show_text, "left")


def _value_of(index: int, side: Side) -> Column:
    return Column(side.name, lambda row: _brief(row["values"][index]), "left")


def _brief(value: Any) -> str:
    text = show_text(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _medians(comparison: Comparison) -> Table:
    """A row a case with the columns of every side, in the order of the base."""
    base, *news = comparison.sides
    pairs = {(pair["case"], pair["name"]): pair for pair in comparison.cases}
    rows = [
        {"case": case, "sides": {side.name: side.rows.get(case) for side in comparison.sides}}
        | {"ratios": {new.name: pairs.get((case, new.name), {}).get("ratio") for new in news}}
        for case in base.rows
        if any((case, new.name) in pairs for new in news)
    ]
    columns = [_text("case", "case")]
    for side in comparison.sides:
        columns.append(Column(f"{side.name} median", partial(_median, name=side.name)))
        columns.append(Column("spread", partial(_spread, name=side.name)))
        if side is not base:
            columns.append(Column(f"{side.name} / {base.name}", partial(_ratio, name=side.name)))
    kinds = Counter(row["interval"] for side in comparison.sides for row in side.rows.values() if row["interval"])
    notes = ["Ratios are of times: below 1 is faster than the base. Spread: the 95% interval's farther end."]
    if kinds["within_launch"]:
        notes.append("One launch has no error bar: such a spread is that within a launch, and launches differ by more.")
    if not rows:
        notes = ["No common case is ok on both sides."]
    return Table("Times of one call", tuple(columns), tuple(rows), tuple(notes))


def _median(row: Row, name: str) -> str:
    side = row["sides"][name]
    return MISSING if side is None else show_seconds(side["seconds_median"])


def _spread(row: Row, name: str) -> str:
    side = row["sides"][name]
    if side is None or side["seconds_low"] is None or not side["seconds_median"]:
        return MISSING
    ends = (side["seconds_low"], side["seconds_high"])
    farthest = max(abs(end / side["seconds_median"] - 1) for end in ends)
    return f"±{100 * farthest:.1f}%"


def _ratio(row: Row, name: str) -> str:
    value = row["ratios"][name]
    return MISSING if value is None else f"{show_number(value)}x"
