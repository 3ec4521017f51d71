"""Hostile texts in every free field of the schema, through every form of output of every command that reads files.

A fixed seed. The quick tests take few files; those marked `long` take many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.support import obeyed
from tests.support.damage import call, text_of
from tests.support.hostile import HOSTILE_FILES, HostileFile, all_free_texts, full_lines

EXPECTED_CODES = {0, 1, 2, 3}
QUICK, MANY = 4, 400
COMMANDS: dict[str, tuple[str, ...]] = {
    "show {bad}": ("table",),
    "show {bad} --wide --ids": ("table",),
    "show {bad} {good} --format markdown": ("markdown",),
    "show {bad} --format csv": ("csv",),
    "show {bad} --format json": ("json",),
    "show {bad} --ranks": ("table",),
    "show {bad} --ranks --format markdown": ("markdown",),
    "show {bad} --ranks --format csv": ("csv",),
    "show {bad} --ranks --format json": ("json",),
    "show {bad} --brief": ("table",),
    "show {bad} --brief --format markdown": ("markdown",),
    "show {bad} -o {out}/o.csv": ("table", "csv"),
    "show {bad} -o {out}/o.md": ("table", "markdown"),
    "show {bad} -o {out}/o.json": ("table", "json"),
    "show {bad} -o {out}/o.pytest-benchmark.json": ("table", "json"),
    "show {bad} -o {out}/o.continuous.json": ("table", "json"),
    "show {bad} -o {out}/o.bmf.json": ("table", "json"),
    "show {bad} --share -o {out}/o.jsonl": ("table",),
    "compare {good} {bad} --allow-unlike": ("table",),
    "compare {bad} {good} --all --environments --allow-unlike": ("table",),
    "compare {bad} {good} --allow-unlike --format markdown": ("markdown",),
    "compare {good} {bad} --allow-unlike --format json": ("json",),
    "compare {good} {bad} --allow-unlike --format csv": ("csv",),
    "compare {good} {bad} --allow-unlike --format junit": ("junit",),
    "compare {good} {bad} --allow-unlike --format github --fail-slower 1%": ("github",),
    "compare {bad} {good} {bad} --among host --allow-unlike": ("table",),
    "compare {bad} {good} {bad} --among rank --allow-unlike --format markdown": ("markdown",),
    "compare {bad} {good} {bad} --among host --allow-unlike --format csv": ("csv",),
    "compare {one} {bad} --where op=none": ("table",),
    "compare {one} {bad}": ("table",),
    "explain {bad}": ("table",),
    "explain {bad} --all --waterfall": ("table",),
    "explain {bad} --format markdown": ("markdown",),
    "explain {bad} --format json": ("json",),
    "explain {bad} --format csv": ("csv",),
    "predict --from {bad} --model llama3-1b --gpus 1 --precision fp32 --memory-gb 100": ("table",),
    "predict --from {bad} --model llama3-1b --gpus 1 --precision fp32 --memory-gb 100 --all --format markdown": (
        "markdown",
    ),
    "mix {bad}=2 {good}=2": ("table",),
    "mix {bad}=2 {good}=2 --all --format markdown": ("markdown",),
    "mix {bad}=2 {good}=2 --format csv": ("csv",),
    "list {bad}": ("table",),
}
"""Command -> the form of what it prints, then that of what it saves."""
REPORTS: dict[str, tuple[str, ...]] = {
    "report {bad} -o {out}/o.html": ("table", "html"),
    "report {bad} {good} -o {out}/o.html": ("table", "html"),
    "report {bad} {good} {bad} -o {out}/o.md": ("table", "markdown"),
    "report {good} {bad} -o {out}/plots": ("table", "svg"),
}
NEVER_WELL = {
    "compare {one} {bad} --where op=none": 2,
    "compare {good} {bad} --allow-unlike --format github --fail-slower 1%": 2,
    "list {bad}": 2,
}
"""Command -> its exit code if nothing in the file is hostile; 0 for the others."""
MOSTLY_REFUSED = [command for command in COMMANDS if command.startswith("predict")]
"""Commands that refuse a file of which a word that they know was replaced."""
FORMS = {".csv": "csv", ".md": "markdown", ".json": "json", ".html": "html", ".svg": "svg"}
SAFE_NAME = "abcdefghijklmnopqrstuvwxyz0123456789_.-"


def check(command: str, forms: tuple[str, ...], files: dict[str, str], folder: Path) -> int:
    """Call the command and look at all that it wrote; returns its exit code."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    for left in sorted(out.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    before = {path for path in folder.rglob("*") if out not in path.parents}
    code, printed = call(*(word.format(out=out, **files) for word in command.split()))
    assert code in EXPECTED_CODES, (command, printed)
    assert "Traceback" not in printed
    is_refused = "bench: error:" in printed
    faults = obeyed.CHECKS["table" if is_refused else forms[0]](
        _own_words(printed, "table" if is_refused else forms[0])
    )
    assert not faults, (command, faults[:5])
    assert {path for path in folder.rglob("*") if out not in path.parents} == before
    for path in out.rglob("*"):
        assert set(path.name) <= set(SAFE_NAME), path
        if path.suffix in FORMS:
            found = obeyed.CHECKS[FORMS[path.suffix]](path.read_text(encoding="utf-8"))
            assert not found, (command, path.name, found[:5])
    return code


