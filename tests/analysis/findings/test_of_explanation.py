"""`bench explain`: an answer of at most 30 lines, sentences that add up, tables on request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.explain.explain_run import explain
from bench.analysis.findings.explained import ExplainRequest, text
from bench.analysis.findings.of_explanation import most_telling, part_shares, sentence_percents, whole_percents
from bench.cli import call
from tests import ROOT
from tests.analysis.explain.test_explain_run import MS, record
from tests.support.results import header, measurement, not_ok, save

SLOW_RANK = Path("results/emulated/slow-rank/launches-1.jsonl.gz")
FILES = [
    SLOW_RANK,
    Path("results/emulated/plain/launches-1.jsonl.gz"),
    Path("results/reference/reference-2-xeon-cores-gloo.jsonl"),
    Path("results/gpu/h100/h100-steps.jsonl"),
    Path("results/evidence/mixed/two-vm-20261124T173236Z-0851.jsonl.gz"),
]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files as people type them: a long one alone would not fit a terminal."""
    monkeypatch.chdir(ROOT)


def two_ranks(tmp_path: Path, *others: dict[str, Any]) -> Path:
    """A case whose rank 1 is slow, and the compute suite that says how fast each rank is."""
    ceiling = measurement("compute/matmul[size=8]", [[10 * MS] * 9, [20 * MS] * 9], flops=4e9, flops_dtype="float32")
    return save(tmp_path / "r.jsonl", header(), ceiling, record(slow=0.5), *others)


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_answer_has_thirty_lines_of_the_terminals_width(path: Path, width: int) -> None:
    lines = text(path, ExplainRequest("table", width=width)).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= width
    tables = text(path, ExplainRequest("table", waterfalls=("",), width=width)).splitlines()
    assert max(map(len, tables)) <= width


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_a_sentence_adds_up_to_the_step(path: Path) -> None:
    for fall in explain(path).waterfalls:
        assert sum(part_shares(fall).values()) == pytest.approx(1.0, abs=1e-6)
        percents = sentence_percents(fall)
        assert sum(percents.values()) == 100
        assert {"at peak"} < set(percents)
        assert len(percents) <= 5
        assert percents.get("other", 0) < 25


def test_whole_percents_add_up() -> None:
    assert whole_percents({"a": 0.484, "b": 0.323, "c": 0.161, "other": 0.032}) == {
        "a": 48,
        "b": 32,
        "c": 16,
        "other": 4,
    }
    assert whole_percents({"a": 0.507, "b": 0.493, "other": 0.0}) == {"a": 51, "b": 49, "other": 0}
    assert whole_percents({"a": 0.506, "b": 0.486, "other": 0.008}) == {"a": 51, "b": 49, "other": 0}
    assert whole_percents({"a": 1.104, "other": -0.104}) == {"a": 110, "other": -10}


def test_the_first_cases_are_the_largest_loss_of_each_suite() -> None:
    falls = most_telling(explain(SLOW_RANK).waterfalls)
    suites = [fall.case.partition("/")[0] for fall in falls]
    assert set(suites[:3]) == {"training_step", "pipeline_parallel", "overlap"}
    lost = [fall.measured_seconds - fall.peak_seconds for fall in falls[3:]]
    assert lost == sorted(lost, reverse=True)


