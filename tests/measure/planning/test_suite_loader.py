"""How suites are found, what is refused as one, and what their cases are called."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bench
import suites
from bench.errors import BenchError
from bench.measure.planning.suite_contract import ContractError
from bench.measure.planning.suite_loader import Suite, builtin_names, entry_point_names, load, load_all
from bench.suite import Case, Check, Param, SuiteMetric, Work, case_id
from tests import ROOT
from tests.support.plugins import install_package
from tests.support.ranks import cpu_machine

SCRIPT = Path(sysconfig.get_path("scripts")) / "bench"
MINE = '''"""Mine: two cases.

More of it.
"""


def cases(machine):
    yield {"size": machine.world_size}
    yield {"size": 8, "dtype": "float64"}


def prepare(params, rank):
    raise AssertionError("listing prepares nothing")


DEFAULTS = {"dtype": "float32"}
'''
MODULES_OF_TORCH = {
    "bench.workloads.model.bit_repeats",
    "bench.workloads.model.host_memory",
    "bench.workloads.model.transfers",
    "bench.workloads.model.output_sketch",
    "bench.workloads.model.timed_results",
    "bench.workloads.storage.checkpoint_looks",
    "bench.workloads.training.step_looks",
    "bench.workloads.model.numerics",
    "bench.workloads.parallel.tensor_async",
    "bench.workloads.model.attention",
    "bench.workloads.trace.communication",
    "bench.workloads.parallel.context_check",
    "bench.workloads.parallel.context",
    "bench.workloads.training.data_parallel",
    "bench.workloads.parallel.expert",
    "bench.workloads.training.inference",
    "bench.workloads.model.llama",
    "bench.workloads.training.parallelize",
    "bench.workloads.parallel.pipeline",
    "bench.workloads.parallel.pipeline_check",
    "bench.workloads.trace.side_streams",
    "bench.workloads.parallel.tensor",
    "bench.workloads.parallel.torch_schedules",
    "bench.workloads.training.training_step",
    "bench.workloads.model.transformer",
    "bench.workloads.parallel.uneven_pipeline",
    "bench.workloads.storage.checkpoints",
}
"""Tensor code that suites import inside prepare; no other module may import torch when it is imported itself."""


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def complaint_of(path: Path, text: str) -> str:
    with pytest.raises(BenchError) as caught:
        load(write(path, text))
    return str(caught.value)


def python(*arguments: str, cwd: Path, first_on_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder) for folder in (first_on_path, ROOT) if folder is not None)
    command = [sys.executable, *arguments]
    environ = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False)


# Finding


def test_built_in_suites_are_found_by_name() -> None:
    assert {"collective", "compute", "pipeline_parallel", "tensor_parallel"} <= set(builtin_names())
    assert not [name for name in builtin_names() if name.startswith("_")]
    compute = load("compute")
    assert (compute.name, compute.reference) == ("compute", "compute")


def test_a_file_is_found_by_path(tmp_path: Path) -> None:
    mine = load(write(tmp_path / "mine.py", MINE))
    assert (mine.name, mine.summary) == ("mine", "Mine: two cases.")
    assert mine.reference == str(tmp_path / "mine.py")
    assert mine.cases(cpu_machine(3)) == [{"size": 3, "dtype": "float32"}, {"size": 8, "dtype": "float64"}]
    assert (mine.choices, mine.metrics) == ({}, {})
    assert mine.memory_bytes({}, cpu_machine(3)) is None


def test_a_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.py", MINE)
    monkeypatch.chdir(tmp_path)
    assert load("mine.py").digest == load("./mine.py").digest


def test_entry_points_are_found_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suites = {
        "theirs": "plugin_of_a_stranger",
        "broken": "no_such_module_of_a_stranger",
        "function": "plugin_of_a_stranger:cases",
    }
    install_package(tmp_path, "strangers", suites, plugin_of_a_stranger=MINE)
    monkeypatch.syspath_prepend(tmp_path)
    assert entry_point_names() == ["broken", "function", "theirs"]
    assert load("theirs").name == "theirs"
    with pytest.raises(BenchError, match="suite 'broken' cannot be imported: ModuleNotFoundError: No module named"):
        load("broken")
    with pytest.raises(BenchError, match="'function' is not a suite: it is function, not a module with a file"):
        load("function")
    with pytest.raises(BenchError, match=r"no suite named 'other'; there are: .*compute, .*, broken, function, theirs"):
        load("other")
    sys.modules.pop("plugin_of_a_stranger")


def test_a_damaged_package_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torn", "binary", "whole"):
        install_package(tmp_path, name, {f"of_{name}": f"plugin_of_{name}"}, **{f"plugin_of_{name}": MINE})
    (tmp_path / "torn-1.0.dist-info" / "entry_points.txt").write_text("of_torn = plugin_of_torn\n[bench.suites")
    (tmp_path / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(bytes(range(256)))
    monkeypatch.syspath_prepend(tmp_path)
    assert entry_point_names() == ["of_whole"]
    assert load("of_whole").summary == "Mine: two cases."
    sys.modules.pop("plugin_of_whole")


def test_two_suites_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a" / "mine.py", MINE), write(tmp_path / "b" / "mine.py", MINE)
    assert [suite.name for suite in load_all([one, "compute", one])] == ["mine", "compute"]
    with pytest.raises(BenchError, match=re.escape(f"two suites are named 'mine' ({one} and {two}); rename one")):
        load_all([one, two])
    own = write(tmp_path / "compute.py", MINE)
    with pytest.raises(BenchError, match="two suites are named 'compute'"):
        load_all(["compute", own])


# Refusing


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("nothing", "no suite named 'nothing'; there are: checkpoint, collective, compute"),
        ("", "no suite named ''"),
        ("_exact", "no suite named '_exact'"),
        ("./nothing.py", "no suite file 'nothing.py'"),
        ("no/such/folder", "no suite file 'no/such/folder'"),
        ("suites.compute", "no suite named 'suites.compute'"),
    ],
)
def test_an_unknown_suite_is_named(reference: str, complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        load(reference)


def test_what_is_no_python_file_is_refused(tmp_path: Path) -> None:
    assert complaint_of(tmp_path / "mine.txt", MINE).endswith("mine.txt' is not a Python file; a suite is a .py file")
    with pytest.raises(BenchError, match="no suite file"):
        load(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import os\ndef cases(:\n", "SyntaxError: invalid syntax (mine.py, line 2); fix the file"),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero (mine.py, line 3); fix the file"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' (mine.py, line 1)"),
        ("import json\njson.loads('')\n", "Expecting value: line 1 column 1 (char 0) (mine.py, line 2)"),
        ("raise SystemExit(0)\n", "SystemExit: 0 (mine.py, line 1); fix the file"),
        ("\x00", "source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_breaks_is_named_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    said = complaint_of(tmp_path / "mine.py", text)
    assert said.startswith(f"suite '{tmp_path}/mine.py' cannot be imported: ")
    assert complaint in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "defines no function cases()"),
        ("def prepare(params, rank): ...\n", "defines no function cases()"),
        ("cases = []\ndef prepare(params, rank): ...\n", "defines no function cases()"),
        ("def cases(machine): ...\n", "defines no function prepare()"),
        (
            f"{MINE}DEFAULTS = ['dtype']\n",
            "DEFAULTS is ['dtype']; it has to be a dict of str to bool, int, finite float or str",
        ),
        (f"{MINE}DEFAULTS = {{'size': None}}\n", "DEFAULTS is {'size': None}"),
        (f"{MINE}CHOICES = {{'size': 4}}\n", "CHOICES is {'size': 4}; it has to be a dict of str to a tuple of values"),
        (f"{MINE}CHOICES = {{'dtype': 'float32'}}\n", "CHOICES is {'dtype': 'float32'}"),
        (
            f"{MINE}METRICS = {{'speed': 'GB/s'}}\n",
            "METRICS is {'speed': 'GB/s'}; it has to be a dict of str to (unit, higher",
        ),
        (f"{MINE}METRICS = {{'speed': ('GB/s', 'up')}}\n", "METRICS is {'speed': ('GB/s', 'up')}"),
        (f"{MINE}METRICS = {{'speed': ('GB/s', 'higher', 3)}}\n", "(unit, higher | lower | neither, a sentence on it)"),
        (f"{MINE}MACHINERY = 'os'\n", "MACHINERY is 'os'; it has to be a tuple of names of modules"),
        (f"{MINE}MACHINERY = ('bench.nothing',)\n", "MACHINERY names 'bench.nothing', and there is no such module"),
        (f"{MINE}MACHINERY = ('nothing.at_all',)\n", "MACHINERY names 'nothing.at_all': ModuleNotFoundError"),
        (f"{MINE}MACHINERY = ('sys',)\n", "MACHINERY names 'sys', and there is no such module with a file"),
        (f"{MINE}memory = 3\n", "memory is 3; it has to be a function"),
        (f"{MINE}min_seconds = 'long'\n", "min_seconds is 'long'; it has to be a function"),
        (f"{MINE}PRODUCTS_IN = 3\n", "PRODUCTS_IN is 3; it has to be the name of a parameter"),
    ],
)
def test_a_module_that_does_not_keep_the_contract_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    said = complaint_of(tmp_path / "mine.py", text)
    assert complaint in said
    assert "mine.py" in said


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "return 4",
            "cases() has to return dicts of parameters, or yield them; it returned 4 (mine.py, cases, line 1)",
        ),
        ("return {'size': 4}", "cases() has to return dicts of parameters, or yield them; it returned {'size': 4}"),
        ("return None", "it returned None (mine.py, cases, line 1)"),
        ("yield {}['size']", "suite mine: cases() raised KeyError: 'size' (mine.py, line 2); fix the file"),
        ("yield 'size'", "suite mine: cases() yielded 'size'; yield a dict"),
        ("yield {'size': None}", "cases() yielded {'size': None}; yield a dict"),
        ("yield {1: 2}", "cases() yielded {1: 2}; yield a dict"),
        ("yield {'share': float('nan')}", "cases() yielded {'share': nan}; yield a dict"),
    ],
)
def test_cases_that_break_or_are_none_are_named(tmp_path: Path, body: str, complaint: str) -> None:
    text = f"def cases(machine):\n    {body}\ndef prepare(params, rank): ...\n"
    mine = load(write(tmp_path / "mine.py", text))
    with pytest.raises(BenchError, match=re.escape(complaint)):
        mine.cases(cpu_machine(2))


def work_with(**fields: Any) -> Work:
    return Work(**{"variants": {"full": dict}, "check": lambda: (0.0, 0.0)} | fields)


@pytest.mark.parametrize(
    ("work", "complaint"),
    [
        (None, r"^prepare\(\) has to return bench.suite.Work; it returned None \(test_suite_loader.py, line \d+\)$"),
        (work_with(variants={}), "^Work.variants has to be a dict of names to functions, at least one; it is {} "),
        (
            work_with(variants={"full": 3}),
            r"Work.variants has to be .*; it is {'full': 3} \(test_suite_loader.py, line",
        ),
        (work_with(variants={"a b": dict}), "Work.variants has the name 'a b'; names of variants and metrics"),
        (work_with(check=None), "^Work.check has to be a function, since an unchecked speed .*; it is None"),
        (work_with(reset=3), "^Work.reset has to be a function or None; it is 3"),
        (work_with(close="x"), "^Work.close has to be a function or None; it is 'x'"),
        (work_with(clock="gpu"), "^Work.clock has to be 'device' or 'host'; it is 'gpu'"),
        (work_with(bytes=1.5), "^Work.bytes has to be a whole number or None; it is 1.5"),
        (work_with(flops=float("nan")), "^Work.flops has to be a finite number or None; it is nan"),
        (work_with(notes="one"), "^Work.notes has to be a tuple of str; it is 'one'"),
        (work_with(check_after=None), "^Work.check_after has to be True or False; it is None"),
    ],
)
def test_prepare_must_give_work_that_can_be_timed_and_checked(work: object, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        a_suite(prepare=lambda params, rank: work).prepare({}, None)  # type: ignore[arg-type]


def test_prepare_gets_parameters_of_its_own() -> None:
    def prepare(params: dict[str, Param], rank: object) -> Work:
        params.clear()
        return Work(variants={"full": dict}, check=lambda: (0.0, 0.0))

    params: dict[str, Param] = {"size": 8}
    a_suite(prepare=prepare).prepare(params, None)  # type: ignore[arg-type]
    assert params == {"size": 8}


# Identity


def a_suite(**tables: Any) -> Suite:
    module = ModuleType("s")
    module.__dict__.update(tables)
    return Suite(name="s", reference="s", summary="", module=module)


@pytest.mark.parametrize(
    ("params", "defaults", "text"),
    [
        (
            {"op": "all_reduce", "num_bytes": 1048576, "timing": "streamed"},
            {},
            "s/all_reduce[num_bytes=1048576,timing=streamed]",
        ),
        ({"timing": "streamed", "num_bytes": 8, "op": "x"}, {"timing": "streamed"}, "s/x[num_bytes=8]"),
        ({"op": "barrier", "timing": "aligned"}, {"timing": "aligned"}, "s/barrier"),
        ({}, {}, "s/run"),
        ({"share": 0.5, "wide": True, "deep": False}, {}, "s/run[deep=false,share=0.5,wide=true]"),
        ({"n": True}, {"n": 1}, "s/run[n=true]"),
        ({"n": 1}, {"n": True}, "s/run[n=1]"),
        ({"n": 0}, {"n": False}, "s/run[n=0]"),
        ({"n": True}, {"n": True}, "s/run"),
        ({"n": 1}, {"n": 1}, "s/run"),
        ({"n": "1"}, {"n": 1}, "s/run[n=1]"),
        ({"op": "add"}, {"op": "add"}, "s/add"),
        ({"op": "add", "b": 1, "B": 2, "a": 3}, {}, "s/add[B=2,a=3,b=1]"),
    ],
)
def test_ids_leave_out_what_is_at_its_default(
    params: Mapping[str, Param], defaults: Mapping[str, Param], text: str
) -> None:
    assert case_id("s", params, defaults) == text


def test_a_case_has_all_parameters_in_one_order_whatever_was_given() -> None:
    suite = a_suite(DEFAULTS={"dtype": "float32"})
    case = Case("s", (("dtype", "float32"), ("op", "add"), ("size", 8)), "s/add[size=8]")
    assert suite.case({"size": 8, "op": "add"}) == case
    assert suite.case({"dtype": "float32", "op": "add", "size": 8}) == case


def test_a_new_parameter_at_its_default_renames_no_case() -> None:
    before, after = a_suite(DEFAULTS={}), a_suite(DEFAULTS={"graph": False})
    assert before.case({"size": 8}).id == after.case({"size": 8}).id


def test_a_check_holds_up_to_its_tolerance_and_never_for_nan() -> None:
    assert Check(0.5, 0.5).passed
    assert not Check(0.51, 0.5).passed
    assert not Check(float("nan"), 1.0).passed


# What is in the way


def test_another_package_named_suites_is_named_with_its_file(tmp_path: Path) -> None:
    write(tmp_path / "suites" / "__init__.py", "raise RuntimeError('not to be run')\n")
    write(tmp_path / "suites" / "compute.py", MINE)  # would pass for the built-in suite
    done = python("-P", "-m", "bench", "list", "compute", cwd=tmp_path, first_on_path=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"another package named `suites` is in the way: {tmp_path}/suites/__init__.py; move it" in line
    assert done.stdout == ""


def test_the_command_works_beside_a_bench_and_suites_of_the_user_s(tmp_path: Path) -> None:
    write(tmp_path / "bench.py", "raise RuntimeError('not to be run')\n")
    write(tmp_path / "suites" / "__init__.py", "raise RuntimeError('not to be run')\n")
    done = python("-P", "-m", "bench", "list", "compute", "--preset", "smoke", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compute/matmul" in done.stdout


@pytest.mark.skipif(not SCRIPT.exists(), reason="the command is not installed in this environment")
def test_the_installed_command_works_beside_them_too(tmp_path: Path) -> None:
    write(tmp_path / "bench.py", "raise RuntimeError('not to be run')\n")
    write(tmp_path / "suites" / "__init__.py", "raise RuntimeError('not to be run')\n")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(SCRIPT), "list", "compute"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "compute/matmul" in done.stdout


# Importing


def modules() -> list[str]:
    return [
        found.name
        for package in (bench, suites)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if found.name != "bench.__main__"
    ]


def test_importing_does_nothing_and_brings_no_torch(tmp_path: Path) -> None:
    names = [name for name in modules() if name not in MODULES_OF_TORCH]
    assert {
        "bench.cli",
        "bench.records.rows",
        "bench.analysis.compare.comparison",
        "bench.measure.planning.plan",
        "bench.suite",
        "bench.report.result_tables",
    } <= set(names)
    program = f"""
