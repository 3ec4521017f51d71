"""Markdown for a pull request, and annotations of a build: what matters comes first, the rest folds."""

from __future__ import annotations

import re

from bench.analysis.compare.gate import Gate, rule
from bench.analysis.comparison_output import github, pull_request
from tests.analysis.compare.test_work_changes import architectures

GATE = Gate(fail_slower=0.1, allow_unlike=True)


def test_gate_answer_worst_three_changed_cases_and_the_rest_folded() -> None:
    comparison = architectures("slow-rank")
    text = pull_request.show(comparison, rule(comparison, GATE))
    opening, _, folded = text.partition("<details>")
    parts = opening.split("\n\n")
    assert parts[0].startswith(
        "**Gate: FAILED: matmul mlp_up 512 tokens 512 2.4x as long (1.5x to 3.8x) and 23 others; 18 "
    )
    assert "The run as a whole: 1.7x (1.6x to 1.7x, what all 43 cases share)" in parts
    assert parts[1].startswith("slow rank (emulated) takes 1.9x as long as plain in training (1.5x to 2.4x)")
    assert len(re.findall(r"^\d\. ", opening, re.M)) == 3
    assert opening.count("| slower |") == 24
    assert "unclear (" not in opening
    assert folded.count("| unclear (") == 19
    assert re.findall(r"<summary>(.*)</summary>", text) == [
        "Change by kind of work, and why", "Cases that are undecided or the same", "Environments",
    ]  # fmt: skip
    assert text.count("<details>") == text.count("</details>") == 3


def test_annotations_are_sorted_by_size_and_the_notice_counts_the_others() -> None:
    comparison = architectures("slow-rank")
    lines = github.workflow_commands(comparison, rule(comparison, GATE)).splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    sizes = [float(re.search(r"::([\d.]+)x as long", line)[1]) for line in errors]  # type: ignore[index]
    assert sizes == sorted(sizes, reverse=True)
    assert len(errors) == github.MAX_ANNOTATIONS
    assert lines[-1] == "::notice title=bench::24 slower, 19 unclear; 14 more slower cases have no annotation"


def test_a_gate_that_decided_too_little_is_an_error_on_the_build() -> None:
    comparison = architectures("slow-rank")
    ruling = rule(comparison, Gate(fail_slower=1.5, min_decided=1.0, allow_unlike=True))
    assert ruling is not None
    assert ruling.exit_code == 2
    lines = github.workflow_commands(comparison, ruling).splitlines()
    assert [line for line in lines if line.startswith("::error title=bench::Gate: FAILED")]
