"""Checkpoints on real ranks: what is loaded is what was saved, states that are not, and the metrics by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BenchError, Skip
from bench.loading import load
from bench.suite import Check, Observed
from suites import checkpoint
from tests.command import call, saved
from tests.ranks import cpu_machine, on_ranks, run_case

SUITE = load("checkpoint")
TINY = {"num_bytes": 48 * 1024, "num_layers": 2, "batch_size": 4, "num_steps": 2}
CASES: tuple[dict[str, Any], ...] = (
    {"op": "save"},
    {"op": "save", "fsync": False},
    {"op": "async_save"},
    {"op": "load"},
    {"op": "load", "cache": "uncached"},
)
VARIANTS = {
    "save": ["full"],
    "async_save": ["full", "stall", "steps", "steps_and_save"],
    "load": ["full"],
}


def _params(case: dict[str, Any]) -> dict[str, Any]:
    sizes = TINY if case["op"] == "async_save" else {k: v for k, v in TINY.items() if k.startswith("num_b")}
    return sizes | case


def _every_case(context: Any, folder: str) -> list[Any]:
    found: list[Any] = []
    for case in CASES:
        try:
            found.append(run_case(context, "checkpoint", _params(case) | {"folder": folder}))
        except Skip as skip:
            found.append(str(skip))
    return found


def _errors(context: Any, folder: str) -> list[int]:
    """Of a save of a state that training had meanwhile changed, of one that nobody loads, and of a right one."""
    import torch.distributed as dist

    from suites._checkpoints import Checkpoints, make_training

    group = dist.new_group(backend="gloo")
    checkpoints = Checkpoints(make_training(32, 2, 4, context), Path(folder), True, group, context.index == 0)

    def late() -> None:
        checkpoints.training.step()
        checkpoints.save()

    def read() -> None:
        checkpoints.load(checkpoints.current)

    found = [checkpoints.errors(late, read), checkpoints.errors(checkpoints.save, lambda: None)]
    checkpoints.training.set_state(checkpoints.training.state())
    return [*found, make_and_compare(context, group, folder)]


def make_and_compare(context: Any, group: Any, folder: str) -> int:
    from suites._checkpoints import Checkpoints, make_training

    fresh = Checkpoints(make_training(32, 2, 4, context), Path(folder) / "fresh", True, group, context.index == 0)
    return fresh.errors(fresh.begin_save, lambda: fresh.load(fresh.current))


def _two_ranks(context: Any, folder: str, wrong: str) -> dict[str, Any]:
    return {"cases": _every_case(context, folder), "errors": _errors(context, wrong)}


def _assert_right(results: list[Any]) -> None:
    for case, result in zip(CASES, results, strict=True):
        if isinstance(result, str):
            assert "no uncached reads" in result
            continue
        assert result["checks"] == [Check(0.0, 0.0)] * 2, case
        twin = ["from_cache"] if case.get("cache") == "uncached" else []
        assert result["variants"] == VARIANTS[case["op"]] + twin


def test_on_two_ranks(tmp_path: Path) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    for rank in on_ranks(2, _two_ranks, str(tmp_path / "right"), str(tmp_path / "wrong")):
        _assert_right(rank["cases"])
        changed, unread, right = rank["errors"]
        # Two layers of 32 x 32 and their moments, half of each a rank.
        assert 0 < changed < unread
        assert unread >= 2 * 3 * 32 * 32 // 2
        assert right == 0
    assert not list((tmp_path / "right").iterdir())


def test_on_four_ranks(tmp_path: Path) -> None:
    for rank in on_ranks(4, _every_case, str(tmp_path)):
        _assert_right(rank)
    assert not list(tmp_path.iterdir())


def test_through_the_command(tmp_path: Path) -> None:
    """Both suites that need storage in one run: what a run leaves in its file, and that it leaves nothing else."""
    files, results = tmp_path / "files", tmp_path / "results"
    files.mkdir()
    cases = [
        f"checkpoint/async_save[folder={files},num_bytes=65536]",
        f"input_pipeline/samples[batch_size=2,folder={files},num_batches=2,num_workers=1,sample_bytes=4096,step_ms=2]",
    ]
    named = [word for case in cases for word in ("--case", case)]
    done = call(
        *("run", "checkpoint", "input_pipeline", "--preset", "smoke", "--ranks", "2", "--device", "cpu"),
        *("-o", str(results), *named),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    file = saved(results)
    assert file.statuses() == {"async_save": "ok", "samples": "ok"}
    own = file.of("async_save")["derived"]
    assert own["stall_seconds"] > 0
    assert own["rank_bytes"] * 2 == own["state_bytes"]
    assert abs(own["state_bytes"] - 65536) < 4096
    assert [row["cached_share"] for row in file.of("samples")["per_rank"]] == [1.0, 1.0]
    assert 0 < file.of("samples")["derived"]["accelerator_utilisation"] < 1.05
    assert not list(files.iterdir())
    assert "storage GB/s" in done.stdout


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
