"""`bench help`: every page can be listed and read, in a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bench.cli import COMMANDS, call, cli
from bench.cli.help_command import READING_ORDER, read_pages
from bench.core.cell_text import width as cell_width
from bench.core.page_text import page_text, title

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "bench" / "docs"


def test_every_page_is_listed_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["help"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert set(listed) == {path.stem for path in DOCS.glob("*.md")}
    assert all(listed[name] == title((DOCS / f"{name}.md").read_text()) for name in listed)
    assert [name for name in READING_ORDER if name in listed] == list(listed)


@pytest.mark.parametrize("page", sorted(read_pages()))
@pytest.mark.parametrize("columns", [80, 100])
def test_a_page_fits_but_for_its_code(page: str, columns: int) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", read_pages()[page], flags=re.MULTILINE | re.DOTALL)
    lines = page_text(text, read_pages(), columns).splitlines()
    assert [line for line in lines if cell_width(line) > columns] == []
    assert not [line for line in lines if "<!--" in line or "](" in line]


@pytest.mark.parametrize("name", [["result_file"], ["result-file"], ["Result", "file"], ["result_file.md"]])
def test_a_name_may_be_typed_in_several_ways(capsys: pytest.CaptureFixture[str], name: list[str]) -> None:
    assert call(["help", *name]) == 0
    assert capsys.readouterr().out.startswith("# The result file\n")


def test_an_unknown_page_names_the_closest_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["help", "version"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench: error: bench help version: there is no such page. Did you mean versions? Pages: ")
    assert all(name in err for name in read_pages())
    assert call(["help", "xyz"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_name_of_a_command_shows_its_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert call(["help", name]) == 0
    shown = capsys.readouterr().out
    assert call([name, "--help"]) == 0
    assert shown == capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_that_a_command_names_is_one(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert getattr(command, "page", None) in (*read_pages(), None)


def on_a_terminal(words: list[str], **environment: str) -> str:
    """Output of `bench` on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bench", *words]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "LESS")}
    variables = {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "LINES": "24", "TERM": "xterm", **environment}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # Linux: the other end was closed
        return b""


def test_a_long_page_goes_through_the_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\nexec cat\n")
    pager.chmod(0o755)
    shown = on_a_terminal(["help", "versions"], PAGER=str(pager))
    assert shown == "paged\n" + page_text(read_pages()["versions"], read_pages(), 80)
    assert not on_a_terminal(["help"], PAGER=str(pager)).startswith("paged")


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_headings_are_bold_unless_colour_is_unwanted() -> None:
    bold = "\x1b[1m# Versions\x1b[0m"
    assert bold in on_a_terminal(["help", "versions"], LESS="-RFX", LINES="1000")
    assert "\x1b" not in on_a_terminal(["help", "versions"], LINES="1000", NO_COLOR="1")
