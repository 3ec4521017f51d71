"""The suites that need storage on real ranks: what is read is what was written, also where it is not meant to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import Skip
from bench.suite import Check
from tests.support.command import call, saved
from tests.support.ranks import on_ranks, run_case

STATE: dict[str, Any] = {"num_bytes": 48 * 1024, "num_layers": 2}
TOKENS: dict[str, Any] = {"op": "tokens", "sequence": 33, "batch_size": 2, "num_batches": 3, "step_ms": 1}
SAMPLES: dict[str, Any] = {"op": "samples", "sample_bytes": 5001, "batch_size": 2, "num_batches": 3, "step_ms": 1}
EPOCH = ["full", "step_only", "loader_only"]
SAVES = ["full", "stall", "steps", "steps_and_save"]
CASES: tuple[tuple[str, dict[str, Any], list[str]], ...] = (
    ("input_pipeline", TOKENS, EPOCH),
    ("input_pipeline", TOKENS | {"cache": "uncached"}, [*EPOCH, "from_cache"]),
    ("input_pipeline", SAMPLES, EPOCH),
    ("input_pipeline", SAMPLES | {"cache": "uncached"}, [*EPOCH, "from_cache"]),
    ("checkpoint", STATE | {"op": "save", "fsync": False}, ["full"]),
    ("checkpoint", STATE | {"op": "async_save", "batch_size": 4, "num_steps": 2}, SAVES),
    ("checkpoint", STATE | {"op": "load"}, ["full"]),
    ("checkpoint", STATE | {"op": "load", "cache": "uncached"}, ["full", "from_cache"]),
)


def _every_case(context: Any, folder: str) -> list[Any]:
    """What each case gave, or why it was skipped."""
    found: list[Any] = []
    for suite, params, _ in CASES:
        try:
            found.append(run_case(context, suite, params | {"folder": folder}))
        except Skip as skip:
            found.append(str(skip))
    return found


def _errors(context: Any, folder: str) -> list[int]:
    """Of a state that training had changed before it was saved, of one that nobody loads, and of a right one."""
    import torch.distributed as dist

    from bench.workloads.storage.checkpoints import Checkpoints, make_training

    training = make_training(32, 2, 4, context)
    own = Checkpoints(training, Path(folder), True, dist.new_group(backend="gloo"), context.index == 0)

    def late() -> None:
        training.step()
        own.save()

    def read() -> None:
        own.load(own.current)

    found = [own.errors(late, read), own.errors(own.begin_save, read), own.errors(own.save, lambda: None)]
    own.renew()
    return found


def _four_ranks(context: Any, folder: str, wrong: str) -> dict[str, Any]:
    return {"cases": _every_case(context, folder), "errors": _errors(context, wrong)}


def test_on_four_ranks(tmp_path: Path) -> None:
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    for rank in on_ranks(4, _four_ranks, str(tmp_path / "right"), str(tmp_path / "wrong")):
        for (_, params, variants), result in zip(CASES, rank["cases"], strict=True):
            if isinstance(result, str):
                assert params["cache"] == "uncached"
                assert "no uncached reads" in result
                continue
            assert result["checks"] == [Check(0.0, 0.0)] * 2, params
            assert result["variants"] == variants
        changed, right, unread = rank["errors"]
        # Two layers of 32 x 32 and their moments, a quarter of each a rank.
        assert unread >= 2 * 3 * 32 * 32 // 4
        assert 0 < changed <= 4 * unread
        assert right == 0
    assert not list((tmp_path / "right").iterdir())


@pytest.mark.long
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
    assert "storage" in call("show", str(file.path), "--wide").stdout.partition("\ncheckpoint\n")[2].splitlines()[0]
