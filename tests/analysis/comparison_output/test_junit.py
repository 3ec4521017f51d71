"""JUnit XML: one test per case, decided as the gate decides, well-formed whatever labels hold."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.analysis.compare.comparison import Comparison
from bench.analysis.compare.gate import Gate, rule
from bench.analysis.comparison_output import junit
from bench.cli import call
from tests.analysis.compare.test_comparison import compared, launches, saved
from tests.support.results import header, not_ok

STEADY, WILD = (1.0, 1.005, 0.995), (0.5, 1.0, 2.0)
SLOW = (1.2, 1.205, 1.195)


def sides(tmp_path: Path, label: str = "pr") -> tuple[Path, Path]:
    cases = ("mine/slow", "mine/steady", "mine/wild", "mine/gone", "mine/broken")
    base = [row for case in cases for row in launches(case, *(WILD if "wild" in case else STEADY))]
    new = [
        *launches("mine/slow", *SLOW), *launches("mine/steady", *STEADY), *launches("mine/wild", *WILD),
        not_ok("mine/broken", "failed", "boom \x1b[31m & <b>"),
    ]  # fmt: skip
    return saved(tmp_path / "old", header(label="old"), *base), saved(tmp_path / "new", header(label=label), *new)


def parsed(comparison: Comparison, gate: Gate) -> ElementTree.Element:
    text = junit.show(comparison, gate, rule(comparison, gate))
    assert not [c for c in text if ord(c) < 32 and c != "\n"]
    (suite,) = ElementTree.fromstring(text)
    return suite


def outcomes(suite: ElementTree.Element) -> dict[str, str]:
    return {test.attrib["name"]: next((part.tag for part in test), "passed") for test in suite.iter("testcase")}


@pytest.mark.parametrize(
    ("gate", "slow", "gone"),
    [
        (Gate(), "failure", "skipped"),
        (Gate(fail_slower=0.05), "failure", "skipped"),
        (Gate(fail_slower=0.5), "passed", "skipped"),
        (Gate(fail_slower=0.05, fail_missing=True), "failure", "failure"),
    ],
)
def test_one_test_per_case(tmp_path: Path, gate: Gate, slow: str, gone: str) -> None:
    suite = parsed(compared(*sides(tmp_path)), gate)
    assert outcomes(suite) == {
        "mine slow": slow, "mine steady": "passed", "mine wild": "skipped", "mine gone": gone, "mine broken": gone,
    }  # fmt: skip
    assert {test.attrib["classname"] for test in suite.iter("testcase")} == {"mine"}
    counts = list(outcomes(suite).values())
    assert suite.attrib["tests"] == "5"
    assert suite.attrib["failures"] == str(counts.count("failure"))
    assert suite.attrib["skipped"] == str(counts.count("skipped"))
    messages = {test.attrib["name"]: part.attrib["message"] for test in suite.iter("testcase") for part in test}
    assert messages["mine wild"].endswith("; this machine varies too much")
    if slow == "failure":
        assert messages["mine slow"] == "1.20x as long (1.19x to 1.21x)"
    (seconds,) = [test.attrib["time"] for test in suite.iter("testcase") if test.attrib["name"] == "mine slow"]
    assert float(seconds) == pytest.approx(0.0012, rel=0.01)


def test_hostile_labels_stay_text(tmp_path: Path) -> None:
    suite = parsed(compared(*sides(tmp_path, 'x"><evil/>\x00\x1b]0;owned\x07\ufffe')), Gate())
    assert r"\x1b" in suite.attrib["name"]
    assert not list(suite.iter("evil"))


def test_the_command_prints_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = map(str, sides(tmp_path))
    assert call(["compare", *paths, "--fail-slower", "5%", "--format", "junit"]) == 1
    said = capsys.readouterr()
    ElementTree.fromstring(said.out)
    assert said.err.startswith("Gate: FAILED: mine slow 1.20x as long (1.19x to 1.21x); 1 undecided")
