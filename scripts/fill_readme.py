"""Fill the parts of README.md and results/reference/README.md that come from committed files.

    python scripts/fill_readme.py            # writes both, and the outputs of commands in README and pages
    python scripts/fill_readme.py --check    # exit 1 if they are not what the files and commands say

Filled are, between `<!-- fill: NAME -->` and `<!-- end -->`: the last screen of the saved smoke run, and the table of
errors, each cell of which is found in a page of results/evidence. The outputs of commands are those of
scripts/fill_outputs.py.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fill_outputs

from bench.analysis.findings import screen
from bench.analysis.findings.of_run import run_findings
from bench.core.values import show_seconds
from bench.records import metrics
from bench.records.file import Result, load
from bench.records.rows import case_rows, own_metrics

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
REFERENCE, EVIDENCE = RESULTS / "reference", RESULTS / "evidence"
SMOKE, STANDARD = "smoke/smoke-*.jsonl", "reference/reference-*.jsonl"
WIDTH = 100
GAP = "..."
LEFT_OUT = ("DOES PARALLELISM PAY?", "WHERE A TRAINING STEP GOES")
"""Titles of the blocks that the README has no room for."""


def main() -> None:
    texts = {path: text() for path, text in PAGES.items()}
    unlike = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in unlike:
            print(f"{path.relative_to(ROOT)}: not what the files say; python scripts/fill_readme.py")
        sys.exit(bool(unlike) | fill_outputs.check(fill_outputs.documents()))
    for path in unlike:
        path.write_text(texts[path], encoding="utf-8")
    fill_outputs.fill(fill_outputs.documents())


def readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(<!-- fill: (\w+) -->\n).*?(<!-- end -->)", _filled, text, flags=re.DOTALL)


def _filled(match: re.Match[str]) -> str:
    begin, name, end = match.groups()
    return f"{begin}{PARTS[name]()}\n{end}"


# The last screen of a run.


def shown_screen() -> str:
    """What `bench run` printed at the end of the saved smoke run, without blank lines and some blocks."""
    lines = [line for line in _screen(_only(SMOKE)) if line]
    kept = [*_without_blocks(lines)]
    return "\n".join(["```console", *_first_remark(kept), "```"])


def _screen(path: Path) -> list[str]:
    """The last screen, as in the folder of the run: the file is the newest of `results`, so its name is `last`."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.mkdir()
        with contextlib.chdir(folder):
            result = load(Path(shutil.copy(path, results)))
            return screen.lines(run_findings(result), WIDTH)


def _without_blocks(lines: list[str]) -> Iterator[str]:
    """The lines without the blocks that are left out; one mark stands for those of them that follow one another."""
    leaves_out = False
    for line in lines:
        if not line.startswith(" "):
            was_left_out, leaves_out = leaves_out, line.startswith(LEFT_OUT)
            if leaves_out and not was_left_out:
                yield GAP
        if not leaves_out:
            yield line


def _first_remark(lines: list[str]) -> Iterator[str]:
    """The lines without the remarks after the first."""
    is_further = was_further = False
    for line in lines:
        number = re.match(r"  (\d)  ", line)
        is_further = int(number[1]) > 1 if number else is_further and line.startswith(" ")
        if is_further and not was_further:
            yield GAP
        if not is_further:
            yield line
        was_further = is_further


