from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.errors import BenchError
from bench.records import dataframes
from bench.records.file import load
from bench.records.rows import case_rows
from tests.support.results import GPU, MILLISECOND, header, measurement, not_ok, save

MS = MILLISECOND
A, B = "collective/all_reduce[num_bytes=4]", "compute/matmul[size=8]"

# The keys that readers of `bench show --format json` can rely on.
KEYS = [
    "suite", "case", "params", "status", "reason", "num_ranks", "num_samples", "seconds_median", "seconds_low",
    "seconds_high", "seconds_min", "seconds_max", "algbw_gb_per_s", "busbw_gb_per_s", "tflop_per_s", "mfu", "hfu",
    "percent_of_measured_ceiling", "tokens_per_s", "tokens_per_s_per_device", "speedup", "communication_share",
    "bubble_theory", "idle_share",
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(
        tmp_path / "a.jsonl",
        header(device=GPU, label="mine"),
        measurement(A, [[10 * MS, 30 * MS], [20 * MS, 10 * MS]], 0, calls=10, others={"compute_only": [[MS, MS]] * 2}),
        measurement(A, [[40 * MS, 40 * MS], [50 * MS, 50 * MS]], 1, calls=10),
        not_ok(B, "skipped", "needs 3 ranks"),
    )


def test_a_case_is_one_plain_object_with_the_promised_keys_first(path: Path) -> None:
    rows = case_rows([load(path)])
    assert [list(row)[: len(KEYS)] for row in rows] == [KEYS, KEYS]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    first, second = rows
    assert first["params"] == {"op": "all_reduce", "dtype": "float32", "num_bytes": 4}
    assert (first["host"], first["label"], first["file"]) == ("node07", "mine", str(path))
    assert (second["status"], second["reason"], second["num_ranks"]) == ("skipped", "needs 3 ranks", 2)
    assert second["seconds_median"] is None


def test_an_interval_is_no_narrower_than_like_cases_suggest(tmp_path: Path) -> None:
    """Nine cases of one suite: eight whose launches differ by about 10%, and one whose three happen to be equal."""
    cases = [f"collective/all_reduce[num_bytes={n}]" for n in range(9)]
    spread = [(0, 0, 0), *[(-10 - n, 0, 10 + n) for n in range(8)]]
    records = [
        measurement(case, [[MS + MS * percent // 100] * 3], launch)
        for case, percents in zip(cases, spread, strict=True)
        for launch, percent in enumerate(percents)
    ]
    equal, *others = case_rows([load(save(tmp_path / "a.jsonl", *records))])
    assert equal["seconds_low"] == pytest.approx(equal["seconds_high"])  # too coarse a clock says nothing
    records[2] = measurement(cases[0], [[MS + MS // 1000] * 3], 2)
    close, *others = case_rows([load(save(tmp_path / "b.jsonl", *records))])
    narrowest = min(row["seconds_high"] / row["seconds_low"] for row in others)
    assert 1.05 < close["seconds_high"] / close["seconds_low"] <= narrowest * 1.01
    # Few like cases suggest nothing: t on its own three medians.
    alone = case_rows([load(save(tmp_path / "c.jsonl", *records[:3]))])[0]
    assert alone["seconds_high"] / alone["seconds_low"] < 1.01


def test_case_level(path: Path) -> None:
    table = bench.load(path)
    assert list(table["case"]) == [A, B]
    assert list(table["op"]) == ["all_reduce", "matmul"]
    assert list(table["param_num_bytes"].array) == [4, pd.NA]
    assert table["param_num_bytes"].dtype == "Int64"
    assert list(table["architecture"]) == [f"2 x {GPU}"] * 2
    # Launch medians: maxima 20, 30 and 50, 50 over 10 calls: 2.5 and 5 ms.
    assert table["seconds_median"].tolist() == pytest.approx([0.00375, float("nan")], nan_ok=True)
    assert table["mfu"].isna().all()
    assert table["mfu"].dtype == "float64"
    assert table["reason"].tolist() == [None, "needs 3 ranks"]


def test_launch_level(path: Path) -> None:
    table = bench.load(str(path), level="launch")
    assert table[["case", "launch", "status"]].to_numpy().tolist() == [[A, 0, "ok"], [A, 1, "ok"], [B, 0, "skipped"]]
    assert table["seconds_median"].tolist()[:2] == pytest.approx([0.0025, 0.005])
    # 1 ms of 10 calls against 2.5 ms; the second launch has no such variant.
    assert table["communication_share"].tolist() == pytest.approx([0.96, float("nan"), float("nan")], nan_ok=True)


def test_rank_level(path: Path) -> None:
    table = bench.load([path], level="rank")
    assert table[["launch", "variant", "rank"]].to_numpy().tolist() == [
        [0, "full", 0], [0, "full", 1], [0, "compute_only", 0], [0, "compute_only", 1], [1, "full", 0], [1, "full", 1],
    ]  # fmt: skip
    # A rank's own times: 10 and 30, then 20 and 10, over 10 calls.
    assert table["seconds_median"].tolist()[:2] == pytest.approx([0.002, 0.0015])
    assert table["seconds_max"].tolist()[:2] == pytest.approx([0.003, 0.002])
    assert set(table["device"]) == {GPU}
    assert set(table["num_samples"]) == {2}


def test_sample_level(path: Path) -> None:
    table = bench.load(path, level="sample")
    assert len(table) == 12
    full = table[(table["variant"] == "full") & (table["launch"] == 0)]
    assert full[["rank", "sample"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert full["seconds"].tolist() == pytest.approx([0.001, 0.003, 0.002, 0.001])
    assert set(full["case"]) == {A}
    assert set(full["param_dtype"]) == {"float32"}


def test_samples_and_ranks_above_64_ranks(tmp_path: Path) -> None:
    record = measurement(A)
    record["num_ranks"] = 65
    kept = {"q": [0, 0.25, 0.5, 0.75, 1], "nanoseconds": [[10, 15, 20, 25, 40]] * 65}
    per_iteration = {"max": [40, 60], "min": [1, 2], "last_rank": [3, 4]}
    record["variants"] = {"full": {"calls": 2, "per_iteration": per_iteration, "rank_quantiles": kept}}
    path = save(tmp_path / "a.jsonl", header(65), record)
    samples = bench.load(path, level="sample")
    assert samples["seconds"].tolist() == pytest.approx([20e-9, 30e-9])
    assert samples["rank"].isna().all()
    ranks = bench.load(path, level="rank")
    assert len(ranks) == 65
    first = ranks[["seconds_median", "seconds_min", "seconds_max"]].iloc[0].tolist()
    assert first == pytest.approx([10e-9, 5e-9, 20e-9])


def test_an_invalid_case_has_no_speed_at_any_level(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A) | {"status": "invalid", "reason": "wrong"})
    assert bench.load(path)["seconds_median"].isna().all()
    assert bench.load(path, level="launch")["seconds_median"].isna().all()
    for level in ("rank", "sample"):
        table = bench.load(path, level=level)
        assert table.empty
        assert {"case", "launch", "variant", "rank"} <= set(table)


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    one = save(tmp_path / "one.jsonl", header(label="a"), measurement(A))
    two = save(tmp_path / "two.jsonl", header(label="b"), measurement(A))
    table = bench.load(tmp_path)
    assert table[["label", "file"]].to_numpy().tolist() == [["a", str(one)], ["b", str(two)]]


def test_an_unknown_level_is_named(path: Path) -> None:
    with pytest.raises(BenchError, match=r"level .cases.: there are case, launch, rank, sample"):
        bench.load(path, level="cases")  # type: ignore[arg-type]


def test_main_columns_are_few_and_always_there(path: Path) -> None:
    table = bench.load(path, columns="main")
    assert list(table) == [
        "case", "name", "suite", "op", "param_num_bytes", "param_dtype", "param_timing", "param_async_op", "num_ranks",
        "seconds_median", "seconds_low", "seconds_high", "rate", "rate_unit", "status", "file",
    ]  # fmt: skip
    assert table["name"].tolist()[0] == "all_reduce 4 B"
    assert table["param_timing"].isna().all()  # no case of this file has it
    assert list(bench.load(path, level="launch", columns="main"))[8:10] == ["launch", "num_ranks"]
    for level, last in (("rank", "seconds_median"), ("sample", "seconds")):
        narrow = bench.load(path, level=level, columns="main")  # type: ignore[arg-type]
        assert narrow[last].notna().all()
        assert len(narrow) == len(bench.load(path, level=level))  # type: ignore[arg-type]
        assert len(narrow.columns) <= 15
    with pytest.raises(BenchError, match=r"columns .few.: there are all, main"):
        bench.load(path, columns="few")  # type: ignore[arg-type]


def test_one_way_of_measuring_one_operation_is_a_row_per_size() -> None:
    """The example of `bench.load`."""
    frame = bench.load(Path(bench.__file__).parent.parent / "results" / "reference", columns="main")
    plain = "param_timing == 'aligned' and param_dtype == 'float32' and not param_async_op"
    sizes = frame.query(f"op == 'all_reduce' and {plain}").sort_values("param_num_bytes")
    num_bytes = sizes["param_num_bytes"].tolist()
    assert len(num_bytes) >= 9
    assert num_bytes == sorted(set(num_bytes))
    assert set(sizes["rate_unit"]) == {"GB/s"}
    assert sizes["rate"].notna().all()
    assert plain in (dataframes.load.__doc__ or "")
    rates = frame.dropna(subset=["rate"]).groupby("rate_unit").size()
    assert set(rates.index) == {"GB/s", "TFLOP/s", "tokens/s"}


def test_reading_imports_no_torch_and_plain_rows_no_pandas(path: Path) -> None:
    code = (
        "import sys, bench.records.rows, bench.report.result_tables\n"
        "import bench.analysis.compare.comparison, bench.records.file\n"
        f"rows = bench.records.rows.case_rows([bench.records.file.load({str(path)!r})])\n"
        f"bench.report.result_tables.tables([bench.records.file.load({str(path)!r})])\n"
        "assert 'pandas' not in sys.modules and len(rows) == 2\n"
        f"assert len(bench.load({str(path)!r}, level='sample')) == 12\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(bench.__file__).parent.parent)
