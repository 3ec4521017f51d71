from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare.comparison import Comparison, Settings, compare
from bench.analysis.comparison_output import comparison_screen, documents, pull_request
from bench.analysis.comparison_output.comparison_screen import Screen
from bench.analysis.findings.of_comparison import comparison_findings
from bench.cli import call
from bench.errors import BenchError
from bench.records import anonymize
from bench.records.file import Writer, load, load_many
from tests.support.results import MILLISECOND, header, measurement, not_ok, save

MS = MILLISECOND
A, B, C = "collective/a", "collective/b", "collective/c"


def saved(path: Path, *records: Any) -> Path:
    return save(path.with_suffix(".jsonl"), *records)


def launches(case: str, *milliseconds: float, **fields: Any) -> list[dict[str, Any]]:
    """One measurement a launch, all of whose samples take so long."""
    return [measurement(case, [[round(ms * MS)] * 10], n, **fields) for n, ms in enumerate(milliseconds)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    rows = [*launches(A, 2.0, 2.02, 1.98), *launches(B, 5.0, 5.01, 4.99), *launches(C, 1.0, 1.01, 0.99)]
    return saved(tmp_path / "base", header(label="old"), *rows)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    rows = [
        *launches(A, 3.0, 3.03, 2.97), not_ok(B, "invalid", "error 1"), *launches("collective/d", 1.0),
    ]  # fmt: skip
    return saved(tmp_path / "new", header(label="pr"), *rows)


def compared(*paths: Path, **settings: Any) -> Comparison:
    base, *news = (load_many(path) for path in paths)
    return compare(base, news, Settings(**settings))


def test_both_values_the_change_its_interval_and_a_verdict(base: Path, new: Path) -> None:
    found = compared(base, new)
    [case] = found.cases
    assert (case["suite"], case["case"], case["name"], case["metric"]) == ("collective", A, "pr", "seconds_median")
    assert case["base"] == pytest.approx(0.002 * (1.01 * 0.99) ** (1 / 3))
    assert case["new"] == pytest.approx(0.003 * (1.01 * 0.99) ** (1 / 3))
    assert case["change"] == pytest.approx(case["new"] / case["base"] - 1) == pytest.approx(0.5)
    # Logs 0, log 1.01, log 0.99 on both sides: pooled, 4 degrees of freedom.
    logs = [0.0, math.log(1.01), math.log(0.99)]
    spread = math.sqrt(sum((x - sum(logs) / 3) ** 2 for x in logs) / 2)
    half = 2.7764451 * spread * math.sqrt(2 / 3)
    assert case["change_low"] == pytest.approx(1.5 * math.exp(-half) - 1, rel=1e-6)
    assert case["change_high"] == pytest.approx(1.5 * math.exp(half) - 1, rel=1e-6)
    assert (case["verdict"], case["base_launches"], case["new_launches"]) == ("slower", 3, 3)
    # 95% of one side, with the variance that the verdict took: t of 4 degrees.
    assert case["base_high"] == pytest.approx(
        case["base"] * math.exp(2.7764451 * spread * math.sqrt(1 / 3 + 0.4)), rel=1e-6
    )


def test_nothing_is_dropped(base: Path, new: Path) -> None:
    found = compared(base, new)
    assert found.only_base == ({"case": C, "name": "pr", "status": "ok"},)
    assert found.only_new == ({"case": "collective/d", "name": "pr", "status": "ok"},)
    assert found.not_ok == ({"case": B, "name": "pr", "status": "invalid", "reason": "error 1"},)
    text = comparison_screen.show(found, Screen())
    for words in ("1, only on old, not on pr (c)", "1, only on pr (d)", "b on pr (invalid: error 1)"):
        assert words in text
    for word in (C, "collective/d", "error 1", "Only on the base", "Only on the new side", "Not ok"):
        assert word in comparison_screen.show(found, Screen(everything=True))


def test_what_differs_and_what_is_shared_stand_last_and_when_asked(tmp_path: Path, base: Path) -> None:
    head = header(label="pr", plan={"preset": "full"})
    head["environment"]["versions"]["torch"] = "2.14.0"
    head["environment"]["variables"]["NCCL_ALGO"] = "Ring"
    head["environment"]["commit"] = "1" * 40
    head["plan"]["suites"][0]["digest"] = "b" * 64
    found = compared(base, saved(tmp_path / "new", head, measurement(A)))
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
    text = comparison_screen.show(found, Screen(environments=True))
    assert text.index("pr against old") < text.index("Differences") < text.index("Shared by all")
    assert text.index("variables.NCCL_ALGO  ") < text.index("suite collective (SHA-256)")
    remarks = [remark.text for remark in comparison_findings(found).remarks()]
    assert "The environment variable NCCL_ALGO differs: - on old, Ring on pr" in remarks
    assert "SHA-256" not in comparison_screen.show(found, Screen())


def test_the_number_of_ranks_is_a_difference_not_another_case(tmp_path: Path, base: Path) -> None:
    found = compared(base, saved(tmp_path / "new", header(4, label="pr"), measurement(A, [[MS] * 10] * 4)))
    assert [row["case"] for row in found.cases] == [A]
    assert {"field": "ranks", "values": [2, 4]} in found.differences


def test_several_architectures_each_against_the_base(tmp_path: Path, base: Path, new: Path) -> None:
    gpu = saved(tmp_path / "third", header(label="pr", device="H100"), *launches(A, 1.0, 1.01, 0.99))
    found = compared(base, new, gpu)
    assert not found.alike
    assert [(row["change"], row["verdict"]) for row in found.cases] == [
        (pytest.approx(0.5), "slower"),
        (pytest.approx(-0.5), "faster"),
    ]
    lines = comparison_screen.show(found, Screen()).splitlines()
    # One table per side, with its name above.
    heads = [number for number, line in enumerate(lines) if line.startswith("case")]
    assert [lines[number - 1] for number in heads] == [
        f"{side.name} against {found.sides[0].name}" for side in found.sides[1:]
    ]
    assert all(lines[number].split() == ["case", "change", "95%", "interval", "verdict"] for number in heads)


def test_sides_are_named_by_what_differs(tmp_path: Path) -> None:
    def names(*heads: dict[str, Any]) -> list[str]:
        paths = [saved(tmp_path / f"{len(list(tmp_path.iterdir()))}", head, measurement(A)) for head in heads]
        return [side.name for side in compared(*paths).sides]

    def torch(version: str) -> dict[str, Any]:
        return header(environment={"versions": {"torch": version}})

    assert names(header(label="a"), header(label="b")) == ["a", "b"]
    assert names(header(), header(device="Other CPU")) == ["2 x AMD EPYC 7B13", "2 x Other CPU"]
    assert names(torch("2.13.0"), torch("2.14.1")) == ["torch 2.13.0", "torch 2.14.1"]
    assert names(header(), header(plan={"backend": "mpi"})) == ["backend gloo", "backend mpi"]
    assert names(header(), header()) == ["8.jsonl", "9.jsonl"]
    same = load(saved(tmp_path / "same", measurement(A)))
    assert [side.name for side in compare([same], [[same]]).sides] == ["same.jsonl (1)", "same.jsonl (2)"]


def test_files_of_one_side_count_as_launches(tmp_path: Path, base: Path) -> None:
    for n in (1, 2, 4):
        saved(tmp_path / "runs" / f"{n}", header(label="runs"), measurement(A, [[n * MS] * 10]))
    [case] = compared(base, tmp_path / "runs").cases
    assert (case["new"], case["new_launches"]) == (pytest.approx(0.002), 3)
    # Logs of the base 0, log 1.01, log 0.99, of the new side -log 2, 0, log 2: pooled, 4 degrees of freedom.
    logs = [0.0, math.log(1.01), math.log(0.99)]
    variance = (sum((x - sum(logs) / 3) ** 2 for x in logs) + 2 * math.log(2) ** 2) / 4
    assert case["new_high"] == pytest.approx(
        0.002 * math.exp(2.7764451 * math.sqrt(variance * (1 / 3 + 0.4))), rel=1e-6
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"plan": {"backend": "mpi"}}, "plan.backend"),
        ({"plan": {"suites": [{"name": "collective", "digest": "c" * 64}]}}, "suite collective"),
        ({"environment": {"versions": {"torch": "2.14.0", "python": "3.12.1"}}}, "versions.torch"),
        ({"num_ranks": 4}, "devices"),
    ],
)
def test_files_that_are_no_launches_of_one_run_are_refused(
    tmp_path: Path, base: Path, change: dict[str, Any], name: str
) -> None:
    one = saved(tmp_path / "runs" / "one", header(label="pr"), measurement(A))
    saved(tmp_path / "runs" / "two", header(label="pr", **change), measurement(A))
    with pytest.raises(BenchError, match=f"not launches of one run: {name} is .*--allow-unlike"):
        compared(base, tmp_path / "runs")
    found = compared(base, tmp_path / "runs", allow_unlike=True)
    assert found.cases[0]["new_launches"] == 2
    assert one.exists()


