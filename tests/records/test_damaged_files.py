"""Damaged files through all reading commands: the product's own error or a result, and never a traceback.

A fixed seed; `--hypothesis-profile long` tries 5,000 files for each group of commands.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import DATA, ROOT
from tests.support.damage import call, damaged, lines_of, text_of

EXPECTED_CODES = {0, 2, 3}
COMMANDS = {
    "show": (
        ("show", "{bad}"),
        ("show", "{bad}", "--ranks"),
        ("show", "{bad}", "--format", "json"),
        ("show", "{bad}", "--status"),
    ),
    "copy": (("show", "{bad}", "-o", "{out}.csv"), ("show", "{bad}", "--share", "{out}.jsonl")),
    "compare": (
        ("compare", "{good}", "{bad}"),
        ("compare", "{bad}", "{good}", "--format", "json"),
        ("compare", "{bad}", "{good}", "--among", "host"),
    ),
    "conclude": (
        ("explain", "{bad}"),
        ("predict", "--from", "{bad}", "--model", "llama3-8b", "--gpus", "8"),
        ("mix", "{bad}=2", "{good}=2"),
    ),
    "report": (("report", "{bad}", "-o", "{out}.md"),),
}
NUM_EXAMPLES = {"report": 20, "show": 100, "copy": 100, "compare": 80, "conclude": 50}
"""Files of each group."""
SEEDS = [
    DATA / "schema1.jsonl",
    *sorted((ROOT / "results" / "gpu").glob("*/*-steps.jsonl"))[:1],
    *sorted((ROOT / "results" / "evidence").glob("**/*.jsonl.gz"))[::25],
]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str]:
    """Texts of a whole file of a few measurements, and of the same file damaged."""
    lines = lines_of(draw(st.sampled_from(SEEDS)))
    measured = [line for line in lines if line["kind"] == "measurement"]
    first = draw(st.integers(0, max(0, len(measured) - 6)))
    others = [line for line in lines[1:] if line["kind"] != "measurement"]
    few = [lines[0], *measured[first : first + 6], *others]
    return text_of(few), draw(damaged(few))


@pytest.mark.parametrize("group", COMMANDS)
def test_a_damaged_file_ends_in_a_result_or_in_one_line(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    read = set()

    @settings(
        settings.default,
        max_examples=max(NUM_EXAMPLES[group], settings.default.max_examples if _is_long() else 0),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(files())
    def each(texts: tuple[str, str]) -> None:
        good.write_text(texts[0])
        bad.write_text(texts[1])
        for command in COMMANDS[group]:
            for left in tmp_path.glob("out.*"):
                left.unlink()
            code, output = call(*(word.format(good=good, bad=bad, out=tmp_path / "out") for word in command))
            assert code in EXPECTED_CODES or ("--status" in command and code == _ended_with(bad)), output
            assert "Traceback" not in output
            read.add(code)

    each()
    assert {0, 2} <= read


def _ended_with(path: Path) -> int | None:
    """The exit code that a file says its run had, which `show --status` exits with too."""
    codes = [json.loads(line).get("exit_code") for line in path.read_text().splitlines() if '"exit_code"' in line]
    return codes[-1] if codes else None


def _is_long() -> bool:
    return settings.default.max_examples > 1000
