"""The digest of a suite: of the code that it runs, and of nothing else."""

from __future__ import annotations

import importlib
from pathlib import Path

import grimp
import pytest

from bench.measure.planning.suite_digest import ROOMS, suite_digest
from bench.measure.planning.suite_loader import builtin_names, load
from tests import ROOT

CODE = '''"""Mine."""
from bench.parallelism import flops


def cases(machine):
    """Two cases."""
    return [{"size": 3}, {"size": 8}]  # small ones
'''


def digest_of(folder: Path, text: str, *machinery: Path) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return suite_digest([path, *machinery])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Mine."""', '"""Mine, said better."""'),
        ("  # small ones", ""),
        ('    """Two cases."""\n', ""),
        ("\n\n\n", "\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert digest_of(tmp_path, CODE.replace(old, new)) == digest_of(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("8", "9"), ("cases", "rows"), ("import flops", "import layout"), ("[{", "({"), ("from bench", "# from bench")],
)
def test_code_counts_and_so_does_the_code_that_it_imports(tmp_path: Path, old: str, new: str) -> None:
    changed = CODE.replace(old, new).replace("8}]", "8})" if new == "({" else "8}]")
    assert digest_of(tmp_path, changed) != digest_of(tmp_path, CODE)


def test_machinery_counts_once(tmp_path: Path) -> None:
    alone = digest_of(tmp_path, CODE)
    assert digest_of(tmp_path, CODE, ROOT / "bench" / "parallelism" / "flops.py") == alone
    assert digest_of(tmp_path, CODE, ROOT / "bench" / "measure" / "engine" / "rank.py") != alone
    extension = tmp_path / "fast.so"
    extension.write_bytes(b"\x7fELF\x00")
    assert digest_of(tmp_path, CODE, extension) != alone


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("bench", "suites", cache_dir=None)


@pytest.mark.parametrize("name", builtin_names())
def test_all_that_a_built_in_suite_runs_counts(name: str, graph: grimp.ImportGraph) -> None:
    """Held against the import graph of another program; packages are left out, since they hold a docstring alone."""
    pending, wanted = [f"suites.{name}"], set()
    while pending:
        for module in graph.find_modules_directly_imported_by(pending.pop()):
            if module.startswith(ROOMS) and module not in wanted:
                wanted.add(module)
                pending.append(module)
    files = [ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in wanted]
    suite = load(name)
    machinery = getattr(importlib.import_module(f"suites.{name}"), "MACHINERY", ())
    own = [f"suites.{name}", *machinery]
    assert suite.files == tuple(ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in own)
    assert suite.digest == suite_digest([*suite.files, *(path for path in files if path.is_file())])
