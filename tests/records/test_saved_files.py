"""Real result files of every schema version are still read, and give the numbers that their raw samples hold.

Each `data/schema<N>.jsonl` is a short run on two ranks that somebody once made, published with `bench show --share`.
What it says is worked out here from its lines with numpy alone, and some of it stands here as literals.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from bench.cli import call
from bench.records.anonymize import anonymize_result
from bench.records.file import load as load_result
from bench.records.lines import decoding
from bench.records.reader import SCHEMA
from tests import DATA

SCHEMA1 = DATA / "schema1.jsonl"
MAX_FILE_BYTES = 150_000

# Two launches: each the median over its samples of the slower rank, then the middle of the two.
MEDIAN_SECONDS = {
    "compute/matmul[shape=square,size=1024]": 0.017747728,
    "compute/matmul[shape=square,size=256]": 0.0002818275,
    "compute/triad[num_bytes=4194304]": 0.0005199405,
    "collective/all_reduce[num_bytes=1048576]": 0.00105137075,
    "collective/all_gather[num_bytes=1048576]": 0.000802675,
    "collective/all_reduce[num_bytes=1024,timing=streamed]": 0.0004478177489583333,
    "collective/barrier": 0.00016559225,
    "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,sequence=256]": 0.01359047025,
    "pipeline_parallel/1f1b[hidden=64,num_heads=4,num_microbatches=4,sequence=32]": 0.03959982125,
}
MLP = "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,sequence=256]"
ALL_GATHER = "collective/all_gather[num_bytes=1048576]"
PIPELINE_SHARES = ("bubble_theory", "idle_share", "communication_and_overhead")


def raw(path: Path = SCHEMA1) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def raw_launches(case: str) -> list[dict[str, Any]]:
    return [record for record in raw() if record.get("case") == case]


def launch_median(record: dict[str, Any], variant: str) -> float:
    """Seconds of one call, by numpy."""
    samples = record["variants"][variant]
    return float(np.median(np.max(samples["nanoseconds"], axis=0))) / samples["calls"] / 1e9


def rows(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, dict[str, Any]]:
    """What `bench show --format json` prints, by case."""
    assert call(["show", *map(str, words), "--format", "json"]) == 0
    return {row["case"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def torn(folder: Path) -> Path:
    """The saved run as if it had died while it wrote its last case, the second launch of the pipeline's."""
    *lines, last, _ = SCHEMA1.read_bytes().splitlines(keepends=True)
    assert json.loads(last)["suite"] == "pipeline_parallel"
    path = folder / "schema1-torn.jsonl"
    path.write_bytes(b"".join(lines) + last[: len(last) // 2])
    return path


def test_every_schema_version_has_a_file_fit_to_be_published() -> None:
    files = sorted(DATA.glob("*.jsonl"))
    assert [path.name for path in files] == [f"schema{version}.jsonl" for version in range(1, SCHEMA + 1)]
    for path in files:
        assert path.stat().st_size < MAX_FILE_BYTES
        saved = load_result(path)
        assert saved.warnings == ()
        assert saved.hosts() == ["host0"]
        # Publishing it again finds nothing more to take out.
        head, *others = [decoding.plain(line) for line in anonymize_result(saved)]
        first, *rest = [decoding.plain(decoding.structure(line)) for line in raw(path)]
        assert others == rest
        # Its label was given a number only since.
        text = json.dumps(first | {"run_id": head["run_id"]}).replace('"saved"', '"label0"')
        assert json.loads(text) == json.loads(json.dumps(head))


def test_show_gives_the_times_that_the_raw_samples_hold(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, SCHEMA1)
    assert {case: row["seconds_median"] for case, row in found.items() if row["status"] == "ok"} == pytest.approx(
        MEDIAN_SECONDS, rel=1e-12
    )
    for case in MEDIAN_SECONDS:
        launches, row = raw_launches(case), found[case]
        main = next(iter(launches[0]["variants"]))
        medians = [launch_median(record, main) for record in launches]
        slowest = np.concatenate(
            [np.max(r["variants"][main]["nanoseconds"], axis=0) / r["variants"][main]["calls"] / 1e9 for r in launches]
        )
        assert row["seconds_median"] == pytest.approx(np.median(medians), rel=1e-12)
        assert (row["num_samples"], row["num_ranks"], row["num_launches"]) == (slowest.size, 2, 2)
        assert (row["seconds_min"], row["seconds_max"]) == pytest.approx((slowest.min(), slowest.max()), rel=1e-12)
        # Between two launches: around the mean of their logarithms, and no narrower than the normal around one.
        centre, half = np.mean(np.log(medians)), 1.96 * np.std(np.log(medians), ddof=1) * math.sqrt(1 / 2 + 0.4)
        assert row["interval"] == "between_launches"
        low, high = (math.log(row[f"seconds_{end}"]) - centre for end in ("low", "high"))
        assert high == pytest.approx(-low, rel=1e-6)
        assert high >= half * (1 - 1e-4)


def test_show_gives_the_speeds_that_follow(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, SCHEMA1)
    gather, seconds = found[ALL_GATHER], MEDIAN_SECONDS[ALL_GATHER]
    assert gather["algbw_gb_per_s"] == pytest.approx(1_048_576 / seconds / 1e9)
    assert gather["busbw_gb_per_s"] == pytest.approx(gather["algbw_gb_per_s"] / 2)  # (n - 1) / n of two ranks
    assert found["collective/barrier"]["algbw_gb_per_s"] is None
    triad = "compute/triad[num_bytes=4194304]"
    assert found[triad]["membw_gb_per_s"] == pytest.approx(3 * 4_194_304 / MEDIAN_SECONDS[triad] / 1e9)
    square = "compute/matmul[shape=square,size=1024]"
    ceiling = 2 * 1024**3 / MEDIAN_SECONDS[square] / 1e12
    assert found[square]["tflop_per_s"] == pytest.approx(ceiling)
    assert found[square]["percent_of_measured_ceiling"] == pytest.approx(100.0)
    # Two matrices of 256 x 1024, forward and twice that backward, for 256 tokens; half of it a rank.
    mlp, speed = found[MLP], 6 * 2 * 256 * 1024 * 256 / MEDIAN_SECONDS[MLP] / 2 / 1e12
    assert mlp["tflop_per_s"] == pytest.approx(speed)
    assert mlp["percent_of_measured_ceiling"] == pytest.approx(100 * speed / ceiling)
    assert mlp["ceiling_source"] == square
    assert mlp["tokens_per_s"] == pytest.approx(256 / MEDIAN_SECONDS[MLP])
    assert mlp["mfu"] is None  # this processor's peak is in no catalogue

    def against_full(variant: str) -> float:
        launches = raw_launches(MLP)
        return float(np.median([launch_median(r, variant) / launch_median(r, "full") for r in launches]))

    assert mlp["speedup"] == pytest.approx(against_full("one_device"))
    assert mlp["communication_share"] == pytest.approx(1 - against_full("compute_only"))
    pipeline = next(row for row in found.values() if row["suite"] == "pipeline_parallel")
    parts = [statistics.median(r["derived"][name] for r in raw_launches(pipeline["case"])) for name in PIPELINE_SHARES]
    assert [pipeline[name] for name in PIPELINE_SHARES] == pytest.approx(parts)


def test_what_has_no_speed_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    without = {case: row for case, row in rows(capsys, SCHEMA1).items() if row["status"] != "ok"}
    assert {case: row["status"] for case, row in without.items()} == {
        "collective/all_reduce[num_bytes=1099511627776]": "skipped",
        "faulty/wrong": "invalid",
        "faulty/raise_one": "failed",
    }
    assert [row["reason"] for row in without.values()] == [
        "needs 3072.02 GiB a rank, and 11.28 GiB are free on some rank (launch 0)",
        "check before: error 1 on rank 0 is above the tolerance 0 (launch 0)",
        "rank 1 (host0), measure: RuntimeError: run went wrong (faulty.py, line 47) (launch 0)",
    ]
    assert {row["seconds_median"] for row in without.values()} == {None}
    assert call(["show", str(SCHEMA1), "--status"]) == 3
    assert "9 ok, 1 invalid, 1 skipped, 1 failed; run failed" in capsys.readouterr().out


def test_load_gives_the_same_at_every_level() -> None:
    records = [record for record in raw() if record["kind"] == "measurement"]
    measured = [record for record in records if record["status"] == "ok"]
    variants = [variant for record in measured for variant in record["variants"].values()]
    cases = bench.load(SCHEMA1)
    assert len(cases) == 12
    assert cases.set_index("case")["seconds_median"].dropna().to_dict() == pytest.approx(MEDIAN_SECONDS, rel=1e-12)
    assert set(cases["host"]) == {"host0"}
    assert set(cases["architecture"]) == {"2 x Intel Xeon Processor core"}
    mlp = cases.set_index("case").loc[MLP]
    assert (mlp["op"], mlp["param_hidden"], mlp["param_implementation"]) == ("mlp", 256, "manual")
    launches = bench.load(SCHEMA1, level="launch")
    assert len(launches) == len(records) == 24
    first = launches[(launches["case"] == MLP) & (launches["launch"] == 0)].iloc[0]
    assert first["seconds_median"] == pytest.approx(launch_median(raw_launches(MLP)[0], "full"), rel=1e-12)
    ranks = bench.load(SCHEMA1, level="rank")
    assert len(ranks) == 2 * len(variants) == 72
    samples = bench.load(SCHEMA1, level="sample")
    assert len(samples) == sum(np.size(variant["nanoseconds"]) for variant in variants) == 10_200
    own = samples[(samples["case"] == MLP) & (samples["launch"] == 0) & (samples["variant"] == "full")]
    nanoseconds = raw_launches(MLP)[0]["variants"]["full"]["nanoseconds"]
    for rank in (0, 1):
        one = own[own["rank"] == rank].sort_values("sample")["seconds"]
        assert (one * 1e9).round().astype(int).tolist() == nanoseconds[rank]


def test_a_torn_file_keeps_all_but_what_it_was_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = torn(tmp_path)
    assert call(["show", str(path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"warning: {path}: the last line (25) is torn and left out; the run ended as it was written\n"
    found = {row["case"]: row for row in json.loads(out)["rows"]}
    assert Counter(row["status"] for row in found.values()) == {"ok": 9, "skipped": 1, "invalid": 1, "failed": 1}
    whole = rows(capsys, SCHEMA1)
    (case,) = [case for case, row in found.items() if row["num_launches"] == 1]
    assert case.startswith("pipeline_parallel/1f1b")
    assert found[case]["seconds_median"] == pytest.approx(launch_median(raw_launches(case)[0], "full"), rel=1e-12)
    assert found[case]["interval"] == "within_launch"
    for other in set(found) - {case}:
        # The interval is not narrower than the like cases suggest, of which the torn file has one less.
        own = {"file": "", "seconds_low": None, "seconds_high": None}
        assert found[other] | own == whole[other] | own
    assert call(["show", str(path), "--status"]) == 3
    assert "no end was written" in capsys.readouterr().out


def test_compare_sets_the_torn_file_beside_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["compare", str(SCHEMA1), str(torn(tmp_path)), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["names"] == ["schema1.jsonl", "schema1-torn.jsonl"]  # their labels are the same
    assert found["differences"] == []
    assert found["only_base"] == found["only_new"] == []
    assert len(found["not_ok"]) == 6
    ratios = {pair["case"]: pair["change"] + 1 for pair in found["rows"]}
    assert set(ratios) == set(MEDIAN_SECONDS)
    (pipeline,) = [case for case in ratios if case.startswith("pipeline_parallel/")]
    first, second = (launch_median(record, "full") for record in raw_launches(pipeline))
    assert ratios.pop(pipeline) == pytest.approx(first / (first * second) ** 0.5, rel=1e-12)
    assert set(ratios.values()) == {1.0}


def test_compressed_it_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "schema1.jsonl.gz"
    path.write_bytes(gzip.compress(SCHEMA1.read_bytes()))
    packed, plain = rows(capsys, path), rows(capsys, SCHEMA1)
    assert list(packed) == list(plain)
    assert all(packed[case] | {"file": ""} == plain[case] | {"file": ""} for case in plain)
