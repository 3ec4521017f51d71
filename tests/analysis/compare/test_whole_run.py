"""A run as a whole, cases against the rest of it, and the kernels that no side changes, from saved files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare.comparison import Comparison, Settings, compare
from bench.analysis.comparison_output import comparison_screen, documents
from bench.analysis.comparison_output.comparison_screen import Screen
from bench.analysis.findings.kinds import Figure, Remark
from bench.analysis.findings.of_comparison import comparison_findings
from bench.cli import call
from bench.records.file import load
from tests.support.results import MILLISECOND, header, measurement, save

CASES = tuple(f"{suite}/op{number}" for suite in ("collective", "compute", "tensor_parallel") for number in range(4))
NOISE = (0.8, 1.25, 0.8, 1.25)
"""Factors of the launches of the base, which all cases share; those of the new side are the reverse."""


def saved(
    path: Path,
    noise: tuple[float, ...],
    factors: dict[str, float],
    everything: float = 1.0,
    controls: tuple[float, ...] = (),
) -> Path:
    rows: list[dict[str, Any]] = []
    for launch, of_launch in enumerate(noise):
        for number, case in enumerate(CASES):
            own = 1 + 0.004 * ((number * 7 + launch * 5) % 11 - 5)  # each case's own noise, within 2%
            milliseconds = 2 * of_launch * own * factors.get(case, 1.0) * everything
            samples = [round(milliseconds * MILLISECOND * (1 + 0.001 * n)) for n in range(10)]
            more: dict[str, Any] = {}
            if controls:
                kernels = {name: {"calls": 1, "nanoseconds": [[round(3e5 * controls[launch])] * 4]} for name in KERNELS}
                more = {"controls": kernels}
            rows.append(measurement(case, [samples], launch, **more))
    return save(path.with_suffix(".jsonl"), header(label=path.name), *rows)


KERNELS = ("compute", "copy")


def compared(base: Path, new: Path, **settings: Any) -> Comparison:
    return compare([load(base)], [[load(new)]], Settings(**settings))


def remarks(found: Comparison) -> list[str]:
    return [item.text for item in comparison_findings(found).items if isinstance(item, Remark)]


def row_of(found: Comparison, case: str) -> dict[str, Any]:
    return next(row for row in found.cases if row["case"] == case)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(tmp_path / "old", NOISE, {})


def test_a_case_is_decided_against_the_rest_if_whole_launches_vary(base: Path, tmp_path: Path) -> None:
    found = compared(base, saved(tmp_path / "pr", NOISE[::-1], {"collective/op1": 1.2}))
    slow = row_of(found, "collective/op1")
    assert (slow["verdict"], slow["relative_verdict"]) == ("unclear", "slower")
    assert slow["relative_change"] == pytest.approx(0.2, abs=0.03)
    assert slow["relative_low"] < 0.2 < slow["relative_high"]
    others = [row for row in found.cases if row["case"] != "collective/op1"]
    assert {row["verdict"] for row in others} == {"unclear"}
    assert not {"slower", "faster"} & {row["relative_verdict"] for row in others}
    [whole] = found.wholes
    assert (whole.num_cases, whole.judged.verdict) == (12, "unclear")
    assert whole.judged.change_low is not None
    assert whole.judged.change_low < 0 < (whole.judged.change_high or 0)
    [told] = [text for text in remarks(found) if "op1" in text]
    assert "slower than the rest of the run: 1.19x (1.16x to 1.23x)" in told
    assert "the run as a whole: no difference shown" in told


def test_a_change_of_everything_is_that_of_the_run_and_no_case_stands_out(base: Path, tmp_path: Path) -> None:
    steady = saved(tmp_path / "steady", (1.0, 1.01, 0.99, 1.0), {})
    found = compared(steady, saved(tmp_path / "pr", (1.0, 0.99, 1.01, 1.0), {}, everything=1.1))
    [whole] = found.wholes
    assert whole.judged.verdict == "slower"
    assert whole.judged.change == pytest.approx(0.1, abs=0.02)
    assert {row["relative_verdict"] for row in found.cases} <= {"same", "unclear"}
    assert "same" not in {row["verdict"] for row in found.cases}
    [figure] = [i for i in comparison_findings(found).items if isinstance(i, Figure) and "whole" in i.name]
    assert figure.value == pytest.approx(1.1, abs=0.02)
    text = comparison_screen.show(found, Screen(width=100))
    assert "the run as a whole" in text


def test_json_has_both_judgements_next_to_each_other(base: Path, tmp_path: Path) -> None:
    found = compared(base, saved(tmp_path / "pr", NOISE[::-1], {"collective/op1": 1.2}))
    shown = json.loads(documents.show_json(found))
    assert shown["wholes"][0]["verdict"] == "unclear"
    assert {"change", "relative_change", "verdict", "relative_verdict"} <= set(shown["rows"][0])


def test_without_controls_each_case_is_judged_by_itself(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = saved(tmp_path / "pr", NOISE[::-1], {"collective/op1": 1.2}, controls=(1.0,) * 4)
    found = compared(base, new, controls=False)
    assert (found.wholes, found.controls) == ((), ())
    assert {row["relative_verdict"] for row in found.cases} == {None}
    both = compared(base, new)
    for one, other in zip(found.cases, both.cases, strict=True):
        assert (one["verdict"], one["change"]) == (other["verdict"], other["change"])
    assert call(["compare", str(base), str(new), "--no-controls", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["wholes"] == []


def test_kernels_that_differ_between_the_sides_are_named(tmp_path: Path) -> None:
    steady = (1.0, 1.01, 0.99, 1.0)
    one = saved(tmp_path / "old", steady, {}, controls=(1.0, 1.01, 0.99, 1.0))
    same = saved(tmp_path / "same", steady, {}, controls=(1.01, 1.0, 1.0, 0.99))
    slow = saved(tmp_path / "slow", steady, {}, controls=(1.2, 1.21, 1.19, 1.2))
    assert [control.control for control in compared(one, same).controls] == list(KERNELS)
    assert not [text for text in remarks(compared(one, same)) if "kernel" in text]
    [told] = [text for text in remarks(compared(one, slow)) if "kernel" in text]
    assert "copy 1.2x" in told
    # The cases are judged as they are: a control that is slower accuses none of them.
    assert not {"slower", "faster"} & {row["verdict"] for row in compared(one, slow).cases}


def test_a_file_without_controls_is_compared_as_before(base: Path, tmp_path: Path) -> None:
    new = saved(tmp_path / "pr", NOISE[::-1], {}, controls=(1.0,) * 4)
    assert compared(base, new).controls == ()


def test_two_cases_have_no_run_as_a_whole(tmp_path: Path) -> None:
    files = []
    for name in ("old", "pr"):
        rows = [measurement(case, [[2 * MILLISECOND] * 10], n) for case in CASES[:2] for n in range(3)]
        files.append(save(tmp_path / f"{name}.jsonl", header(label=name), *rows))
    found = compared(*files)
    assert found.wholes == ()
    assert {row["relative_verdict"] for row in found.cases} == {None}


def test_a_machine_that_was_slower_accuses_no_case_but_one_that_is_slower_still(tmp_path: Path) -> None:
    steady = (1.0, 1.01, 0.99, 1.0)
    one = saved(tmp_path / "old", steady, {}, controls=(1.0, 1.01, 0.99, 1.0))
    two = saved(tmp_path / "late", steady, {"collective/op1": 1.3}, everything=1.2, controls=(1.2, 1.21, 1.19, 1.2))
    found = compared(one, two)
    assert row_of(found, "collective/op1")["verdict"] == "slower"
    others = [row for row in found.cases if row["case"] != "collective/op1"]
    assert {row["verdict"] for row in others} == {"unclear"}
    assert (
        "the machine may have been another: bench's own kernel `compute` took 1.2x as long, too"
        in {row["reason"] for row in others}.pop()
    )
    assert {work.verdict for work in found.works if work.work.suite != "collective"} == {"unclear"}
    [whole] = found.wholes
    assert whole.judged.verdict == "slower"
    assert {row["verdict"] for row in compared(one, two, controls=False).cases} == {"slower"}
