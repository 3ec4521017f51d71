"""Whether tests notice faults in the statistics, the records and the gate: mutants, each against the tests of its room.

    python scripts/mutants.py [--seed N] [--count N] [--workers N] > results/evidence/mutants.md
    python scripts/mutants.py --only PLACE    # those of the table that are named

A mutant is a source with one small fault: another comparison, sign or constant, `and` for `or`, a condition turned
round, a return without its value, a statement left out. All places are found, and a seeded sample of them is tried. One
is killed if a test fails, or if the tests take much longer than without it. Types, texts and `assert` are left alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
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
LEAST_LIMIT_SECONDS = 20.0
LIMIT_FACTOR = 4.0
"""A mutant may take this many times the CPU time of the room's tests without one, and the seconds above."""
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


class Trial:
    """A copy of the sources, and a process that has imported the libraries: a fork of it runs the tests of a mutant."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        tree.mkdir()
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        (tree / "results").symlink_to(ROOT / "results")
        environ = {"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "HOME": str(tree), "TMPDIR": str(tree)}
        self.warm = subprocess.Popen(
            [sys.executable, "-B", "-c", _WARM], cwd=tree, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def fate(self, mutant: Mutant, cpu_seconds: float) -> str:
        """`survives`, `killed`, or `time` if the tests took longer than they may."""
        changed = self.tree / mutant.file.relative_to(ROOT)
        try:
            changed.write_text(mutated(mutant))
            return self.test(mutant.room, mutant.file.stem, cpu_seconds)[0]
        finally:
            shutil.copy(mutant.file, changed)

    def test(self, room: str, module: str, cpu_seconds: float) -> tuple[str, float]:
        """Run a room's tests, those of the module first; what came out, and the seconds of CPU that they took."""
        own = f"{ROOMS[room][1]}/test_{module}.py"
        named = [own] if (self.tree / own).exists() else []
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not long and not ranks", *named, ROOMS[room][1]]
        assert self.warm.stdin is not None
        assert self.warm.stdout is not None
        self.warm.stdin.write(json.dumps([words, cpu_seconds]).encode() + b"\n")
        self.warm.stdin.flush()
        status, seconds = json.loads(self.warm.stdout.readline())
        return {0: "survives", -signal.SIGXCPU: "time", -signal.SIGALRM: "time"}.get(status, "killed"), seconds

    def close(self) -> None:
        assert self.warm.stdin is not None
        self.warm.stdin.close()
        self.warm.wait()


# Limits are of CPU time, since a busy machine proves nothing; the alarm is for tests that wait.
_WARM = """
import json, matplotlib.pyplot, msgspec, numpy, os, pandas, pytest, resource, rich, scipy.stats, signal, sys
import torch
for line in sys.stdin:
    words, cpu_seconds = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds) + 5))
        signal.alarm(1800)
        os._exit(int(pytest.main(words)))
    _, status, usage = os.wait4(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime]), flush=True)
"""


def report(fates: dict[Mutant, str], seed: int, total: int) -> Iterator[str]:
    yield "| room | mutants | killed by a test | by the limit of time | share killed |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for room in (*ROOMS, None):
        counts = Counter(fate for mutant, fate in fates.items() if room in (None, mutant.room))
        share = 1 - counts["survives"] / max(1, counts.total())
        yield f"| {room or 'all'} | {counts.total()} | {counts['killed']} | {counts['time']} | {share:.0%} |"
    yield ""
    yield f"Seed {seed}, of {total} places. Survivors:"
    yield ""
    yield "| place | line | before | after |"
    yield "| --- | ---: | --- | --- |"
    for each in (mutant for mutant, fate in fates.items() if fate == "survives"):
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
        free: Queue[Trial] = Queue()
        for number in range(chosen.workers):
            free.put(Trial(Path(folder) / str(number)))
        limits = {}
        for room in sorted({each.room for each in mutants}):
            fate, seconds = free.queue[0].test(room, "", 3600.0)
            if fate != "survives":
                raise SystemExit(f"the tests of {room} fail without a mutant")
            limits[room] = LEAST_LIMIT_SECONDS + LIMIT_FACTOR * seconds

        def tried(mutant: Mutant) -> str:
            trial = free.get()
            fate = trial.fate(mutant, limits[mutant.room])
            free.put(trial)
            print(f"{fate} {mutant.place} line {mutant.line}: {mutant.before!r} -> {mutant.after!r}", file=sys.stderr)
            return fate

        fates = dict(zip(mutants, pool.map(tried, mutants), strict=True))
        for trial in free.queue:
            trial.close()
    print("\n".join(report(fates, chosen.seed, len(everywhere))))


if __name__ == "__main__":
    main()
