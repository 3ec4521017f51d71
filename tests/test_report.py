from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import frame, report
from bench.errors import BenchError
from bench.result import load
from bench.table import (
    Table,
    clean,
    column,
    escape_markdown,
    render,
    show_number,
    show_seconds,
    show_text,
    wants_colour,
)
from tests.results import MILLISECOND, end, header, measurement, not_ok, save

MS = MILLISECOND
LONG = "collective/all_reduce[" + ",".join(f"parameter_{n}=123456789" for n in range(12)) + "]"
EVIL = "a\x1b[31m|b\u202e\nc"


def saved(tmp_path: Path, *records: Any) -> Any:
    return load(save(tmp_path / "a.jsonl", *records))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5e-9, "1.50 ns"), (2.5e-6, "2.50 us"), (0.000999, "999 us"), (0.0009996, "1.00 ms"), (0.0123456, "12.3 ms"),
        (0.9994, "999 ms"), (0.9996, "1.00 s"), (123.4, "123 s"), (4321.0, "4,320 s"), (0.0, "0 s"), (None, "-"),
    ],
)  # fmt: skip
def test_times_have_three_digits_and_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,230"), (0.5, "0.500"), (9.996, "10.0"), (99.96, "100"), (-0.0123, "-0.0123"), (0.0, "0"),
        (2e-6, "2.00e-06"), (1e16, "1.00e+16"), (None, "-"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert show_number(value) == text


def test_no_cell_is_cut_however_long(tmp_path: Path) -> None:
    text = report.tables([saved(tmp_path, measurement(LONG), not_ok("compute/x", "failed", "y" * 500))])
    assert LONG.removeprefix("collective/") in text
    assert "y" * 500 in text
    assert "\x1b" not in text


def test_columns_line_up_and_only_those_with_a_value_are_there(tmp_path: Path) -> None:
    own = {"contention": ["x", "lower"], "fill": ["share", "lower"], "unknown": ["s", "lower"]}
    result = saved(
        tmp_path,
        measurement("mine/run[a=1]", [[2 * MS] * 30] * 2, metrics=own, derived={"contention": 1.25, "fill": 0.5}),
        measurement("mine/run[a=22]", [[3 * MS] * 30] * 2, bytes=3_000_000, bus_factor=1.0),
    )
    lines = report.tables([result]).splitlines()
    start = lines.index("mine")
    head, rule, first, second = lines[start + 1 : start + 5]
    assert " ".join(head.split()) == "case median 95% interval samples algorithm GB/s bus GB/s contention x fill %"
    assert rule == "-" * len(head)
    assert " ".join(first.split()) == "run[a=1] 2.00 ms 2.00 ms to 2.00 ms 30 - - 1.25 50.0"
    assert " ".join(second.split()) == "run[a=22] 3.00 ms 3.00 ms to 3.00 ms 30 1.00 1.00 - -"
    # Numbers end where their head ends.
    assert first.index("2.00 ms") + 7 == head.index("median") + 6


def test_what_has_no_speed_is_listed_with_its_reason_worst_first(tmp_path: Path) -> None:
    head = header(plan={"cases": [{"id": "collective/never"}, {"id": "collective/a"}]})
    result = saved(
        tmp_path, head, not_ok("collective/a", "skipped", "needs 3 ranks"), not_ok("collective/b", "failed", "boom"),
        not_ok("collective/c", "invalid", "error 1"), end("interrupted", 130),
    )  # fmt: skip
    text = report.tables([result])
    listed = text[text.index("No speed") :]
    assert listed.index("collective/c") < listed.index("collective/b") < listed.index("collective/a")
    for reason in ("needs 3 ranks", "boom", "error 1"):
        assert reason in listed
    assert "collective/never" in text[text.index("Not measured (run interrupted)") :]
    assert report.verdict(result) == "1 invalid, 1 skipped, 1 failed, 1 not measured; run interrupted"
    assert report.status_code(result) == 130


def test_a_file_without_an_end_ended_early(tmp_path: Path) -> None:
    result = saved(tmp_path, measurement())
    assert report.status_code(result) == 3
    assert report.verdict(result).startswith("1 ok; no end was written")


def test_footnotes_say_what_a_reader_must_know(tmp_path: Path) -> None:
    plain = {"error": 0.0, "tolerance": 0.0, "scope": "reduced", "error_after": 0.0}
    result = saved(
        tmp_path,
        measurement("s/a", [[2 * MS] * 30, [MS] * 30], notes=["suite's own note"]),
        measurement("s/b", [[MS] * 5] * 2, notes=["suite's own note"]),
        measurement("s/c", [[MS] * 30] * 2, check=plain),
    )
    text = report.tables([result])
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line[:2] in ("a ", "b ", "c ")}
    assert rows == {"a": "1,2", "b": "1,3", "c": "4"}
    assert "[1] suite's own note" in text
    assert "[2] skew: the first rank is done over 20%" in text
    assert "[3] fewer than 20 samples" in text
    assert "[4] check: reduced" in text
    assert "One launch has no error bar" in text


