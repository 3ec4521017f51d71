"""Loads a suite by built-in name, by entry point, or as a `.py` file. The contract: bench.suite."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bench
from bench.core.crash.plugins import entry_points, load_file
from bench.core.crash.strangers_code import call_stranger
from bench.core.values import brief_text
from bench.errors import BenchError
from bench.measure.planning.suite_contract import NAMES, SUITE_NAMES, place_of, refuse_returned, to_amount, to_work
from bench.measure.planning.suite_digest import suite_digest
from bench.records.lines.header import SuiteFacts
from bench.suite import Case, Machine, Param, Params, SuiteMetric, Work, case_id, is_name, is_param, is_suite_name

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

__all__ = ["Suite", "builtin_names", "entry_point_names", "load", "load_all"]

ENTRY_POINT_GROUP = "bench.suites"


@dataclass(frozen=True)
class Suite:
    """A loaded suite module."""

    name: str
    reference: str
    summary: str
    module: ModuleType = field(repr=False)
    files: tuple[Path, ...] = ()
    """The suite's own file and those of its MACHINERY."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the code that the suite runs; see `suite_digest`."""
        return suite_digest(self.files)

    @property
    def defaults(self) -> Params:
        return dict(getattr(self.module, "DEFAULTS", {}))

    @property
    def choices(self) -> dict[str, tuple[Param, ...]]:
        return dict(getattr(self.module, "CHOICES", {}))

    @property
    def metrics(self) -> dict[str, SuiteMetric]:
        return {name: SuiteMetric(*row) for name, row in getattr(self.module, "METRICS", {}).items()}

    @property
    def facts(self) -> SuiteFacts:
        """The part of the suite that a plan keeps."""
        return SuiteFacts(self.name, self.reference, self.summary, self.metrics, self.digest)

    def fast_cases(self, machine: Machine) -> list[Params]:
        """The machine's cases without those that multiply in a type that it has no instructions for.

        Only a suite that says with PRODUCTS_IN by which parameter it multiplies leaves any out. Raises BenchError as
        `cases` does.
        """
        name = getattr(self.module, "PRODUCTS_IN", None)
        return [row for row in self.cases(machine) if name is None or row.get(name) not in machine.slow_types]

    def cases(self, machine: Machine) -> list[Params]:
        """The machine's cases, defaults filled in. Raises BenchError if the suite raises or yields anything else."""
        return call_stranger(f"suite {self.name}: cases() raised", lambda: self._rows(machine))

    def _rows(self, machine: Machine) -> list[Params]:
        cases = self.module.cases
        rows = _listed(cases, cases(machine))
        for row in rows:
            if not isinstance(row, dict) or not all(isinstance(k, str) and is_param(v) for k, v in row.items()):
                raise BenchError(
                    f"suite {self.name}: cases() yielded {brief_text(repr(row))}; yield a dict of str to bool, int, "
                    f"finite float or str{place_of(cases)}"
                )
        return [self.defaults | row for row in rows]

    def memory_bytes(self, params: Params, machine: Machine) -> int | None:
        """Bytes that a rank needs, as far as the suite declares them."""
        ask: Callable[[Params, Machine], int] | None = getattr(self.module, "memory", None)
        return None if ask is None else int(to_amount("memory", ask, ask(params, machine)))

    def min_seconds(self, params: Params) -> float:
        """Return the least time to sample a case, as far as the suite declares it."""
        return self._declared_seconds("min_seconds", params)

    def prepare_seconds(self, params: Params) -> float:
        """Return the extra time that a case's preparation may take, as far as the suite declares it."""
        return self._declared_seconds("prepare_seconds", params)

    def _declared_seconds(self, name: str, params: Params) -> float:
        ask: Callable[[Params], float] | None = getattr(self.module, name, None)
        if ask is None:
            return 0.0
        seconds = call_stranger(f"suite {self.name}: {name}() raised", partial(ask, params))
        return to_amount(name, ask, seconds)

    def prepare(self, params: Params, rank: RankContext) -> Work:
        """Raises Skip if the case has no meaning here, ContractError if the suite returns no whole Work."""
        return to_work(self.module.prepare, self.module.prepare(dict(params), rank))

    def case(self, params: Params) -> Case:
        full = self.defaults | params
        return Case(self.name, tuple(sorted(full.items())), case_id(self.name, full, self.defaults))


def builtin_names() -> list[str]:
    """Names of the suites that ship with the product: the modules of the package `suites`."""
    return sorted(p.stem for p in _builtin_folder().glob("*.py") if not p.stem.startswith("_"))


def _builtin_folder() -> Path:
    return Path(bench.__file__).resolve().parent.parent / "suites"


def entry_point_names() -> list[str]:
    return sorted({entry.name for entry in entry_points(ENTRY_POINT_GROUP)})


def load(reference: str) -> Suite:
    """Load a suite by built-in name, entry point in the group `bench.suites`, or path of a `.py` file.

    Raises BenchError for an unknown name, a missing or broken file, or a module that is not a suite.
    """
    if reference.endswith(".py") or "/" in reference:
        return _check_suite(
            reference, load_file(Path(reference), "suite", "give the path of a .py file, or a name from `bench list`")
        )
    if reference in builtin_names():
        return _check_suite(reference, _load_builtin(reference))
    for entry in entry_points(ENTRY_POINT_GROUP):
        if entry.name == reference:
            return _check_suite(reference, _import(reference, entry.load), name=entry.name)
    names = ", ".join([*builtin_names(), *entry_point_names()])
    raise BenchError(f"no suite named {reference!r}; there are: {names} - or give the path of a .py file")