def paired(side: str, setting: str) -> dict[str, Any]:
    return header(plan={"options": {"pair": {"id": "f00d", "side": side, "setting": setting}}})


def test_runs_made_in_alternation_are_compared_in_pairs(tmp_path: Path) -> None:
    one = saved(tmp_path / "a", paired("a", "X=1"), *launches(A, 1.0, 2.0, 4.0, 8.0))
    two = saved(tmp_path / "b", paired("b", "X=2"), *launches(A, 1.1, 2.22, 4.36, 8.8))
    found = compared(one, two)
    assert found.paired
    assert [side.name for side in found.sides] == ["a: X=1", "b: X=2"]
    assert found.cases[0]["verdict"] == "slower"
    # Of another pair, or with itself, they are not.
    other = saved(
        tmp_path / "c", header(plan={"options": {"pair": {"id": "0", "side": "b", "setting": "X"}}}), *launches(A, 1.0)
    )
    assert not compared(one, other).paired
    assert not compared(one, one).paired


def test_a_launch_that_one_side_lacks_is_no_pair(tmp_path: Path) -> None:
    one = saved(tmp_path / "a", paired("a", "X=1"), *launches(A, 1.0, 2.0, 4.0))
    rows = [measurement(A, [[round(ms * MS)] * 10], n) for n, ms in ((2, 4.4), (0, 1.1))]
    found = compared(one, saved(tmp_path / "b", paired("b", "X=2"), *rows)).cases[0]
    assert (found["change"], found["base_launches"]) == (pytest.approx(0.1), 2)


