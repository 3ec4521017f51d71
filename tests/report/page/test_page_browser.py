"""A report in a real browser: no console error, no request, sorting and filtering, no sideways scroll on a phone.

Needs Chromium (Debian: chromium), and is skipped where there is none. The page is put into a frame of 400 pixels by a
harness that uses it as a person would and writes down what it finds.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.records.file import load
from bench.report.page.content import build
from bench.report.page.html import page
from tests import ROOT
from tests.support.results import header, measurement, save

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
REFERENCE = sorted((ROOT / "results" / "reference").glob("*.jsonl"))

HARNESS = """<!doctype html><meta charset="utf-8"><body><iframe width="400" height="800"></iframe><script>
const frame = document.querySelector("iframe");
const write = (found) => { document.body.textContent = "FOUND" + btoa(JSON.stringify(found)) + "END"; };
frame.addEventListener("load", () => { try {
  const page = frame.contentDocument, view = frame.contentWindow;
  const table = [...page.querySelectorAll("table")].find((one) => one.tBodies[0].rows.length > 30);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const column = heads.indexOf("time");
  const cells = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  button.click(); const up = cells();
  button.click(); const down = cells();
  const input = table.parentElement.previousElementSibling.querySelector("input");
  input.value = "all_gather 1 KiB"; input.dispatchEvent(new view.Event("input"));
  const left = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  write({ up, down, left, wide: page.documentElement.scrollWidth, room: page.documentElement.clientWidth,
          requests: view.performance.getEntriesByType("resource").length, ink: view.getComputedStyle(page.body).color,
          sort: table.tHead.rows[0].cells[column].getAttribute("aria-sort"),
          pictures: page.querySelectorAll("svg").length });
} catch (error) { write({ error: String(error) }); } });
frame.srcdoc = PAGE;
</script>"""


def browse(tmp_path: Path, text: str, *flags: str) -> tuple[dict[str, Any], str]:
    """What the harness found, and what the browser's console said."""
    assert CHROMIUM is not None
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS.replace("PAGE", json.dumps(text).replace("</", "<\\/")))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000")
    command = [CHROMIUM, *quiet, profile, *flags, "--dump-dom", harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    encoded = done.stdout.partition("FOUND")[2].partition("END")[0]
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(base64.b64decode(encoded)), console


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
    found, console = browse(tmp_path, text)
    assert "error" not in found, found
    assert console == ""
    assert [seconds(cell) for cell in found["up"]] == sorted(seconds(cell) for cell in found["up"])
    assert [seconds(cell) for cell in found["down"]] == sorted(map(seconds, found["down"]), reverse=True)
    assert found["sort"] == "descending"
    assert found["left"]
    assert len(found["left"]) < len(found["up"])
    assert found["requests"] == 0
    assert found["wide"] <= found["room"] <= 400
    assert found["pictures"] >= 8
    assert found["ink"] == "rgb(27, 31, 36)"


def test_dark_pages_have_light_ink(tmp_path: Path, text: str) -> None:
    found, _ = browse(tmp_path, text, "--blink-settings=preferredColorScheme=0")
    assert found["ink"] == "rgb(232, 234, 237)"
