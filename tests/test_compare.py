from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bench import compare, share
from bench.errors import BenchError
from bench.result import Writer, load
from tests.results import MILLISECOND, header, measurement, not_ok, save

MS = MILLISECOND
A, B, C = "collective/a", "collective/b", "collective/c"


def saved(path: Path, *records: Any) -> Path:
    return save(path.with_suffix(".jsonl"), *records)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(
        tmp_path / "base", header(label="old"), measurement(A, [[2 * MS] * 10]), measurement(B), measurement(C)
    )


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return saved(
        tmp_path / "new", header(label="pr"), measurement(A, [[3 * MS] * 10]), not_ok(B, "invalid", "error 1"),
        measurement("collective/d"),
    )  # fmt: skip


def test_medians_side_by_side_with_their_ratio(base: Path, new: Path) -> None:
    found = compare.compare([load(base)], [[load(new)]])
    assert len(found.cases) == 1
    case = found.cases[0]
    assert (case["case"], case["name"], case["metric"]) == (A, "pr", "seconds_median")
    assert (case["base"], case["new"]) == pytest.approx((0.002, 0.003))
    assert (case["base_low"], case["new_high"]) == pytest.approx((0.002, 0.003))
    assert (case["ratio"], case["change"]) == pytest.approx((1.5, 0.5))


def test_nothing_is_dropped(base: Path, new: Path) -> None:
    found = compare.compare([load(base)], [[load(new)]])
    assert [(row["case"], row["name"]) for row in found.only] == [(C, "old"), ("collective/d", "pr")]
    assert found.not_ok == ({"case": B, "name": "pr", "status": "invalid", "reason": "error 1"},)


def test_what_differs_is_named_first_and_what_is_shared_once(tmp_path: Path, base: Path) -> None:
    head = header(label="pr", plan={"preset": "full"})
    head["environment"]["versions"]["torch"] = "2.14.0"
    head["environment"]["variables"]["NCCL_ALGO"] = "Ring"
    head["environment"]["commit"] = "1" * 40
    head["plan"]["suites"][0]["sha256"] = "b" * 64
    new = saved(tmp_path / "new", head, measurement(A))
    found = compare.compare([load(base)], [[load(new)]])
    assert {row["field"]: row["values"] for row in found.differences} == {
        "label": ["old", "pr"],
        "preset": ["smoke", "full"],
        "versions.torch": ["2.13.0", "2.14.0"],
        "variables.NCCL_ALGO": [None, "Ring"],
        "commit": ["0" * 40, "1" * 40],
        "suite collective (SHA-256)": ["a" * 64, "b" * 64],
    }
    assert found.shared["backend"] == "gloo"
    assert found.shared["hosts"] == "node07"
    assert set(found.shared).isdisjoint(row["field"] for row in found.differences)
    text = compare.show(found)
    assert text.index("Shared by all") < text.index("Differences") < text.index("Times of one call")


def test_the_number_of_ranks_is_a_difference_not_another_case(tmp_path: Path, base: Path) -> None:
    new = saved(tmp_path / "new", header(4, label="pr"), measurement(A, [[MS] * 10] * 4))
    found = compare.compare([load(base)], [[load(new)]])
    assert [row["case"] for row in found.cases] == [A]
    assert {"field": "ranks", "values": [2, 4]} in found.differences


def test_several_sides_each_against_the_base(tmp_path: Path, base: Path, new: Path) -> None:
    third = saved(tmp_path / "third", header(label="third"), measurement(A, [[MS] * 10]))
    found = compare.compare([load(base)], [[load(new)], [load(third)]])
    assert [(row["name"], row["ratio"]) for row in found.cases] == [
        ("pr", pytest.approx(1.5)),
        ("third", pytest.approx(0.5)),
    ]
    line = next(line for line in compare.show(found).splitlines() if line.startswith(A))
    assert line.split() == [A, "2.00", "ms", "±0.0%", "3.00", "ms", "±0.0%", "1.50x", "1.00", "ms", "±0.0%", "0.500x"]


