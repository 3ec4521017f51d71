"""Findings of comparisons of saved runs: the answer in one sentence, its figures, why they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.compare.comparison import compare
from bench.analysis.findings.kinds import Answer, Correctness, DataState, Figure, Findings, NextStep, Unmeasured
from bench.analysis.findings.of_comparison import comparison_findings
from bench.records.file import load_many
from tests.analysis.compare.test_comparison import compared, launches, saved
from tests.analysis.compare.test_work_changes import ARCHITECTURES, MLP, REDUCE, architectures
from tests.support.results import header, measurement, not_ok

GPU = ARCHITECTURES.parent / "gpu"
STEADY = (1.0, 1.01, 0.99)


def answers(found: Findings) -> list[str]:
    return [answer.text for answer in found.of_kind(Answer)]


def findings_of(tmp_path: Path, base: dict[str, float], new: dict[str, float]) -> Findings:
    """Findings of steady cases, given the milliseconds of each."""
    paths = []
    for name, cases in (("old", base), ("pr", new)):
        rows = [row for case, ms in cases.items() for row in launches(case, *(ms * x for x in STEADY))]
        paths.append(saved(tmp_path / name, header(label=name), *rows))
    return comparison_findings(compared(*paths))


def test_the_answer_says_by_how_much_in_which_work_and_what_is_not_shown() -> None:
    found = comparison_findings(architectures("slow-rank"))
    assert answers(found) == [
        "slow rank (emulated) takes 1.9x as long as plain in training (1.5x to 2.4x); compute 2.1x; data "
        "parallel 1.6x; 4 more kinds of work 1.6x to 1.9x; memory: all 3 cases slower, triad 4 MiB 2.2x as long; "
        "collectives, pairs of ranks: no difference shown"
    ]
    (state,) = found.of_kind(DataState)
    assert state == DataState(
        "good",
        "43 cases, 3 launches per side; 19 undecided, 6 more launches per side, about 7 min, would settle 7 of them",
    )
    assert [remark.text for remark in found.remarks()] == [
        "slow rank (emulated) is not real hardware: rank 1 computes at 0.5 of its speed"
    ]
    assert [step.purpose for step in found.of_kind(NextStep)] == ["why slower", "page"]


def test_figures_have_the_values_of_the_cases_training_first() -> None:
    comparison = architectures("slow-rank", "shaped-link")
    found = comparison_findings(comparison)
    figures = found.of_kind(Figure)
    assert {figure.group for figure in figures} == {"change"}
    first = figures[0]
    (row,) = [r for r in comparison.cases if r["suite"] == "training_step" and r["name"] == "slow rank (emulated)"]
    assert (first.name, first.text, first.of) == ("slow rank (emulated): training", "1.9x", "1.5x to 2.4x")
    assert (first.value, first.low, first.high) == (1 + row["change"], 1 + row["change_low"], 1 + row["change_high"])
    by_name = {figure.name: figure for figure in figures}
    assert by_name["slow rank (emulated): collectives"].value is None
    assert by_name["slow rank (emulated): collectives"].of == "no difference shown, 17 cases"
    assert by_name["shaped link: collectives"].of == "broadcast 1 MiB, 16 of 17 cases slower"
    assert len(answers(found)) == 2


def test_it_depends_on_the_work_only_if_one_kind_is_faster_and_another_slower(tmp_path: Path) -> None:
    base = {MLP.format(1): 1.0, "training_step/run": 1.0, REDUCE.format(8): 1.0, REDUCE.format(16): 1.0}
    behind = findings_of(tmp_path / "a", base, base | {MLP.format(1): 2.0})
    assert not answers(behind)[0].startswith("Which is faster depends")
    both = findings_of(tmp_path / "b", base, base | {MLP.format(1): 2.0, "training_step/run": 0.5})
    assert answers(both)[0].startswith(
        "Which is faster depends on the work: pr takes 0.50x as long as old in training (0.49x to 0.51x); tensor "
        "parallel 2.0x"
    )
    # Cases of one kind that differ in direction are not a reason.
    within = findings_of(tmp_path / "c", base, base | {REDUCE.format(8): 2.0, REDUCE.format(16): 0.5})
    assert answers(within)[0].startswith("pr against old: collectives: both cases changed, all_reduce")
    same = findings_of(tmp_path / "d", base, base)
    assert answers(same) == ["pr against old: training, tensor parallel, collectives: the same within 5%"]


def test_one_launch_has_no_error_bar_and_is_said_to_be_rough(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", header(label="x"), measurement("training_step/run"))
    two = saved(tmp_path / "two", header(label="y"), measurement("training_step/run", [[9_000_000] * 10] * 2))
    found = comparison_findings(compared(one, two))
    assert answers(found)[0].endswith("in training. One launch per side has no error bar, so this may be chance")
    (state,) = found.of_kind(DataState)
    assert (state.quality, state.text) == (
        "rough",
        "1 case, 1 launch per side; 1 undecided: one launch per side has no error bar",
    )
    (figure,) = found.of_kind(Figure)
    assert (figure.of, figure.low) == ("no error bar", None)


def test_broken_and_lacking_cases_are_counted_with_their_reasons(tmp_path: Path) -> None:
    base = [row for case in ("mine/a", "mine/b", "mine/c") for row in launches(case, *STEADY)]
    new = [*launches("mine/a", *STEADY), not_ok("mine/b", "invalid", "error 1")]
    found = comparison_findings(
        compared(saved(tmp_path / "a", header(label="old"), *base), saved(tmp_path / "b", header(label="pr"), *new))
    )
    (wrong,) = found.of_kind(Correctness)
    assert (wrong.num_right, wrong.num_wrong) == (1, 1)
    assert wrong.text == "1 without a speed: mine b on pr (invalid: error 1)"
    (lacking,) = found.of_kind(Unmeasured)
    assert (lacking.num_cases, lacking.text) == (1, "only on old, not on pr (mine c)")


@pytest.mark.parametrize("part", ["kernels", "steps"])
def test_two_kinds_of_gpu(part: str) -> None:
    base, new = (load_many(GPU / card / f"{card}-{part}.jsonl") for card in ("h100", "h200"))
    found = comparison_findings(compare(base, [new]))
    (answer,) = answers(found)
    assert ("memory: 2 of 4 cases faster, triad 4 GiB 0.70x as long" in answer) == (part == "kernels")
    assert ("takes 0.92x as long as 1 x NVIDIA H100 80GB HBM3 in training (0.91x to 0.93x)" in answer) == (
        part == "steps"
    )
    assert found.remarks()[0].text.startswith("The device differs: ")