def test_variants_within_one_run(tmp_path: Path) -> None:
    rows = [
        *launches("tensor_parallel/mlp[hidden=64]", 1.0, 2.0, 4.0),
        *launches("tensor_parallel/mlp[hidden=64,implementation=dtensor]", 1.2, 2.41, 4.79),
        *launches("tensor_parallel/mlp[hidden=128]", 9.0, 9.0, 9.0),
    ]
    for row in rows:
        row["params"].setdefault("implementation", "manual")
    found = compared(saved(tmp_path / "a", *rows), by="implementation")
    assert [side.name for side in found.sides] == ["implementation=manual", "implementation=dtensor"]
    [case] = found.cases
    assert case["case"] == "tensor_parallel/mlp[hidden=64]"
    assert found.paired  # of the same launches
    assert case["verdict"] == "slower"
    assert [row["case"] for row in found.only_base] == ["tensor_parallel/mlp[hidden=128]"]
    ops = [*launches("collective/x[num_bytes=8]", 1.0), *launches("collective/y[num_bytes=8]", 2.0)]
    by_op = compared(saved(tmp_path / "b", *ops), by="op")
    assert [(row["case"], row["name"]) for row in by_op.cases] == [("collective/*[num_bytes=8]", "op=y")]


def test_a_parameter_that_nobody_varies_is_refused(base: Path) -> None:
    with pytest.raises(BenchError, match="--by backend: no case has it; the cases' parameters: dtype, op"):
        compared(base, by="backend")
    with pytest.raises(BenchError, match="--by dtype: all that have it have float32"):
        compared(base, by="dtype")
    with pytest.raises(BenchError, match="name one result"):
        compared(base, base, by="dtype")


