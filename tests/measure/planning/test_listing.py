"""What `bench list` prints, in every form; and that the suite it gives to start from is one."""

from __future__ import annotations

import csv
import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench.core.table import FORMATS
from bench.errors import BenchError, Skip
from bench.measure.planning import listing, suite_loader
from bench.measure.planning.cases import declared_machine
from bench.measure.planning.suite_loader import builtin_names, load
from tests.support.plans import lone_rank
from tests.support.ranks import cpu_machine, on_ranks, run_case

SCALES = ("smoke", "standard", "full")
"""Presets with cases of their own."""
TWO_CASES = '''"""Two cases."""
DEFAULTS = {"dtype": "float32"}


def cases(machine):
    yield {"op": "add", "size": 8 * machine.world_size}
    if machine.preset != "smoke":
        yield {"op": "add", "size": 8 * machine.world_size, "dtype": "float64", "exact": True}


def prepare(params, rank): ...
'''


@pytest.fixture
def two_cases(tmp_path: Path) -> str:
    path = tmp_path / "two.py"
    path.write_text(TWO_CASES)
    return str(path)


def test_the_template_is_a_suite_that_can_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(listing.template())
    mine = load(str(path))
    assert mine.summary == "Sum of a vector over all ranks, from the ranks' own parts."
    params = mine.cases(cpu_machine(2))[0]
    assert mine.case(params).id == "mine/run[num_elements=1024]"
    assert mine.memory_bytes(params, cpu_machine(2)) == 3 * 4096
    with pytest.raises(Skip, match="at least 2 ranks"):
        mine.prepare(params, lone_rank())
    for each in on_ranks(2, run_case, str(path), params):
        assert [check.passed for check in each["checks"]] == [True, True]
        assert (each["bytes"], each["bus_factor"]) == (4096, 1.0)


def test_cases_as_a_table(two_cases: str) -> None:
    assert listing.cases([two_cases], "smoke", 3, "cpu", "table").splitlines() == [
        "Cases of preset smoke on 3 cpu rank(s)",
        "case",
        "----------------",
        "two/add[size=24]",
    ]


def test_cases_as_markdown(two_cases: str) -> None:
    lines = listing.cases([two_cases], "full", 2, "cpu", "markdown").splitlines()
    assert lines[0] == "**Cases of preset full on 2 cpu rank(s)**"
    assert "| two/add[size=16] | dtype=float32, op=add, size=16 |" in lines
    assert "| two/add[dtype=float64,exact=true,size=16] | dtype=float64, exact=true, op=add, size=16 |" in lines


def test_cases_as_csv(two_cases: str) -> None:
    rows = list(csv.DictReader(io.StringIO(listing.cases([two_cases], "full", 2, "cpu", "csv"))))
    assert [row["case"] for row in rows] == ["two/add[size=16]", "two/add[dtype=float64,exact=true,size=16]"]
    assert rows[0]["parameters"] == "dtype=float32, op=add, size=16"


def test_cases_as_json_keep_their_types(two_cases: str) -> None:
    rows = json.loads(listing.cases([two_cases], "full", 2, "cpu", "json"))
    assert rows == [
        {"case": "two/add[size=16]", "parameters": {"dtype": "float32", "op": "add", "size": 16}},
        {
            "case": "two/add[dtype=float64,exact=true,size=16]",
            "parameters": {"dtype": "float64", "exact": True, "op": "add", "size": 16},
        },
    ]


def test_suites_are_counted_by_preset() -> None:
    rows = {row["suite"]: row for row in json.loads(listing.suites(4, "cpu", "json"))}
    assert list(rows) == builtin_names()
    for name, row in rows.items():
        suite = load(name)
        assert row["summary"] == suite.summary
        for preset in SCALES:
            assert row[preset] == len(suite.cases(declared_machine(4, "cpu", preset))) > 0


def test_a_broken_plugin_is_a_row_and_not_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plugin_whose_cases_break.py").write_text(TWO_CASES.replace("8 *", "8 / 0 *"))
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("gone", "no_such_module_of_a_stranger", "bench.suites"),
        EntryPoint("late", "plugin_whose_cases_break", "bench.suites"),
    ]
    monkeypatch.setattr(suite_loader, "entry_points", lambda group: points)
    rows = {row["suite"]: row for row in json.loads(listing.suites(2, "cpu", "json"))}
    assert {preset: rows["gone"][preset] for preset in SCALES} == dict.fromkeys(SCALES)
    assert rows["gone"]["summary"].startswith("cannot be used: suite 'gone' cannot be imported: ModuleNotFoundError")
    assert "cases() raised ZeroDivisionError" in rows["late"]["summary"]
    assert rows["compute"]["smoke"] > 0
    lines = listing.suites(2, "cpu", "table").splitlines()
    (gone,) = [line.split() for line in lines if line.startswith("gone ")]
    assert gone[1:4] == ["-", "-", "-"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_names_every_suite(form: str) -> None:
    text = listing.suites(2, "cpu", form)
    assert text.endswith("\n")
    assert all(name in text for name in builtin_names())


def test_what_cannot_be_listed_is_named() -> None:
    with pytest.raises(BenchError, match="no suite named 'nothing'"):
        listing.cases(["nothing"], "smoke", 2, "cpu", "table")
    with pytest.raises(BenchError, match="--format yaml"):
        listing.suites(2, "cpu", "yaml")
