"""Formats of your own: a module with `read(text, hints)`, in a file or in an installed package.

`--from ./my_format.py` names a file, and an entry point in the group `bench.importers` makes a format known by name.
Such a module may also have `looks_like(text)`, by which a file is known without --from. However its code ends, it costs
one line; its cases are held to what a result file can keep.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.crash.plugins import entry_points, load_file
from bench.core.crash.strangers_code import call_stranger
from bench.core.values import brief_text
from bench.errors import BenchError
from bench.importers import result_lines
from bench.importers.formats import TOOLS
from bench.importers.reading import MAX_RANKS, ImportedCase, ImportedText, ImportHints, identity
from bench.importers.source.ledger import Ledger
from bench.records.lines import decoding
from bench.records.lines.header import ImportedFrom
from bench.records.lines.kinds import Line
from bench.suite import is_name, is_param, is_suite_name

ENTRY_POINT_GROUP = "bench.importers"
MAX_SECONDS = 10**9
"""Time of a call beyond which a file is damaged: 31 years, which nanoseconds still hold."""


@dataclass(frozen=True)
class PluginFormat:
    """A format of the user's own, loaded."""

    tool: str
    """Name or path for `--from`."""
    module: Any

    def looks_like(self, text: str) -> bool:
        """True if the module says that the text is in its format. Raises BenchError if it raises."""
        ask: Callable[[str], object] | None = getattr(self.module, "looks_like", None)
        return ask is not None and bool(call_stranger(f"importer {self.tool}: looks_like() raised", partial(ask, text)))

    def read(self, text: str, hints: ImportHints) -> ImportedText:
        """The cases of a text. Raises BenchError if the module raises, or returns cases that no result can keep."""
        read = call_stranger(f"importer {self.tool}: read() raised", partial(self.module.read, text, hints))
        call_stranger(
            f"importer {self.tool}: read() returned values of a wrong type:", partial(_check, self.tool, read)
        )
        assert isinstance(read, ImportedText)
        return replace(read, remarks=(*read.remarks, *_of_merged(read)))


def load(reference: str) -> PluginFormat:
    """The format that `--from` names: a `.py` file, or an entry point.

    Raises BenchError for an unknown name, a missing or broken file, and a module without read().
    """
    if reference.endswith(".py") or "/" in reference:
        remedy = "give the path of a .py file, or the name of a tool"
        return _format(reference, load_file(Path(reference), "importer", remedy))
    for entry in entry_points(ENTRY_POINT_GROUP):
        if entry.name == reference:
            return _format(reference, call_stranger(f"importer {reference!r} cannot be imported:", entry.load))
    names = ", ".join((*TOOLS, *installed_names()))
    raise BenchError(f"--from {reference}: no such format; there are: {names} - or give the path of a .py file")


def installed_names() -> list[str]:
    """Names of the formats of installed packages; a built-in format keeps its name."""
    return sorted({entry.name for entry in entry_points(ENTRY_POINT_GROUP)} - set(TOOLS))


def recognise(text: str) -> tuple[PluginFormat | None, list[str]]:
    """The installed format that a text looks like, and a line on each that is broken."""
    broken: list[str] = []
    for name in installed_names():
        try:
            found = load(name)
            if found.looks_like(text):
                return found, broken
        except BenchError as error:
            broken.append(str(error))
    return None, broken


def _format(reference: str, module: Any) -> PluginFormat:
    if not callable(getattr(module, "read", None)):
        raise BenchError(f"{reference!r} is not an importer: it defines no function read(text, hints)")
    if not callable(getattr(module, "looks_like", len)):
        raise BenchError(f"{reference!r} is not an importer: looks_like is not a function")
    return PluginFormat(reference, module)


def _check(tool: str, read: object) -> None:
    """Raises BenchError for cases that a result file cannot keep, and any error for values of a wrong type."""
    if not isinstance(read, ImportedText) or not isinstance(read.ledger, Ledger):
        raise BenchError(
            f"importer {tool}: read() has to return bench.importers.reading.ImportedText; it returned "
            f"{brief_text(repr(read))}"
        )
    for case in read.readings:
        if (reason := _fault(case)) is not None:
            raise BenchError(f"importer {tool}: {reason}; it is in {brief_text(repr(case))}")
    lines = result_lines.measurements(read)
    origin = ImportedFrom(tool=read.tool, version=read.version, format=read.format)
    header = result_lines.header(read, origin, "label", lines)
    kept: list[Line] = [header, *lines]
    for line in kept:
        decoding.decode(decoding.encode(line))


def _fault(case: object) -> str | None:
    """Why a case cannot be kept; None if it can."""
    if not isinstance(case, ImportedCase):
        return "readings has to hold ImportedCase alone"
    checks = (
        (is_suite_name(case.suite), "suite has to be a name of letters, digits, `_`, `.` and `-`"),
        (
            isinstance(case.params, dict) and all(is_name(k) and is_param(v) for k, v in case.params.items()),
            "params has to be a dict of names and bool, int, finite float or str",
        ),
        (isinstance(case.params, dict) and isinstance(case.params.get("op"), str), "params needs `op`, a str"),
        (_is_count(case.num_ranks, MAX_RANKS), f"num_ranks has to be 1 to {MAX_RANKS}"),
        (_is_count(case.calls, 2**40), "calls has to be a whole number above 0"),
        (
            all(_is_time(seconds) for seconds in case.seconds),
            f"seconds has to hold numbers above 0, at most {MAX_SECONDS:,}",
        ),
        (_are_texts(case.notes), "notes has to be a tuple of str"),
        (
            all(value is None or _is_finite(value) for value in case.derived.values()),
            "derived has to hold finite numbers or None",
        ),
        (bool(case.seconds) == (case.status == "ok"), "a case has seconds if, and only if, its status is ok"),
    )
    return next((reason for fits, reason in checks if not fits), None)


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_time(value: object) -> bool:
    return _is_finite(value) and 0 < value <= MAX_SECONDS  # type: ignore[operator]


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _of_merged(read: ImportedText) -> Iterator[str]:
    """A remark on cases that the result has as one, for a parameter that tells them apart may be missing."""
    numbers = Counter((case.case or identity(case.suite, case.params)[0], case.launch) for case in read.readings)
    for (case, launch), number in numbers.items():
        if number > 1:
            yield (
                f"{number} cases are {case} in launch {launch}, and become its samples; give them other `params`, or "
                "use launches_of_repeats"
            )
