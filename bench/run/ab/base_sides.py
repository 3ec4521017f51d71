"""Sides of `bench ab --base REF`: side a is the project of a commit, side b that of the working tree as it is.

Each has a tree and an environment in a temporary folder, which is gone at the end, after a signal as well.
Before anything is measured both are asked where they would import the project from.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bench.core import clock
from bench.core.process import stop_signals
from bench.core.process.held_folder import HeldFolder
from bench.core.process_environment import environment_variables
from bench.core.values import counted, show_seconds
from bench.errors import BenchError
from bench.records.saved_plan import SIDES, UNCHANGED
from bench.run.ab import git_trees, side_environment
from bench.run.ab.ab_sides import Setting
from bench.run.ab.git_trees import SHORT_DIGITS
from bench.run.ab.side_environment import InstalledProject, SideEnvironment, canonical

OWN_NAME = "distributed-training-bench"
"""Name of this product's distribution: of its trees each side runs its own bench."""
OWN_ENTRY = Path("bench", "cli", "ab_child.py")
"""File that a launch of a side begins in."""


@dataclass(frozen=True)
class TreeSide:
    """A side's tree and environment in its temporary folder."""

    title: str
    """Name of the side in files and tables."""
    tree: Path
    environment: SideEnvironment


@contextmanager
def sides_from_base(ref: str, both: Sequence[Setting], suites: Sequence[str]) -> Iterator[tuple[Setting, Setting]]:
    """Both sides with an environment each, for as long as the block lasts. Raises BenchError."""
    began = clock.monotonic_seconds()
    root = git_trees.find_repository(Path.cwd())
    stack = ExitStack()
    try:
        made = _make_trees(ref, root, stack)
        projects = side_environment.make_environments([each.environment for each in made])
        a, b = (_setting(*each, suites, root) for each in zip(both, made, projects, strict=True))
        _say_what_is_compared((a, b), made, projects)
        click.echo(f"both environments are made: {show_seconds(clock.monotonic_seconds() - began, 2)}", err=True)
        yield a, b
    finally:
        with stop_signals.deferred():  # so that nothing is left in the repository
            stack.close()


def _make_trees(ref: str, root: Path, stack: ExitStack) -> list[TreeSide]:
    """Trees of both sides, which go when the stack is closed."""
    commit, head = git_trees.find_commit(root, ref), git_trees.find_commit(root, "HEAD")
    changed = git_trees.changed_files(root)
    _announce(ref, commit, head, changed, root)
    temporary = stack.enter_context(HeldFolder(Path(tempfile.gettempdir()), "ab"))
    trees = [temporary.resolve() / name / "tree" for name in SIDES]
    for tree, name in zip(trees, (commit, head), strict=True):
        tree.parent.mkdir()
        stack.enter_context(git_trees.tree_of(root, name, tree))
    digest = git_trees.copy_changes(root, changed, trees[1])
    titles = (
        f"{ref} {commit[:SHORT_DIGITS]}",
        f"working tree {head[:SHORT_DIGITS]}" + (f"+{digest}" if digest else ""),
    )
    project = find_project(root, Path.cwd())
    made = [
        TreeSide(title, tree, SideEnvironment(name, tree.parent, tree / project))
        for title, tree, name in zip(titles, trees, SIDES, strict=True)
    ]
    for each in made:
        if not each.environment.project.is_dir():
            raise BenchError(f"--base {ref}: {each.title} has no folder {project}; call it in a folder that both have")
    return made


def _announce(ref: str, commit: str, head: str, changed: Sequence[str], root: Path) -> None:
    state = f"{head[:SHORT_DIGITS]}, {counted(len(changed), 'changed file')}" if changed else head[:SHORT_DIGITS]
    click.echo(f"making two environments: {ref} ({commit[:SHORT_DIGITS]}) and the working tree ({state})", err=True)
    if commit == head and not changed:
        click.echo(f"the working tree is {ref}: two equal sides are compared", err=True)
    if git_trees.has_submodules(root):
        click.echo("warning: submodules are left out on both sides", err=True)


