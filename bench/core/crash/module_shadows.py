"""Files that are imported in place of a module of Python or of a library: `random.py` in a folder on PYTHONPATH.

A library that misses something in such a file ends in a traceback, which says neither the cause nor the remedy. Files
in the way are looked for once something has failed, so that harmless ones stay unmentioned.

Only what Python itself has loaded by then is imported here, not even pathlib: a file may be in the place of any other.
"""

# ruff: noqa: PTH100, PTH119, PTH120, PTH206
from __future__ import annotations

import os
import sys

from bench.errors import BenchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType

_SOURCE = os.path.realpath(__file__).rsplit(os.sep, 4)[0]
"""Folder that holds the package `bench`."""
_STDLIB = os.path.dirname(os.path.realpath(os.__file__))
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


class ShadowsNamed:
    """A block whose failure becomes a BenchError if a file in the way is the cause; others stay as they are."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception | SystemExit) and not isinstance(error, BenchError):
            line = describe_shadow(error)
            if line is not None:
                raise BenchError(line) from error


def describe_shadow(error: BaseException) -> str | None:
    """One line on the file in the way that led to an error, and on the remedy; None: there is none."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        for name, file in _suspects(each):
            folder = _folder_of(name, file)
            if folder is not None and _is_in_the_way(name, file, folder, each):
                first = next(iter(str(each).splitlines()), "")
                return (
                    f"a file named like the module {name} is in the way: {file} ({type(each).__name__}: {first}); "
                    f"{_remedy(folder)}"
                )
        seen.append(each)
        each = each.__cause__ or each.__context__
    return None


def _suspects(error: BaseException) -> Iterator[tuple[str, str]]:
    """Top-level names and files of the modules that an error speaks of, and of those that it went through."""
    if isinstance(error, ImportError) and error.name:
        yield from _top_level(error.name)
    if isinstance(error, AttributeError) and isinstance(error.obj, type(sys)):
        yield from _top_level(error.obj.__name__)
    if isinstance(error, SyntaxError) and error.filename:
        yield os.path.basename(error.filename).removesuffix(".py"), error.filename
    for name, file in reversed(_frames(error)):
        if name.partition(".")[0] != "__main__":
            yield name.partition(".")[0], _file_of(name.partition(".")[0]) or file


def _top_level(name: str) -> Iterator[tuple[str, str]]:
    top = name.partition(".")[0]
    file = _file_of(top)
    if file is not None:
        yield top, file


def _file_of(name: str) -> str | None:
    module: ModuleType | None = sys.modules.get(name)
    return getattr(module, "__file__", None)


def _frames(error: BaseException) -> list[tuple[str, str]]:
    """Module and file of each frame of a traceback, the innermost last, without those of the import system."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<"):
            found.append((str(trace.tb_frame.f_globals.get("__name__", "")), file))
        trace = trace.tb_next
    return found


def _folder_of(name: str, file: str) -> str | None:
    """The folder from which Python took a module or package of a name; None: the file has another name."""
    folder, base = os.path.split(os.path.abspath(file))
    if base.partition(".")[0] == "__init__":
        folder, base = os.path.split(folder)
    return folder if base.partition(".")[0] == name else None


def _is_in_the_way(name: str, file: str, folder: str, error: BaseException) -> bool:
    if _is_library(folder):
        return False
    if name in sys.stdlib_module_names:
        return True
    # Of other modules there may be two on purpose; what fails inside the user's own code is the user's.
    own = f"{folder}{os.sep}{name}{os.sep}"  # the other files of a package
    users = [user for _, user in _frames(error) if user != file and not os.path.abspath(user).startswith(own)]
    used_by = os.path.abspath(users[-1]) if users else ""
    return (_is_library(used_by) or not users) and _find_elsewhere(name, folder) is not None


def _is_library(path: str) -> bool:
    """True for files of Python, of installed packages and of `bench`, and for their folders."""
    path = os.path.realpath(path)
    inside = any(path == own or path.startswith(own + os.sep) for own in (_STDLIB, _SOURCE))
    return inside or any(part in _LIBRARY_FOLDERS for part in path.split(os.sep))


def _find_elsewhere(name: str, folder: str) -> ModuleSpec | None:
    """Where Python would find a module if it did not look into a folder."""
    from importlib.machinery import PathFinder

    others = [each for each in sys.path if os.path.realpath(each or os.curdir) != os.path.realpath(folder)]
    spec = PathFinder.find_spec(name, others)
    return spec if spec is not None and spec.loader is not None else None


def _remedy(folder: str) -> str:
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if os.path.realpath(folder) in (os.path.realpath(each) for each in listed if each):
        return "rename it, or take its folder off PYTHONPATH"
    return "rename or move it"
