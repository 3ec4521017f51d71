"""All that commands print goes through one function, whatever the stream can show."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.damage import text_of
from tests.support.hostile import full_lines

ROOMS = ("cli", "analysis", "report", "importers", "records", "predict", "core")
"""Rooms of what reads files."""
ELSEWHERE = {"bench/cli/__init__.py", "bench/core/terminal.py", "bench/predict/progress.py"}
"""Errors, which are cleaned there; the function itself; a counter without a text of a file."""


def test_whatever_reads_files_prints_by_one_function() -> None:
    found = set()
    for path in (file for room in ROOMS for file in (ROOT / "bench" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo", "sys.stdout.write"):
                found.add(str(path.relative_to(ROOT)))
    assert "bench/core/terminal.py" in found
    assert not found - ELSEWHERE


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("ascii", ("show",)),
        ("ascii", ("compare", "--allow-unlike")),
        ("ascii", ("help", "reading")),
        ("latin-1", ("show",)),
    ],
)
def test_a_terminal_that_knows_few_signs_is_no_error(encoding: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "é漢\udcff.jsonl"
    path.write_text(text_of(list(full_lines())).replace('"label": "', '"label": "\\u6f22\\u00e9 '))
    name, *options = words
    files = {"compare": [str(path)] * 2, "help": []}.get(name, [str(path)])
    done = subprocess.run(
        [sys.executable, "-m", "bench", name, *files, *options],
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    done.stdout.decode(encoding)
    assert len(done.stdout) > 100
