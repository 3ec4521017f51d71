"""The table of a suite: which columns, which rate, which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.cli import call
from bench.core.cell_text import width as cell_width
from bench.records.file import load
from bench.records.rows import case_rows, own_metrics
from bench.report import footnotes
from bench.report.case_order import ordered
from bench.report.result_tables import tables
from bench.report.suite_table import TableLayout, suite_table
from tests import ROOT
from tests.support.results import MILLISECOND, header, measurement, save

MS = MILLISECOND
SAVED = [
    *sorted((ROOT / "results" / "reference").glob("*.jsonl")),
    *sorted((ROOT / "results" / "gpu").glob("h?00/*.jsonl")),
    *sorted((ROOT / "results" / "emulated").glob("*/launches-1.jsonl.gz")),
]


def brief(tmp_path: Path, *records: Any) -> list[list[str]]:
    """Head and rows of the four columns of a suite."""
    result = load(save(tmp_path / "a.jsonl", *records))
    rows = case_rows([result])
    layout = TableLayout(is_brief=True, said=footnotes.of_file(rows)[1])
    table = suite_table(rows[0]["suite"], rows, own_metrics([result]), layout)
    return [[column.head for column in table.columns], *([c.show(row) for c in table.columns] for row in table.rows)]


def product(case: str, milliseconds: int, **fields: Any) -> Any:
    return measurement(f"compute/{case}", [[milliseconds * MS] * 30] * 2, **fields)


def test_each_case_has_the_rate_of_its_kind_in_one_column(tmp_path: Path) -> None:
    assert brief(
        tmp_path,
        product("copy[num_bytes=1048576]", 1, memory_traffic_bytes=2 * 2**20),
        product("matmul[shape=square,size=4]", 2, flops=4e9, flops_dtype="float32"),
        product("matmul[shape=square,size=2]", 4, flops=1e9, flops_dtype="float32"),
    ) == [
        ["case", "time", "rate per device", "of ceiling"],
        ["copy 1 MiB", "1.00 ms", "2.10 GB/s", "-"],
        ["matmul 2", "4.00 ms", "125 GFLOP/s", "12%"],
        ["matmul 4", "2.00 ms", "1.00 TFLOP/s", "best here"],
    ]


def test_few_samples_have_two_digits_and_no_error_bar_and_launches_one(tmp_path: Path) -> None:
    steady = [measurement("s/a[x=1]", [[n * MS] * 30], launch) for launch, n in enumerate((10, 11, 10))]
    rough = [measurement("s/a[x=2]", [[39_123_456] * 4], launch) for launch in range(3)]
    head, first, second = brief(tmp_path, *steady, *rough)
    assert head == ["case", "time"]
    assert first[1].startswith("10.0 ms ±")
    assert second[1].split() == ["~39", "ms"]
    # Both end alike, so that the times stand below one another.
    assert len(first[1]) - first[1].index("ms") == len(second[1]) - second[1].index("ms")
    wide = tables([load(tmp_path / "a.jsonl")])
    assert "unknown" not in wide
    assert " ± " in wide


def test_one_launch_has_a_spread_and_never_an_error_bar(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", measurement("s/a[x=1]", [[n * MS for n in range(10, 40)]]))
    wide = tables([load(tmp_path / "a.jsonl")])
    assert "spread" in wide
    assert "±" not in wide
    assert "interval" not in wide


def test_a_slower_largest_square_stays_the_ceiling_and_what_exceeds_it_is_named(tmp_path: Path) -> None:
    records = [
        product("matmul[shape=qkv,size=8,tokens=8]", 1, flops=1.1e9, flops_dtype="float32"),
        product("matmul[shape=square,size=8]", 2, flops=2e9, flops_dtype="float32"),
        product("matmul[shape=square,size=4]", 1, flops=1.2e9, flops_dtype="float32"),
        product("matmul[l2=cold,shape=square,size=8]", 1, flops=2e9, flops_dtype="float32"),
    ]
    rows = {name: share for name, _, _, share in brief(tmp_path, *records)[1:]}
    assert rows == {
        "matmul square 8": "ceiling", "matmul qkv 8 tokens 8": "110%", "matmul square 4": "120%",
        "matmul square 8 cold": "200%",
    }  # fmt: skip
    text = tables([load(tmp_path / "a.jsonl")], width=200)
    assert "Ceiling fp32: 500 GFLOP/s per device, matmul square 8; matmul square 8 cold reached 200% of it" in text


def test_sizes_of_a_sweep_rise_and_else_the_slowest_against_its_ceiling_comes_first() -> None:
    sweep = [{"suite": "s", "case": f"s/{op}[num_bytes={n}]"} for op in ("b", "a") for n in (1048576, 1024, 65536)]
    names = [row["case"].removeprefix("s/") for row in ordered(sweep)]
    assert names == [f"{op}[num_bytes={n}]" for op in ("a", "b") for n in (1024, 65536, 1048576)]
    mixed = [
        {"suite": "s", "case": f"s/{case}", "percent_of_measured_ceiling": percent}
        for case, percent in (
            ("a[x=10]", None),
            ("a[x=9,y=on]", None),
            ("b", 80.0),
            ("c[y=off]", 3.0),
            ("a[x=9]", None),
        )
    ]
    names = [row["case"].removeprefix("s/") for row in ordered(mixed)]
    assert names == ["c[y=off]", "b", "a[x=9]", "a[x=9,y=on]", "a[x=10]"]


def test_the_peak_of_the_data_sheet_is_held_against_if_there_is_no_ceiling(tmp_path: Path) -> None:
    head = header(num_ranks=1, device="NVIDIA H100 80GB HBM3")
    step = measurement("training_step/run", [[2 * MS] * 30], flops=989e9, flops_dtype="bfloat16", tokens=1000)
    (heads, row) = brief(tmp_path, head, step)
    assert heads == ["case", "time", "throughput", "of peak"]
    assert row[2:] == ["500,000 tokens/s", "50%"]


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.name)
@pytest.mark.parametrize("width", [80, 100])
def test_saved_runs_have_four_columns_and_notes_and_none_that_is_empty(path: Path, width: int) -> None:
    result = load(path)
    text = tables([result], width=width)
    assert max(map(cell_width, text.splitlines())) <= width
    rows = [row for row in case_rows([result]) if row["status"] == "ok"]
    for suite in {row["suite"] for row in rows}:
        of_suite = [row for row in rows if row["suite"] == suite]
        table = suite_table(suite, of_suite, own_metrics([result]), TableLayout(is_brief=True))
        assert len([column for column in table.columns if column.head != "notes"]) <= 4
        for column in table.columns:
            assert {column.show(row) for row in table.rows} != {"-"}
        if suite == "compute":
            rates = {row["name"]: table.columns[2].show(row) for row in table.rows}
            assert all(rate.endswith("B/s") for name, rate in rates.items() if name.startswith(("copy", "triad")))


def test_ids_stand_in_place_of_names_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["show", str(SAVED[0])]) == 0
    names = capsys.readouterr().out
    assert call(["show", str(SAVED[0]), "--ids", "--wide"]) == 0
    ids = capsys.readouterr().out
    assert "matmul square 256" in names
    assert "matmul[" not in names
    for row in case_rows([load(SAVED[0])]):
        assert row["case"].partition("/")[2] in ids
