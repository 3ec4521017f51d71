from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.stats import Stats

from bench.errors import BenchError
from bench.importers.reading import ImportHints
from bench.importers.registry import import_file
from bench.records import rows
from bench.records.file import Result, load
from bench.records.lines import decoding
from bench.report import export
from tests.support.command import call
from tests.support.results import MILLISECOND, header, measurement, not_ok, save

MS = MILLISECOND


def saved(tmp_path: Path, *records: Any, name: str = "a.jsonl") -> Result:
    return load(save(tmp_path / name, *records))


def written(results: list[Result], path: Path) -> Any:
    export.write(results, path)
    return json.loads(path.read_text())


def three_launches(tmp_path: Path) -> Result:
    """Maxima over the ranks: 2, 4, 6 ms, then 10, 10, 10, then 3, 5, 4: medians 4, 10 and 4 ms."""
    case = "collective/all_reduce[num_bytes=1048576]"
    return saved(
        tmp_path,
        header(num_ranks=2),
        measurement(case, [[2 * MS, 4 * MS, 6 * MS], [MS, MS, MS]], launch=0, bytes=1048576, bus_factor=1.0),
        measurement(case, [[MS] * 3, [10 * MS] * 3], launch=1, bytes=1048576, bus_factor=1.0),
        measurement(case, [[3 * MS, 5 * MS, 4 * MS], [MS] * 3], launch=2, bytes=1048576, bus_factor=1.0),
        measurement("s/streamed[timing=streamed]", [[7, 9]], calls=4),
        not_ok("s/broken", "failed", "boom"),
    )


@pytest.mark.parametrize("suffix", [".csv", ".md", ".json"])
def test_exports_are_what_is_shown_and_never_overwrite(tmp_path: Path, suffix: str) -> None:
    results = [saved(tmp_path, measurement("s/a[x=1]"), not_ok("s/b", "failed", "boom"))]
    path = tmp_path / f"out{suffix}"
    assert export.write(results, path) == ()
    text = path.read_text()
    assert "s/a[x=1]" in text or ("| a | ~2.0 ms |" in text and "a: x=1" in text)
    assert "boom" in text
    with pytest.raises(BenchError, match="never overwrites"):
        export.write(results, path)
    assert path.read_text() == text


def test_parquet_round_trips_or_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [saved(tmp_path, measurement("s/a[x=1]"), measurement("s/b[x=two]"))]
    path = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(BenchError, match="pip install pyarrow"):
            export.write(results, path)
    assert not path.exists()
    pytest.importorskip("pyarrow")
    import pandas as pd

    export.write(results, path)
    table = pd.read_parquet(path)
    assert table["case"].tolist() == ["s/a[x=1]", "s/b[x=two]"]
    assert table["param_x"].tolist() == ["1", "two"]
    assert table["seconds_median"].tolist() == [0.002, 0.002]


def test_an_unknown_ending_and_an_unwritable_place_are_named(tmp_path: Path) -> None:
    result = saved(tmp_path, measurement())
    with pytest.raises(BenchError, match=r"out\.xls: the name has to end in \.pytest-benchmark\.json, .*\.parquet"):
        export.write([result], tmp_path / "out.xls")
    with pytest.raises(BenchError, match="cannot write"):
        export.write([result], tmp_path / "nowhere" / "out.csv")


def test_pytest_benchmark_export_comes_back_with_the_same_medians(tmp_path: Path) -> None:
    result = three_launches(tmp_path)
    path = tmp_path / "out.pytest-benchmark.json"
    assert export.write([result], path) == ("s/broken",)
    again = load(import_file(path, ImportHints(), tmp_path / "again.jsonl").path)
    before, after = ({row["case"]: row for row in rows.case_rows([each])} for each in (result, again))
    assert list(after) == ["collective/all_reduce[num_bytes=1048576]", "s/streamed[timing=streamed]"]
    for case, row in after.items():
        same = ("params", "num_ranks", "num_samples", "num_launches", "seconds_median", "seconds_low", "busbw_gb_per_s")
        assert {name: row[name] for name in same} == {name: before[case][name] for name in same}
    assert after["collective/all_reduce[num_bytes=1048576]"]["seconds_median"] == 0.004
    assert after["s/streamed[timing=streamed]"]["seconds_median"] == pytest.approx(2e-9, rel=1e-12)
    assert again.architecture == result.architecture
    assert decoding.plain(again.measurements[-1])["variants"] == {"full": {"calls": 4, "nanoseconds": [[7, 9]]}}


