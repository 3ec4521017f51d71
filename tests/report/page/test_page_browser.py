"""A report in a real browser: no console error, no request, sorting and filtering, no sideways scroll on a phone.

Needs Chromium (Debian: chromium), and is skipped if there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.records.file import load
from bench.report.page.content import build
from bench.report.page.html import page
from tests import ROOT
from tests.support.browser import CHROMIUM, DARK, browse
from tests.support.results import header, measurement, save

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
REFERENCE = sorted((ROOT / "results" / "reference").glob("*.jsonl"))

STEPS = """
  const table = [...page.querySelectorAll("#suites table")].find(
    (one) => one.tBodies[0].rows.length > 30 && /samples/.test(one.tHead.textContent));
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const column = heads.indexOf("time");
  const cells = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  button.click(); const up = cells();
  button.click(); const down = cells();
  const input = table.parentElement.previousElementSibling.querySelector("input");
  input.value = "all_gather 1 KiB"; input.dispatchEvent(new view.Event("input"));
  const left = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  for (const part of page.querySelectorAll("details")) part.open = true;
  return { up, down, left, wide: page.documentElement.scrollWidth, room: page.documentElement.clientWidth,
           requests: view.performance.getEntriesByType("resource").length, ink: view.getComputedStyle(page.body).color,
           sort: table.tHead.rows[0].cells[column].getAttribute("aria-sort"),
           pictures: page.querySelectorAll("figure svg").length };
"""


def seconds(text: str) -> float:
    value, unit = text.removeprefix("~").split()
    return float(value.replace(",", "")) * {"s": 1.0, "ms": 1e-3, "us": 1e-6}[unit]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a real run and of one with very long names."""
    folder = tmp_path_factory.mktemp("page")
    long = measurement("compute/" + "very_long_name_" * 30)
    odd = load(save(folder / "odd.jsonl", header(label="label " * 40), long))
    return page(build([[load(REFERENCE[0])], [odd]]), "report")


def test_a_page_works_as_a_person_would_use_it(tmp_path: Path, text: str) -> None:
    found, console = browse(tmp_path, text, STEPS)
    assert "error" not in found, found
    assert console == ""
    assert [seconds(cell) for cell in found["up"]] == sorted(seconds(cell) for cell in found["up"])
    assert [seconds(cell) for cell in found["down"]] == sorted(map(seconds, found["down"]), reverse=True)
    assert found["sort"] == "descending"
    assert found["left"]
    assert len(found["left"]) < len(found["up"])
    assert found["requests"] == 0
    assert found["wide"] <= found["room"] <= 400
    assert found["pictures"] >= 4
    assert found["ink"] == "rgb(27, 31, 36)"


def test_dark_pages_have_light_ink(tmp_path: Path, text: str) -> None:
    found, _ = browse(tmp_path, text, STEPS, flags=(DARK,))
    assert found["ink"] == "rgb(232, 234, 237)"
