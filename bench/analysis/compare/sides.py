"""The sides of a comparison: which files are launches of one run, what a side is called, and how sides differ.

A side is one file, or several whose launches count as launches of one run: only if host, devices, plan, suite code
and versions are equal, since a difference between the files would else look like the noise between launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import BenchError
from bench.records.environments import differences, emulation_label
from bench.records.file import Result
from bench.records.rows import CaseGroup, Row, case_groups
from bench.records.saved_plan import pair_of
from bench.suite import format_param

_PLAN_FIELDS = ("preset", "backend", "device_type", "launches", "visits", "precision", "seed", "threads_per_rank")
_SAME_PLAN = (
    "preset", "backend", "device_type", "world_size", "visits", "case_seconds", "precision", "threads_per_rank",
)  # fmt: skip
"""Fields of a plan that are equal in the launches of one run; not the seed, which only orders the cases."""
_NAMING = ("architecture", "ranks", "backend", "versions.torch", "versions.nccl", "versions.cuda", "preset", "commit")
"""Facts that name the sides where one of them is another on each, in this order."""
_COMMIT_DIGITS = 8


@dataclass(frozen=True)
class Side:
    """One of what is compared."""

    name: str
    results: tuple[Result, ...]
    groups: dict[str, CaseGroup]
    """Case id -> its measurements over all files."""

    @property
    def architecture(self) -> str:
        return self.results[0].architecture

    @property
    def hosts(self) -> list[str]:
        return self.results[0].hosts()


def build(given: Sequence[Sequence[Result]], allow_unlike: bool = False) -> list[Side]:
    """A side for each of `given`. Raises BenchError for files that are not launches of one run."""
    if not allow_unlike:
        for results in given:
            refuse_unlike(results)
    return [Side(name, tuple(results), case_groups(results)) for name, results in zip(names(given), given, strict=True)]


def by_parameter(side: Side, param: str) -> list[Side]:
    """One side per value of a parameter, its cases named without it; the parameter's default comes first.

    Raises BenchError if no case has the parameter, or all have the same value.
    """
    groups_by_value: dict[str, dict[str, CaseGroup]] = {}
    named: set[str] = set()
    for case, group in side.groups.items():
        params = group.leader.params
        if param != "op" and param not in params:
            continue
        op = case.partition("/")[2].partition("[")[0]
        value = str(op if param == "op" else format_param(params[param]))
        key = _without(case, param)
        named |= {value} if key != case else set()
        groups_by_value.setdefault(value, {})[key] = group
    if len(groups_by_value) < 2:
        have = sorted({name for group in side.groups.values() for name in group.leader.params})
        many = "no case has it" if not groups_by_value else f"all that have it have {next(iter(groups_by_value))}"
        raise BenchError(f"--by {param}: {many}; the cases' parameters: {', '.join(have) or 'none'}")
    ordered = sorted(groups_by_value, key=lambda value: value in named)  # stable: values left out of an id are defaults
    return [Side(f"{param}={value}", side.results, groups_by_value[value]) for value in ordered]


def _without(case: str, param: str) -> str:
    """The case's id without one parameter."""
    head, bracket, tail = case.partition("[")
    if param == "op":
        return f"{head.partition('/')[0]}/*{bracket}{tail}"
    pairs = [pair for pair in tail.removesuffix("]").split(",") if pair and pair.partition("=")[0] != param]
    return f"{head}[{','.join(pairs)}]" if pairs else head


def refuse_unlike(results: Sequence[Result]) -> None:
    """Check that files are launches of one run. Raises BenchError with the first difference."""
    first = results[0]
    for other in results[1:]:
        for name, one, two in _unlike(first, other):
            raise BenchError(
                f"{first.path} and {other.path} are not launches of one run: {name} is {one!r:.60} and {two!r:.60}; "
                "compare them as two sides, or say --allow-unlike"
            )


def are_launches_of_one_run(first: Result, other: Result) -> bool:
    """True if nothing that matters differs between the two files."""
    return not _unlike(first, other)


def _unlike(first: Result, other: Result) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [
        ("host", ", ".join(first.hosts()), ", ".join(other.hosts())),
        ("devices", _devices(first), _devices(other)),
        *((f"plan.{name}", getattr(first.plan, name), getattr(other.plan, name)) for name in _SAME_PLAN),
        *_imported_settings(first, other),
        ("plan.cases", sorted(first.planned_cases()), sorted(other.planned_cases())),
        *((f"suite {name}", code, _code(other).get(name, code)) for name, code in _code(first).items()),
    ]
    unlike = [pair for pair in pairs if pair[1] != pair[2]]
    found = differences(first.environment, other.environment)
    return unlike + [pair for pair in found if pair[0].startswith("versions.")]


def _imported_settings(first: Result, other: Result) -> list[tuple[str, Any, Any]]:
    """Settings of another tool, such as NCCL_ALGO of its command: they may be no part of a case, unlike bench's own."""
    if first.environment.imported_from is None or other.environment.imported_from is None:
        return []
    one, two = first.plan.options, other.plan.options
    return [(name, one.get(name), two.get(name)) for name in sorted(one.keys() | two.keys())]


