"""Reports: what a page says and in which order, that it is one safe file, and the other forms."""

from __future__ import annotations

import csv
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.cli import call
from bench.errors import BenchError
from bench.records.file import Result, load
from bench.report.page.content import build
from bench.report.page.html import page
from bench.report.page.writing import runs, write
from tests import ROOT
from tests.support.page_text import ReadPage
from tests.support.results import MILLISECOND, end, header, measurement, not_ok, save

CASES = tuple(f"collective/all_reduce[num_bytes={4**n}]" for n in range(5, 9))
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m&quot;"


def run(tmp_path: Path, label: str, factor: float, *more: Any, **fields: Any) -> Result:
    records = [
        measurement(case, [[int(factor * MILLISECOND * (1 + 0.01 * launch))] * 5] * 2, launch)
        for launch in range(3)
        for case in CASES
    ]
    return load(
        save(tmp_path / f"{label[:8].strip('<>')}.jsonl", header(label=label, **fields), *records, *more, end())
    )


class Outline(HTMLParser):
    """Headings, and whatever could fetch something or run."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.active: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "h2"
        given = dict(attrs)
        self.active += [name for name in given if name.startswith("on")]
        links = [given.get(name) or "" for name in ("src", "href", "xlink:href")]
        self.active += [link for link in links if link and not link.startswith(("#", "data:image/png"))]
        self.active += ["script"] if tag == "script" else []

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.headings.append(data.strip())
            self._inside = False


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    return parser


def test_the_answer_comes_first_and_says_who_is_ahead_by_how_much_and_how_sure(tmp_path: Path) -> None:
    results = [run(tmp_path, "slow", 2.0), run(tmp_path, "fast", 1.0, architecture="2 x Other core")]
    text = page(build([[r] for r in results]), "report")
    read = ReadPage(text)
    assert read.title == "fast against slow: collectives: all 4 cases faster, all_reduce 1 KiB 0.50x as long"
    assert outline(text).headings[-6:-3] == ["What was measured", "All 4 cases", "By suite, 4 cases"]
    figure, whole = read.table("work", "verdict")
    assert (figure["verdict"], figure["95% interval"]) == ("▲ faster", "0.49x to 0.51x")
    assert (whole["work"], whole["verdict"]) == ("the run as a whole", "▲ faster")
    changes = [row["change and verdict"] for row in read.table("change and verdict")]
    assert all(re.fullmatch(r"0\.500x ▲ faster, 0\.\d+x to 0\.\d+x", change) for change in changes)


@pytest.mark.parametrize(
    ("factors", "title"),
    [
        ((1.0, 2.0), "b against a: collectives: all 4 cases slower, all_reduce 1 KiB 2.0x as long"),
        ((1.0, 1.0), "b against a: collectives: the same within 5%"),
    ],
)
def test_the_title_follows_the_verdicts(tmp_path: Path, factors: tuple[float, float], title: str) -> None:
    results = [run(tmp_path, name, factor) for name, factor in zip("ab", factors, strict=True)]
    assert build([[r] for r in results]).title == title


def training(tmp_path: Path, label: str, factors: dict[str, float]) -> Result:
    """A run of cases that take this many milliseconds."""
    records = [
        measurement(case, [[int(factor * MILLISECOND * (1 + 0.01 * launch))] * 5] * 2, launch)
        for launch in range(3)
        for case, factor in factors.items()
    ]
    return load(save(tmp_path / f"{label}.jsonl", header(label=label), *records, end()))


STEP, DECODE = "training_step/run[tp=1]", "inference/decode[batch=1]"


@pytest.mark.parametrize(
    ("sides", "title"),
    [
        ([{STEP: 2.0, DECODE: 2.0}], "base is faster in training: a takes 2.0x as long"),
        ([{STEP: 0.5, DECODE: 0.5}], "a is faster in training: it takes 0.50x as long as base"),
        ([{STEP: 0.5, DECODE: 0.5}, {STEP: 0.4, DECODE: 0.5}], "base is slowest in training: a takes 0.50x as long"),
        ([{STEP: 2.0, DECODE: 1.0}, {STEP: 3.0, DECODE: 1.0}], "base is fastest in training: a takes 2.0x as long"),
        ([{STEP: 2.0, DECODE: 1.0}, {STEP: 0.5, DECODE: 1.0}], "In training: a takes 2.0x as long as base"),
        ([{STEP: 2.0, DECODE: 0.5}], "a against base depends on the work: decode 0.50x"),
    ],
)
def test_the_title_says_which_is_fastest_and_that_it_depends_only_if_it_does(
    tmp_path: Path, sides: list[dict[str, float]], title: str
) -> None:
    base = training(tmp_path, "base", {STEP: 1.0, DECODE: 1.0})
    news = [training(tmp_path, name, factors) for name, factors in zip("ab", sides, strict=False)]
    assert build([[base], *([new] for new in news)]).title.startswith(title)


def test_what_has_no_speed_is_listed_with_its_reason(tmp_path: Path) -> None:
    broken = [not_ok("compute/x", "failed", "rank 1 fell over"), not_ok("compute/y", "skipped", "no room")]
    text = page(build([[run(tmp_path, "a", 1.0, *broken)]]), "report")
    assert "Not measured: 1, failed: rank 1 fell over, and 1 for other reasons" in text
    assert {row["reason"] for row in ReadPage(text).table("case", "reason")} == {"rank 1 fell over", "no room"}


def test_one_launch_has_no_error_bar_and_the_page_says_so(tmp_path: Path) -> None:
    single = load(save(tmp_path / "s.jsonl", header(label="single"), measurement(CASES[0]), end()))
    assert "Rough data: one launch, so there are no error bars" in page(build([[single]]), "report")


def test_a_hostile_file_runs_no_script_and_fetches_nothing(tmp_path: Path) -> None:
    broken = not_ok("compute/x", "failed", EVIL) | {"case": f"compute/{EVIL}"}
    table = {"title": EVIL, "columns": ["part", EVIL], "rows": [[EVIL, 1.0]], "notes": [EVIL]}
    evil = run(tmp_path, EVIL, 1.0, broken, measurement("soak/x", tables={EVIL: table}), architecture=EVIL)
    text = page(build([[evil], [run(tmp_path, "b", 1.0)]]), "report")
    found = outline(text)
    assert found.active == ["script"]  # the page's own
    assert "\x1b" not in text
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'.*script-src 'sha256-", text)


def test_an_emulated_side_is_labelled_at_the_top(tmp_path: Path) -> None:
    slowed = run(tmp_path, "slowed", 1.0)
    slowed.header.environment.ranks[1].emulated_speed = 0.5
    alone = page(build([[slowed]]), "report")
    assert "Emulated: in slowed (emulated) something was slowed on purpose" in alone
    assert "emulated" in ReadPage(alone).title
    plain = run(tmp_path, "plain", 0.5)
    assert "Emulated" not in page(build([[plain]]), "report")
    both = ReadPage(page(build([[plain], [slowed]]), "report"))
    assert "slowed (emulated) against plain" in both.title
    assert "Emulated" not in page(build([[plain], [slowed]]), "report")  # the title and a remark say it
    assert "computes at 0.5 of its speed" in " ".join(both.words_before_unfolding)


def test_runs_without_a_common_case_are_shown_without_a_comparison(tmp_path: Path) -> None:
    other = load(save(tmp_path / "o.jsonl", header(label="o"), measurement("compute/copy"), end()))
    content = build([[run(tmp_path, "a", 1.0)], [other]])
    assert "comparison" not in {section.key for section in content.sections}
    assert content.title.startswith("2 runs, not compared. a: all-reduce 1 KiB ~1.0 ms")
    assert "nothing is compared: no common case" in page(content, "report")


def test_environments_that_differ_come_first_and_the_rest_is_folded(tmp_path: Path) -> None:
    results = [run(tmp_path, "a", 1.0), run(tmp_path, "b", 1.0, architecture="8 x Other")]
    (section,) = [s for s in build([[r] for r in results]).sections if s.key == "environment"]
    assert {row["field"] for row in section.tables[0].rows} == {"label", "architecture"}
    (same,) = section.parts
    assert "versions.torch" in {row["field"] for row in same.tables[0].rows}


ARCHITECTURES = [str(ROOT / "results" / "emulated" / name) for name in ("plain", "slow-rank", "shaped-link")]


@pytest.fixture(scope="module")
def architectures() -> tuple[str, ReadPage]:
    text = page(build(runs(ARCHITECTURES)), "report")
    return text, ReadPage(text)


def test_three_real_runs_make_a_small_page_of_few_words(architectures: tuple[str, ReadPage]) -> None:
    text, read = architectures
    assert len(text.encode()) < 300_000
    assert len(read.words_before_unfolding) < 1_360  # a tenth of what the page once had
    assert re.fullmatch(
        r"plain is fastest in training: slow rank \(emulated\) takes [\d.]+x as long \([\d.]+x to [\d.]+x\), "
        r"shaped link [\d.]+x \([\d.]+x to [\d.]+x\)",
        read.title,
    )
    assert "depends on the work" not in text
    assert "unknown" not in " ".join(cell for row in read.table("case", "plain")[:20] for cell in row.values())


def test_a_pair_has_one_figure_on_the_whole_page(architectures: tuple[str, ReadPage]) -> None:
    """In title, chart, table of all cases and table of rates."""
    _, read = architectures
    charted = {(row["work"], row["machine"]): row["time over the base's"] for row in read.table("work", "verdict")}
    cases = {row["case"]: row for row in read.table("case", "plain")}
    (step,) = (row for name, row in cases.items() if name.startswith("training step"))
    (best,) = (row for row in read.table("reached") if row["reached"] == "fastest training step")
    names = ("plain", "slow rank (emulated)", "shaped link")
    tokens = {name: float(best[name].split()[0].replace(",", "")) for name in names}
    for name in names[1:]:
        ratio = float(step[f"{name} against plain"].partition("x")[0])
        assert f"{ratio:.1f}x" == charted["training", name]
        assert f"{ratio:.1f}x" in read.title
        assert tokens["plain"] / tokens[name] == pytest.approx(ratio, rel=0.01)


def test_every_picture_of_a_page_has_a_text_and_a_table(architectures: tuple[str, ReadPage]) -> None:
    text, _ = architectures
    figures = re.findall(r"<figure.*?</figure>", text, re.S)
    assert 2 <= len(figures) <= 5
    for figure in figures:
        assert "<figcaption" in figure
        assert "<table" in figure
    verdicts = re.findall(r'<span class="said">([^<]*)', text)
    assert {words.partition(",")[0].strip() for words in verdicts} <= {"▼ slower", "▲ faster", "no difference shown"}
    assert len(verdicts) > 10


def test_one_real_run_says_what_it_reaches_with_three_bars_beside_the_roofline() -> None:
    (reference,) = (ROOT / "results" / "reference").glob("*.jsonl")
    text = page(build(runs([str(reference)])), "report")
    title = ReadPage(text).title
    assert re.search(r"core: [\d.]+ [GT]FLOP/s per core, all-reduce .* GB/s bus, .* one core at best", title)
    lead = text[text.index('id="answer"') : text.index('id="measured"')]
    assert lead.count('class="bar"') == 3
    assert 'id="plot-roofline"' in lead
    assert text.count('id="plot-roofline"') == 1


def test_every_form_is_written_by_its_ending_and_never_over_another(tmp_path: Path) -> None:
    results = [run(tmp_path, "a", 1.0)]
    names = ["r.html", "r.md", "r.csv", "r.json", "plots"]
    write([results], [tmp_path / name for name in names])
    pictures = sorted((tmp_path / "r_files").glob("*.png"))
    linked = re.findall(r"\]\(<(r_files/[^>]+)>\)", (tmp_path / "r.md").read_text())
    assert sorted(tmp_path / link for link in linked) == pictures
    assert {p.stem for p in (tmp_path / "plots").glob("*.svg")} == {p.stem for p in pictures}
    with (tmp_path / "r.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(CASES)
    assert len(json.loads((tmp_path / "r.json").read_text())["rows"]) == len(CASES)
    for name in names:
        with pytest.raises(BenchError, match="exists; saving never overwrites"):
            write([results], [tmp_path / name])


def test_a_folder_of_launches_is_one_run_and_one_of_strangers_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    records = [measurement(case, [[MILLISECOND] * 5] * 2) for case in CASES]
    for name in ("first", "second"):
        save(folder / f"{name}.jsonl", header(label="run"), *records, end())
    assert [len(results) for results in runs([str(folder)])] == [2]
    assert [len(results) for results in runs([str(folder / "*.jsonl")])] == [1, 1]
    content = build(runs([str(folder)]))
    (section,) = [s for s in content.sections if s.key == "measured"]
    assert [row["run"] for row in section.tables[0].rows] == ["run"]
    assert "comparison" not in {s.key for s in content.sections}
    save(folder / "other.jsonl", header(label="run", device="Other processor"), *records, end())
    assert [len(results) for results in runs([str(folder)])] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "Missing argument 'FILE...'"),
        (["report", "none.jsonl"], "no file 'none.jsonl'"),
        (["report", "a.jsonl", "-o", "x.pdf"], "-o x.pdf: the name has to end in .html, .md"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "a", 1.0)
    assert call(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_ten_thousand_cases_make_a_small_page_and_not_slowly(tmp_path: Path) -> None:
    records = [measurement(f"collective/all_reduce[num_bytes={n + 1}]") for n in range(10_000)]
    path = save(tmp_path / "many.jsonl", header(label="many"), *records, end())
    began = time.process_time()
    write([[load(path)]], [tmp_path / "many.html"])
    seconds = time.process_time() - began
    assert (tmp_path / "many.html").stat().st_size < 5_000_000
    assert seconds < 40  # about 5 s of an idle core: what is caught here is work that grows with the square