def load_all(references: Iterable[str]) -> list[Suite]:
    """Load suites in order. Raises BenchError if two have one name, since their cases could not be told apart."""
    suites: dict[str, Suite] = {}
    for reference in references:
        suite = load(reference)
        if suite.name in suites and suites[suite.name].reference != reference:
            raise BenchError(
                f"two suites are named {suite.name!r} ({suites[suite.name].reference} and {reference}); rename one"
            )
        suites[suite.name] = suite
    return list(suites.values())


def _load_builtin(name: str) -> Any:
    """Raises BenchError if `import suites` finds another package than the product's own."""
    spec = find_spec("suites")
    origin = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    if origin and _builtin_folder() not in (Path(origin).resolve(), Path(origin).resolve().parent):
        raise BenchError(
            f"another package named `suites` is in the way: {origin}; move it, or take its folder off PYTHONPATH"
        )
    return _import(name, lambda: importlib.import_module(f"suites.{name}"))


def _import(reference: str, load_module: Callable[[], Any]) -> Any:
    return call_stranger(f"suite {reference!r} cannot be imported:", load_module)


def _listed(cases: object, rows: Any) -> list[Any]:
    """The rows that `cases` gave. Raises ContractError if they cannot be listed."""
    if isinstance(rows, str | dict) or not isinstance(rows, Iterable):
        raise refuse_returned("cases", cases, "dicts of parameters, or yield them", rows)
    return list(rows)


def _are_params(row: object) -> bool:
    return isinstance(row, tuple | list) and bool(row) and all(map(is_param, row))


def _is_metric(row: object) -> bool:
    if not isinstance(row, tuple | list) or len(row) not in (2, 3) or not all(isinstance(text, str) for text in row):
        return False
    return row[1] in _DIRECTIONS


_DIRECTIONS = ("higher", "lower", "neither")
_TABLES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "DEFAULTS": (is_param, "bool, int, finite float or str"),
    "CHOICES": (_are_params, "a tuple of values"),
    "METRICS": (_is_metric, f"(unit, {' | '.join(_DIRECTIONS)}, a sentence on it)"),
}


def _machinery(reference: str, names: Any) -> list[Path]:
    """Files of the modules that MACHINERY names, found without importing them: they may well import torch."""
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise BenchError(f"suite {reference!r}: MACHINERY is {names!r}; it has to be a tuple of names of modules")
    specs = [call_stranger(f"suite {reference!r}: MACHINERY names {n!r}:", partial(find_spec, n)) for n in names]
    for name, spec in zip(names, specs, strict=True):
        if spec is None or not spec.has_location:
            raise BenchError(f"suite {reference!r}: MACHINERY names {name!r}, and there is no such module with a file")
    return [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]


def _check_suite(reference: str, module: Any, name: str | None = None) -> Suite:
    """Raises BenchError if the module does not keep the contract, or cannot even be looked at."""
    return call_stranger(f"{reference!r} is not a suite: it raises", lambda: _checked(reference, module, name))


def _checked(reference: str, module: Any, name: str | None) -> Suite:
    if not isinstance(module, ModuleType) or module.__file__ is None:
        raise BenchError(f"{reference!r} is not a suite: it is {type(module).__name__}, not a module with a file")
    for needed in ("cases", "prepare"):
        if not callable(getattr(module, needed, None)):
            raise BenchError(
                f"{reference!r} is not a suite: it defines no function {needed}(); `bench list --template` prints one"
            )
    for optional in ("memory", "min_seconds", "prepare_seconds"):
        function = getattr(module, optional, None)
        if function is not None and not callable(function):
            raise BenchError(
                f"suite {reference!r}: {optional} is {brief_text(repr(function))}; it has to be a function"
            )
    parameter = getattr(module, "PRODUCTS_IN", "")
    if not isinstance(parameter, str):
        raise BenchError(f"suite {reference!r}: PRODUCTS_IN is {parameter!r}; it has to be the name of a parameter")
    for table, (fits, form) in _TABLES.items():
        rows = getattr(module, table, {})
        if not isinstance(rows, dict) or not all(isinstance(k, str) and fits(v) for k, v in rows.items()):
            raise BenchError(f"suite {reference!r}: {table} is {rows!r}; it has to be a dict of str to {form}")
    source = Path(module.__file__)
    if not is_suite_name(name or source.stem):
        raise BenchError(f"suite {reference!r}: the name {name or source.stem!r}; {SUITE_NAMES}")
    for unsafe in (each for each in getattr(module, "METRICS", {}) if not is_name(each)):
        raise BenchError(f"suite {reference!r}: the name {unsafe!r}; {NAMES}")
    files = [source, *_machinery(reference, getattr(module, "MACHINERY", ()))]
    doc = (module.__doc__ or "").strip().splitlines()
    return Suite(
        name=name or source.stem,
        reference=reference,
        summary=doc[0] if doc else "(no summary: the first docstring line)",
        module=module,
        files=tuple(files),
    )
