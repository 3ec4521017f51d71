"""Selection of what is compared: the cases (`--where`), and the number of each launch of a case (`--metric`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from bench.core.values import as_size
from bench.errors import BenchError
from bench.records import rows
from bench.records.file import Result
from bench.records.metrics import METRICS, TIME, Metric
from bench.records.rows import CaseGroup
from bench.suite import Params, format_param

Where = Mapping[str, tuple[str, ...]]
"""`suite`, `op`, `case` or a parameter -> the values of the cases to compare."""
Values = dict[int, float]
"""Launch -> the metric in it."""


class Identity(Protocol):
    """Names of a case, as a measurement has them."""

    @property
    def suite(self) -> str: ...
    @property
    def case(self) -> str: ...
    @property
    def params(self) -> Params: ...


class CaseIdentity(NamedTuple):
    """Names of a case that is not measured yet."""

    suite: str
    case: str
    params: Params


def fits(record: Identity, where: Where) -> bool:
    """True if a measurement's case is among those selected."""
    return all(_is_one_of(_value(record, name), values) for name, values in where.items())


def _is_one_of(value: str | None, wanted: Sequence[str]) -> bool:
    """True if a value is wanted, as written in a case's id or as a size such as 1MiB."""
    return value is not None and any(text == value or as_size(text) == value for text in wanted)


def _value(record: Identity, name: str) -> str | None:
    identity = {"suite": record.suite, "case": record.case}
    if name in identity:
        return identity[name]
    value = record.params.get(name)
    return None if value is None else format_param(value)


def refuse_none(records: Sequence[Identity], where: Where) -> None:
    """Check that a case fits. Raises BenchError if none does, with the values that the first unfit name could have."""
    if any(fits(record, where) for record in records):
        return
    condition = " --where ".join(f"{name}={','.join(values)}" for name, values in where.items())
    raise BenchError(f"--where {condition}: no case fits; {_what_fits(records, where)}")


def _what_fits(records: Sequence[Identity], where: Where) -> str:
    for name in where:
        have = sorted({value for record in records if (value := _value(record, name)) is not None})
        if not have:
            names = sorted({param for record in records for param in record.params} - {"op"})
            return f"{name} is none of suite, op, case, {', '.join(names)}"
        if not any(_is_one_of(value, where[name]) for value in have):
            return f"{name} is one of {', '.join(have[:20])}"
    return "each of them is there, but not together"


def metric(name: str, results: Sequence[Result]) -> Metric:
    """Look a metric up. Raises BenchError for a name that no result has, and for one of which neither way is better."""
    return named_metric(name, rows.own_metrics(results))


def named_metric(name: str, suite_metrics: Mapping[str, Metric]) -> Metric:
    """Metric of a name, from METRICS or the suites' own."""
    selected = METRICS.get(name) or suite_metrics.get(name)
    if selected is None:
        names = [n for n, row in METRICS.items() if row.better != "neither"]
        raise BenchError(f"--metric {name}: there are {', '.join([*names, *sorted(set(suite_metrics) - set(names))])}")
    if selected.better == "neither":
        raise BenchError(f"--metric {name}: neither more nor less of it is better, so no verdict can be given")
    return selected


def spread_within(one: CaseGroup, two: CaseGroup) -> float | None:
    """Spread of a case's samples within launches, over both sides; None if a side's is not known."""
    spreads = (one.view.spread_within, two.view.spread_within)
    return None if spreads[0] is None or spreads[1] is None else math.sqrt(spreads[0] * spreads[1])


def values(group: CaseGroup, chosen: Metric) -> Values:
    """Launch -> the metric in it; a value that is not above 0 has no logarithm and is left out."""
    if chosen.name == TIME:
        view = group.view
        numbers = [(launch.launch, launch.medians.get(view.main)) for launch in view.launches]
    else:
        numbers = [
            (launch_group.leader.launch, chosen.formula(launch_group.view)) for launch_group in rows.per_launch(group)
        ]
    if len({launch for launch, _ in numbers}) < len(numbers):  # several files may each have a launch 0
        numbers = [(index, value) for index, (_, value) in enumerate(numbers)]
    return {launch: value for launch, value in numbers if value is not None and value > 0}