def _own_words(printed: str, form: str) -> str:
    """What is printed, without what else stderr got: warnings, and the gate's line."""
    if form == "table":
        return printed
    lines = printed.splitlines(keepends=True)
    aside = [line for line in lines if line.startswith(("warning: ", "gate"))]
    assert not obeyed.faults_of_terminal("".join(aside))
    return "".join(line for line in lines if line not in aside)


def each_file(num_files: int, look: Callable[[str], None]) -> None:
    @settings(
        max_examples=num_files,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to find a smaller file would take minutes
    )
    @given(HOSTILE_FILES)
    def each(file: HostileFile) -> None:
        look(file.text())

    each()


def look_with(
    commands: dict[str, tuple[str, ...]], folder: Path, num_files: int, is_tried_well: bool = True
) -> dict[str, set[int]]:
    """Exit codes of the commands; `is_tried_well`: first with a file in which nothing is hostile."""
    good, bad, one = folder / "good.jsonl", folder / "bad.jsonl", folder / "one.jsonl"
    good.write_text(text_of(list(full_lines())))
    one.write_text(text_of(list(full_lines())[:2]))
    files = {"good": str(good), "bad": str(bad), "one": str(one)}
    codes: dict[str, set[int]] = {command: set() for command in commands}
    bad.write_text(good.read_text())
    for command, forms in commands.items() if is_tried_well else ():
        assert check(command, forms, files, folder) == NEVER_WELL.get(command, 0), command

    def look(text: str) -> None:
        bad.write_text(text)
        for command, forms in commands.items():
            codes[command].add(check(command, forms, files, folder))

    each_file(num_files, look)
    return codes


@pytest.fixture(autouse=True)
def _no_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_schema_has_free_texts_in_every_kind_of_line() -> None:
    assert len(all_free_texts()) > 300
    assert {line["kind"] for line in full_lines()} == {"header", "measurement", "choices", "resume", "ranks", "end"}


def test_no_output_of_a_hostile_file_is_obeyed(tmp_path: Path) -> None:
    codes = look_with(COMMANDS, tmp_path, QUICK)
    assert {command for command, found in codes.items() if found == {2}} <= {*NEVER_WELL, *MOSTLY_REFUSED}


def test_no_page_of_a_hostile_file_is_obeyed(tmp_path: Path) -> None:
    command = "report {bad} {good} -o {out}/o.html"
    assert 0 in look_with({command: REPORTS[command]}, tmp_path, 1, is_tried_well=False)[command]


@pytest.mark.long
def test_no_output_of_many_hostile_files_is_obeyed(tmp_path: Path) -> None:
    codes = look_with(COMMANDS, tmp_path, MANY)
    assert {command for command, found in codes.items() if found == {2}} <= {*NEVER_WELL, *MOSTLY_REFUSED}


@pytest.mark.long
def test_no_page_of_many_hostile_files_is_obeyed(tmp_path: Path) -> None:
    codes = look_with(REPORTS, tmp_path, 20)
    assert all(0 in found for found in codes.values())


NAMES = ["\x1b[31m", "::error::evil", "##[error]evil", "\u202e", "=1+1", "<evil>", "`evil`", "@evil", "a b;c", "\udcff"]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_is_shown_as_text_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.jsonl"
    path.write_text(text_of(list(full_lines())))
    other = tmp_path / "other.jsonl"
    os.link(path, other)
    for command in (
        "show {bad} --format csv",
        "compare {bad} {good} --allow-unlike --format markdown",
        "show {bad} --brief",
    ):
        forms = COMMANDS.get(command, ("markdown",))
        words = [word.format(bad=path, good=other) for word in command.split()]
        code, printed = call(*words)
        assert code == 0, printed
        assert not obeyed.CHECKS[forms[0]](printed)
