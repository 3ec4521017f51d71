"""The cases of a plan: each suite's own, varied by `--set`, or those that `--case` names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from bench.core.values import parse_param
from bench.errors import BenchError
from bench.measure.planning.suite_loader import Suite
from bench.records.lines.header import PlannedCase
from bench.suite import Case, Machine, Param, Params, format_param

TIMINGS = ("aligned", "streamed")
L2_STATES = ("warm", "cold")
_ENGINE_PARAMS = {"timing": TIMINGS, "l2": L2_STATES}
"""Parameters that the engine handles for any suite that has them; the first value is what a row without one means."""


def choose_cases(
    suites: Sequence[Suite], machine: Machine, settings: Mapping[str, Sequence[str]], wanted: Sequence[str]
) -> list[PlannedCase]:
    """The cases of a run: each suite's own for this machine, varied by `--set`, or just those named by `--case`.

    Suites take turns, so that what comes first tells something of each. Raises BenchError for a parameter that no case
    has, a value that a parameter cannot take, a case id that is none of a chosen suite's, and both options together.
    """
    if wanted:
        if settings:
            raise BenchError(f"--set {next(iter(settings))} with --case: an id says it all; leave one of them out")
        named = [_find_case(case, suites, machine) for case in wanted]
        return list({case.id: case for case in named}.values())
    unused = set(settings)
    per_suite: list[list[PlannedCase]] = []
    for suite in suites:
        rows = suite.fast_cases(machine)
        names = {name for row in rows for name in row} | set(suite.defaults)
        values = {name: _values(suite, rows, name, texts) for name, texts in settings.items() if name in names}
        unused -= set(values)
        varied = _vary(rows, values)
        if not values.keys() >= {"timing", "l2"}:  # of a suite's own rows that a setting would spoil, none is meant
            varied = [row for row in varied if not _is_contradiction(row)]
        per_suite.append(_plan_rows(suite, varied))
    if unused:
        all_names = sorted({name for s in suites for row in s.cases(machine) for name in row})
        raise BenchError(f"--set {sorted(unused)[0]}: no chosen suite has it; parameters: {', '.join(all_names)}")
    turns = zip_longest(*per_suite)
    return [case for turn in turns for case in turn if case is not None]


def limit_cases(cases: Sequence[PlannedCase], most: Mapping[str, int]) -> list[PlannedCase]:
    """The cases of a run that names no suite: of each suite only the first ones, as many as `most` says, if it does."""
    left = dict(most)
    chosen = []
    for case in cases:
        room = left.get(case.suite)
        if room is None or room > 0:
            chosen.append(case)
        if room is not None:
            left[case.suite] = room - 1
    return chosen


def skip_cases(cases: Sequence[PlannedCase], skipped: Sequence[str]) -> list[PlannedCase]:
    """The cases without those of the named suites, operations (`compute/matmul`) and ids. Raises BenchError for a name
    that none of them has."""
    names = [{case.suite, case.id, case.id.partition("[")[0]} for case in cases]
    unknown = [text for text in skipped if not any(text in each for each in names)]
    if unknown:
        suites = ", ".join(dict.fromkeys(case.suite for case in cases))
        raise BenchError(f"--skip {unknown[0]}: not a suite, suite/op or case id of this run; its suites are {suites}")
    return [case for case, each in zip(cases, names, strict=True) if not each & set(skipped)]


def _vary(rows: Sequence[Params], settings: Mapping[str, Sequence[Param]]) -> list[Params]:
    """Rows with every combination of the values; an operation keeps only rows with the parameters that it has."""
    shapes: dict[Param | None, list[frozenset[str]]] = {}
    for row in rows:
        shapes.setdefault(row.get("op"), []).append(frozenset(row))
    varied = list(rows)
    for name, values in settings.items():
        varied = [row | {name: value} for row in varied if name in row for value in values]
    # A barrier has no size: `--set op=barrier` is the barrier, not every other row under its name. An operation that
    # this preset lacks has no row to go by; its suite says what does not fit.
    return [row for row in varied if frozenset(row) in shapes.get(row.get("op"), [frozenset(row)])]


def _is_contradiction(row: Params) -> bool:
    return row.get("timing") == "streamed" and row.get("l2") == "cold"


def _plan_rows(suite: Suite, rows: Iterable[Params]) -> list[PlannedCase]:
    seen: dict[str, PlannedCase] = {}
    for row in rows:
        case = _plan_case(suite, row)
        seen.setdefault(case.id, case)
    return list(seen.values())


def _plan_case(suite: Suite, row: Params) -> PlannedCase:
    case: Case = suite.case(row)
    for name, values in _ENGINE_PARAMS.items():
        if row.get(name, values[0]) not in values:
            raise BenchError(f"{case.id}: {name} is one of {', '.join(values)}")
    if _is_contradiction(row):
        raise BenchError(f"{case.id}: only the first of streamed calls finds a cold L2; take l2=cold,timing=aligned")
    params = dict(case.params)
    return PlannedCase(suite.name, case.id, params, suite.min_seconds(params), suite.prepare_seconds(params))


def _values(suite: Suite, rows: Sequence[Params], name: str, texts: Sequence[str]) -> list[Param]:
    values = [_value(suite, rows, name, text.strip()) for text in texts]
    choices = suite.choices.get(name)
    for value in values:
        if choices is not None and value not in choices:
            raise BenchError(
                f"--set {name}={format_param(value)}: suite {suite.name} takes "
                f"{', '.join(format_param(c) for c in choices)}"
            )
    return values


def _value(suite: Suite, rows: Sequence[Params], name: str, text: str) -> Param:
    """A parameter's value as the suite itself has it (that may be a 0, or of one of two types), else of its type."""
    candidates = [*suite.choices.get(name, ()), *(row[name] for row in [suite.defaults, *rows] if name in row)]
    matches = [value for value in candidates if format_param(value) == text]
    return matches[0] if matches else parse_param(name, text, candidates[0])


