"""Pages of real results as browsers show them: the answer within the first screen, no barrier, no sideways scroll.

Needs Chromium and axe-core (`tests.support.browser` says where from), and is skipped if either is missing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report.page.writing import runs, write
from tests import ROOT
from tests.support.browser import CHROMIUM, DARK, axe_core, browse

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(axe_core() is None, reason="no axe-core here: npm install --global axe-core, or AXE_CORE=FILE"),
]
ARCHITECTURES = ROOT / "results" / "emulated"
PAGES = {
    "three": [str(ARCHITECTURES / name) for name in ("plain", "slow-rank", "shaped-link")],
    "one": [str(ROOT / "results" / "reference" / "*.jsonl")],
}
SCREENS = {"desk": (1280, 900), "phone": (400, 800)}
FIRST = {"desk": 600, "phone": 800}
"""Pixels within which number, interval and picture stand."""

STEPS = """
  const bottom = (chosen) => page.querySelector(chosen)?.getBoundingClientRect().bottom ?? null;
  const barriers = async () => (await view.axe.run(page, { resultTypes: ["violations"] })).violations.map(
    (one) => `${one.id}: ${one.nodes.length}, such as ${one.nodes[0].html.slice(0, 120)}`);
  const found = { title: bottom("h1"), picture: bottom("#answer svg .m, #answer svg .part"),
                  screens: page.documentElement.scrollHeight / view.innerHeight,
                  wide: [page.documentElement.scrollWidth], barriers: await barriers() };
  for (const part of page.querySelectorAll("details")) part.open = true;
  found.wide.push(page.documentElement.scrollWidth);
  found.barriers.push(...await barriers());
  const cell = page.querySelector("#comparison td, #suites td");
  found.card = view.getComputedStyle(cell).display;
  found.labels = [...cell.parentElement.cells].map((one) => one.dataset.label ?? "");
  return found;
"""


@pytest.fixture(scope="module", params=PAGES)
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with axe-core in it, and without the policy that would refuse that."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    write(runs(PAGES[request.param]), [path])
    script = axe_core()
    assert script is not None
    text = path.read_text()
    policy = text[text.index("<meta http-equiv") : text.index("<title>")]
    return text.replace(policy, "").replace("</body>", f"<script>{script.read_text()}</script></body>")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_answer_is_on_the_first_screen_and_nothing_bars_anyone(
    tmp_path: Path, text: str, screen: str, dark: bool
) -> None:
    found, console = browse(tmp_path, text, STEPS, SCREENS[screen], (DARK,) if dark else ())
    assert "error" not in found, found
    assert console == ""
    assert found["barriers"] == []
    assert max(found["wide"]) <= SCREENS[screen][0]
    assert 0 < found["title"] < found["picture"] < FIRST[screen]
    assert found["screens"] <= 3.3  # a tenth of the 33 screens that three runs once took
    assert found["card"] == ("flex" if screen == "phone" else "table-cell")
    assert all(found["labels"]) == (screen == "phone")
