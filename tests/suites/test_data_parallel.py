"""DDP and FSDP2 on real ranks, how they cut their communication, and that the check notices what is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism.gradient_buckets import buckets, groups
from bench.parallelism.shapes import find_model
from bench.suite import Check, Params, Skip
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: Params = {"model": "tiny", "num_layers": 3, "sequence": 16}
DDP: Params = SMALL | {"op": "ddp", "bucket_mb": 1}
FSDP: Params = SMALL | {"op": "fsdp", "layers_per_group": 1, "reshard_after_forward": True}
CASES: tuple[Params, ...] = (
    DDP,
    DDP | {"dtype": "bfloat16", "batch": 2},
    FSDP,
    FSDP | {"layers_per_group": 2, "reshard_after_forward": False},
    FSDP | {"layers_per_group": 0},
    FSDP | {"dtype": "bfloat16"},
)


def test_buckets_and_groups_by_hand() -> None:
    assert buckets([3, 3, 3, 10, 1], 6) == [6, 13, 1]
    assert buckets([3, 3], 6) == [6]
    assert groups(5, 2) == [range(2), range(2, 4), range(4, 5)]
    assert groups(5, 0) == []


def _reducer_buckets(context: Any) -> tuple[list[int], list[int]]:
    """Bytes of the buckets that DDP fills, and of our messages."""
    import torch
    import torch.distributed as dist

    from bench.parallelism.gradient_buckets import Wrapping
    from bench.workloads.model.llama import whole_model
    from bench.workloads.training.data_parallel import make_ddp

    shape, wrapping = replace(find_model("small"), num_layers=3, sequence=8), Wrapping("ddp", bucket_mb=2)
    model = whole_model(shape, context.generator, context.device)
    sizes = [p.numel() * p.element_size() for p in model.parameters()][::-1]
    wrapped: Any = make_ddp(model, wrapping, context)
    seen: list[int] = []

    def keep(bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        seen.append(bucket.buffer().numel() * 4)
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    # No annotations: torch compares them with its own, and here they are texts.
    wrapped.register_comm_hook(None, lambda _, bucket: keep(bucket))
    for _ in range(2):  # the buckets are made again after the first step
        seen.clear()
        wrapped(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    return seen, buckets(sizes, 2 << 20)


def _alone(context: Any) -> Check:
    """The check of a step whose gradients nobody averages."""
    import torch

    from bench.parallelism.gradient_buckets import Wrapping
    from bench.workloads.training.data_parallel import check_step, make_trained

    shape = replace(find_model("tiny"), num_layers=2, sequence=16)
    made = make_trained(shape, 1, torch.float32, Wrapping("ddp"), context)
    made.full = made.plain
    return check_step(made, shape)


def _all(context: Any) -> dict[str, Any]:
    return {
        "cases": [run_case(context, "data_parallel", params) for params in CASES],
        "buckets": _reducer_buckets(context),
        "alone": _alone(context),
    }


def test_on_four_ranks() -> None:
    for found in on_ranks(4, _all):
        for params, result in zip(CASES, found["cases"], strict=True):
            assert all(c.passed and c.scope == "full" for c in result["checks"]), (params, result["checks"])
            assert result["variants"] == ["full", "compute_only", "communication"]
            batch = int(params.get("batch", 1))
            assert result["tokens"] == 4 * batch * 16
            shape = replace(find_model("tiny"), num_layers=3, sequence=16)
            assert result["flops"] == 4 * shape.step_flops(batch)
        filled, ours = found["buckets"]
        assert filled == ours
        assert not found["alone"].error <= 0.05


@pytest.mark.parametrize(
    ("num_ranks", "params", "reason"),
    [
        (1, DDP, "one rank"),
        (2, DDP | {"bucket_mb": 0}, "bucket_mb=0 is less than 1"),
        (2, FSDP | {"layers_per_group": -1}, "layers_per_group=-1 is less than 0"),
        (2, FSDP | {"num_layers": 0}, "num_layers=0 is less than 1"),
    ],
)
def test_what_has_no_meaning_is_skipped(num_ranks: int, params: Params, reason: str) -> None:
    suite = load("data_parallel")
    rank: Any = SimpleNamespace(world_size=num_ranks, backend="gloo")
    with pytest.raises(Skip, match=reason):
        suite.prepare(suite.defaults | params, rank)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_presets_name_no_case_twice(device_type: str) -> None:
    suite = load("data_parallel")
    machine = replace(cpu_machine(2), device_type=device_type)
    standard, full = (suite.cases(replace(machine, preset=preset)) for preset in ("standard", "full"))
    assert full[: len(standard)] == standard
    assert len({suite.case(row).id for row in full}) == len(full)
    assert len(suite.cases(machine)) == 1
    for row in full:
        assert all(row[name] in values for name, values in suite.choices.items() if name in row)
        assert suite.memory_bytes(row, machine)
        assert ("bucket_mb" in row) == (row["op"] == "ddp")
