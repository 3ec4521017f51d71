from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.analysis.findings.of_run import run_findings
from bench.core.table import DisplayTable, clean, column, escape_markdown, render, wants_colour
from bench.core.values import show_number, show_seconds, show_text
from bench.errors import BenchError
from bench.records.file import load
from bench.records.rows import case_rows
from bench.report import rank_table, result_tables
from tests.support.results import MILLISECOND, end, header, measurement, not_ok, planned, save

MS = MILLISECOND
LONG = "collective/all_reduce[" + ",".join(f"parameter_{n}=123456789" for n in range(12)) + "]"
EVIL = "a\x1b[31m|b\u202e\nc"


def saved(tmp_path: Path, *records: Any) -> Any:
    return load(save(tmp_path / "a.jsonl", *records))


def test_the_ceiling_itself_is_the_best_here_and_no_share_of_itself(tmp_path: Path) -> None:
    fast, slow = (
        measurement(f"compute/matmul[size={size}]", [[ns] * 30], flops=10**9, flops_dtype="float32")
        for size, ns in ((1, MS), (2, 2 * MS))
    )
    result = saved(tmp_path, fast, slow)
    text = result_tables.tables([result], width=100)
    (head,) = [line for line in text.splitlines() if line.startswith("case ")]
    rows = {line.partition("  ")[0]: line.split()[-1] for line in text.splitlines() if line.startswith("matmul ")}
    assert "of ceiling" in head
    assert rows == {"matmul 1": "here", "matmul 2": "50%"}
    assert "best here" in text
    assert "Ceiling fp32: 1.00 TFLOP/s per device, matmul 1\n" in text
    shown = [row["percent_of_measured_ceiling"] for row in json.loads(result_tables.tables([result], "json"))["rows"]]
    assert shown == [100.0, 50.0]


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
    result = saved(tmp_path, measurement(LONG), not_ok("compute/x", "failed", "y" * 500))
    text = result_tables.tables([result], has_ids=True)
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
    lines = result_tables.tables([result]).splitlines()
    start = lines.index("mine")
    head, rule, first, second = lines[start + 1 : start + 5]
    assert " ".join(head.split()) == "case time rate spread samples shape algorithm bandwidth fill"
    assert rule == "-" * len(head)
    assert " ".join(first.split()) == "run a 1 2.00 ms 1.25x contention 0% 30 █▁▁▁▁▁▁▁ - 50.0%"
    assert " ".join(second.split()) == "run a 22 3.00 ms 1.00 GB/s 0% 30 █▁▁▁▁▁▁▁ 1.00 GB/s -"
    # Numbers end where their head ends.
    assert first.index("2.00 ms") + 7 == head.index("time") + 4


def test_what_has_no_speed_is_listed_with_its_reason_worst_first(tmp_path: Path) -> None:
    head = header(plan={"cases": [planned("collective/never"), planned("collective/a")]})
    result = saved(
        tmp_path, head, not_ok("collective/a", "skipped", "needs 3 ranks"), not_ok("collective/b", "failed", "boom"),
        not_ok("collective/c", "invalid", "error 1"), end("interrupted", 130),
    )  # fmt: skip
    text = result_tables.tables([result])
    listed = text[text.index("No speed") :]
    rows = [line.split("   ") for line in listed.splitlines()[3:6]]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["invalid", "error 1", "c"], ["failed", "boom", "b"], ["skipped", "needs 3 ranks", "a"],
    ]  # fmt: skip
    assert "never" in text[text.index("Not measured (run interrupted)") :]
    assert "collective/never" in result_tables.tables([result], has_ids=True)
    colourful = result_tables.tables([result], colour=True, width=80)
    assert "\x1b[31minvalid\x1b[0m" in colourful
    assert "\x1b[2mskipped\x1b[0m" in colourful
    assert result_tables.verdict(result) == "1 invalid, 1 skipped, 1 failed, 1 not measured; run interrupted"
    assert result_tables.status_code(result) == 130


def test_a_file_without_an_end_ended_early(tmp_path: Path) -> None:
    result = saved(tmp_path, measurement())
    assert result_tables.status_code(result) == 3
    assert result_tables.verdict(result).startswith("1 ok; no end was written")


