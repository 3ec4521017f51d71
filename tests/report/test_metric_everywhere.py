"""A new row of the table of metrics, and a suite's own metric, are in every table, page, export and comparison."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

import bench
from bench.records import metrics
from bench.records.file import load
from bench.records.metrics import Metric
from bench.records.rows import own_metrics
from tests import ROOT
from tests.support.damage import call
from tests.support.results import MILLISECOND, header, measurement, save

NEW = Metric(
    "bits_per_s", "bit/s", "higher", "payload", lambda view: 8 * (view.rate(view.work.bytes) or 0.0), "maximum",
    "Bits of the payload per second.",
)  # fmt: skip
OWN, OWN_HEAD, OWN_MEANING = "queue_gb_per_s", "queue", "Bytes that leave the queue per second."
CASE = "queue/run[num_bytes=1000]"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two runs whose suite has a metric of its own, read with a new row in the table."""
    monkeypatch.setitem(metrics.METRICS, NEW.name, NEW)
    suites = [{"name": "queue", "reference": "queue.py", "metrics": {OWN: ["GB/s", "higher", OWN_MEANING]}}]
    paths = []
    for side, speed in (("a", 3.0), ("b", 6.0)):
        lines = [
            measurement(
                CASE, [[MILLISECOND]], launch, bytes=1000, metrics={OWN: ["GB/s", "higher"]}, derived={OWN: speed}
            )
            for launch in range(3)
        ]
        plan = {"suites": suites, "launches": 3}
        paths.append(str(save(tmp_path / f"{side}.jsonl", header(1, label=side, plan=plan), *lines)))
    return paths[0], paths[1]


def output(*arguments: str) -> str:
    code, text = call(*arguments)
    assert code == 0, text
    return text


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_the_tables_have_a_column_of_each(files: tuple[str, str], form: str) -> None:
    text = output("show", files[0], "--format", form, "--wide")
    assert NEW.head in text
    assert "8,000,000 bit/s" in text
    assert OWN_HEAD in text
    assert "3.0 GB/s" in text  # of few samples two digits


def test_plain_rows_and_frames_have_a_column_of_each(files: tuple[str, str]) -> None:
    (row,) = json.loads(output("show", files[0], "--format", "json"))["rows"]
    heads = output("show", files[0], "--format", "csv").splitlines()[0].split(",")
    frame = bench.load(files[0])
    assert {NEW.name, OWN} <= row.keys() & set(heads) & set(frame.columns)
    assert (row[NEW.name], row[OWN]) == (pytest.approx(8e6), 3.0)
    assert (frame[NEW.name][0], frame[OWN][0]) == (pytest.approx(8e6), 3.0)


@pytest.mark.parametrize(
    ("ending", "new", "own"), [(".csv", NEW.name, OWN), (".json", NEW.name, OWN), (".md", NEW.head, OWN_HEAD)]
)
def test_exports_have_each(files: tuple[str, str], tmp_path: Path, ending: str, new: str, own: str) -> None:
    path = tmp_path / f"export{ending}"
    output("show", files[0], "-o", str(path))
    text = path.read_text(encoding="utf-8")
    assert new in text
    assert own in text


@pytest.mark.parametrize("ending", [".html", ".md"])
def test_the_report_has_a_column_and_the_sentence_of_each(files: tuple[str, str], tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"page{ending}"
    output("report", *files, "-o", str(path))
    text = path.read_text(encoding="utf-8")
    for expected in (NEW.head, NEW.meaning, OWN_HEAD, OWN_MEANING):
        assert expected in text


@pytest.mark.parametrize("name", [NEW.name, OWN])
def test_a_comparison_can_be_by_each(files: tuple[str, str], name: str) -> None:
    (row,) = json.loads(output("compare", *files, "--metric", name, "--format", "json"))["rows"]
    assert (row["metric"], row["better"]) == (name, "higher")


def test_the_headline_is_the_first_in_order_that_a_case_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.METRICS, NEW.name, NEW)
    values = {NEW.name: 1.0, metrics.COMPUTE_SPEED: 2.0, metrics.TOKEN_SPEED: 3.0, metrics.BUS_BANDWIDTH: None}
    assert metrics.headline(values) is metrics.METRICS[metrics.TOKEN_SPEED]
    assert metrics.headline({NEW.name: 1.0}) is None


def test_the_page_of_metrics_has_a_new_row_and_the_suites_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.METRICS, NEW.name, NEW)
    page = runpy.run_path(str(ROOT / "scripts" / "write_docs.py"))["pages"]()["metrics.md"]
    assert f"| `{NEW.name}` | bit/s | higher | {NEW.head} | maximum | {NEW.meaning} |" in page
    assert "| `contention` | x | lower | " in page
    assert len(page.splitlines()) < 250


def test_a_file_without_a_sentence_refers_to_the_suite(tmp_path: Path) -> None:
    suites = [{"name": "queue", "metrics": {OWN: ["GB/s", "higher"]}}]
    line = measurement(CASE, metrics={OWN: ["GB/s", "higher"]}, derived={OWN: 3.0})
    result = load(save(tmp_path / "old.jsonl", header(plan={"suites": suites}), line))
    assert own_metrics([result])[OWN].meaning == "the suite's own; see its description"