def test_only_the_cases_that_fit(tmp_path: Path) -> None:
    sizes = [f"collective/{op}[num_bytes={size}]" for op in ("x", "y") for size in (1024, 1048576)]
    rows = [row for case in (*sizes, "compute/z") for row in launches(case, 1.0, 1.01)]
    path = saved(tmp_path / "a", *rows)

    def cases(**where: tuple[str, ...]) -> list[str]:
        return [row["case"] for row in compared(path, path, where=where).cases]

    assert cases(suite=("collective",), num_bytes=("1MiB",)) == [sizes[1], sizes[3]]
    assert cases(op=("y", "z")) == [sizes[2], sizes[3], "compute/z"]
    assert cases(num_bytes=("1024",), op=("x",)) == [sizes[0]]
    assert cases(case=("compute/z",)) == ["compute/z"]
    with pytest.raises(BenchError, match="--where op=q: no case fits; op is one of x, y, z"):
        cases(op=("q",))
    with pytest.raises(BenchError, match="colour is none of suite, op, case, dtype, num_bytes"):
        cases(colour=("red",))


def test_other_metrics_have_their_own_direction(tmp_path: Path) -> None:
    one = saved(tmp_path / "a", *launches(A, 1.0, 1.001, tokens=100, flops=10**9))
    two = saved(tmp_path / "b", *launches(A, 2.0, 2.001, tokens=100, flops=10**9))
    found = compared(one, two, metrics=("seconds_median", "tokens_per_s"))
    assert [(row["metric"], row["verdict"]) for row in found.cases] == [
        ("seconds_median", "slower"),
        ("tokens_per_s", "slower"),
    ]
    assert found.cases[1]["change"] == pytest.approx(-0.5, rel=1e-3)
    assert found.cases[1]["base"] == pytest.approx(100_000, rel=1e-3)
    for name, words in (("speed", "there are seconds_median"), ("skew", "neither"), ("mfu", "no common case has it")):
        with pytest.raises(BenchError, match=f"--metric {name}: .*{words}"):
            compared(one, two, metrics=(name,))


def test_a_metric_of_the_suites_own(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"metrics": {"stalls": ["count", "lower"]}}
    rows = [[*launches(A, 1.0, 1.0, derived={"stalls": n}, **fields)] for n in (3.0, 6.0)]
    one, two = (saved(tmp_path / name, *each) for name, each in zip("ab", rows, strict=True))
    [case] = compared(one, two, metrics=("stalls",)).cases
    assert (case["base"], case["new"], case["unit"]) == (pytest.approx(3.0), pytest.approx(6.0), "count")


def test_a_published_copy_is_no_other_machine(tmp_path: Path, base: Path) -> None:
    with Writer.create(tmp_path / "public.jsonl") as writer:
        for record in anonymize.anonymize_result(load(base)):
            writer.append(record)
    found = compared(base, tmp_path / "public.jsonl")
    assert [row["field"] for row in found.differences] == ["label"]
    assert "hosts" not in found.shared


def test_no_common_case_is_refused_with_an_example_of_each(tmp_path: Path, base: Path) -> None:
    new = saved(tmp_path / "new", header(label="pr"), measurement("mine/run"))
    with pytest.raises(BenchError, match=r"no common case: old has 3 such as collective/a, pr has 1 such as mine/run"):
        compared(base, new)
    with pytest.raises(BenchError, match="name a second"):
        compared(base)


