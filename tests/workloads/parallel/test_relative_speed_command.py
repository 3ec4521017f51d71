"""The suites of a training step's parts and of serving by the real command: two ranks, one small case of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.measure.planning.suite_loader import load
from tests.support.command import call, saved

CASES = {
    "context_parallel": "context_parallel/ring[head_dim=16,num_heads=4,num_kv_heads=2,order=contiguous,sequence=64]",
    "expert_parallel": "expert_parallel/moe"
    "[ffn_hidden=16,hidden=32,imbalance=0.5,num_experts=8,tokens_per_rank=32,top_k=2]",
    "data_parallel": "data_parallel/ddp[bucket_mb=1,model=tiny,num_layers=2,sequence=16]",
    "inference": "inference/decode[batch=2,model=tiny,num_layers=2,parallel=replicas,sequence=16]",
}


@pytest.mark.long
def test_one_case_of_each_is_measured_and_shown(tmp_path: Path) -> None:
    named = [word for case in CASES.values() for word in ("--case", case)]
    done = call("run", "--preset", "smoke", "--device", "cpu", "--ranks", "2", *named, "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    assert {m["suite"]: m["status"] for m in file.measurements} == dict.fromkeys(CASES, "ok")
    rows = json.loads(call("show", str(file.path), "--format", "json").stdout)["rows"]
    by_suite = {row["suite"]: row for row in rows}
    assert {row["case"] for row in rows} == set(CASES.values())
    for suite, row in by_suite.items():
        assert row["tokens_per_s"] > 0
        assert row["tflop_per_s"] > 0
        wanted = set(load(suite).metrics) - {"time_to_first_token_seconds"}
        assert not [name for name in wanted if row[name] is None], suite
    assert 1.4 < by_suite["context_parallel"]["work_imbalance"] < 1.5
    assert by_suite["expert_parallel"]["load_imbalance"] > 1.1
    assert 0 < by_suite["expert_parallel"]["dispatch_combine_share"] < 1
    decode = by_suite["inference"]
    assert decode["time_per_output_token_seconds"] > 0
    assert decode["membw_gb_per_s"] > 0
    assert 0.9 < decode["served_over_synchronous"] < 5
    assert "overlapped" in call("show", str(file.path), "--wide").stdout