def _only(pattern: str) -> Path:
    found = sorted(RESULTS.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{RESULTS.relative_to(ROOT)}: {len(found)} files {pattern}, not one")
    return found[0]


# What is known of the errors.


class Cell(NamedTuple):
    """A figure of a page: the cell of one row below one head, as `text` shows it."""

    page: str
    row: tuple[str, ...]
    """The first cells of the row."""
    head: str
    text: str = "{}"
    of: str = ""
    """Head of the cell with the number of what was judged."""


class Sentence(NamedTuple):
    """Figures of a sentence: the groups of the pattern, the only one that fits below a head, as `text` shows them."""

    page: str
    head: str
    pattern: str
    text: str


class Claim(NamedTuple):
    """A row of the README's table: what was asked, and the figures where constants were fitted and where not."""

    question: str
    fitted: Cell | Sentence | None
    other: Cell | Sentence | None


def _both(question: str, row: tuple[str, ...], head: str, of: str = "") -> Claim:
    """The same cell of the Xeon's page, whose runs gave the method a constant, and of the EPYC's."""
    return Claim(question, *(Cell(page, row, head, of=of) for page in ("xeon", "epyc")))


def _published(question: str, head: str, of: str = "") -> Claim:
    cells = (Cell("published", (group,), head, "{}%", of) for group in ("fitted", "not fitted"))
    return Claim(question, *cells)


CLAIMS = (
    _both(
        "unchanged cases that `bench compare` called slower or faster",
        ("`bench compare`, each run and the next",), "called faster or slower", "cases",
    ),
    _both(
        "the same, runs up to an hour apart: the machine changed",
        ("`bench compare`, all other pairs of runs",), "called faster or slower", "cases",
    ),
    _both(
        "the same data by pytest-benchmark's rule, `compare-fail=median:5%`",
        ("pytest-benchmark, `compare-fail=median:5%` (either way)",), "called faster or slower", "cases",
    ),
    _both(
        "cases made 20% slower that `bench compare` found, 3 launches per side",
        ("3 against 3", "20%", "all four"), "detected", "judged",
    ),
    _both("the same by `bench ab`, 10 pairs", ("10", "20%", "all four"), "detected", "judged"),
    _both(
        "95% intervals of a run that held the median of the other runs",
        ("all",), "hold the median of the others", "intervals",
    ),
    _published("published step times: median error of `bench predict`", "median error %", "rows"),
    _published("the same: share within the predicted 95% interval", "within the 95% interval, %", "rows"),
    Claim(
        "steps on four emulated hosts, predicted from runs on one and two: mean error", None,
        Sentence(
            "predict_step", "## Emulated: four hosts",
            r"of (\d+) single predictions \d+, their mean error is ([\d.]+%), the worst (\d+%)",
            "{1} of {0}, worst {2}",
        ),
    ),
    Claim(
        "steps with an emulated slow rank: predictions within 5%", None,
        Sentence("mixed", "## Emulated slow rank", r"(\d+) of (\d+) predictions lie within 5%", "{0} of {1}"),
    ),
)  # fmt: skip


def trust() -> str:
    lines = ["| figure | on data of the fit | on other data |", "| --- | ---: | ---: |"]
    for claim in CLAIMS:
        lines.append(f"| {claim.question} | {_shown(claim.fitted)} | {_shown(claim.other)} |")
    return "\n".join([*lines, "", *textwrap.wrap(f"{_noise()} {_harness()}", 119, break_on_hyphens=False)])


def _noise() -> str:
    """How far launches are apart on the machines of the verdicts, which is why most of these are `unclear`."""
    head, unclear = "launches differ by (sd of logs)", "unclear"
    rows = [row for page in ("xeon", "epyc") for row in _rows(_page(page))]
    spreads = [float(row[head].rstrip("%")) for row in rows if head in row]
    (share, _) = [row[unclear] for row in rows if row.get("method") == "`bench compare`, each run and the next"]
    return (
        f"These machines are noisy: launches of one case differ by {min(spreads):.0f} to {max(spreads):.0f}% (standard "
        f"deviation), so {share} of the unchanged cases are `unclear`. Many published step times of the right column "
        "come from the same tables as fitted ones."
    )


def _harness() -> str:
    rows = [row for row in _rows(_page("overhead")) if "harness / bare" in row]
    first, *others = (f"{row['work']} {_ratio(row['harness / bare'])} ({_ratio(row['bare / bare'])})" for row in rows)
    start = f"Time with the harness over that of [a bare loop](results/evidence/overhead.md): {first}"
    return f"{', '.join([start, *others])}. In brackets: that of two bare loops."


def _ratio(text: str) -> str:
    return f"{float(text.partition(' ')[0]):.2f}"


def _shown(figure: Cell | Sentence | None) -> str:
    if figure is None:
        return "-"
    found = _cell(figure) if isinstance(figure, Cell) else _sentence(figure)
    return f"[{found}](results/evidence/{figure.page}.md)"


def _cell(cell: Cell) -> str:
    rows = [row for row in _rows(_page(cell.page)) if tuple(row.values())[: len(cell.row)] == cell.row]
    rows = [row for row in rows if cell.head in row]
    if len(rows) != 1:
        raise SystemExit(f"{cell.page}.md: {len(rows)} rows {cell.row} below {cell.head!r}, not one")
    shown = cell.text.format(rows[0][cell.head])
    return f"{shown} of {int(rows[0][cell.of]):,}" if cell.of else shown


def _rows(page: str) -> Iterator[dict[str, str]]:
    """Rows of all tables of a page: head -> cell."""
    heads: list[str] = []
    before: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            heads = before
        elif cells and heads:
            yield dict(zip(heads, cells, strict=True))
        else:
            heads, before = [], cells


def _sentence(sentence: Sentence) -> str:
    _, _, part = _page(sentence.page).partition(f"\n{sentence.head}")
    part = part.partition("\n## ")[0]
    found = re.findall(sentence.pattern, part)
    if len(found) != 1:
        raise SystemExit(
            f"{sentence.page}.md: {len(found)} texts {sentence.pattern!r} below {sentence.head!r}, not one"
        )
    return sentence.text.format(*found[0])


def _page(name: str) -> str:
    return (EVIDENCE / f"{name}.md").read_text(encoding="utf-8")


# The page of the saved runs.

REMARKS = (
    metrics.CEILING_PERCENT, "contention", metrics.SPEEDUP, "communication_share", metrics.BUBBLE, metrics.IDLE,
)  # fmt: skip
"""Metrics beside the headline."""
INTRODUCTION = """# Reference runs

Two saved runs on two cores of a virtual machine, as `bench show --share` makes them, written by
`scripts/fill_readme.py`; do not edit it.

{runs}

The README shows the last screen of the smoke run. [overview.png](overview.png) is drawn by `scripts/draw_overview.py`
from the standard run, whose cases follow: the median of three launches, and its 95% interval between launches.
[Metrics](../../bench/docs/metrics.md) says what each head means.

{table}
"""


def reference_page() -> str:
    results = [load(_only(pattern)) for pattern in (SMOKE, STANDARD)]
    return INTRODUCTION.format(runs="\n".join(map(_run_line, results)), table="\n".join(_case_lines(results[-1])))


def _run_line(result: Result) -> str:
    machine, _, run = run_findings(result).head.partition("   ")
    path = f"../{result.path.relative_to(RESULTS)}"
    return f"- [{result.path.name}]({path}): {machine}; {run}"


def _case_lines(result: Result) -> Iterator[str]:
    known = own_metrics([result]) | metrics.METRICS
    yield "| case | median | 95% interval | speed | and |\n| --- | ---: | ---: | ---: | --- |"
    for row in case_rows([result]):
        if row["status"] == "ok":
            headline = metrics.headline(row)
            speed = f"{headline.head}: {headline.format(row[headline.name])}" if headline else ""
            shown = (known[name] for name in REMARKS if row.get(name) is not None)
            remarks = ", ".join(f"{metric.head}: {metric.format(row[metric.name])}" for metric in shown)
            yield f"| `{row['case']}` | {show_seconds(row[metrics.TIME])} | {_interval(row)} | {speed} | {remarks} |"


def _interval(row: Mapping[str, object]) -> str:
    low, high = row[metrics.TIME_LOW], row[metrics.TIME_HIGH]
    if not isinstance(low, float) or not isinstance(high, float) or high > 100 * low:
        return "unknown: the launches disagree"
    return f"{show_seconds(low)} to {show_seconds(high)}"


PARTS: Mapping[str, Callable[[], str]] = {"screen": shown_screen, "trust": trust}
PAGES: Mapping[Path, Callable[[], str]] = {ROOT / "README.md": readme, REFERENCE / "README.md": reference_page}

if __name__ == "__main__":
    main()
