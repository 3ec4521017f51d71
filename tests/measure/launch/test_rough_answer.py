"""The short list after the first of several launches."""

from __future__ import annotations

from pathlib import Path

from bench.measure.launch import progress
from bench.records.file import load
from tests.support.results import header, measurement, not_ok, save

PLAN = {"launches": 3}


def test_one_line_a_kind_of_work_says_what_it_is_worth(tmp_path: Path) -> None:
    records = [
        not_ok("compute/matmul[size=8]", "skipped", "budget"),
        measurement("compute/copy[num_bytes=8]", memory_traffic_bytes=4_000_000),
        measurement("compute/triad[num_bytes=8]"),
        measurement("collective/all_reduce[num_bytes=8]", bytes=1_000_000, bus_factor=1.0),
    ]
    result = load(save(tmp_path / "a.jsonl", header(plan=PLAN), *records))
    assert progress.rough_lines(result) == [
        "Rough, from launch 1 of 3, without error bars (they take several launches):",
        "  copy 8 B        2.00 ms  2.00 GB/s",
        "  all_reduce 8 B  2.00 ms  500 MB/s",
    ]


def test_it_is_short_however_many_kinds_there_are(tmp_path: Path) -> None:
    records = [measurement(f"suite{n}/run[size=8]") for n in range(20)]
    lines = progress.rough_lines(load(save(tmp_path / "a.jsonl", header(plan=PLAN), *records)))
    assert len(lines) == 1 + progress.MAX_ROUGH_LINES + 1
    assert lines[-1] == "  and 9 further kinds of work, in the tables at the end"


def test_where_nothing_was_measured_nothing_is_said(tmp_path: Path) -> None:
    failed = not_ok("compute/matmul[size=8]", "failed", "boom")
    assert progress.rough_lines(load(save(tmp_path / "a.jsonl", header(plan=PLAN), failed))) == []
