"""Digest of a suite's code: comparing results of different code says so.

It covers the suite and every module of `bench.workloads` and `bench.parallelism` that it imports, directly or through
others of them, also inside functions; of a suite from elsewhere also the modules that MACHINERY names. It is of the
syntax trees without docstrings, so that comments and layout do not change it. Modules are found and read, never
imported: they may import torch.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bench

ROOMS = ("bench.workloads", "bench.parallelism")
"""Rooms that decide which work is timed. The engine is the same for all suites, and the version tells of it."""
_LEFT_OUT = frozenset(("ctx", "kind", "type_comment", "type_ignores"))
"""Fields of a syntax tree that follow from others, or say nothing of what is run."""


@dataclass(frozen=True)
class _Code:
    """A source file: the digest of its tree, and the names that it imports from ROOMS."""

    digest: str
    imports: tuple[str, ...]


def suite_digest(files: Sequence[Path]) -> str:
    """SHA-256 of the code of a suite, its file and those of its MACHINERY, and of what they run."""
    codes = [_read(path) for path in files]
    pending = [name for code in codes for name in code.imports]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            code = _read_module(name)
            if code is not None:
                codes.append(code)
                pending += code.imports
    # Equal for the same code: a set, since MACHINERY may name a module that is imported too.
    return hashlib.sha256("\n".join(sorted({code.digest for code in codes})).encode()).hexdigest()


def engine_digest() -> str:
    """SHA-256 of every file of code in the package, so that ranks can tell whether they run the same."""
    root = Path(bench.__file__).parent
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        whole.update(f"{path.relative_to(root).as_posix()}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def _read_module(name: str) -> _Code | None:
    """A module of ROOMS by name; None if there is none, since the name is that of a function or class in one."""
    path = Path(bench.__file__).parent.joinpath(*name.split(".")[1:])
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return None if found is None else _read(found)


def _read(path: Path) -> _Code:
    data = path.read_bytes()
    if path.suffix != ".py":  # an extension module that MACHINERY names
        return _Code(hashlib.sha256(data).hexdigest(), ())
    tree = ast.parse(data, str(path))
    return _Code(hashlib.sha256("".join(_words(tree)).encode()).hexdigest(), tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names in ROOMS that a file imports: of modules, and of what may be modules."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return (name for name in names if name.startswith(ROOMS))


def _words(node: object) -> Iterator[str]:
    """Canonical text of a syntax tree, the same in every Python: `ast.dump` shows empty fields in some of them."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for field, value in ast.iter_fields(node):
            if value is not None and value != [] and field not in _LEFT_OUT:
                yield f" {field}="
                yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            if not _is_docstring(item):
                yield from _words(item)
    else:
        yield f"{type(node).__name__}:{node!r};"


def _is_docstring(node: object) -> bool:
    """True if this is a string that stands alone, as docstrings of modules, classes, functions and fields do."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
