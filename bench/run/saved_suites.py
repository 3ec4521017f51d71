"""Suites that a result file names: code that runs because a file says so, and not because the user typed it.

`--resume` and `--like` load the suites of the file's plan. A file can come from anywhere, so that a path in it is only
followed to a suite that is the user's own: no other user can have put it there, or can change it, and it is a suite.
"""

from __future__ import annotations

import ast
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from bench.errors import BenchError

_NEEDED = frozenset(("cases", "prepare"))
"""Functions that make a module a suite."""


def refuse_foreign_suites(result: Path, references: Iterable[str]) -> None:
    """Raises BenchError if a result file names a path as a suite which is not the user's own file, or no suite."""
    for reference in references:
        if reference.endswith(".py") or "/" in reference:
            objection = _objection(Path(reference))
            if objection:
                raise BenchError(
                    f"{result}: its plan runs the file {reference!r}, which {objection}; if it is to run, name it "
                    "yourself: bench run FILE.py"
                )


def _objection(path: Path) -> str:
    """Reason not to run a file that somebody else's result may name; empty if there is none."""
    try:
        facts, folder = path.stat(), path.resolve().parent.stat()
        source = path.read_text(encoding="utf-8") if stat.S_ISREG(facts.st_mode) else ""
    except (OSError, UnicodeError, RuntimeError):
        return ""  # loading it says why it cannot be read
    if facts.st_uid not in _trusted():
        return f"belongs to {_user(facts.st_uid)}"
    if facts.st_mode & stat.S_IWOTH:
        return "every user of this machine can change"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return "lies in a folder that every user of this machine can change"
    return "" if _is_suite(source) else "is not a suite: it defines no cases() and prepare()"


def _trusted() -> set[int]:
    """Users whose files are as good as one's own: oneself, root, and the owner of the folder one works in.

    In a container one is often root in a folder of somebody who is not.
    """
    return {os.geteuid(), 0, Path.cwd().stat().st_uid}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is_suite(source: str) -> bool:
    """True for a module that defines, assigns or imports what makes it a suite; nothing of it is run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # it cannot run either, and loading it says where it is wrong
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names >= _NEEDED or "*" in names