def test_the_command_says_it_in_sentences_and_accuses_the_slow_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_ranks(tmp_path)
    assert call(["explain", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "heterogeneous data, 62 ms: 48% waiting for the slowest device, " in " ".join(shown.split())
    assert "rank 1 is slow: half as fast as rank 0 (0.50x) in 2 of 2 measurements" in " ".join(shown.split())
    assert f"cause by cause: bench explain {path} --waterfall" in " ".join(shown.split())
    assert call(["explain", str(path), "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("**Most time goes to waiting for the slowest device: 48%")


def test_json_has_rows_findings_and_what_is_not_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bfloat16 = record("training_step/run[dtype=bfloat16]")
    bfloat16["work"] |= {"flops_dtype": "bfloat16"}
    path = two_ranks(tmp_path, bfloat16)
    assert call(["explain", str(path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["file", "rows", "findings", "not_explained"]
    rows = {row["part"]: row for row in found["rows"]}
    assert rows["sum of the devices' peaks"]["tflop_per_s_left"] == pytest.approx(0.3)
    assert rows["achieved"]["percent_of_peak_left"] == pytest.approx(100 * 0.02 / 0.062, rel=1e-2)
    assert [item["kind"] for item in found["findings"]] == ["answer", "figure", "stands_out", "not_measured", "next"]
    reason = "no catalogue peak, and no compute/matmul in bfloat16 in this file"
    assert found["not_explained"] == [{"reason": reason, "cases": ["training_step/run[dtype=bfloat16]"]}]
    assert call(["explain", str(path)]) == 0
    assert f"NOT MEASURED  1, their parts: {reason}" in capsys.readouterr().out


def test_cases_that_do_not_fit_are_counted_and_all_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    path = FILES[2]
    assert call(["explain", str(path)]) == 0
    shown = capsys.readouterr().out
    (hidden,) = re.findall(r"(\d+) more cases: bench explain \S+ --all", shown)
    num_shown = len(re.findall(r"^  \S.*ms: ", shown, re.MULTILINE))
    assert num_shown + int(hidden) == len(explain(path).waterfalls)
    assert call(["explain", str(path), "--all"]) == 0
    assert len(re.findall(r"^  \S.*ms: ", capsys.readouterr().out, re.MULTILINE)) == num_shown + int(hidden)


def test_waterfalls_of_chosen_cases_are_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """By a text in the id or in the short name; FILE may stand on either side of the option."""
    for options in ([str(SLOW_RANK), "--waterfall", "dp_mode=shard"], ["--waterfall", "training step", str(SLOW_RANK)]):
        assert call(["explain", *options]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("training step tiny, 2 ranks: 74.5 ms\n")
        assert shown.count("from peak to achieved") == 1
        shares = [float(share) for share in re.findall(r"^[^\d\n]+[\d.,]+ [mun]?s +(-?[\d.]+) ", shown, re.MULTILINE)]
        assert sum(shares[:-1]) == pytest.approx(100.0, abs=0.3)
        assert shares[-1] == 100.0
        assert "slow link" not in shown
    for options in ([str(SLOW_RANK), "--waterfall"], ["--waterfall", str(SLOW_RANK)]):
        assert call(["explain", *options]) == 0
        assert capsys.readouterr().out.count("from peak to achieved") == 6
    assert call(["explain", str(SLOW_RANK), "--waterfall", "nonsense"]) == 2
    assert "--waterfall nonsense: no such case with a waterfall; there are: " in capsys.readouterr().err
    assert call(["explain"]) == 2
    assert "Missing argument 'FILE'" in capsys.readouterr().err


def test_files_with_nothing_to_explain_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = save(tmp_path / "a.jsonl", header(1), measurement(nanoseconds=[[MS] * 3]))
    assert call(["explain", str(lone)]) == 2
    assert "no case has traced calls, and there is one rank" in capsys.readouterr().err
    skipped = save(tmp_path / "b.jsonl", header(), not_ok("compute/matmul[size=8]", "skipped", "budget"))
    assert call(["explain", str(skipped)]) == 2
    assert "nothing to explain: no case is ok" in capsys.readouterr().err
    untraced = save(tmp_path / "c.jsonl", header(), measurement("compute/matmul[size=8]"))
    assert call(["explain", str(untraced)]) == 0
    assert capsys.readouterr().out.startswith("Rank 1 is slow: half as fast as rank 0 (0.50x) in 1 of 1 measurement\n")
    assert call(["explain", str(untraced), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][-1]["command"] == "bench run training_step"
    assert call(["explain", str(untraced), "--waterfall"]) == 2
    assert "no waterfall: no case has traced calls of computation" in capsys.readouterr().err