def test_footnotes_say_what_a_reader_must_know(tmp_path: Path) -> None:
    plain = {"error": 0.0, "tolerance": 0.0, "scope": "reduced", "error_after": 0.0}
    result = saved(
        tmp_path,
        measurement("s/a", [[2 * MS] * 30, [MS] * 30], notes=["suite's own note"]),
        measurement("s/b", [[MS] * 5] * 2, notes=["suite's own note"]),
        measurement("s/c", [[MS] * 30] * 2, check=plain),
    )
    text = result_tables.tables([result])
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line[:2] in ("a ", "b ", "c ")}
    assert rows == {"a": "1", "b": "-", "c": "2"}
    assert "\nsuite's own note (in 2 of 3 cases)\n" in text
    assert "[1] skew: the first rank is done over 20%" in text
    assert "[2] check: reduced" in text
    assert text.count("fewer than 20 samples in 1 of 3 cases: for error bars: bench run") == 1
    assert text.count("one launch: no error bar") == 1
    assert "~1.0 ms" in text


def test_a_kind_of_more_than_half_of_a_file_stands_in_its_head(tmp_path: Path) -> None:
    load_ = {"other_load_share": 0.87, "other_load_noise_share": 0.02}
    result = saved(tmp_path, disturbed("s/a", **load_), disturbed("s/b", **load_), disturbed("t/c"))
    text = result_tables.tables([result], width=100)
    assert text.count("disturbed") == 1
    assert "\ndisturbed: other programs used up to 87% of the CPU in 2 of 3 cases\n" in text[: text.index("\ns\n")]
    assert "notes" not in text


def disturbed(case: str, samples: list[int] | None = None, **host: float) -> Any:
    found = {"hosts": [{"host": "a", **host}], "ranks": []}
    return measurement(case, [samples or [MS] * 30], disturbance=found)


def test_a_kind_of_disturbance_is_one_footnote_with_the_worst_figure(tmp_path: Path) -> None:
    slow, fast = [MS] * 20 + [4 * MS] * 12, [MS] * 20 + [2 * MS] * 12
    mixed = [*slow[::4], *slow[1::4], *slow[2::4], *slow[3::4]]
    result = saved(
        tmp_path,
        disturbed("s/a", other_load_share=0.12, other_load_noise_share=0.02, steal_share=0.021),
        disturbed("s/b", other_load_share=0.31, other_load_noise_share=0.02, steal_share=0.04),
        disturbed("s/c", other_load_share=0.12, other_load_noise_share=0.08, steal_share=0.019),
        disturbed("s/d", mixed),
        disturbed("s/e", fast[::4] + fast[1::4] + fast[2::4] + fast[3::4]),
        disturbed("s/f", [(100 + n) * 10_000 for n in range(31)]),
    )
    text = result_tables.tables([result])
    ends = {line[0]: line.split()[-1] for line in text.splitlines() if line[:2] in {f"{c} " for c in "abcdef"}}
    assert ends == {"a": "1,2", "b": "1,2", "c": "-", "d": "3", "e": "3", "f": "4"}
    assert "[1] disturbed: other programs used up to 31% of the CPU" in text
    assert "[2] disturbed: up to 4.0% of the CPU time was stolen by the hypervisor" in text
    assert "[3] two modes: 62% of a launch's samples at 1.00 ms, 38% at 4.00 ms" in text
    assert "[4] drift: the last third of a launch's samples is up to 20% slower than the first" in text


def test_throttling_and_a_fall_of_clocks_are_told_apart(tmp_path: Path) -> None:
    clocks = {"rank": 0, "gpu_sm_clock_before_hz": 1_980_000_000, "gpu_sm_clock_after_hz": 1_410_000_000}
    held = {"ranks": [clocks | {"gpu_clock_reasons_after": ["power cap"]}]}
    result = saved(tmp_path, measurement("s/a", disturbance=held), measurement("s/b", disturbance={"ranks": [clocks]}))
    text = result_tables.tables([result])
    assert "] throttled: GPU power cap; clocks went from 1.98 to 1.41 GHz" in text
    assert "] clocks fell from 1.98 to 1.41 GHz" in text
    table = bench.load(result.path)
    assert [value is True for value in table["throttled"].astype(object)] == [True, False]
    assert table["throttle_reasons"].tolist() == ["GPU power cap", None]
    assert table["clock_after_hz"].tolist() == [1.41e9, 1.41e9]


def test_tails_stand_beside_the_median_where_they_are_known(tmp_path: Path) -> None:
    text = result_tables.tables([saved(tmp_path, measurement("s/a", [[MS] * 60]), measurement("s/b", [[MS] * 59]))])
    head = next(line for line in text.splitlines() if line.startswith("case"))
    assert "p95" in head
    assert "p99" not in head


