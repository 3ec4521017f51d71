"""What a suite's functions may return: one line with the value, the file and the function for anything else.

The contract itself is in `bench.suite`. A suite that breaks it is wrong in all its cases, so it is reported once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.values import brief_text
from bench.errors import BenchError
from bench.suite import Check, Table, TimedCheck, Work, is_name

NAMES = "names of variants and metrics have letters, digits and _ . + : - only"
SUITE_NAMES = "a suite's name has ASCII letters, digits and _ . - only, at most 100, the first neither . nor -"
_SCOPES = ("full", "reduced")


class ContractError(BenchError):
    """A suite's function returned something else than its contract says."""


def place_of(function: object) -> str:
    """File, name and line of a function, such as ` (mine.py, check, line 9)`; empty if it has none."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    name = "" if code.co_name == "<lambda>" else f"{code.co_name}, "
    return f" ({Path(code.co_filename).name}, {name}line {code.co_firstlineno})"


def refuse_returned(name: str, function: object, wanted: str, value: object) -> ContractError:
    """Error for a value that a suite's function must not return."""
    return ContractError(f"{name}() has to return {wanted}; it returned {brief_text(repr(value))}{place_of(function)}")


def _number(value: object) -> float | None:
    """The value as a float, whatever library's scalar it is; None if it is none."""
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # torch raises a RuntimeError for a tensor of several numbers
        return None


def to_check(function: object, value: object) -> Check:
    """A check's result. Raises ContractError unless it is (error, tolerance) or (error, tolerance, scope)."""
    parts = value if isinstance(value, tuple | list) else ()
    numbers = [_number(part) for part in parts[:2]]
    scope: Any = parts[2] if len(parts) == 3 else "full"
    if len(parts) not in (2, 3) or None in numbers or scope not in _SCOPES:
        raise refuse_returned("check", function, "(error, tolerance), two numbers", value)
    error, tolerance = (float(number) for number in numbers if number is not None)
    if not math.isfinite(tolerance):
        raise refuse_returned("check", function, "a tolerance that is a finite number", value)
    return Check(error, tolerance, scope)


def to_work(function: object, value: object) -> Work:
    """What `prepare` returned. Raises ContractError for anything other than a complete Work."""
    if not isinstance(value, Work):
        raise refuse_returned("prepare", function, "bench.suite.Work", value)
    variants = value.variants
    if not isinstance(variants, Mapping) or not variants or not all(map(callable, variants.values())):
        wanted = "a dict of names to functions, at least one"
        raise ContractError(f"Work.variants has to be {wanted}; it is {_brief(variants)}{place_of(function)}")
    unsafe = next((name for name in variants if not is_name(name)), None)
    if unsafe is not None:
        raise ContractError(f"Work.variants has the name {unsafe!r}; {NAMES}{place_of(function)}")
    for name, (fits, wanted) in _WORK_FIELDS.items():
        field = getattr(value, name)
        if not fits(field):
            raise ContractError(f"Work.{name} has to be {wanted}; it is {_brief(field)}{place_of(function)}")
    for name in ("timed_checks", "least_seconds"):
        unknown = next((variant for variant in getattr(value, name) if variant not in variants), None)
        if unknown is not None:
            raise ContractError(f"Work.{name} names {unknown!r}, which is not a variant{place_of(function)}")
    return value


def _brief(value: object) -> str:
    return brief_text(repr(value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _are_timed_checks(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(check, TimedCheck) for check in value.values())


def _are_seconds(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_finite(seconds) and seconds >= 0 for seconds in value.values())


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_OPTIONAL_FUNCTION = (_or_none(callable), "a function or None")
_OPTIONAL_COUNT = (_or_none(_is_count), "a whole number or None")
_OPTIONAL_NUMBER = (_or_none(_is_finite), "a finite number or None")
_FLAG = (lambda value: isinstance(value, bool), "True or False")
_TEXTS = (_are_texts, "a tuple of str")
_WORK_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "check": (callable, "a function, since an unchecked speed is worse than none"),
    "clock": (lambda value: value in ("device", "host"), "'device' or 'host'"),
    "reset": _OPTIONAL_FUNCTION,
    "timed_checks": (_are_timed_checks, "a dict of names of variants to bench.suite.TimedCheck"),
    "least_seconds": (_are_seconds, "a dict of names of variants to seconds"),
    "close": _OPTIONAL_FUNCTION,
    "derive": _OPTIONAL_FUNCTION,
    "per_rank": _OPTIONAL_FUNCTION,
    "tables": _OPTIONAL_FUNCTION,
    "bytes": _OPTIONAL_COUNT,
    "memory_traffic_bytes": _OPTIONAL_COUNT,
    "tokens": _OPTIONAL_COUNT,
    "bus_factor": _OPTIONAL_NUMBER,
    "flops": _OPTIONAL_NUMBER,
    "hardware_flops": _OPTIONAL_NUMBER,
    "min_seconds": _OPTIONAL_NUMBER,
    "flops_dtype": (_or_none(lambda value: isinstance(value, str)), "the name of a type or None"),
    "communicates": _FLAG,
    "check_after": _FLAG,
    "traced_calls": (_is_count, "a whole number"),
    "traced_variants": _TEXTS,
    "notes": _TEXTS,
}
"""Field of Work -> whether a value fits, and which does."""


def to_amount(name: str, function: object, value: object) -> float:
    """A number of bytes or seconds that a suite declares. Raises ContractError for anything else."""
    number = _number(value)
    if number is None or not math.isfinite(number) or number < 0:
        raise refuse_returned(name, function, "a number, 0 or more", value)
    return number


def to_derived(function: object, value: object, declared: Mapping[str, object]) -> dict[str, float | None]:
    """Metrics that `derive` returned. Raises ContractError for other values, and names that METRICS lacks."""
    if not isinstance(value, Mapping) or not all(v is None or _number(v) is not None for v in value.values()):
        raise refuse_returned("derive", function, "a dict of metrics to numbers or None", value)
    unknown = next((name for name in value if name not in declared), None)
    if unknown is not None:
        raise ContractError(f"derive() returned {unknown!r}, which METRICS does not have{place_of(function)}")
    return {name: None if number is None else _number(number) for name, number in value.items()}


def to_figures(function: object, value: object) -> dict[str, Any]:
    """Facts that `per_rank` returned. Raises ContractError if they are not a dict."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise refuse_returned("per_rank", function, "a dict of str to plain values", value)
    return dict(value)


def to_tables(function: object, value: object) -> dict[str, Table]:
    """Tables that `tables` returned. Raises ContractError for anything else."""
    if not isinstance(value, Mapping) or not all(isinstance(table, Table) for table in value.values()):
        raise refuse_returned("tables", function, "a dict of names to bench.suite.Table", value)
    return dict(value)