import importlib, os, sys, threading
environ = dict(os.environ)
for name in {names!r}:
    importlib.import_module(name)
    heavy = {{"torch", "matplotlib"}} & set(sys.modules)
    assert not heavy, f"importing {{name}} brings {{heavy}}"
assert dict(os.environ) == environ
assert threading.active_count() == 1
"""
    done = python("-P", "-c", program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(MODULES_OF_TORCH))
def test_the_exceptions_are_those_that_do_import_torch(name: str) -> None:
    values = importlib.import_module(name).__dict__.values()
    torch = sys.modules["torch"]
    assert any(value in (torch, torch.Tensor) for value in values if isinstance(value, type | ModuleType))


def test_a_row_of_metrics_may_lack_the_sentence(tmp_path: Path) -> None:
    suite = tmp_path / "mine.py"
    suite.write_text(f"{MINE}METRICS = {{'old': ('GB/s', 'higher'), 'new': ('s', 'lower', 'Time of a call.')}}\n")
    assert load(str(suite)).metrics == {
        "old": SuiteMetric("GB/s", "higher", ""),
        "new": SuiteMetric("s", "lower", "Time of a call."),
    }


def test_every_metric_of_a_suite_has_a_sentence() -> None:
    rows = {name: row for suite in builtin_names() for name, row in load(suite).metrics.items()}
    assert rows
    assert not [name for name, row in rows.items() if not re.fullmatch(r"[A-Z].*\.", row.meaning)]
