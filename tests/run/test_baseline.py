"""`--against` once a run is over: beside its siblings if there are enough, else beside the newest earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.records.file import Result, load
from bench.run.baseline import compare_with_earlier
from tests.analysis.compare.test_outlier_search import A, fleet, head, times
from tests.support.results import measurement, save


def a_run(folder: Path, microseconds: float, host: str = "new") -> Result:
    return load(save(folder / f"own-{host}.jsonl", head(host), measurement(A, times(microseconds))))


def first_line(text: str) -> str:
    return text.splitlines()[0]


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def test_as_fast_as_its_siblings(tmp_path: Path) -> None:
    fleet(tmp_path / "fleet", {"node3": 1.5})
    text = compare_with_earlier(tmp_path / "fleet", a_run(tmp_path, 1005), colour=False)
    assert first_line(text) == "new is as fast as its 8 siblings in 1 cases"
    assert "node3" not in text  # the others are not on trial


def test_slower_than_its_siblings(tmp_path: Path) -> None:
    fleet(tmp_path / "fleet", {})
    text = compare_with_earlier(tmp_path / "fleet", a_run(tmp_path, 1500), colour=False)
    assert first_line(text) == f"new is slower than its 8 siblings in 1 of 1 cases: {A}"
    assert "new compared with 8 siblings" in text
    # Of eight siblings, 1.000 to 1.014 ms, the median is 1.007.
    (row,) = [line for line in text.splitlines() if line.startswith("new   ")]
    assert row.split()[2:6] == ["1.50", "ms", "1.01", "ms"]


def test_faster_is_said_too(tmp_path: Path) -> None:
    fleet(tmp_path / "fleet", {})
    text = compare_with_earlier(tmp_path / "fleet", a_run(tmp_path, 500), colour=False)
    assert first_line(text) == "new is as fast as its 8 siblings in 0 of 1 cases (faster in 1)"


def test_its_own_earlier_files_and_other_machines_are_no_siblings(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    fleet(folder, {}, num_hosts=5)
    save(folder / "h200.jsonl", head("other", device="NVIDIA H200"), measurement(A, times(500)))
    own = a_run(folder, 1003, host="node2")
    assert (
        first_line(compare_with_earlier(folder, own, colour=False)) == "node2 is as fast as its 4 siblings in 1 cases"
    )


@pytest.mark.parametrize("num_hosts", [1, 3])
def test_fewer_than_four_siblings_make_an_ordinary_comparison(tmp_path: Path, num_hosts: int) -> None:
    fleet(tmp_path / "fleet", {}, num_hosts=num_hosts)
    text = compare_with_earlier(tmp_path / "fleet", a_run(tmp_path, 1500), colour=False)
    assert "siblings" not in text
    assert first_line(text).startswith("own-new.jsonl takes about 1.5x as long as node0.jsonl in compute")
    assert any(line.startswith("matmul 1024 ") for line in text.splitlines())
    # What only one side has is one line behind the cases.
    assert text.index("only on node0.jsonl, not on own-new.jsonl (all_reduce 977 KiB)") > text.index("matmul 1024 ")
    assert ("other file(s) are not of that run" in text) == (num_hosts > 1)


def test_the_newest_earlier_run_with_a_common_case_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for day, case in (("01", A), ("02", A), ("03", "collective/other")):
        started = f"2026-01-{day}T12:00:00.000+00:00"
        plan = {"preset": f"p{day}"}
        save(folder / f"{day}.jsonl", head("new", started=started, plan=plan), measurement(case, times(1000)))
    text = compare_with_earlier(folder, a_run(tmp_path, 1500), colour=False)
    assert last_line(text) == "Compared with the newest, 02.jsonl; 2 other file(s) are not of that run."
