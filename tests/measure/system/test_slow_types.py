"""Types without instructions: what torch is asked, what is planned then, and how it is told."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.planning.cases import choose_cases, limit_cases
from bench.measure.planning.presets import DEFAULT_SUITES, FURTHER_CASES, most_cases
from bench.measure.planning.suite_loader import load
from bench.measure.system import slow_types
from bench.records import findings
from bench.records.file import Result
from bench.records.file import load as load_result
from bench.records.rows import case_rows
from bench.report import result_tables
from tests.support.command import call, environ
from tests.support.command import saved as saved_file
from tests.support.ranks import cpu_machine
from tests.support.results import header, measurement, save

BF16 = frozenset({"bfloat16"})
ALL = (*DEFAULT_SUITES, *FURTHER_CASES["full"])


def ask(**variables: str) -> set[str]:
    """What a fresh process says: oneDNN reads its variables once."""
    code = "from bench.measure.system.slow_types import slow_types; print(*slow_types('cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ(**variables), timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN to keep from a path")
def test_a_masked_processor_is_seen_as_one_without_instructions() -> None:
    assert ask(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2") >= BF16


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN to ask")
@pytest.mark.parametrize("has_path", [True, False])
def test_torch_s_own_word_decides(has_path: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda: has_path)
    assert slow_types.slow_types("cpu") == (set() if has_path else {"bfloat16", "float16"})
    assert slow_types.slow_types("cuda") == set()


def test_without_onednn_short_types_are_slow_and_a_question_unknown_to_torch_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert slow_types.slow_types("cpu") == {"bfloat16", "float16"}
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(slow_types, "_QUESTIONS", {"bfloat16": "_no_such_question"})
    assert slow_types.slow_types("cpu") == set()


@pytest.mark.parametrize(("preset", "size"), [("smoke", 256), ("standard", 256), ("full", 128)])
def test_such_a_type_is_multiplied_at_the_smallest_size_alone(preset: str, size: int) -> None:
    machine = replace(cpu_machine(2, preset), slow_types=BF16)
    suites = [load(name) for name in ALL]
    planned = limit_cases(choose_cases(suites, machine, {}, []), most_cases(preset, 2))
    left = [case for case in planned if case.params.get("dtype") == "bfloat16"]
    assert [case.id for case in left if case.suite != "collective"] == [
        f"compute/matmul[dtype=bfloat16,shape=square,size={size}]"
    ]
    assert [case.id for case in left if case.suite == "collective"], "what moves data multiplies nothing"
    compute = [case.id for case in planned if case.suite == "compute"]
    base = compute.index(f"compute/matmul[shape=square,size={size}]")
    assert compute[base + 1] == f"compute/matmul[dtype=bfloat16,shape=square,size={size}]"
    usual = choose_cases(suites, replace(machine, slow_types=frozenset()), {}, [])
    assert "compute/matmul[dtype=bfloat16,shape=square,size=1024]" in [case.id for case in usual]


def test_it_can_be_asked_for_all_the_same() -> None:
    machine = replace(cpu_machine(2, "standard"), slow_types=BF16)
    suite = load("tensor_parallel")
    assert {case.params["dtype"] for case in choose_cases([suite], machine, {}, [])} == {"float32"}
    assert {case.params["dtype"] for case in choose_cases([suite], machine, {"dtype": ["bfloat16"]}, [])} == BF16


def product(dtype: str, size: int, nanoseconds: int) -> dict[str, Any]:
    name = "" if dtype == "float32" else f"dtype={dtype},"
    case = f"compute/matmul[{name}shape=square,size={size}]"
    return measurement(case, [[nanoseconds] * 20] * 2, flops=2.0 * 2 * size**3, flops_dtype=dtype)


def saved(path: Path, records: Sequence[dict[str, Any]], slow: Sequence[str] = ()) -> Result:
    settings = {"settings": {"slow_types": list(slow)}} if slow else {}
    return load_result(save(path / "file.jsonl", header(environment=settings), *records))


def shares(result: Result) -> dict[str, float | None]:
    return {row["case"]: row["percent_of_measured_ceiling"] for row in case_rows([result])}


def test_it_is_no_ceiling_of_its_own_and_the_finding_says_how_much_slower_it_is(tmp_path: Path) -> None:
    rows = [product("float32", 256, 200_000), product("float32", 1024, 9_000_000), product("bfloat16", 256, 12_400_000)]
    result = saved(tmp_path, rows, ["bfloat16"])
    assert list(shares(result).values()) == [pytest.approx(100 * 9 / 64 / 0.2), 100.0, None]
    (finding,) = findings.slow_type_findings(result)
    assert finding.line() == (
        "warn: bfloat16: this processor has no instructions for products in it: one of 256 takes 62x as long as in "
        "float32; compute in float32 here; only its smallest product was measured, and other suites leave it out"
    )
    assert finding.line() in result_tables.tables([result])


def test_alone_in_a_file_it_is_no_ceiling_either_and_its_slowness_is_not_known(tmp_path: Path) -> None:
    result = saved(tmp_path, [product("bfloat16", 256, 12_400_000)], ["bfloat16"])
    assert list(shares(result).values()) == [None]
    (finding,) = findings.slow_type_findings(result)
    assert finding.value == "this processor has no instructions for products in it"


def test_in_a_file_that_does_not_say_float32_shows_it(tmp_path: Path) -> None:
    rows = [product("float32", 256, 200_000), product("bfloat16", 256, 12_400_000)]
    result = saved(tmp_path, rows)
    assert list(shares(result).values()) == [100.0, None]
    assert findings.slow_type_findings(result) == []


def test_a_fast_short_type_is_its_ceiling(tmp_path: Path) -> None:
    rows = [product("float32", 256, 200_000), product("bfloat16", 256, 100_000)]
    assert list(shares(saved(tmp_path, rows)).values()) == [100.0, 100.0]


def test_what_only_moves_such_a_type_is_no_finding(tmp_path: Path) -> None:
    moved = measurement("collective/all_reduce[dtype=bfloat16,num_bytes=1024]", bytes=1024, bus_factor=1.0)
    assert findings.slow_type_findings(saved(tmp_path, [moved], ["bfloat16"])) == []


@pytest.mark.long
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN to keep from a path")
def test_a_run_on_such_a_processor_measures_it_small_and_ends_with_the_finding(tmp_path: Path) -> None:
    sizes = ("--set", "shape=square", "--set", "op=matmul", "--launches", "1", "--budget", "5m")
    masked = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = call("run", "compute", "--preset", "smoke", *sizes, "-o", str(tmp_path), **masked)
    assert done.returncode == 0, done.stderr
    rows = case_rows([load_result(saved_file(tmp_path).path)])
    short = [row for row in rows if row["params"]["dtype"] == "bfloat16"]
    assert [row["case"] for row in short] == ["compute/matmul[dtype=bfloat16,shape=square,size=256]"]
    assert [row["percent_of_measured_ceiling"] for row in short] == [None]
    said = " ".join(done.stdout[done.stdout.index("WHAT STANDS OUT") :].split())
    assert re.search(r"bf16 has no instructions .* takes [\d.]+x as long as float32 in a product of 256", said)
    assert "Compute in float32 here" in said