@pytest.mark.parametrize(
    "data",
    [[3.0], [1.0, 2.0], [5.0, 1.0, 2.0], [4.0, 1.0, 9.0, 2.0], [1.0, 7.0, 3.0, 2.0, 90.0],
     [1.0, 2.0, 4.0, 8.0, 0.5, 99.0, 3.0]],
)  # fmt: skip
def test_rounds_are_summed_up_as_pytest_benchmark_does(data: list[float]) -> None:
    theirs = Stats()
    theirs.data = list(data)
    ours = export.rounds_statistics(data)
    assert ours.pop("data") == data
    assert ours == pytest.approx(
        {k: v for k, v in theirs.as_dict().items() if k != "outliers"} | {"outliers": ours["outliers"]}
    )
    assert ours["outliers"] == theirs.outliers


def test_pytest_benchmark_itself_compares_two_exports(tmp_path: Path) -> None:
    path = tmp_path / "0001_base.json"
    export.write([three_launches(tmp_path)], tmp_path / "x.pytest-benchmark.json")
    (tmp_path / "x.pytest-benchmark.json").rename(path)
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,rounds", "--sort=name"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "all_reduce" in line]
    assert row.split()[-1] == "9"
    assert "5.0000" in row  # ms; of all nine samples, where bench takes the median of the launch medians


def test_continuous_benchmark_json(tmp_path: Path) -> None:
    entries = written([three_launches(tmp_path)], tmp_path / "out.continuous.json")
    assert [entry["name"] for entry in entries] == [
        "collective/all_reduce[num_bytes=1048576]",
        "s/streamed[timing=streamed]",
    ]
    first, second = entries
    assert (first["unit"], first["value"]) == ("us", 4000.0)
    assert first["range"].startswith("± ")
    assert "3 launches" in first["extra"]
    assert "range" not in second  # two samples have no interval


def test_bencher_metric_format(tmp_path: Path) -> None:
    cases = written([three_launches(tmp_path)], tmp_path / "out.bmf.json")
    assert list(cases) == ["collective/all_reduce[num_bytes=1048576]", "s/streamed[timing=streamed]"]
    latency = cases["collective/all_reduce[num_bytes=1048576]"]["latency"]
    assert latency["value"] == 4e6
    assert latency["lower_value"] < 4e6 < latency["upper_value"]
    assert cases["s/streamed[timing=streamed]"] == {"latency": {"value": pytest.approx(2.0)}}


def test_cases_of_several_results_are_told_apart(tmp_path: Path) -> None:
    one = saved(tmp_path, header(label="h100"), measurement("s/a"), name="1.jsonl")
    two = saved(tmp_path, header(label="h200"), measurement("s/a"), name="2.jsonl")
    same = saved(tmp_path, header(label="h100"), measurement("s/a"), name="3.jsonl")
    assert list(written([one, two], tmp_path / "a.bmf.json")) == ["h100: s/a", "h200: s/a"]
    assert list(written([one, same], tmp_path / "b.bmf.json")) == ["1.jsonl: s/a", "3.jsonl: s/a"]


def test_the_command_says_what_it_left_out(tmp_path: Path) -> None:
    result = three_launches(tmp_path)
    done = call("show", str(result.path), "-o", str(tmp_path / "out.continuous.json"))
    assert done.returncode == 0
    assert done.stderr.strip() == "warning: 1 of the cases left out, since they have no speed: s/broken"
    assert len(json.loads((tmp_path / "out.continuous.json").read_text())) == 2
