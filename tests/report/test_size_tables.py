"""Collectives: sizes down, operations across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.core.cell_text import width as cell_width
from bench.records.file import load
from bench.records.rows import case_rows
from bench.report import size_tables
from bench.report.result_tables import tables
from tests import ROOT
from tests.support.results import MILLISECOND, measurement, save

MS = MILLISECOND
KIB, MIB = 2**10, 2**20
REFERENCE = sorted((ROOT / "results" / "reference").glob("*.jsonl"))


def collective(operation: str, num_bytes: int, milliseconds: int, more: str = "", **fields: Any) -> Any:
    case = f"collective/{operation}[{more}num_bytes={num_bytes}]"
    return measurement(case, [[milliseconds * MS] * 30] * 2, bytes=num_bytes, bus_factor=1.0, **fields)


def grid_of(tmp_path: Path, *records: Any) -> size_tables.Grid | None:
    return size_tables.grid(case_rows([load(save(tmp_path / "a.jsonl", *records))]))


PLAIN = [collective(op, size, n) for op, n in (("all_reduce", 2), ("broadcast", 5)) for size in (MIB, KIB)]


def test_sizes_rise_and_operations_stand_beside_one_another(tmp_path: Path) -> None:
    barrier = measurement("collective/barrier", [[MS] * 30] * 2)
    more = [collective("all_reduce", 64 * KIB, 3), barrier]
    text = tables([load(save(tmp_path / "a.jsonl", *PLAIN, *more))], width=100)
    rows = [line.split() for line in text[text.index("collective: time") :].splitlines()]
    assert rows[1] == ["size", "all", "reduce", "broadcast"]
    assert rows[3:6] == [
        ["1", "KiB", "2.00", "ms", "5.00", "ms"], ["64", "KiB", "3.00", "ms"], ["1", "MiB", "2.00", "ms", "5.00", "ms"],
    ]  # fmt: skip
    # Below 64 KiB only the time tells, above the bandwidth too: 1 MiB in 2 and in 5 ms.
    rows = [line.split() for line in text[text.index("collective: bus bandwidth") :].splitlines()]
    assert rows[3:5] == [["64", "KiB", "21.8", "MB/s"], ["1", "MiB", "524", "MB/s", "210", "MB/s"]]
    assert ["barrier", "1.00", "ms"] in [line.split() for line in text.splitlines()]


def test_a_variant_of_several_operations_and_sizes_is_a_block_and_any_other_stands_below(tmp_path: Path) -> None:
    short = [collective(op, size, 4, "dtype=bfloat16,") for op in ("all_reduce", "broadcast") for size in (KIB, MIB)]
    lone = collective("all_reduce", MIB, 9, "async_op=true,")
    found = grid_of(tmp_path, *PLAIN, *short, lone)
    assert found is not None
    assert found.operations == ("all_reduce", "broadcast")
    assert {words: list(sizes) for words, sizes in found.blocks.items()} == {"": [KIB, MIB], "bf16": [KIB, MIB]}
    assert [row["case"] for row in found.others] == ["collective/all_reduce[async_op=true,num_bytes=1048576]"]


@pytest.mark.parametrize("records", [PLAIN[:2], PLAIN[::2], [measurement("compute/matmul[size=4]")]])
def test_one_size_or_one_operation_is_a_list(tmp_path: Path, records: list[Any]) -> None:
    assert grid_of(tmp_path, *records) is None


def test_few_samples_notes_and_error_bars_are_told(tmp_path: Path) -> None:
    rough = measurement(f"collective/reduce[num_bytes={KIB}]", [[39 * MS] * 5] * 2, bytes=KIB, bus_factor=1.0)
    noted = collective("reduce", MIB, 8, notes=["a note of the suite"])
    again = [collective(op, size, 4, launch=1) for op in ("all_reduce", "broadcast") for size in (KIB, MIB)]
    text = tables([load(save(tmp_path / "a.jsonl", *PLAIN, *again, rough, noted))], width=100)
    assert "~39 ms" in text
    assert "\na note of the suite: reduce 1 MiB\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("±: median")]
    assert line.endswith(("(all_reduce 1 MiB)", "(all_reduce 1 KiB)"))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_real_run_fits_any_terminal_and_loses_no_case(width: int) -> None:
    result = load(REFERENCE[0])
    text = tables([result], width=width)
    assert max(map(cell_width, text.splitlines())) <= width
    rows = [row for row in case_rows([result]) if row["suite"] == "collective"]
    found = size_tables.grid(rows)
    assert found is not None
    assert len(found.rows()) + len(found.others) == len(rows) == 37
    times = list(size_tables.size_tables("collective", found, width, frozenset()))
    cells = [c.show(row) for table in times for row in table.rows for c in table.columns[1:] if ": time" in table.title]
    assert sum(bool(cell) for cell in cells) == len(found.rows())
