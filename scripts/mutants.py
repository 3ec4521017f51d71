"""Whether tests notice faults in the statistics, the records and the gate: mutants, each against the tests of its room.

    python scripts/mutants.py [--seed N] [--count N] [--workers N] > results/evidence/mutants.md
    python scripts/mutants.py --only PLACE    # one of the table, with pytest's output

A mutant is a source with one small fault: another comparison, sign or constant, `and` for `or`, a condition turned
round, a return without its value, a statement left out. All places are found, and a seeded sample of them is tried. One
is killed if a test fails, or if the tests take much longer than without it. Types, texts and `assert` are left alone.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "bench/stats": ("*.py", "tests/stats"),
    "bench/records": ("rows.py samples.py metrics.py visits.py", "tests/records"),
    "bench/analysis/compare": ("*.py", "tests/analysis/compare"),
}
"""Room -> files that are mutated, and the tests that have to notice."""
LEAST_LIMIT_SECONDS = 60.0
LIMIT_FACTOR = 4.0
"""A mutant may take this many times as long as the room's tests take without one."""
COPIED = ("bench", "suites", "tests", "scripts", "pyproject.toml", "README.md", ".ci")

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "argmin": "argmax", "argmax": "argmin"}


@dataclass(frozen=True)
class Mutant:
    """One fault in one file; `number` counts the places of the file."""

    room: str
    file: Path
    number: int
    line: int
    before: str
    after: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.number}"


