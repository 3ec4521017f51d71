"""Findings of a run: state of its data, figures, remarks, correctness, and what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.findings import screen
from bench.analysis.findings.kinds import Correctness, DataState, Figure, Findings, NextStep, Unmeasured
from bench.analysis.findings.of_run import run_findings
from bench.records.file import load, load_many
from tests.support.results import MILLISECOND, end, header, measurement, not_ok, planned, save

SAVED = sorted(
    str(path) for pattern in ("reference/*.jsonl", "gpu/*/*.jsonl") for path in Path("results").glob(pattern)
)


def product(dtype: str, milliseconds: float, size: int = 1024, samples: int = 24, **fields: Any) -> dict[str, Any]:
    """A matrix product of 1 GFLOP per rank on two ranks."""
    kind = "" if dtype == "float32" else f"dtype={dtype},"
    case = f"compute/matmul[{kind}shape=square,size={size}]"
    rows = [[round(milliseconds * MILLISECOND)] * samples] * 2
    return measurement(case, rows, flops=2e9, flops_dtype=dtype, **fields)


def findings_of(tmp_path: Path, *records: dict[str, Any], **header_changes: Any) -> Findings:
    return run_findings(load(save(tmp_path / "run.jsonl", header(**header_changes), *records)))


def figures(findings: Findings, group: str = "reached") -> dict[str, Figure]:
    return {figure.name: figure for figure in findings.of_kind(Figure) if figure.group == group}


def state(findings: Findings) -> DataState:
    (found,) = findings.of_kind(DataState)
    return found


def test_types_are_held_against_the_fastest(tmp_path: Path) -> None:
    found = figures(findings_of(tmp_path, product("float32", 1.0), product("bfloat16", 50.0), end()))
    assert list(found) == ["matrix product, fp32", "matrix product, bf16"]
    assert found["matrix product, fp32"].text == "1.00 TFLOP/s per rank"
    assert found["matrix product, fp32"].share == 1.0
    assert found["matrix product, bf16"].text == "20.0 GFLOP/s per rank"
    assert found["matrix product, bf16"].share == pytest.approx(0.02)
    assert found["matrix product, bf16"].of == "2% of fp32"


def test_few_samples_have_two_digits_and_a_tilde(tmp_path: Path) -> None:
    findings = findings_of(tmp_path, product("float32", 1.234, samples=5), end())
    assert figures(findings)["matrix product, fp32"].text == "~810 GFLOP/s per rank"
    assert "fewer than 20 samples in 1 of 1 case" in state(findings).text


def test_a_slow_type_is_the_first_remark_with_its_ratio(tmp_path: Path) -> None:
    facts = {"settings": {"slow_types": ["bfloat16"]}}
    findings = findings_of(tmp_path, product("float32", 1.0), product("bfloat16", 62.0), end(), environment=facts)
    first = findings.remarks()[0]
    assert first.text == (
        "bf16 has no instructions on this processor and takes 62x as long as float32 in a product of 1024"
    )
    assert first.weight == pytest.approx(62)


def test_split_work_that_loses_to_one_device_is_named(tmp_path: Path) -> None:
    rows, alone = [[10 * MILLISECOND] * 24] * 2, [[2 * MILLISECOND] * 24] * 2
    case = "inference/decode[parallel=tensor]"
    findings = findings_of(tmp_path, measurement(case, rows, others={"one_device": alone}, tokens=4.0), end())
    (figure,) = figures(findings, "parallelism").values()
    assert (figure.name, figure.text) == ("decode split by tensor", "0.20x")
    (remark,) = findings.remarks()
    assert "over 2 ranks takes 5x as long as on one" in remark.text
    assert remark.remedy == "Serve a replica per device"


def test_split_work_that_gains_is_no_remark(tmp_path: Path) -> None:
    rows, alone = [[2 * MILLISECOND] * 24] * 2, [[3 * MILLISECOND] * 24] * 2
    findings = findings_of(tmp_path, measurement("tensor_parallel/mlp", rows, others={"one_device": alone}), end())
    assert figures(findings, "parallelism")["tensor parallel"].text == "1.5x"
    assert findings.remarks() == []


def test_parts_of_a_step_come_by_size_and_communication_is_a_remark(tmp_path: Path) -> None:
    shares = {"forward_share": 0.2, "backward_share": 0.4, "exposed_communication_share": 0.3, "waiting_share": 0.1}
    metrics = {name: ["share", "neither"] for name in shares}
    step = measurement(
        "training_step/run[shape=tiny]", [[MILLISECOND] * 24] * 2, derived=shares, metrics=metrics, tokens=8.0
    )
    findings = findings_of(tmp_path, step, end())
    assert [(f.name, f.text) for f in figures(findings, "step").values()] == [
        ("backward", "40%"), ("communication", "30%"), ("forward", "20%"), ("waiting", "10%"),
    ]  # fmt: skip
    assert findings.remarks()[0].text == "40% of a training step is communication and waiting"


def test_one_launch_is_rough_and_three_are_good(tmp_path: Path) -> None:
    assert state(findings_of(tmp_path, product("float32", 1.0), end())).quality == "rough"
    several = [product("float32", 1.0, launch=launch) for launch in range(3)]
    path = save(tmp_path / "three.jsonl", header(plan={"launches": 3}), *several, end())
    good = state(run_findings(load(path)))
    assert (good.quality, good.text) == ("good", "3 launches; no disturbance was seen.")


@pytest.mark.parametrize(("load_share", "quality"), [(0.03, "good"), (0.3, "rough"), (0.8, "useless")])
def test_load_by_others_decides_how_good_the_data_are(tmp_path: Path, load_share: float, quality: str) -> None:
    disturbance = {"hosts": [{"host": "a", "other_load_share": load_share, "other_load_noise_share": 0.0}], "ranks": []}
    records = [product("float32", 1.0, launch=launch, disturbance=disturbance) for launch in range(3)]
    assert state(findings_of(tmp_path, *records, end(), plan={"launches": 3})).quality == quality


def test_a_wrong_result_is_counted_and_named(tmp_path: Path) -> None:
    wrong = not_ok("collective/all_reduce[num_bytes=1024]", "invalid", "error 3 above tolerance 0")
    (correct,) = findings_of(tmp_path, product("float32", 1.0), wrong, end()).of_kind(Correctness)
    assert (correct.num_right, correct.num_wrong) == (1, 1)
    assert correct.text == "1 of 2 results: all_reduce 1 KiB: error 3 above tolerance 0"


def test_looks_at_timed_samples_are_counted_with_what_they_exclude(tmp_path: Path) -> None:
    def looked(size: int, *counts: int) -> list[dict[str, Any]]:
        check = {"error": 0.0, "tolerance": 0.0, "scope": "full", "error_after": 0.0, "error_timed": 0.0}
        checks = [check | {"timed_samples": count} for count in counts]
        return [product("float32", 1.0, size, launch=launch, check=each) for launch, each in enumerate(checks)]

    few, many = looked(1024, 5, 15), looked(2048, 400, 600)
    (correct,) = findings_of(tmp_path, *few, *many, end(), plan={"launches": 2}).of_kind(Correctness)
    words = "all 2 measured cases, checked before and after; 1,020 timed samples looked at, 20 in the median case"
    assert correct.text == f"{words}: faults in over 14% of its calls are excluded"
    earlier = product("float32", 1.0, 4096)
    (correct,) = findings_of(tmp_path / "other", *few, earlier, end(), plan={"launches": 2}).of_kind(Correctness)
    assert "20 timed samples looked at, 20 in the median of 1 cases" in correct.text


def test_cases_without_a_speed_are_grouped_by_reason(tmp_path: Path) -> None:
    left_out = [not_ok(f"compute/matmul[size={n}]", "skipped", "budget: no time was left") for n in (2, 4, 8)]
    other = not_ok("compute/matmul[size=16]", "skipped", "one rank has nobody to send to")
    broken = not_ok("compute/matmul[size=32]", "failed", "out of memory")
    cases = [planned(record["case"]) for record in (*left_out, other, broken)] + [planned("compute/matmul[size=64]")]
    plan = {"cases": cases, "budget_seconds": 60.0}
    found = findings_of(tmp_path, *left_out, other, broken, end("failed", 3), plan=plan).of_kind(Unmeasured)
    assert [(lacking.num_cases, lacking.text) for lacking in found] == [
        (1, "failed: out of memory"), (3, "out of time"), (1, "the run ended before"),
        (1, "one rank has nobody to send to"),
    ]  # fmt: skip
    assert found[1].remedy.endswith("--budget 2m")


def test_a_run_that_measured_nothing_says_why_and_what_to_type(tmp_path: Path) -> None:
    failed = end("failed", 3) | {"reason": "rank 0: the control message cannot be read"}
    findings = findings_of(tmp_path, failed, plan={"cases": [planned("compute/copy")]})
    assert state(findings) == DataState("useless", "nothing was measured: rank 0: the control message cannot be read")
    assert [step.command for step in findings.of_kind(NextStep)] == ["bench doctor"]
    assert "USELESS: nothing was measured: rank 0" in screen.show(findings, 100)


def test_a_run_that_failed_midway_says_why(tmp_path: Path) -> None:
    failed = end("failed", 3) | {"reason": "rank 1 was killed by SIGKILL"}
    assert (
        "The run failed: rank 1 was killed by SIGKILL."
        in state(findings_of(tmp_path, product("float32", 1.0), failed)).text
    )


def test_an_emulated_run_says_so_in_its_head(tmp_path: Path) -> None:
    ranks = [{"rank": r, "host": "a", "device_type": "cpu", "emulated_speed": 0.5 if r else None} for r in (0, 1)]
    assert "mulated" in findings_of(tmp_path, product("float32", 1.0), end(), environment={"ranks": ranks}).head


def test_a_suite_of_ones_own_has_its_figure(tmp_path: Path) -> None:
    findings = findings_of(tmp_path, measurement("mine/sum[size=2]", [[3 * MILLISECOND] * 24] * 2), end())
    assert figures(findings)["mine sum 2"].text == "3.00 ms"


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("path", [*SAVED, "results/evidence/data/epyc", "results/evidence/data/xeon"])
def test_the_screen_of_real_runs_keeps_its_room(path: str, width: int) -> None:
    for result in load_many([path])[:4]:
        shown = screen.lines(run_findings(result), width)
        assert len(shown) <= (30 if width >= 100 else 45)
        assert max(map(len, shown)) <= width
        assert any(line.startswith("REACHED") for line in shown)
