"""A git repository with a small project, whose kernel does counted work, and a suite that measures it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.run.ab.git_trees import variables_without_git

PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "Counted.Toy"
version = "{version}"
dependencies = [{dependencies}]

[tool.setuptools]
packages = ["counted_toy"]
"""
KERNEL = '''"""Counts to a number."""

UNITS = {units}


def count():
    counted = 0
    for _ in range(UNITS):
        counted += 1
    return counted - UNITS
'''
SUITE = '''"""The kernel of the project."""

import counted_toy

from bench.suite import Work


def cases(machine):
    yield {"op": "count"}


def prepare(params, rank):
    return Work(variants={"full": counted_toy.count}, check=lambda: (float(counted_toy.count()), 0.0))
'''
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
"""Variables by which pip builds with the setuptools that is lent."""


def git(root: Path, *words: str) -> str:
    """What git says on stdout."""
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "core.hooksPath=/dev/null")
    command = ["git", "-C", str(root), *who, *words]
    done = subprocess.run(command, env=variables_without_git(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write_project(root: Path, units: int, version: str = "1.2", dependencies: str = "") -> None:
    """Write the project's files, so that the kernel counts to `units`."""
    (root / "counted_toy").mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text(PYPROJECT.format(version=version, dependencies=dependencies))
    (root / "counted_toy" / "__init__.py").write_text(KERNEL.format(units=units))


def make_repository(root: Path, units: int = 20_000, is_packaged: bool = True) -> Path:
    """A repository with one commit on the branch main; without pyproject.toml if it is not to be packaged."""
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    write_project(root, units)
    if not is_packaged:
        (root / "pyproject.toml").unlink()
    (root / "speed.py").write_text(SUITE)
    (root / ".gitignore").write_text("results/\n__pycache__/\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=Count")
    return root
