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
    headings = outline(text).headings
    assert headings[:3] == ["The answer", "What was measured on what", "Case by case"]
    assert "fast is ahead of slow: faster in 4 of 4 common cases, slower in none" in text
    content = build([[r] for r in results])
    decided = next(table for table in content.sections[0].tables if table.title.startswith("The largest"))
    assert [row["change"] for row in decided.rows] == ["0.500x"] * 4
    assert all(" to " in row["95% interval"] for row in decided.rows)


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ((1.0, 2.0), "b is behind a: slower in 4 of 4 common cases, faster in none"),
        ((1.0, 1.0), "b against a: no case of 4 common cases is shown to differ"),
    ],
)
def test_the_sentence_follows_the_verdicts(tmp_path: Path, factors: tuple[float, float], sentence: str) -> None:
    results = [run(tmp_path, name, factor) for name, factor in zip("ab", factors, strict=True)]
    assert build([[r] for r in results]).sections[0].sentences[0].startswith(sentence)


def test_what_has_no_speed_is_listed_with_its_reason(tmp_path: Path) -> None:
    broken = [not_ok("compute/x", "failed", "rank 1 fell over"), not_ok("compute/y", "skipped", "no room")]
    text = page(build([[run(tmp_path, "a", 1.0, *broken)]]), "report")
    assert "rank 1 fell over" in text
    assert "no room" in text
    assert "1 cases failed or are invalid" in text


def test_one_launch_has_no_error_bar_and_the_page_says_so(tmp_path: Path) -> None:
    single = load(save(tmp_path / "s.jsonl", header(label="single"), measurement(CASES[0]), end()))
    assert any("no error bar" in sentence for sentence in build([[single]]).sections[0].sentences)


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
    assert "Emulated: in slowed (emulated) something was slowed on purpose" in page(build([[slowed]]), "report")
    assert "Emulated" not in page(build([[run(tmp_path, "plain", 1.0)]]), "report")


def test_runs_without_a_common_case_are_shown_without_a_comparison(tmp_path: Path) -> None:
    other = load(save(tmp_path / "o.jsonl", header(label="o"), measurement("compute/copy"), end()))
    content = build([[run(tmp_path, "a", 1.0)], [other]])
    assert "comparison" not in {section.key for section in content.sections}
    assert any("no common case" in said for section in content.sections for said in section.sentences)


def test_environments_differ_first_and_are_whole(tmp_path: Path) -> None:
    results = [run(tmp_path, "a", 1.0), run(tmp_path, "b", 1.0, architecture="8 x Other")]
    (section,) = [s for s in build([[r] for r in results]).sections if s.key == "environment"]
    rows = section.tables[0].rows
    differing = [row["field"] for row in rows if row["differs"]]
    assert {"label", "architecture"} <= set(differing)
    assert [row["field"] for row in rows][: len(differing)] == differing


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
