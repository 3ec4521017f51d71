"""Formats of users: the example of the page, entry points, and plug-ins that are broken in each way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.importers import plugins
from bench.records.file import load
from tests import ROOT
from tests.support.damage import call
from tests.support.plugins import install_package

PAGE = (ROOT / "bench" / "docs" / "own_formats.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"<!-- example: kernelbench.py -->\n```python\n(.*?)```", PAGE, re.S)
INPUT = re.search(r"```text\n(kernelbench .*?)```", PAGE, re.S)
assert EXAMPLE is not None
assert INPUT is not None
SOURCE, TEXT = EXAMPLE[1], INPUT[1]
CASE = """
from bench.importers.reading import ImportedCase, ImportedText
def read(text, hints):
    return ImportedText(tool="own", version=None, format="text", readings=({case},))
"""
GOOD = 'ImportedCase(suite="own", params={"op": "x"}, num_ranks=1, seconds=(1.0,))'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text(TEXT)


def imported(source: str, *options: str) -> tuple[int, str]:
    Path("own.py").write_text(source)
    return call("import", "--from", "./own.py", "in.txt", "-o", "out.jsonl", *options)


def test_the_example_of_the_page_is_short_and_reads_its_text() -> None:
    assert len(SOURCE.splitlines()) <= 60
    code, output = imported(SOURCE)
    assert (code, "3 cases of kernelbench" in output) == (0, True), output
    result = load(Path("out.jsonl"))
    assert [record.case for record in result.measurements] == [
        "kernelbench/matmul[dtype=bfloat16,n=4096]",
        "kernelbench/matmul[dtype=bfloat16,n=8192]",
        "kernelbench/softmax[dtype=float32,n=8192]",
    ]
    samples = [record.variants["full"].nanoseconds for record in result.measurements]
    assert [matrix.tolist() for matrix in samples if matrix is not None] == [[[412500]], [[3051000]], [[38250]]]
    assert result.architecture == "1 x NVIDIA H200"


def test_the_example_names_rows_and_lines_that_it_cannot_read() -> None:
    Path("in.txt").write_text("\x1b[1m" + TEXT + "matmul n=1 dtype=int8: nan us\nwhat is this\n")
    code, output = imported(SOURCE)
    assert code == 3
    assert "1 row could not be read: line 5: matmul n=1" in output
    assert "1 unknown line, not used: line 6: what is this" in output
    assert "colour codes (1 line)" in output


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "'./own.py' is not an importer: it defines no function read(text, hints)"),
        ("def read(text, hints): ...\nlooks_like = 1", "'./own.py' is not an importer: looks_like is not a function"),
        ("def read(text, hints)", "importer 'own.py' cannot be imported: SyntaxError: "),
        ("import nowhere_at_all", "importer 'own.py' cannot be imported: ModuleNotFoundError: "),
        ("import sys; sys.exit(0)", "importer 'own.py' cannot be imported: SystemExit: 0"),
        ("def read(text, hints): return {}['us']", "importer ./own.py: read() raised KeyError: 'us' (own.py, line 1)"),
        ("import os\ndef read(text, hints): os._exit(1)", "importer ./own.py: read() raised SystemExit: os._exit(1)"),
        ("def read(text, hints): return []", "has to return bench.importers.reading.ImportedText; it returned []"),
        (CASE.format(case="1"), "readings has to hold ImportedCase alone"),
        (
            CASE.format(case=GOOD.replace("1.0", "0.0")),
            "seconds has to hold numbers above 0, at most 1,000,000,000; it is in",
        ),
        (CASE.format(case=GOOD.replace("1.0", "'1'")), "seconds has to hold numbers above 0"),
        (CASE.format(case=GOOD.replace("1.0,", "")), "seconds if, and only if, its status is ok"),
        (CASE.format(case=GOOD.replace('"op"', '"kind"')), "params needs `op`, a str"),
        (CASE.format(case=GOOD.replace('"x"', "[1]")), "params has to be a dict of names"),
        (CASE.format(case=GOOD.replace('"own"', '"a/b"')), "suite has to be a name"),
        (CASE.format(case=GOOD.replace("num_ranks=1", "num_ranks=0")), "num_ranks has to be 1 to"),
        (CASE.format(case=GOOD.replace("seconds", "work=5, seconds")), "read() returned values of a wrong type:"),
        (CASE.format(case=GOOD.replace("seconds", "notes=5, seconds")), "notes has to be a tuple of str"),
        (CASE.format(case=GOOD.replace("seconds", "notes='mean', seconds")), "notes has to be a tuple of str"),
        (CASE.format(case=GOOD.replace("1.0", "1e300")), "seconds has to hold numbers above 0, at most"),
        (
            CASE.format(case=GOOD.replace("seconds", "derived={'x': float('nan')}, seconds")),
            "derived has to hold finite numbers or None",
        ),
        (
            CASE.format(case=GOOD).replace("version=None", "version=1.4"),
            "Expected `str | null`, got `float`; fix the file",
        ),
        ("from bench.errors import BenchError\ndef read(text, hints): raise BenchError('not mine')", "not mine"),
    ],
)
def test_a_mistake_of_a_plug_in_is_one_line(source: str, message: str) -> None:
    code, output = imported(source)
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith("bench: error: ")
    assert message in output
    assert not Path("out.jsonl").exists()


def test_cases_that_become_one_are_named() -> None:
    code, output = imported(CASE.format(case=f"{GOOD}, {GOOD}"))
    assert (code, "note: 2 cases are own/x in launch 0, and become its samples; give them" in output) == (0, True)


def test_names_that_are_no_format() -> None:
    code, output = call("import", "--from", "nothing", "in.txt", "-o", "out.jsonl")
    assert (code, output.count("\n")) == (2, 1)
    assert "--from nothing: no such format; there are: pytest-benchmark, nvbandwidth, nccl-tests, " in output
    code, output = call("import", "--from", "./missing.py", "in.txt", "-o", "out.jsonl")
    assert (code, "no importer file 'missing.py'; give the path of a .py file" in output) == (2, True), output


def test_installed_formats_are_known_by_name_and_by_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Path("site")
    site.mkdir()
    install_package(site, "good", {"kernelbench": "of_good"}, "bench.importers", of_good=SOURCE)
    install_package(site, "bad", {"a_broken": "of_bad"}, "bench.importers", of_bad="raise RuntimeError('oh')")
    monkeypatch.syspath_prepend(str(site))
    assert plugins.installed_names() == ["a_broken", "kernelbench"]
    code, output = call("import", "in.txt", "-o", "out.jsonl")
    assert (code, "3 cases of kernelbench" in output) == (0, True), output
    assert "note: importer 'a_broken' cannot be imported: RuntimeError: oh (of_bad.py, line 1)" in output
    assert call("import", "--from", "kernelbench", "in.txt", "-o", "named.jsonl")[0] == 0
    Path("in.txt").write_text("hello\n")
    code, output = call("import", "in.txt", "-o", "no.jsonl")
    assert code == 2
    assert "a_broken, kernelbench; say --from TOOL" in output
    assert "RuntimeError: oh" in output
    with pytest.raises(BenchError, match="cannot be imported: RuntimeError: oh"):
        plugins.load("a_broken")