def test_several_launches_have_an_error_bar(tmp_path: Path) -> None:
    text = report.tables([saved(tmp_path, *(measurement("s/a", [[n * MS] * 30], n) for n in (1, 2)))])
    assert "between launches" in text
    assert "no error bar" not in text


def test_a_hostile_file_moves_no_cursor_and_breaks_no_table(tmp_path: Path) -> None:
    hostile = measurement("s/a", notes=[EVIL]) | {"case": f"s/{EVIL}", "suite": "s"}
    result = saved(tmp_path, header(label=EVIL), hostile, not_ok("s/b", "failed", EVIL))
    for output in ("table", "markdown", "csv", "json"):
        text = report.tables([result], output)
        assert not [c for c in text if (ord(c) < 32 and c != "\n") or c in "\x7f\u202e"]
    cells = [line for line in report.tables([result], "markdown").splitlines() if "median" in line or r"\|b" in line]
    table = [line for line in cells if line.startswith("| ")]
    assert table
    assert r"\x1b[31m\|b" in table[1]
    assert len({line.replace(r"\|", "").count("|") for line in table[:2]}) == 1


def test_markdown_shows_text_as_it_is() -> None:
    assert escape_markdown("[x](http://e) ![y](z) <b> `c` *d* a|b\\") == (
        r"[x]\(http://e) \![y]\(z) \<b\> \`c\` \*d\* a\|b" + "\\\\"
    )
    assert escape_markdown("all_reduce[num_bytes=4]") == "all_reduce[num_bytes=4]"
    assert clean("a\tb\r\nc\x9b\u200f") == "a b c\\x9b\\u200f"


def test_wide_characters_take_two_cells() -> None:
    table = Table(
        "t",
        (column("a", "a", show_text, "left"), column("b", "b", show_text)),
        ({"a": "漢字", "b": 1}, {"a": "abcd", "b": 2}),
    )
    lines = render([table], "table").splitlines()
    assert lines[3:] == ["漢字   1", "abcd   2"]


def test_json_is_the_array_of_plain_rows_and_csv_has_a_column_a_parameter(tmp_path: Path) -> None:
    result = saved(tmp_path, measurement("s/a[x=1]"), measurement("s/b[y=two]"), not_ok("s/c", "skipped", "why"))
    rows = frame.case_rows([result])
    assert json.loads(report.tables([result], "json")) == rows
    table = list(csv.DictReader(io.StringIO(report.tables([result], "csv"))))
    assert [(r["case"], r["op"], r["param_x"], r["param_y"]) for r in table] == [
        ("s/a[x=1]", "a", "1", ""), ("s/b[y=two]", "b", "", "two"), ("s/c", "c", "", ""),
    ]  # fmt: skip
    assert float(table[0]["seconds_median"]) == rows[0]["seconds_median"]
    assert table[2]["seconds_median"] == ""


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(BenchError, match="--format html: there are table, markdown, csv, json"):
        render([], "html")


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True), (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)  # fmt: skip
def test_colour(terminal: bool, environment: dict[str, str], expected: bool, tmp_path: Path) -> None:
    colour = wants_colour(_Stream(terminal), environment)
    assert colour is expected
    assert ("\x1b[" in report.tables([saved(tmp_path, measurement())], colour=colour)) is expected


@pytest.mark.parametrize("suffix", [".csv", ".md", ".json"])
def test_exports_are_what_is_shown_and_never_overwrite(tmp_path: Path, suffix: str) -> None:
    rows = frame.case_rows([saved(tmp_path, measurement("s/a[x=1]"), not_ok("s/b", "failed", "boom"))])
    path = tmp_path / f"out{suffix}"
    report.write(rows, path)
    text = path.read_text()
    assert "s/a[x=1]" in text or "| a[x=1] |" in text
    assert "boom" in text
    with pytest.raises(BenchError, match="never overwrites"):
        report.write(rows, path)
    assert path.read_text() == text


def test_parquet_round_trips_or_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame.case_rows([saved(tmp_path, measurement("s/a[x=1]"), measurement("s/b[x=two]"))])
    path = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(BenchError, match="pip install pyarrow"):
            report.write(rows, path)
    assert not path.exists()
    pytest.importorskip("pyarrow")
    import pandas as pd

    report.write(rows, path)
    table = pd.read_parquet(path)
    assert table["case"].tolist() == ["s/a[x=1]", "s/b[x=two]"]
    assert table["param_x"].tolist() == ["1", "two"]
    assert table["seconds_median"].tolist() == [0.002, 0.002]


def test_an_unknown_ending_and_an_unwritable_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"out\.xls: the name has to end in \.csv, \.md, \.json, \.parquet"):
        report.write([], tmp_path / "out.xls")
    with pytest.raises(BenchError, match="cannot write"):
        report.write([], tmp_path / "nowhere" / "out.csv")
