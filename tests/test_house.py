"""The house: rooms of few files, one class per name, and no name of a module that is not there.

Which room may import which is held by import-linter (`[tool.importlinter]` in pyproject.toml).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bench.measure.planning.suite_loader import builtin_names
from tests import ROOT

MAX_FILES = 15
SOURCES = sorted(path for top in ("bench", "suites") for path in (ROOT / top).rglob("*.py"))
TEXTS = sorted(
    path
    for top in ("bench", "suites", "scripts", "tests", ".ci")
    for path in (ROOT / top).rglob("*")
    if path.suffix in (".py", ".md", ".sh", ".txt", ".toml", ".jinja", "")
    and path.is_file()
    and "data" not in path.parts
)
DOCUMENTS = [ROOT / "README.md", ROOT / "pyproject.toml", *sorted((ROOT / "results").rglob("*.md"))]
NOT_MODULES = ("py", "jsonl", "html", "csv", "toml", "sh", "md", "__file__")
"""Endings that make a dotted word the name of a file."""
NOT_OURS = {"bench.suites", "bench.who", "tests/test_a.py", "tests/test_b.py", "scripts/train/benchmarking/README.md"}
"""The group of entry points, and names that tests and documents have for files of others."""
PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
MODULE = re.compile(r"(?<![\w./{$-])((?:bench|suites)(?:\.[A-Za-z_]\w*)+)")
FILE = re.compile(r"(?<![\w/.{-])((?:bench|suites|tests|scripts)/[\w/]+\.(?:py\.txt|py|csv|json|md))\b")


def test_no_folder_is_too_full_to_find_anything_in() -> None:
    counts = Counter(path.parent for path in SOURCES if path.name != "__init__.py" and path.parent.name != "suites")
    assert counts
    assert not {str(folder): number for folder, number in counts.items() if number > MAX_FILES}


def test_no_class_has_the_name_of_another() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_the_folder_of_suites_holds_suites_alone() -> None:
    assert {path.stem for path in (ROOT / "suites").glob("*.py")} - {"__init__"} == set(builtin_names())


@pytest.mark.parametrize("folder", ["suites", "scripts", "bench/predict", "bench/workloads", "tests/support"])
def test_a_readme_names_each_file_and_room_of_its_folder(folder: str) -> None:
    """`fake_*.py` stands for the files of that pattern."""
    home = ROOT / ("tests" if folder == "tests/support" else folder)
    text = (home / "README.md").read_text(encoding="utf-8")
    patterns = re.findall(r"`(\w+\*\.py)`", text)
    entries = [path for path in (ROOT / folder).iterdir() if path.suffix not in (".md", ".cpp")]
    names = [path.name for path in entries if not path.name.startswith(("_", "test_", "."))]
    assert len(names) > 3
    unnamed = [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}\b", text)]
    assert not [name for name in unnamed if not any(fnmatch(name, pattern) for pattern in patterns)]


def test_the_tests_have_the_rooms_of_what_they_test() -> None:
    own = {"data", "sample_suites", "scripts", "seeded", "suites", "support"}
    folders = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*") if path.is_dir()]
    rooms = [folder for folder in folders if "__pycache__" not in folder.parts and folder.parts[0] not in own]
    assert rooms
    assert not [str(folder) for folder in rooms if not (ROOT / "bench" / folder / "__init__.py").exists()]


def _mentions(pattern: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    for path in [*TEXTS, *DOCUMENTS]:
        if path != Path(__file__):
            for match in pattern.finditer(_prose(path)):
                yield path, match[1]


def _prose(path: Path) -> str:
    """A document as it is; of a Python file its strings, docstrings and comments."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in PROSE)


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a name that a module defines, or an attribute of one."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        module = ".".join(words[:length])
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.origin is not None:
            left = words[length : length + 1]
            return not left or re.search(rf"\b{left[0]}\b", Path(spec.origin).read_text(encoding="utf-8")) is not None
    return False


def test_every_module_that_is_named_is_there() -> None:
    """In strings, docstrings, comments, scripts and documents, which a change of imports does not reach."""
    named = {(name, path) for path, name in _mentions(MODULE) if name.rpartition(".")[2] not in NOT_MODULES}
    named = {(name, path) for name, path in named if name not in NOT_OURS}
    assert len(named) > 100
    known = {name: _is_there(name) for name in {name for name, _ in named}}
    assert not sorted(f"{path.relative_to(ROOT)}: {name}" for name, path in named if not known[name])


def test_every_file_of_the_source_that_is_named_is_there() -> None:
    named = {(name, path) for path, name in _mentions(FILE) if name not in NOT_OURS}
    assert len(named) > 20
    assert not sorted(f"{path.relative_to(ROOT)}: {name}" for name, path in named if not (ROOT / name).exists())


@pytest.mark.parametrize(
    "name", ["bench.__main__:main", "bench.cli.ab_child:main", "bench.measure.launch.rank_process:main"]
)
def test_entries_of_processes_are_there(name: str) -> None:
    module, _, function = name.partition(":")
    sources = "".join(path.read_text() for path in [*SOURCES, ROOT / "pyproject.toml"])
    assert f'"{name}"' in sources
    assert callable(getattr(importlib.import_module(module), function))
