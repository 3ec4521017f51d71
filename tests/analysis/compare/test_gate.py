from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare.comparison import compare
from bench.analysis.compare.gate import Gate, _launches_of, rule
from bench.cli import call
from bench.records.file import load
from tests.analysis.compare.test_comparison import A, B, launches, saved
from tests.support.results import header, not_ok

STEADY = (1.0, 1.005, 0.995)


def files(tmp_path: Path, new: dict[str, tuple[float, ...]], **head: Any) -> tuple[str, str]:
    """A base of two steady cases of 1 ms, and a new side."""
    base = saved(tmp_path / "base", header(label="old"), *launches(A, *STEADY), *launches(B, *STEADY))
    rows = [row for case, values in new.items() for row in launches(case, *values)]
    return str(base), str(saved(tmp_path / "new", header(label="pr", **head), *rows))


def gate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and the last line that was printed."""
    code = call(["compare", *arguments])
    said = capsys.readouterr()
    return code, (said.out + said.err).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("values", "options", "code", "line"),
    [
        (STEADY, ["--fail-slower", "5%"], 0, "Gate: passed: nothing slower by more than 5% in 2 of 2 cases"),
        (
            (1.2, 1.205, 1.195),
            ["--fail-slower", "5%"],
            1,
            "Gate: FAILED: a 1.20x as long (1.19x to 1.21x)",
        ),
        (
            (1.2, 1.205, 1.195),
            ["--fail-slower", "30%"],
            0,
            "Gate: passed: nothing slower by more than 30% in 2 of 2 cases",
        ),
        # Shown to be slower, but perhaps by less than is allowed: the gate leaves it open.
        (
            (1.04, 1.06, 1.05),
            ["--fail-slower", "5%"],
            0,
            "Gate: passed: nothing slower by more than 5% in 1 of 2 cases; 1 undecided: this machine varies too much "
            "for a gate of 5%",
        ),
        ((0.5, 0.5, 0.501), ["--fail-slower", "5%"], 0, "Gate: passed: nothing slower by more than 5% in 2 of 2 cases"),
    ],
)
def test_the_gate_fails_on_what_is_shown(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: tuple[float, ...],
    options: list[str],
    code: int,
    line: str,
) -> None:
    assert gate(capsys, *files(tmp_path, {A: values, B: STEADY}), *options) == (code, line)


def test_a_gate_that_decides_nothing_is_an_error_and_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = (1.12, 1.0, 0.94)
    code, line = gate(capsys, *files(tmp_path, {A: loose, B: loose}), "--fail-slower", "10%")
    assert code == 2
    # Files of these tests say that a visit took a tenth of a second or so.
    assert re.fullmatch(
        r"Gate: FAILED: 0 of 2 cases decided, too few for a verdict: 2 more launches per side, about \d+ s, would do",
        line,
    )
    wild = (0.5, 1.0, 2.0)
    code, line = gate(capsys, *files(tmp_path / "wild", {A: wild, B: wild}), "--fail-slower", "5%")
    assert code == 2
    # Nobody makes the hundreds of launches that would settle that.
    assert line.endswith(
        "too few for a verdict: this machine varies too much; gate at more than 5%, or measure where less else is at "
        "work"
    )
    one = files(tmp_path / "single", {A: (1.0,)})
    base = str(saved(tmp_path / "single" / "one", header(label="x"), *launches(A, 1.0)))
    assert "2 more launches per side" in gate(capsys, base, one[1], "--fail-slower", "5%")[1]


def test_how_many_have_to_be_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {A: (0.5, 1.0, 2.0), B: STEADY})
    assert gate(capsys, *paths, "--fail-slower", "5%", "--min-decided", "50%") == (
        0,
        "Gate: passed: nothing slower by more than 5% in 1 of 2 cases; 1 undecided: this machine varies too much "
        "for a gate of 5%",
    )
    code, line = gate(capsys, *paths, "--fail-slower", "5%", "--min-decided", "80%")
    assert code == 2
    assert line.startswith("Gate: FAILED: 1 of 2 cases decided, fewer than 80%: this machine varies too much; gate at ")


def row(low: float, middle: float, high: float, launches: int = 3, better: str = "lower") -> dict[str, Any]:
    return {
        "change_low": low,
        "change": middle,
        "change_high": high,
        "base_launches": launches,
        "new_launches": launches + 2,
        "better": better,
    }


def test_how_many_launches_a_case_needs_to_be_decided() -> None:
    # From 3 to 5 launches the half width falls by t(4) / t(2) x sqrt(3 / 5) = 0.50, from 3 to 4 by 0.64.
    assert _launches_of(row(-0.09, 0.0, 0.10), 0.06) == 5
    assert _launches_of(row(-0.09, 0.0, 0.10), 0.07) == 4
    assert _launches_of(row(-0.5, 0.0, 1.0), 0.02) is None
    # More is better, and the limit is a loss.
    assert _launches_of(row(-0.10, 0.0, 0.09, better="higher"), 0.055) == 5
    assert _launches_of(row(0.0, 0.0, 0.0) | {"change_low": None}, 0.05) == 3


def test_where_nothing_was_measured_time_is_what_lacks_and_not_launches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "budget: no time was left for it; give more with --budget"
    sides = [saved(tmp_path / name, header(label=name), not_ok(A, "skipped", late)) for name in ("old", "pr")]
    code, line = gate(capsys, *map(str, sides), "--fail-slower", "5%")
    assert code == 2
    assert line == (
        "Gate: FAILED: 0 of 0 cases decided, too few for a verdict: no case was measured on both sides, which takes "
        "more time for each launch, or fewer cases"
    )


def test_pairs_are_advised_with_the_time_that_they_take(tmp_path: Path) -> None:
    loose = (1.12, 1.0, 0.94)
    base, new = (load(path) for path in map(Path, files(tmp_path, {A: loose, B: loose})))
    ruling = rule(compare([base], [[new]]), Gate(fail_slower=0.1, pair_seconds=40.0))
    assert ruling is not None
    # 5 x 40 s, with some room
    assert ruling.line.endswith("it needs about 5 pairs: --pairs 5 --budget 4m")


def test_missing_and_broken_cases_fail_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {A: STEADY})
    assert gate(capsys, *paths, "--fail-slower", "5%")[0] == 0
    assert gate(capsys, *paths, "--fail-slower", "5%", "--fail-missing") == (
        1,
        "Gate: FAILED: 1 missing or not ok: b",
    )
    broken = saved(tmp_path / "broken", header(label="pr"), *launches(A, *STEADY), not_ok(B, "failed", "boom"))
    assert gate(capsys, paths[0], str(broken), "--fail-missing")[0] == 1
    # What is not ok on the base was not there to be lost.
    assert gate(capsys, str(broken), paths[0], "--fail-missing")[0] == 0


def test_another_architecture_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {A: STEADY, B: STEADY}, device="Other CPU")
    code, line = gate(capsys, *paths, "--fail-slower", "5%")
    assert code == 2
    assert line == (
        "bench: error: base ran on 2 x AMD EPYC 7B13, new on 2 x Other CPU: use bench ab, or --allow-unlike"
    )
    assert gate(capsys, *paths, "--fail-slower", "5%", "--allow-unlike")[0] == 0
    assert gate(capsys, *paths)[0] == 0


def test_json_stays_json_and_has_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {A: (1.2, 1.205, 1.195), B: STEADY})
    assert call(["compare", *paths, "--fail-slower", "5%", "--format", "json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["gate"].startswith("Gate: FAILED")
    assert said.err.startswith("Gate: FAILED")


def test_github_gets_annotations_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    hostile = "collective/a[x=1,y=::warning::]"
    paths = files(tmp_path, {A: (1.2, 1.205, 1.195), B: (1.06, 1.061, 1.059)})
    assert call(["compare", *paths, "--fail-slower", "10%", "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::error title=a::1.20x as long (")
    assert lines[1].startswith("::warning title=b::1.060x as long (")
    assert lines[2] == "::notice title=bench::2 slower"
    assert lines[-1].startswith("Gate: FAILED")
    assert "| a | 1.20x |" in summary.read_text()
    plain = "collective/a[x=1,y=2]"
    base = saved(tmp_path / "b", header(label="old"), *launches(hostile, *STEADY), *launches(plain, *STEADY))
    new = saved(tmp_path / "n", header(label="pr"), *launches(hostile, 2.0, 2.01, 2.02), *launches(plain, *STEADY))
    call(["compare", str(base), str(new), "--format", "github"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("::warning title=a %3A%3Awarning%3A%3A::2.01x as long (")


def test_bad_shares_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {A: STEADY})
    for option in ("--fail-slower", "--min-decided", "--threshold"):
        code, line = gate(capsys, *paths, option, "lots")
        assert code == 2
        assert option in line
    assert gate(capsys, *paths, "--where", "op")[1].startswith("bench: error: --where op: NAME=VALUE")
