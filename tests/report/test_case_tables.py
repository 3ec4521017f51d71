"""Tables of cases: kept in the record, checked on reading, shown whole or thinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.records.file import Result, load
from bench.report.case_tables import MAX_ROWS, case_tables
from bench.report.result_tables import tables
from bench.suite import Table
from tests.support.results import measurement, not_ok, save, save_unchecked

CASE = "point_to_point/send[num_bytes=1024]"


def saved(tmp_path: Path, *records: Any) -> Result:
    return load(save(tmp_path / "a.jsonl", *records))


def matrix(rows: list[list[Any]], **fields: Any) -> dict[str, Any]:
    return {"title": "pairs", "columns": ["from", "to", "GB/s"], "rows": rows, "notes": ["both ways"]} | fields


def test_a_table_is_shown_below_with_its_notes_and_missing_cells(tmp_path: Path) -> None:
    record = measurement(CASE, tables={"pairs": matrix([[0, 1234, 12.345], [1, 0, None]])})
    text = tables([saved(tmp_path, record)])
    assert "send 1 KiB: pairs" in text
    assert f"{CASE}: pairs" in tables([saved(tmp_path / "ids", record)], has_ids=True)
    lines = [line.split() for line in text.splitlines()]
    assert ["0", "1234", "12.3"] in lines
    assert ["1", "0", "-"] in lines
    assert "both ways" in text


def test_units_stand_in_the_cells_and_columns_without_a_value_are_not_there(tmp_path: Path) -> None:
    rows = [[0, None, 0.00138, 3.04, None], [1, 0.0000899, 1.5, None, None]]
    heads = ["rank", "seconds 0", "seconds 1", "slowest_pair GB/s", "never ms"]
    record = measurement(CASE, tables={"pairs": matrix(rows, columns=heads)})
    lines = [line.split("  ") for line in tables([saved(tmp_path, record)], width=100).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["rank", "rank 0", "rank 1", "slowest pair"] in cells
    assert ["0", "-", "1.38 ms", "3.04 GB/s"] in cells
    assert ["1", "89.9 us", "1.50 s", "-"] in cells


def test_a_long_series_is_thinned_with_both_ends_and_says_so(tmp_path: Path) -> None:
    rows = [[n, n, float(n)] for n in range(1000)]
    (table,) = case_tables(saved(tmp_path, measurement(CASE, tables={"series": matrix(rows)})))
    assert len(table.rows) == MAX_ROWS
    assert (table.rows[0]["0"], table.rows[-1]["0"]) == (0, 999)
    assert table.footnotes[-1] == "40 of 1000 rows, evenly spaced; the file has all"


def test_a_case_without_speed_shows_none(tmp_path: Path) -> None:
    record = not_ok(CASE, "skipped", "one rank") | {"tables": {"pairs": matrix([])}}
    assert case_tables(saved(tmp_path, record)) == []


@pytest.mark.parametrize(
    "broken",
    [[], {"pairs": []}, {"pairs": matrix([[1, 2]])}, {"pairs": matrix([[1, 2, [3]]])}, {"pairs": matrix([], notes=[1])},
     {"pairs": matrix([], title=3)}],
)  # fmt: skip
def test_a_forged_table_ends_in_one_line(tmp_path: Path, broken: Any) -> None:
    if not broken:
        broken = ["no table"]
    with pytest.raises(BenchError, match="record 2, a measurement, cannot be read: tables"):
        load(save_unchecked(tmp_path / "a.jsonl", measurement(CASE, tables=broken)))


def test_rows_of_another_length_than_the_heads_are_the_suites_mistake() -> None:
    with pytest.raises(AssertionError, match="one cell a column"):
        Table(("a", "b"), ((1,),))