def find_project(root: Path, here: Path) -> Path:
    """Folder of the project, relative to the repository: the nearest one around `here` that pip can install."""
    inside = [folder for folder in (here, *here.parents) if folder.is_relative_to(root)]
    found = next((folder for folder in inside if side_environment.is_packaged(folder)), root)
    return found.relative_to(root)


def _setting(
    setting: Setting, side: TreeSide, project: InstalledProject | None, suites: Sequence[str], root: Path
) -> Setting:
    """A side's setting with its own environment; a project that pip cannot install is run from the side's tree."""
    words = () if setting.setting == UNCHANGED else (setting.setting,)
    path = python_path(root, side.tree, is_first=project is None)
    variables = ({} if path is None else {"PYTHONPATH": path}) | dict(setting.variables)
    made = replace(
        setting,
        python=str(side.environment.python),
        setting=" ".join((side.title, *words)),
        variables=tuple(sorted(variables.items())),
        bench_root=_own_bench(side, project),
    )
    if project is not None:
        return made
    folder = side.tree / Path.cwd().relative_to(root)
    if not folder.is_dir():
        raise BenchError(f"{side.title} has no folder {folder.relative_to(side.tree)}; call it in a folder of both")
    return replace(made, folder=folder, suites=tuple(own_reference(suite, root) for suite in suites))


def _own_bench(side: TreeSide, project: InstalledProject | None) -> Path | None:
    """Folder of a side's own bench, if that is the project. Raises BenchError if it cannot be run by this one."""
    if project is None or canonical(project.name) != OWN_NAME:
        return None
    if not (side.environment.project / OWN_ENTRY).is_file():
        raise BenchError(f"{side.title} has no {OWN_ENTRY}: its bench is too old for bench ab; name a newer commit")
    return side.environment.project


def python_path(root: Path, tree: Path, is_first: bool) -> str | None:
    """PYTHONPATH of a side: entries in the repository are taken from its tree, whose root may be the first entry.

    None: not set.
    """
    entries = [entry for entry in environment_variables().get("PYTHONPATH", "").split(os.pathsep) if entry]
    paths = [_moved(Path(entry).absolute(), root, tree) for entry in entries]
    paths = [tree, *paths] if is_first else paths
    return os.pathsep.join(map(str, dict.fromkeys(paths))) or None


def _moved(path: Path, root: Path, tree: Path) -> Path:
    """A path in the repository, in the tree of a side; folders that the tree does not have, such as .venv, stay."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root.resolve()) or "site-packages" in resolved.parts:
        return path
    return tree / resolved.relative_to(root.resolve())


def own_reference(suite: str, root: Path) -> str:
    """A suite's name or path as a side takes it, which works in its own tree; a file outside the repository stays."""
    if not (suite.endswith(".py") or "/" in suite):
        return suite
    path = Path(os.path.normpath(Path(suite).absolute()))
    return os.path.relpath(path) if path.is_relative_to(root) else str(path)


def _say_what_is_compared(
    both: Sequence[Setting], sides: Sequence[TreeSide], projects: Sequence[InstalledProject | None]
) -> None:
    """Ask both sides where the project comes from and which torch they have, and say it. Raises BenchError."""
    here = side_environment.torch_here()
    for setting, side, project in zip(both, sides, projects, strict=True):
        torch = side.environment.find_torch(() if project is None else project.modules, dict(setting.variables))
        what = "files that are not installed" if project is None else f"{project.name} {project.version}"
        own = "" if setting.bench_root is None else ", which measures this side itself"
        click.echo(f"{setting.name}: {what} from {side.title}{own}", err=True)
        if torch != here:
            click.echo(f"{setting.name}: its requirements ask for torch {torch}; here it is {here}", err=True)
    if all(project is None for project in projects):
        click.echo("no pyproject.toml or setup.py: suites that are files are run from each side's own tree", err=True)
