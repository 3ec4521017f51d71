"""Plug-ins: entry points of installed packages, and single files of Python, loaded as a stranger's code."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import EntryPoint, distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.core.crash.strangers_code import call_stranger
from bench.errors import BenchError


def entry_points(group: str) -> list[EntryPoint]:
    """Entry points of installed packages, without those of packages whose own list cannot be read."""
    found = []
    for package in distributions():
        with suppress(ValueError, OSError, AttributeError, TypeError):  # damaged, such as a torn or binary file
            found += [entry for entry in package.entry_points if entry.group == group]
    return list({entry.name: entry for entry in reversed(found)}.values())  # the first on sys.path holds


def load_file(path: Path, kind: str, remedy: str) -> ModuleType:
    """The module of a `.py` file. Raises BenchError, in one line, for a file that is missing or broken.

    `kind` is a word for its contents, such as `suite`; `remedy` follows a missing file.
    """
    if not path.is_file():
        raise BenchError(f"no {kind} file {str(path)!r}; {remedy}")
    name = f"bench_{kind}_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BenchError(f"{str(path)!r} is not a Python file; a {kind} is a .py file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling inside the module look it up
    loader = spec.loader
    call_stranger(f"{kind} {str(path)!r} cannot be imported:", lambda: loader.exec_module(module))
    return module
