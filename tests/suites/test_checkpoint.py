"""Checkpoints: sizes, what does not fit together, and the metrics by hand; `test_storage_suites.py` has real ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BenchError, Skip
from bench.measure.planning.suite_loader import load
from bench.suite import Observed
from suites import checkpoint
from tests.support.ranks import cpu_machine

SUITE = load("checkpoint")


def _observed(seconds: dict[str, float], *rows: dict[str, Any]) -> Observed:
    return Observed(
        world_size=2,
        num_cores=2,
        device_type="cpu",
        seconds=seconds,
        rank_seconds={},
        spans=(),
        traced_call_ns=(),
        per_rank=rows,
    )


def test_metrics_by_hand() -> None:
    seconds = {"full": 4.0, "stall": 1.0, "steps": 10.0, "steps_and_save": 13.0}
    row = {"rank_bytes": 10**9, "cached_share": None}
    known = checkpoint.derive(_observed(seconds, *[row | {"ended_within_steps": [True]}] * 2), "async_save")
    assert known == {
        "storage_gb_per_s": 0.5,
        "state_bytes": 2e9,
        "rank_bytes": 1e9,
        "stall_seconds": 1.0,
        "stall_share": 0.25,
        "steps_slowdown": 1.2,
        "lost_seconds": 3.0,
    }
    # Where the steps were over first, what the save had still to cost them is not known.
    slow = [row | {"ended_within_steps": [True]}, row | {"ended_within_steps": [False]}]
    assert checkpoint.derive(_observed(seconds, *slow), "async_save")["lost_seconds"] is None
    loads = [{"rank_bytes": 10**9, "cached_share": share} for share in (0.0, 0.5)]
    found = checkpoint.derive(_observed({"full": 2.0, "from_cache": 0.5}, *loads), "load")
    assert (found["page_cache_gain"], found["cached_share"]) == (4.0, 0.5)
    assert checkpoint.derive(_observed({"full": 2.0}, *loads), "save")["stall_seconds"] == 2.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"op": "save", "cache": "uncached"}, "cache=uncached has no meaning for save"),
        ({"op": "load", "fsync": False}, "fsync has no meaning for load"),
        ({"op": "save", "num_steps": 9}, "num_steps has no meaning for save"),
    ],
)
def test_what_does_not_fit_together_is_skipped(change: dict[str, Any], reason: str) -> None:
    rank: Any = SimpleNamespace(world_size=2)
    with pytest.raises(Skip, match=reason):
        SUITE.prepare(SUITE.defaults | {"num_bytes": 65536} | change, rank)


def test_sizes_and_memory() -> None:
    params = SUITE.defaults | {"op": "save", "num_bytes": 3 * 4 * 4 * 1024**2}
    assert checkpoint._hidden(params, 2) == 1024
    assert checkpoint._hidden(params, 3) == 1023  # 341 rows a rank
    needed = SUITE.memory_bytes(params, cpu_machine(2))
    assert needed is not None
    assert needed > 4 * 3 * 4 * 4 * 1024**2 // 2
    with pytest.raises(BenchError, match="num_layers=0; give a whole number of at least 1"):
        SUITE.memory_bytes(params | {"num_layers": 0}, cpu_machine(2))
    for preset in ("smoke", "standard", "full"):
        rows = list(SUITE.cases(cpu_machine(2, preset)))
        assert len({SUITE.case(row).id for row in rows}) == len(rows)
        assert all(checkpoint._misfit(row) is None for row in rows)
