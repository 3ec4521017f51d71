"""What `bench list` prints, in every form; and that the suite it gives to start from is one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from bench.core.table import FORMATS
from bench.errors import BenchError, Skip
from bench.measure.launchers.place import Place
from bench.measure.planning import listing
from bench.measure.planning.budget_fit import estimate_seconds
from bench.measure.planning.cases import declared_machine
from bench.measure.planning.options import RunOptions
from bench.measure.planning.planner import new_plan
from bench.measure.planning.presets import PRESETS, default_suites, most_cases
from bench.measure.planning.suite_loader import builtin_names, load
from bench.measure.planning.visit_overhead import CLOSING_SECONDS, startup_seconds
from tests.support.plans import lone_rank
from tests.support.plugins import install_package
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


def test_cases_have_a_short_name_beside_their_id(two_cases: str) -> None:
    assert listing.cases([two_cases], "full", 3, "cpu", "table").splitlines() == [
        "Cases of preset full on 3 cpu ranks",
        "case                 id, for --case",
        "--------------------------------------------------------------",
        "two add              two/add[size=24]",
        "two add fp64 exact   two/add[dtype=float64,exact=true,size=24]",
        "All of add: size=24",
    ]


def test_ids_that_have_no_room_are_one_option_away() -> None:
    table = listing.cases(["training_step"], "standard", 4, "cpu", "table", width=80)
    assert "training_step/run[" not in table
    assert "Ids, for --case: bench list training_step --ids" in table.splitlines()
    assert all(len(line) <= 80 for line in table.splitlines())
    ids = listing.cases(["training_step"], "standard", 4, "cpu", "table", ids=True).splitlines()
    suite = load("training_step")
    assert ids == [suite.case(row).id for row in suite.cases(declared_machine(4, "cpu", "standard"))]
    wide = listing.cases(["training_step"], "standard", 4, "cpu", "table", width=200)
    assert all(case in wide for case in ids)


def test_what_all_cases_share_stands_once_below_them() -> None:
    notes = [line for line in listing.cases(["compute"], "smoke", 2, "cpu", "table").splitlines() if "All of" in line]
    assert "All of compute: l2=warm" in notes
    assert "All of matmul: timing=aligned" in notes
    assert "All of training_step: batch=8" in listing.cases(["training_step"], "smoke", 2, "cpu", "table")


def test_cases_as_markdown(two_cases: str) -> None:
    lines = listing.cases([two_cases], "full", 2, "cpu", "markdown").splitlines()
    assert lines[0] == "**Cases of preset full on 2 cpu ranks**"
    assert "| two add | two/add[size=16] |" in lines
    assert "| two add fp64 exact | two/add[dtype=float64,exact=true,size=16] |" in lines


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
    assert sorted(rows) == builtin_names()
    for name, row in rows.items():
        suite = load(name)
        assert row["summary"] == suite.summary
        for preset in SCALES:
            assert row[preset] == len(suite.cases(declared_machine(4, "cpu", preset))) > 0


def test_a_broken_plugin_is_a_row_and_not_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suites = {"gone": "no_such_module_of_a_stranger", "late": "plugin_whose_cases_break"}
    broken = TWO_CASES.replace("8 *", "8 / 0 *")
    install_package(tmp_path, "strangers", suites, plugin_whose_cases_break=broken)
    monkeypatch.syspath_prepend(tmp_path)
    rows = {row["suite"]: row for row in json.loads(listing.suites(2, "cpu", "json"))}
    assert {preset: rows["gone"][preset] for preset in SCALES} == dict.fromkeys(SCALES)
    assert rows["gone"]["summary"].startswith("cannot be used: suite 'gone' cannot be imported: ModuleNotFoundError")
    assert "cases() raised ZeroDivisionError" in rows["late"]["summary"]
    assert rows["compute"]["smoke"] > 0
    lines = listing.suites(2, "cpu", "table").splitlines()
    (gone,) = [line.split() for line in lines if line.startswith("gone ")]
    assert gone[1:3] == ["-", "-"]


@pytest.mark.parametrize("world_size", [1, 2, 8])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_cases_of_a_default_run_are_those_that_are_planned(world_size: int, device: str) -> None:
    rows = json.loads(listing.suites(world_size, device, "json"))
    for name, preset in PRESETS.items():
        taken = {row["suite"]: row[f"{name}_by_default"] for row in rows if row[f"{name}_by_default"]}
        assert set(taken) == set(default_suites(preset, world_size))
        most = most_cases(name, world_size)
        for row in rows:
            if row["suite"] in taken:
                there = row[preset.of_suites]
                assert row[f"{name}_by_default"] == min(there, most.get(row["suite"], there)), row
                assert row[f"{name}_seconds"] > 0


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize(("world_size", "device"), [(1, "cpu"), (2, "cpu"), (8, "cuda")])
def test_the_suites_fit_the_terminal_a_line_each(width: int, world_size: int, device: str) -> None:
    lines = listing.suites(world_size, device, "table", width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 30
    names = [line.split()[0] for line in lines[3 : 3 + len(builtin_names())]]
    assert sorted(names) == builtin_names()
    assert names[0] == "compute"


@pytest.mark.parametrize(("preset", "launches", "left"), [("smoke", 1, 54.0), ("standard", 3, 225.0)])
def test_the_times_are_those_that_a_run_announces(preset: str, launches: int, left: float) -> None:
    """One guess of the planner, whoever asks for it."""
    rows = json.loads(listing.suites(2, "cpu", "json"))
    listed = sum(row[f"{preset}_seconds"] for row in rows)
    options = RunOptions(preset=preset, device="cpu")
    plan = new_plan(options, "cpu", Place(0, 2, 0, 2), None)
    assert plan.launches == launches
    around = launches * startup_seconds("cpu") + CLOSING_SECONDS
    assert min(left, listed + around) == pytest.approx(estimate_seconds(plan), abs=2.0 * launches)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (43.4, "43 s"), (89, "89 s"), (170, "3 min"), (5000, "83 min"), (10_860, "3 h")]
)
def test_a_guessed_time_has_few_digits(seconds: float, text: str) -> None:
    assert listing.show_guess(seconds) == text


@pytest.mark.parametrize(
    ("summary", "width", "short"),
    [
        ("Compute: what one device can do, alone and with all ranks at once.", 40, "What one device can do"),
        ("Compute: what one device can do, alone and with all ranks at once.", 80,
         "What one device can do, alone and with all ranks at once"),
        ("Latency, algorithm and bus bandwidth of it all", 30, "Latency, algorithm and bus ..."),
        ("Steps of a Llama-style model", 16, "Steps of a ..."),
        ("cannot be used: no such file", 80, "cannot be used: no such file"),
    ],
)  # fmt: skip
def test_a_summary_gives_way_at_a_clause(summary: str, width: int, short: str) -> None:
    assert listing.short_summary("compute", summary, width) == short


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
