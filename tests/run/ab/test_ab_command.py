"""The real `bench ab`: what it refuses before the first launch, and what it leaves behind."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from bench.analysis.comparison_output.presentation import CompareOptions as Comparing
from bench.core import exit_codes
from bench.errors import BenchError
from bench.records.file import Result, load
from bench.records.lines.header import PlannedCase
from bench.records.saved_plan import Pair, are_paired, pair_of
from bench.run.ab.ab_check import refuse_unlike, refuse_useless
from bench.run.outlook import Outlook
from tests.support.command import BENCH, SUITES, call, start
from tests.support.plans import a_plan

TINY = str(SUITES / "tiny.py")
COUNTED = str(SUITES / "counted.py")


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ((), {}, "do not differ"),
        (("--b", "X=1", "--fail-slower", "ten"), {}, "--fail-slower ten"),
        (("--b", "X=1"), {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, "cannot be alternated"),
        (("--b", "X=1", "--budget", "30s"), {}, "give more"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    words: Sequence[str], variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = call("ab", COUNTED, *words, "-o", str(tmp_path / "results"), **variables)
    assert done.returncode == exit_codes.USAGE
    assert said in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (tmp_path / "results").exists()


@pytest.mark.seeded
@pytest.mark.long
def test_a_side_made_slower_is_found_and_fails_the_gate(tmp_path: Path) -> None:
    given = ("--ranks", "1", "--device", "cpu", "--pairs", "3", "--label", "counted")
    shown = ("--fail-slower", "50%", "--where", "op=varied", "--format", "json")
    done = call("ab", COUNTED, "--b", "COUNTED_FACTOR=10", *given, *shown, "-o", str(tmp_path))
    assert done.returncode == exit_codes.GATE, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["case"], row["verdict"]) == ("counted/varied", "slower")
    assert 2 < row["change"] < 50  # ten times the work
    # Two ordinary files, each with its three launches, that ended well and know of each other.
    a, b = (load(next(tmp_path.glob(f"counted_{name}-*.jsonl"))) for name in "ab")
    assert are_paired(a, b)
    assert pair_of(b) == Pair(pair_of(a).id, "b", "COUNTED_FACTOR=10")  # type: ignore[union-attr]
    for result in (a, b):
        assert sorted((record.case, record.launch) for record in result.latest()) == [
            (f"counted/{op}", launch) for op in ("constant", "varied") for launch in range(3)
        ]
        assert result.end is not None
        assert (result.end.status, result.end.exit_code) == ("complete", 0)
        assert (result.plan.launches, result.plan.budget_seconds) == (3, 162.0)
        assert "one_launch" not in result.plan.options
    starts = [(stamp, name) for name, r in (("a", a), ("b", b)) for stamp in _starts(r)]
    assert "".join(name for _, name in sorted(starts)) == "abbaab"
    assert f"saved: {a.path} and {b.path}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Gate: FAILED")


def _starts(result: Result) -> list[str]:
    return [result.header.started, *(record.started for record in result.resumes)]


def test_an_interrupted_one_keeps_its_file_and_leaves_no_process(tmp_path: Path) -> None:
    command = [*BENCH, "ab", COUNTED, "--b", "COUNTED_FACTOR=2", "--ranks", "1", "--device", "cpu", "-o", str(tmp_path)]
    with start(command) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            next(line for line in lines if line.startswith("pair 1 of 10: b"))  # a's launch is done
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == exit_codes.INTERRUPTED
    (path,) = tmp_path.glob("ab_a-*.jsonl")
    assert f"interrupted; saved: {path}" in errors
    assert {record.launch for record in load(path).measurements} == {0}
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_a_childs_mistake_is_shown_in_one_line(tmp_path: Path) -> None:
    done = call("ab", "nosuch", "--b", "X=1", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    assert "nosuch" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("bench: error: side a: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Each of these was known before the first launch, and told after the last.
        (
            ("--b", "--slow-link 1=0.5", "--fail-slower", "10%"),
            "side b is .*emulated: rank 1 communicates at 0.5.*: a gate",
        ),
        (("--b", "--set op=first", "--set", "op=second"), "the sides have no case in common"),
        (("--b", "--set nosuch=1"), "side b: --set nosuch"),
    ],
)
def test_all_that_is_known_before_is_asked_before(words: Sequence[str], said: str, tmp_path: Path) -> None:
    done = call("ab", TINY, *words, "--device", "cpu", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    assert re.search(said, done.stderr.splitlines()[-1]), done.stderr
    assert "pair 1" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def an_outlook(*sizes: int, architecture: str = "2 x A") -> Outlook:
    named = tuple(PlannedCase("sum", f"sum/run[size={size}]", {"size": size}) for size in sizes)
    return Outlook(a_plan(cases=named, left_out=()), architecture)


@pytest.mark.parametrize(
    ("comparing", "said"),
    [
        (Comparing(where=("size=3",)), "--where size=3: no case fits; size is one of 2$"),
        (Comparing(metrics=("nosuch",)), "--metric nosuch: there are .*speed"),
    ],
)
def test_what_is_to_be_compared_has_to_be_there(comparing: Comparing, said: str) -> None:
    both = [an_outlook(1, 2), an_outlook(2, 3)]
    refuse_useless(both, Comparing(where=("size=2",), metrics=("speed",)))
    with pytest.raises(BenchError, match=said):
        refuse_useless(both, comparing)
    with pytest.raises(BenchError, match=r"no case in common \(a measures sum/run\[size=1\], b sum/run\[size=3\]\)"):
        refuse_useless([an_outlook(1), an_outlook(3)], Comparing())


def test_unlike_sides_are_gated_where_that_is_asked_for() -> None:
    both = ["2 x A", "2 x A (emulated: rank 1 computes at 0.5)"]
    with pytest.raises(BenchError, match="add --allow-unlike"):
        refuse_unlike(both, Comparing(fail_slower="10%"))
    refuse_unlike(both, Comparing(fail_slower="10%", allow_unlike=True))
    refuse_unlike(both, Comparing())
    refuse_unlike(both[:1] * 2, Comparing(fail_slower="10%"))


def test_a_plan_can_be_told_without_measuring(tmp_path: Path) -> None:
    done = call(
        "run", TINY, "--preset", "smoke", "--slow", "1=0.5", "--plan-only", "--device", "cpu", "-o", str(tmp_path)
    )
    outlook = Outlook.from_text(done.stdout)
    assert [case.id for case in outlook.cases] == ["tiny/first", "tiny/second", "tiny/third"]
    assert outlook.architecture.endswith("(emulated: rank 1 computes at 0.5)")
    assert list(tmp_path.iterdir()) == []