def _find_case(text: str, suites: Sequence[Suite], machine: Machine) -> PlannedCase:
    """A case from its id, such as `collective/all_reduce[num_bytes=1048576]`, whether a preset has it or not."""
    suite = next((s for s in suites if text.startswith(f"{s.name}/")), None)
    if suite is None:
        names = ", ".join(s.name for s in suites)
        raise BenchError(f"--case {text}: not a case of {names}; an id looks like suite/op[name=value,...]: bench list")
    machines = (machine, replace(machine, preset="full"), declared_machine(2, "cpu", "full"))
    rows = [row for declared in machines for row in suite.cases(declared)]
    listed = next((row for row in rows if suite.case(row).id == text), None)
    return _plan_case(suite, _parse_case(text, suite, rows) if listed is None else listed)


def _parse_case(text: str, suite: Suite, rows: Sequence[Params]) -> Params:
    """Parameters from an id that the suite does not list, of the same names as one that it lists."""
    head, bracket, tail = text.partition("[")
    op = head.removeprefix(f"{suite.name}/")
    params: Params = {}
    names = list(dict.fromkeys(name for row in rows for name in row))
    if op != "run" or "op" in names:
        params["op"] = op
    for pair in filter(None, tail.removesuffix("]").split(",")):
        name, equals, value = pair.partition("=")
        if not equals or name not in names or name in params:
            raise BenchError(
                f"--case {text}: no parameter {name!r} in suite {suite.name}, or twice; it has {', '.join(names)}"
            )
        params[name] = _value(suite, rows, name, value)
    params = suite.defaults | params
    _check_choices(text, suite, params)
    shapes = [set(row) for row in rows if row.get("op") == params.get("op")]
    if set(params) not in shapes or bool(bracket) != tail.endswith("]"):
        raise BenchError(
            f"--case {text}: suite {suite.name} has no such case; take an id from `bench list {suite.name}`"
        )
    return params


def _check_choices(text: str, suite: Suite, params: Params) -> None:
    for name, choices in suite.choices.items():
        if name in params and params[name] not in choices:
            takes = ", ".join(format_param(c) for c in choices)
            raise BenchError(f"--case {text}: {name} is one of {takes}; bench list {suite.name}")


def declared_machine(world_size: int, device_type: str, preset: str, memory_bytes: int = 8 << 30) -> Machine:
    """A machine for listing cases if none is at hand."""
    return Machine(
        world_size=world_size,
        device_type=device_type,
        preset=preset,
        memory_bytes=memory_bytes,
        num_cores=world_size,
        ranks_per_host=world_size,
    )
