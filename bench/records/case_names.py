"""Short names of cases, as people say them: `all_reduce 1 MiB bf16` for an id with all its parameters.

What all cases of one suite and operation in a list share is left out of their names, and is printed once below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.values import digits, show_size

SHORT_TYPES = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float64": "fp64",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8 e5m2",
}  # fmt: skip
PLAIN_SUITES = ("collective", "compute", "point_to_point")
"""Suites whose operations need no suite's name."""


ONLY_OPERATION = "run"
"""Operation of suites that have one: it adds nothing to the suite's name."""


def _size(name: str, value: str) -> str:
    size = digits(value)
    return show_size(size) if size is not None else f"{_words(name)} {value}"


def _flag_or_word(name: str, value: str) -> str:
    """A flag by its name, a word by itself, a number behind its name."""
    if value in ("true", "false"):
        return _words(name.removesuffix("_op")) if value == "true" else f"no {_words(name.removesuffix('_op'))}"
    return f"{_words(name.removeprefix('num_'))} {value}" if _is_number(value) else value


_SHOWN: Mapping[str, Callable[[str, str], str]] = {
    "num_bytes": _size,
    "dtype": lambda _, value: SHORT_TYPES.get(value, value),
    "size": lambda _, value: value,
    "timing": lambda _, value: value,
}
"""Parameter -> its text in a name; any other by `_flag_or_word`."""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def split_id(case: str) -> tuple[str, str, dict[str, str]]:
    """Suite, operation (empty if it has none) and the parameters in the id, in their order."""
    suite, _, rest = case.partition("/")
    operation, bracket, inner = rest.partition("[")
    params: dict[str, str] = {}
    last = ""
    for pair in inner.removesuffix("]").split(",") if bracket else ():
        name, equals, value = pair.partition("=")
        if equals:
            params[name], last = value, name
        elif last:  # a comma within a value
            params[last] += f",{name}"
    return suite, operation, params


@dataclass(frozen=True)
class CaseNames:
    """Names of the cases of one list."""

    names: Mapping[str, str]
    """Case id -> its name among those of its suite; unique there."""
    shared: Mapping[str, tuple[str, ...]]
    """Suite -> lines of what all its cases share, `all: name=value, ...`, then those of an operation."""

    def within(self, case: str) -> str:
        """Name in a table of its suite alone."""
        return self.names[case]

    def across(self, case: str) -> str:
        """Name in a list of several suites."""
        suite = case.partition("/")[0]
        return _with_suite(suite, self.names[case])


def name_cases(cases: Iterable[str]) -> CaseNames:
    """Names of the cases with these ids."""
    parts = {case: split_id(case) for case in dict.fromkeys(cases)}
    by_operation: dict[tuple[str, str], list[str]] = {}
    for case, (suite, operation, _) in parts.items():
        by_operation.setdefault((suite, operation), []).append(case)
    names: dict[str, str] = {}
    shared: dict[str, dict[str, dict[str, str]]] = {}
    for (suite, operation), members in by_operation.items():
        common = _common([parts[case][2] for case in members])
        shared.setdefault(suite, {})[operation or suite] = common
        names |= _unique({case: _name(operation, parts[case][2], common) for case in members})
    return CaseNames(names, {suite: lines for suite, of in shared.items() if (lines := tuple(_shared_lines(of)))})


def _shared_lines(of_operations: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What all operations of a suite share, then what the cases of some do."""
    first, *others = of_operations.values()
    of_all = {pair for pair in first.items() if all(pair in other.items() for other in others)} if others else set()
    if of_all:
        yield f"all: {_pairs([pair for pair in first.items() if pair in of_all])}"
    alike: dict[str, list[str]] = {}
    for operation, common in of_operations.items():
        rest = [pair for pair in common.items() if pair not in of_all]
        if rest:
            alike.setdefault(_pairs(rest), []).append(operation)
    yield from (f"{', '.join(operations)}: {pairs}" for pairs, operations in alike.items())


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in pairs)


def short_name(case: str) -> str:
    """Name of a case by itself, without a list: all its parameters are in it."""
    suite, operation, params = split_id(case)
    return _with_suite(suite, _name(operation, params, {}))


def _with_suite(suite: str, name: str) -> str:
    """The name behind its suite's, if the operation does not say enough."""
    if suite in PLAIN_SUITES or not suite:
        return name
    return " ".join(filter(None, [_words(suite), name.removeprefix(ONLY_OPERATION).strip()]))


def _common(params: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Parameters that all have alike; of a lone case those that its name does without: none of what it is about."""
    first = params[0]
    common = {name: value for name, value in first.items() if all(other.get(name) == value for other in params[1:])}
    kept = ("num_bytes", "dtype", "size", "shape", "timing") if len(params) == 1 else ("num_bytes",)
    return {name: value for name, value in common.items() if name not in kept}


def _name(operation: str, params: Mapping[str, str], common: Mapping[str, str]) -> str:
    words = [_SHOWN.get(name, _flag_or_word)(name, value) for name, value in _ordered(params) if name not in common]
    return " ".join(filter(None, [operation, *words]))


def _ordered(params: Mapping[str, str]) -> list[tuple[str, str]]:
    """Shape and size first, then the type, then the rest as in the id."""
    first = ("shape", "size", "num_bytes", "dtype")
    return sorted(params.items(), key=lambda pair: first.index(pair[0]) if pair[0] in first else len(first))


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """The names; those that two cases would have are replaced by what follows the suite in the id."""
    counts = Counter(names.values())
    return {case: name if counts[name] == 1 else case.partition("/")[2] or case for case, name in names.items()}