def test_a_common_case_that_is_nowhere_ok_says_so(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", header(label="x"), not_ok(A, "failed", "boom"))
    two = saved(tmp_path / "two", header(label="y"), measurement(A))
    text = comparison_screen.show(compared(one, two), Screen())
    assert "No common case is ok on both sides" in text
    assert "boom" in text


def test_rows_that_are_the_same_are_counted_and_shown_only_when_asked(tmp_path: Path, base: Path) -> None:
    rows = [*launches(A, 3.0, 3.03, 2.97), *launches(B, 5.0, 5.01, 4.99), *launches(C, 1.0, 1.3, 0.8)]
    found = compared(base, saved(tmp_path / "new", header(label="pr"), *rows))
    text = comparison_screen.show(found, Screen())
    assert "3 cases: 1 slower, 0 faster, 1 unclear, 1 the same within 5%" in text
    assert [line.split()[0] for line in _rows(text)] == ["a", "c"]
    lines = _rows(comparison_screen.show(found, Screen(everything=True)))
    assert [line.split()[0] for line in lines] == ["a", "c", "b"]
    assert re.fullmatch(r"a +1\.50x   1\.\d\dx to 1\.\d\dx +slower", lines[0])
    assert re.search(r"unclear \((\+\d+.*|varies)\)$", lines[1])
    by_case = _rows(comparison_screen.show(found, Screen(everything=True, sort="case")))
    assert [line.split()[0] for line in by_case] == ["a", "b", "c"]
    wide = _rows(comparison_screen.show(found, Screen(wide=True)))
    assert {"2.00", "3.00", "ms"} <= set(wide[0].split())


def _rows(text: str) -> list[str]:
    """Rows of the first table of cases."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("---")) + 1
    return lines[first : next(number for number in range(first, len(lines)) if " cases: " in lines[number])]


def test_one_launch_a_side_has_no_verdict_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = saved(tmp_path / "one", header(label="x"), measurement(A))
    two = saved(tmp_path / "two", header(label="y"), measurement(A, [[9 * MS] * 10]))
    assert call(["compare", str(one), str(two)]) == 0
    out = capsys.readouterr().out
    assert "no error bar" in out
    assert "--launches 3" in out
    assert "unclear" in next(line for line in out.splitlines() if line.startswith("a "))


def test_formats(base: Path, new: Path) -> None:
    found = compared(base, new)
    rows = list(csv.DictReader(io.StringIO(documents.show_csv(found))))
    assert [(row["case"], row["verdict"]) for row in rows] == [(A, "slower")]
    one = json.loads(documents.show_json(found))
    assert {"shared", "differences", "rows", "findings", "only_base", "only_new", "not_ok"} <= set(one)
    assert {
        "suite",
        "case",
        "metric",
        "base",
        "new",
        "change",
        "change_low",
        "change_high",
        "verdict",
        "reason",
    } <= set(one["rows"][0])
    assert one["names"] == ["old", "pr"]
    assert one["findings"][0]["kind"] == "answer"
    lines = pull_request.show(found).splitlines()
    assert any(line.startswith("| a | 1.50x |") and line.endswith("| slower |") for line in lines)


def test_markdown_stays_short_enough_for_a_pull_request(tmp_path: Path) -> None:
    cases = [f"collective/operation[num_bytes={n},label=a_rather_long_value_of_a_parameter]" for n in range(1200)]
    one = saved(tmp_path / "a", header(label="x"), *(row for case in cases for row in launches(case, 1.0, 1.01)))
    two = saved(tmp_path / "b", header(label="y"), *(row for case in cases for row in launches(case, 2.0, 2.01)))
    found = compared(one, two)
    text = pull_request.show(found)
    assert 10_000 < len(text.encode()) < 60_000
    assert "more rows are left out" in text
    assert "1200 cases: 1200 slower" in text
    assert len(json.loads(documents.show_json(found))["rows"]) == 1200


def test_a_hostile_label_injects_nothing(tmp_path: Path, base: Path) -> None:
    new = saved(tmp_path / "new", header(label="x|y\x1b]0;owned\x07"), *launches(A, 3.0, 3.1))
    found = compared(base, new)
    shown = [
        comparison_screen.show(found, Screen(everything=True, environments=True)),
        pull_request.show(found),
        documents.show_csv(found),
        documents.show_json(found),
    ]
    for text in shown:
        assert not [c for c in text if ord(c) < 32 and c != "\n"]
    title = next(line for line in shown[1].splitlines() if line.startswith("**x"))
    assert r"x\|y\\x1b" in title