def test_ranks_have_medians_of_their_own_and_of_their_own_work(tmp_path: Path) -> None:
    own = {"compute_only": [[3 * MS, MS, 2 * MS], [4 * MS] * 3]}
    spans = [[0, 0, "forward", 0, 0, 0, 2 * MS], [0, 0, "loss", 0, 0, MS, 2 * MS], [0, 0, "forward", 0, 1, 5 * MS, MS],
             [0, 1, "forward", 0, 0, 0, 6 * MS]]  # fmt: skip
    result = saved(
        tmp_path,
        measurement("s/a", [[5 * MS] * 3, [6 * MS] * 3], others=own),
        measurement("s/a", [[7 * MS] * 3, [6 * MS] * 3], 1, others=own),
        measurement("s/b", [[8 * MS], [9 * MS]], spans=spans, traced_call_ns=[[9 * MS] * 2] * 2),
        not_ok("s/c", "failed", "boom"),
    )
    rows = json.loads(rank_table.text([result], "json"))
    assert [(r["case"], r["rank"], r["seconds_median"], r["own_seconds_median"], r["own_work"]) for r in rows] == [
        ("s/a", 0, 0.006, 0.002, "compute_only"), ("s/a", 1, 0.006, 0.004, "compute_only"),
        ("s/b", 0, 0.008, 0.005, "spans"),  # calls of 4 ms (0 to 3 and 5 to 6) and 6 ms
        ("s/b", 1, 0.009, None, None),
    ]  # fmt: skip
    assert rows[0]["host"] == "node07"
    text = rank_table.text([result])
    assert "does not name the slow rank" in text
    assert rank_table.text([result], "csv").splitlines()[0].startswith("suite,case,rank,num_launches,seconds_median")
    assert "No rank was timed" in rank_table.text([saved(tmp_path / "b", not_ok("s/c", "failed", "boom"))])


def test_several_launches_have_an_error_bar(tmp_path: Path) -> None:
    text = result_tables.tables([saved(tmp_path, *(measurement("s/a", [[n * MS] * 30], n) for n in (1, 2)))])
    assert "±: 95% interval between launches" in text
    assert "no error bar" not in text
    assert "spread" not in text


def test_a_hostile_file_moves_no_cursor_and_breaks_no_table(tmp_path: Path) -> None:
    hostile = measurement("s/a", notes=[EVIL]) | {"case": f"s/{EVIL}", "suite": "s"}
    result = saved(tmp_path, header(label=EVIL), hostile, not_ok("s/b", "failed", EVIL))
    for output in ("table", "markdown", "csv", "json"):
        text = result_tables.tables([result], output)
        assert not [c for c in text if (ord(c) < 32 and c != "\n") or c in "\x7f\u202e"]
    cells = [
        line for line in result_tables.tables([result], "markdown").splitlines() if " time " in line or r"\|b" in line
    ]
    table = [line for line in cells if line.startswith("| ")]
    assert table
    assert r"\x1b[31m\|b" in table[1]
    assert len({line.replace(r"\|", "").count("|") for line in table[:2]}) == 1


def test_markdown_shows_text_as_it_is() -> None:
    assert escape_markdown("[x](http://e) ![y](z) <b> `c` *d* a|b\\") == (
        r"[x]\(http:&#8203;//e) \![y]\(z) \<b\> \`c\` \*d\* a\|b" + "\\\\"
    )
    assert escape_markdown("all_reduce[num_bytes=4]") == "all_reduce[num_bytes=4]"
    assert clean("a\tb\r\nc\x9b\u200f") == "a b c\\x9b\\u200f"


def test_wide_characters_take_two_cells() -> None:
    table = DisplayTable(
        "t",
        (column("a", "a", show_text, "left"), column("b", "b", show_text)),
        ({"a": "漢字", "b": 1}, {"a": "abcd", "b": 2}),
    )
    lines = render([table], "table").splitlines()
    assert lines[3:] == ["漢字   1", "abcd   2"]


def test_json_has_the_plain_rows_and_the_findings_and_csv_has_a_column_a_parameter(tmp_path: Path) -> None:
    result = saved(tmp_path, measurement("s/a[x=1]"), measurement("s/b[y=two]"), not_ok("s/c", "skipped", "why"))
    rows = case_rows([result])
    shown = json.loads(result_tables.tables([result], "json"))
    assert shown["rows"] == rows
    assert shown["findings"] == run_findings(result).to_json()
    both = json.loads(result_tables.tables([result, result], "json"))
    assert [found["file"] for found in both["findings"]] == [str(result.path)] * 2 * len(shown["findings"])
    table = list(csv.DictReader(io.StringIO(result_tables.tables([result], "csv"))))
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
    assert ("\x1b[" in result_tables.tables([saved(tmp_path, measurement())], colour=colour)) is expected