def _devices(result: Result) -> list[tuple[str | None, str | None, int | None]]:
    """Host, device name as its driver gives it, and bytes of the device, of every rank."""
    return [(rank.host, rank.device_name, rank.memory_bytes) for rank in result.environment.ranks]


def _code(result: Result) -> dict[str, str]:
    """Digests of the suites whose code is known."""
    return {suite.name: suite.digest for suite in result.plan.suites if suite.digest}


def names(given: Sequence[Sequence[Result]]) -> list[str]:
    """Name of each side: its setting in a pair, its label, what differs, else its file; never two alike."""
    leaders = [results[0] for results in given]
    for naming in (_settings, _labels, _facts_that_differ, _files):
        candidates = naming(leaders)
        if all(candidates) and len(set(candidates)) == len(candidates):
            return [str(name) for name in candidates]
    return [f"{name} ({number})" for number, name in enumerate(_files(leaders), 1)]


def _settings(leaders: Sequence[Result]) -> list[str | None]:
    pairs = [pair_of(result) for result in leaders]
    return [f"{pair.side}: {pair.setting}" if pair is not None else None for pair in pairs]


def _labels(leaders: Sequence[Result]) -> list[str | None]:
    return [_label(result) if len({r.label for r in leaders}) == len(leaders) else None for result in leaders]


def _label(result: Result) -> str:
    """A run's label, which says that it is emulated: it is in titles, far from the architecture."""
    silent = emulation_label(result.environment.ranks) and "emulated" not in result.label
    return f"{result.label} (emulated)" if silent else result.label


def _facts_that_differ(leaders: Sequence[Result]) -> list[str | None]:
    rows = [facts(result) for result in leaders]
    for name in _NAMING:
        values = [run_facts.get(name) for run_facts in rows]
        if all(values) and len(set(map(str, values))) == len(values):
            return [_assignment(name, value) for value in values]
    return [None] * len(leaders)


def _assignment(name: str, value: Any) -> str:
    shown: dict[str, Callable[[Any], str]] = {
        "architecture": str,
        "ranks": lambda number: f"{number} ranks",
        "commit": lambda text: f"commit {str(text)[:_COMMIT_DIGITS]}",
    }
    return shown.get(name, lambda text: f"{name.rpartition('.')[2]} {text}")(value)


def _files(leaders: Sequence[Result]) -> list[str | None]:
    return [result.path.name for result in leaders]


def facts(result: Result) -> Row:
    """Facts of a run in plain fields; those that all share are stated once."""
    plan, environment = result.plan, result.environment
    return {
        "label": result.label,
        "architecture": result.architecture,
        "ranks": plan.world_size,
        **{name: getattr(plan, name) for name in _PLAN_FIELDS},
        **{f"versions.{name}": value for name, value in environment.versions.items()},
        "commit": environment.commit,
        **{f"suite {name} (SHA-256)": code for name, code in _code(result).items()},
    }


def common_facts(results: Sequence[Result]) -> Row:
    """The facts that are the same for all."""
    first, *others = map(facts, results)
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def field_values(results: Sequence[Result]) -> dict[str, list[Any]]:
    """Field -> its value for each result: all facts, and what differs of their environments where it changes speed."""
    rows = [facts(result) for result in results]
    fields = {
        name: [run_facts.get(name) for run_facts in rows]
        for name in dict.fromkeys(name for run_facts in rows for name in run_facts)
    }
    for name in [name for name, values in fields.items() if name.startswith("suite ") and None in values]:
        del fields[name]  # a digest that is not known is not a difference
    for index, result in enumerate(results):
        for name, base, value in differences(results[0].environment, result.environment):
            if name not in rows[0]:
                fields.setdefault(name, [base] * len(results))[index] = value
    return fields


def shared_facts(sides: Sequence[Side]) -> Row:
    """The facts that are the same on all sides."""
    same = common_facts([side.results[0] for side in sides])
    if all(side.hosts == sides[0].hosts for side in sides):
        same["hosts"] = ", ".join(sides[0].hosts) or None
    return same


def differing_fields(sides: Sequence[Side]) -> list[Row]:
    """{"field", "values": [one per side]} of all that changes speed, in runs and environments, and is not the same."""
    fields = field_values([side.results[0] for side in sides])
    unlike = {name: values for name, values in fields.items() if any(value != values[0] for value in values)}
    return [{"field": name, "values": values} for name, values in unlike.items()] + _differing_within(sides)


def _differing_within(sides: Sequence[Side]) -> list[Row]:
    """Fields that differ between the files of one side."""
    rows = []
    for side in sides:
        for result in side.results[1:]:
            unlike = differences(side.results[0].environment, result.environment)
            if unlike:
                text = ", ".join(name for name, _, _ in unlike)
                values = [text if other is side else None for other in sides]
                rows.append({"field": f"within {side.name}, {result.path.name}", "values": values})
    return rows


def select_cases(side: Side, keep: Callable[[str, CaseGroup], bool]) -> Side:
    """The side with those cases that are kept."""
    return replace(side, groups={case: group for case, group in side.groups.items() if keep(case, group)})