def test_a_side_of_several_files_counts_them_as_launches(tmp_path: Path, base: Path) -> None:
    for n in (1, 2, 4):
        saved(tmp_path / "runs" / f"{n}", header(label="runs"), measurement(A, [[n * MS] * 10]))
    text = json.loads(compare.compare_paths(base, [tmp_path / "runs"], "json"))
    assert text["cases"][0]["new"] == pytest.approx(0.002)
    # Between launches: see test_metrics.
    assert text["cases"][0]["new_high"] == pytest.approx(0.002 * 2 ** (4.302653 / 3**0.5), rel=1e-6)


def test_files_of_one_side_that_are_unlike_are_said_to_be(tmp_path: Path, base: Path) -> None:
    one = saved(tmp_path / "one", header(label="pr"), measurement(A))
    two = saved(tmp_path / "two", header(4, label="pr"), measurement(A, [[MS]] * 4))
    found = compare.compare([load(base)], [[load(one), load(two)]])
    within = [row for row in found.differences if row["field"].startswith("within pr, two.jsonl")]
    assert len(within) == 1
    assert within[0]["values"][0] is None
    assert "ranks" in within[0]["values"][1]


def test_sides_with_one_label_are_told_apart(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", measurement(A))
    other = saved(tmp_path / "two", header(device="Other CPU"), measurement(A))
    assert [s.name for s in compare.compare([load(one)], [[load(other)]]).sides] == [
        "2 x AMD EPYC 7B13",
        "2 x Other CPU",
    ]
    same = saved(tmp_path / "three", measurement(A))
    assert [s.name for s in compare.compare([load(one)], [[load(same)]]).sides] == ["one.jsonl", "three.jsonl"]
    assert [s.name for s in compare.compare([load(one)], [[load(one)]]).sides] == ["one.jsonl (1)", "one.jsonl (2)"]


def test_a_published_copy_is_no_other_machine(tmp_path: Path, base: Path) -> None:
    with Writer.create(tmp_path / "public.jsonl") as writer:
        for record in share.shared(load(base)):
            writer.append(record)
    found = compare.compare([load(base)], [[load(tmp_path / "public.jsonl")]])
    assert found.differences == ()
    assert "hosts" not in found.shared


def test_no_common_case_is_refused_with_an_example_of_each(tmp_path: Path, base: Path) -> None:
    new = saved(tmp_path / "new", header(label="pr"), measurement("mine/run"))
    with pytest.raises(BenchError, match=r"no common case: old has 3 such as collective/a, pr has 1 such as mine/run"):
        compare.compare_paths(base, [new])
    with pytest.raises(BenchError, match="name a second"):
        compare.compare_paths(base, [])


def test_a_common_case_that_is_nowhere_ok_has_no_ratio_and_says_so(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", header(label="x"), not_ok(A, "failed", "boom"))
    two = saved(tmp_path / "two", header(label="y"), measurement(A))
    text = compare.compare_paths(one, [two])
    assert "No common case is ok on both sides" in text
    assert "boom" in text


def test_formats(base: Path, new: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compare.compare_paths(base, [new], "csv"))))
    assert [(row["case"], row["ratio"]) for row in rows] == [(A, "1.5")]
    one = json.loads(compare.compare_paths(base, [new], "json"))
    assert list(one) == ["names", "shared", "differences", "cases", "only", "not_ok"]
    assert one["names"] == ["old", "pr"]
    lines = compare.compare_paths(base, [new], "markdown").splitlines()
    assert "| collective/a | 2.00 ms | ±0.0% | 3.00 ms | ±0.0% | 1.50x |" in lines


def test_a_hostile_label_injects_nothing(tmp_path: Path, base: Path) -> None:
    new = saved(tmp_path / "new", header(label="x|y\x1b]0;owned\x07"), measurement(A))
    for output in ("table", "markdown", "csv", "json"):
        text = compare.compare_paths(base, [new], output)
        assert not [c for c in text if ord(c) < 32 and c != "\n"]
    lines = compare.compare_paths(base, [new], "markdown").splitlines()
    heads = next(line for line in lines if line.startswith("| case") and "median" in line)
    assert r"x\|y\\x1b" in heads
    assert heads.replace(r"\|", "").count("|") == 7