class Mutation(ast.NodeTransformer):
    """Visits a module's places in order; the wanted one is changed, and all are noted."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.count = 0
        self.places: list[tuple[int, str, str]] = []

    def _at(self, node: ast.AST, after: Callable[[], ast.AST]) -> ast.AST:
        """The node, or what takes its place if this is the wanted one."""
        number = self.count
        self.count += 1
        if self.wanted is None:
            self.places.append((getattr(node, "lineno", 0), ast.unparse(node), ast.unparse(after())))
        return ast.copy_location(after(), node) if number == self.wanted else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for mutate in _MUTATIONS.get(type(node), ()):
            node = mutate(self, node)
        return super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(each) for each in node.defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.args = self.visit(node.args)
        node.body = [self.visit(each) for each in node.body]
        return node

    def _left_alone(self, node: ast.AST) -> ast.AST:
        return node

    visit_Assert = visit_Raise = visit_Import = visit_ImportFrom = visit_JoinedStr = _left_alone  # noqa: N815

    def visit_If(self, node: ast.If) -> ast.AST:
        return node if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def _swap(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign)
    other = _SWAPS.get(type(node.op))
    if other is None or (isinstance(node, ast.BinOp) and _is_text(node)):
        return node
    return mutation._at(node, lambda: _with(node, op=other()))


def _compare(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Compare)
    other = _SWAPS[type(node.ops[0])]
    return mutation._at(node, lambda: _with(node, ops=[other(), *node.ops[1:]]))


def _constant(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool):
        return mutation._at(node, lambda: ast.Constant(not value))
    if isinstance(value, int | float):
        return mutation._at(node, lambda: ast.Constant(value + 1))
    return node


def _without_not(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.UnaryOp)
    return mutation._at(node, lambda: node.operand) if isinstance(node.op, ast.Not | ast.USub) else node


def _turned(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.If | ast.IfExp | ast.While)
    test = mutation._at(node.test, lambda: ast.UnaryOp(ast.Not(), node.test))
    return _with(node, test=test)


def _named(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Name | ast.Attribute)
    field = "id" if isinstance(node, ast.Name) else "attr"
    other = _NAMES.get(getattr(node, field))
    return node if other is None else mutation._at(node, lambda: _with(node, **{field: other}))


def _returned(mutation: Mutation, node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Return)
    if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
        return node
    return mutation._at(node, lambda: ast.Return(ast.Constant(None)))


def _left_out(mutation: Mutation, node: ast.AST) -> ast.AST:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return node if is_docstring else mutation._at(node, ast.Pass)


_MUTATIONS: dict[type[ast.AST], tuple[Callable[[Mutation, ast.AST], ast.AST], ...]] = {
    ast.BinOp: (_swap,),
    ast.BoolOp: (_swap,),
    ast.AugAssign: (_left_out,),
    ast.Compare: (_compare,),
    ast.Constant: (_constant,),
    ast.UnaryOp: (_without_not,),
    ast.If: (_turned,),
    ast.IfExp: (_turned,),
    ast.While: (_turned,),
    ast.Name: (_named,),
    ast.Attribute: (_named,),
    ast.Return: (_returned,),
    ast.Expr: (_left_out,),
    ast.Continue: (_left_out,),
    ast.Break: (_left_out,),
}


def _with(node: ast.AST, **fields: object) -> ast.AST:
    old = {name: getattr(node, name) for name in node._fields}
    return ast.copy_location(type(node)(**{**old, **fields}), node)


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(each, ast.JoinedStr) or isinstance(getattr(each, "value", None), str) for each in sides)


def mutants_of(room: str, file: Path) -> Iterator[Mutant]:
    mutation = Mutation(None)
    mutation.visit(ast.parse(file.read_text()))
    for number, (line, before, after) in enumerate(mutation.places):
        yield Mutant(room, file, number, line, before, after)


def mutated(mutant: Mutant) -> str:
    mutation = Mutation(mutant.number)
    return ast.unparse(ast.fix_missing_locations(mutation.visit(ast.parse(mutant.file.read_text()))))


def all_mutants() -> list[Mutant]:
    files = [
        (room, file)
        for room, (names, _) in ROOMS.items()
        for name in names.split()
        for file in (ROOT / room).glob(name)
    ]
    return [mutant for room, file in sorted(files) for mutant in mutants_of(room, file)]


class Copies:
    """Trees in a temporary folder, one per worker."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: Queue[Path] = Queue()
        for number in range(count):
            tree = folder / str(number)
            tree.mkdir()
            for name in COPIED:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, tree / name)
            (tree / "results").symlink_to(ROOT / "results")
            self._free.put(tree)

    def survives(self, mutant: Mutant, limit_seconds: float, show: bool = False) -> bool:
        tree = self._free.get()
        changed = tree / mutant.file.relative_to(ROOT)
        try:
            changed.write_text(mutated(mutant))
            return self.passes(tree, mutant.room, mutant.file.stem, limit_seconds, show)
        finally:
            shutil.copy(mutant.file, changed)
            self._free.put(tree)

    def seconds_without(self, room: str) -> float:
        tree, began = self._free.get(), time.monotonic()
        passed = self.passes(tree, room, "", 1800.0, show=False)
        self._free.put(tree)
        if not passed:
            raise SystemExit(f"the tests of {room} fail without a mutant")
        return time.monotonic() - began

    @staticmethod
    def passes(tree: Path, room: str, module: str, limit_seconds: float, show: bool) -> bool:
        """Whether a room's tests pass in a tree, those of the module first."""
        tests = ROOMS[room][1]
        own = f"{tests}/test_{module}.py"
        named = [own, tests] if (tree / own).exists() else [tests]
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *named]
        environ = {"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "HOME": str(tree), "TMPDIR": str(tree)}
        try:
            out = None if show else subprocess.DEVNULL
            marks = ["-m", "not long and not ranks"]
            done = subprocess.run(
                [*command, *marks], cwd=tree, env=environ, stdout=out, stderr=out, timeout=limit_seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def report(mutants: list[Mutant], survivors: list[Mutant], seed: int, total: int) -> Iterator[str]:
    yield "| room | mutants | killed | share |"
    yield "| --- | ---: | ---: | ---: |"
    for room in (*ROOMS, None):
        of_room = [each for each in mutants if room in (None, each.room)]
        killed = len(of_room) - sum(each in survivors for each in of_room)
        yield f"| {room or 'all'} | {len(of_room)} | {killed} | {killed / max(1, len(of_room)):.0%} |"
    yield ""
    yield f"Seed {seed}, of {total} places. Survivors:"
    yield ""
    yield "| place | line | before | after |"
    yield "| --- | ---: | --- | --- |"
    for each in survivors:
        before, after = (" ".join(text.split())[:90].replace("|", "\\|") for text in (each.before, each.after))
        yield f"| {each.place} | {each.line} | `{before}` | `{after}` |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", metavar="PLACE", action="append", default=[])
    chosen = parser.parse_args()
    everywhere = all_mutants()
    mutants = random.Random(chosen.seed).sample(everywhere, min(chosen.count, len(everywhere)))
    if chosen.only:
        mutants = [each for each in everywhere if each.place in chosen.only]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(chosen.workers) as pool:
        copies = Copies(Path(folder), chosen.workers)
        limits = {
            room: max(LEAST_LIMIT_SECONDS, LIMIT_FACTOR * copies.seconds_without(room))
            for room in {each.room for each in mutants}
        }

        def tried(mutant: Mutant) -> bool:
            survives = copies.survives(mutant, limits[mutant.room], show=bool(chosen.only))
            print(f"{'SURVIVES' if survives else 'killed'} {mutant.place} {mutant.after[:80]!r}", file=sys.stderr)
            return survives

        fates = list(pool.map(tried, mutants))
    survivors = [mutant for mutant, survives in zip(mutants, fates, strict=True) if survives]
    print("\n".join(report(mutants, survivors, chosen.seed, len(everywhere))))


if __name__ == "__main__":
    main()
