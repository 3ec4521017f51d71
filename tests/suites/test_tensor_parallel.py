"""Every implementation on real ranks, and that the check notices a block that is wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.suite import Check, Params, Skip
from suites.tensor_parallel import TRACED_CALLS
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: dict[str, Params] = {
    "mlp": {"op": "mlp", "hidden": 48, "ffn_hidden": 144, "batch": 2, "sequence": 24},
    "attention": {"op": "attention", "hidden": 48, "num_heads": 12, "batch": 2, "sequence": 24},
}
OPS = tuple(SMALL)
IMPLEMENTATIONS = ("manual", "dtensor", "sequence")
DIRECTIONS = ("forward", "forward_backward")


def _every_case(context: Any) -> dict[tuple[str, ...], dict[str, Any]]:
    keys = [
        *itertools.product(OPS, IMPLEMENTATIONS, DIRECTIONS, ["float32"]),
        *itertools.product(OPS, IMPLEMENTATIONS, ["forward_backward"], ["bfloat16"]),
    ]
    return {
        (op, implementation, direction, dtype): run_case(
            context,
            "tensor_parallel",
            SMALL[op] | {"implementation": implementation, "direction": direction, "dtype": dtype},
        )
        for op, implementation, direction, dtype in keys
    }


def _assert_all_pass(ranks: list[dict[tuple[str, ...], dict[str, Any]]]) -> None:
    for rank in ranks:
        assert len(rank) == 18
        for key, result in rank.items():
            assert all(c.passed and c.scope == "full" for c in result["checks"]), (key, result["checks"])
            assert result["variants"] == ["full", "compute_only", "one_device"]
            assert result["tokens"] == 48
            _assert_sums_are_within_the_work(result["spans"], key)
    # The whole block's FLOPs, whatever the number of ranks: 2 matrices, 2 operations, 48 tokens.
    forward = 2 * 2 * 48 * 48 * 144
    assert ranks[0]["mlp", "manual", "forward", "float32"]["flops"] == forward
    assert ranks[0]["mlp", "manual", "forward_backward", "float32"]["flops"] == 3 * forward
    # 4 projections of 48 x 48, and 2 products of 24 x 24 x 48 for each of 2 sequences.
    forward = 4 * 2 * 48 * 48 * 48 + 2 * 2 * 2 * 24 * 24 * 48
    assert ranks[0]["attention", "sequence", "forward_backward", "bfloat16"]["flops"] == 3 * forward


def _assert_sums_are_within_the_work(spans: list[Any], key: tuple[str, ...]) -> None:
    """Each call has its directions, with what is sent in each marked within it."""
    _, implementation, direction, _ = key
    kinds = ("forward",) if direction == "forward" else ("forward", "backward")
    whole = [span for span in spans if span.kind != "communication"]
    sent = [span for span in spans if span.kind == "communication"]
    assert [span.kind for span in whole] == [*kinds] * TRACED_CALLS
    for span in sent:
        assert any(w.start_ns <= span.start_ns <= w.start_ns + w.duration_ns for w in whole if w.call == span.call)
    per_call = len(sent) / TRACED_CALLS
    assert per_call == len(kinds) if implementation in ("manual", "dtensor") else per_call >= len(kinds), key


def _silenced(context: Any, implementation: str, op: str, direction: str) -> Check:
    """The check of a block whose collectives send nothing, as if they had been forgotten."""
    import torch

    from bench.workloads.parallel.tensor import BlockSizes, Ranks, check_call, shared_call, silent_group, whole_call

    sizes = BlockSizes(op, 48, 144, 12 if op == "attention" else 1, 2, 24)
    group = silent_group()
    mute = Ranks(group, context.index, context.world_size, axis=f"tensor_{group.group_name}")
    whole = whole_call(sizes, direction, context.generator(), context.device, torch.float32)
    return check_call(shared_call(whole, sizes, implementation, mute), whole, sizes, implementation, mute)


def _without_f(context: Any) -> list[float]:
    """Error of each result of a manual block whose operator f does not sum the gradient: output, x,
    weights."""
    import torch
    from torch import nn

    from bench.workloads.model.numerics import relative_error
    from bench.workloads.parallel.tensor import BlockSizes, Ranks, SumOverRanks, rank_part, shared_call, whole_call

    class NoF(nn.Module):
        def __init__(self, local: nn.Module) -> None:
            super().__init__()
            self.local = local

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SumOverRanks.apply(self.local(x), ranks)

    sizes = BlockSizes("mlp", 48, 144, 1, 2, 24)
    ranks = Ranks(context.group, context.index, context.world_size, axis="unused")
    whole = whole_call(sizes, "forward_backward", context.generator(), context.device, torch.float32)
    call = shared_call(whole, sizes, "manual", ranks)
    call.block.block = NoF(call.block.block.local)
    splits = (None, None, None, 0, 1)
    return [
        relative_error(result, rank_part(reference, dim, ranks))
        for result, reference, dim in zip(call(), whole(), splits, strict=True)
    ]


def _two_ranks(context: Any) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cases": _every_case(context)}
    found["silenced"] = {key: _silenced(context, *key) for key in itertools.product(IMPLEMENTATIONS, OPS, DIRECTIONS)}
    found["without_f"] = _without_f(context)
    context.machine = cpu_machine(2, memory_bytes=1)
    found["reduced"] = {
        (op, i): run_case(context, "tensor_parallel", SMALL[op] | {"implementation": i})
        for op in OPS
        for i in IMPLEMENTATIONS
    }
    torch.set_float32_matmul_precision("medium")
    context.machine = cpu_machine(2)
    found["medium"] = run_case(context, "tensor_parallel", SMALL["mlp"])
    return found


def test_on_two_ranks() -> None:
    ranks = on_ranks(2, _two_ranks)
    _assert_all_pass([rank["cases"] for rank in ranks])
    for rank in ranks:
        for key, check in rank["silenced"].items():
            assert not check.passed, key
            # Muted collectives can leave memory as it was: an error that is not a number is caught as well.
            assert not check.error <= 0.05, key
        # Without f the output is right, but the gradients that pass through it are a share of the sum.
        output, x, norm, up, down = rank["without_f"]
        assert max(output, up, down) < 1e-5 < 0.05 < min(x, norm)
        for result in rank["reduced"].values():
            assert result["variants"] == ["full", "compute_only"]
            assert all(c.passed and c.scope == "reduced" for c in result["checks"])
            assert any("no one_device variant: it needs" in note for note in result["notes"])
        # Products of float32 in fewer bits have no tolerance beforehand: it is measured.
        assert all(check.passed for check in rank["medium"]["checks"])


def test_on_three_ranks() -> None:
    _assert_all_pass(on_ranks(3, _every_case))


@pytest.mark.parametrize(
    ("num_ranks", "change", "reason"),
    [
        (1, {}, "one rank: there is nothing to split"),
        (5, {}, "ffn_hidden=144 cannot be split evenly over 5 ranks"),
        (16, {"implementation": "sequence"}, "sequence=24 cannot be split evenly over 16 ranks"),
        (8, SMALL["attention"], "num_heads=12 cannot be split evenly over 8 ranks"),
        (2, SMALL["attention"] | {"hidden": 50}, "num_heads=12 does not divide hidden=50"),
    ],
)
def test_what_cannot_be_split_is_skipped(num_ranks: int, change: Params, reason: str) -> None:
    suite = load("tensor_parallel")
    rank: Any = SimpleNamespace(world_size=num_ranks)
    with pytest.raises(Skip, match=reason):
        suite.prepare(suite.defaults | SMALL["mlp"] | change, rank)


def _ids(preset: str, device_type: str = "cpu") -> list[str]:
    suite = load("tensor_parallel")
    machine = replace(cpu_machine(2, preset), device_type=device_type)
    return [suite.case(row).id for row in suite.cases(machine)]


def test_the_ids_are_stable() -> None:
    assert _ids("smoke") == [
        "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,sequence=256]",
        "tensor_parallel/attention[batch=1,hidden=256,num_heads=16,sequence=256]",
        "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,implementation=sequence,sequence=256]",
        "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,implementation=dtensor,sequence=256]",
        "tensor_parallel/mlp[batch=1,direction=forward,ffn_hidden=1024,hidden=256,sequence=256]",
        "tensor_parallel/attention[batch=1,hidden=256,implementation=sequence,num_heads=16,sequence=256]",
    ]
    assert (
        _ids("standard", "cuda")[0]
        == "tensor_parallel/mlp[batch=1,dtype=bfloat16,ffn_hidden=14336,hidden=4096,sequence=4096]"
    )


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_presets_nest_and_name_no_case_twice(device_type: str) -> None:
    smoke, standard, full = (_ids(preset, device_type) for preset in ("smoke", "standard", "full"))
    assert len(smoke) == 6
    assert len(standard) == {"cpu": 14, "cuda": 15}[device_type]
    assert (standard[:6], full[: len(standard)]) == (smoke, standard)
    assert len(set(full)) == len(full)


def test_every_value_is_a_choice_of_the_suite() -> None:
    suite = load("tensor_parallel")
    for device_type, preset in itertools.product(("cpu", "cuda"), ("standard", "full")):
        for row in suite.cases(replace(cpu_machine(2, preset), device_type=device_type)):
            assert all(row[name] in values for name, values in suite.choices.items())


def test_memory_is_counted_from_the_shapes() -> None:
    """2 x 1024 x 4096 weights in float32 on 2 ranks: the whole while two shares are made of it, each with inputs."""
    suite = load("tensor_parallel")
    row = suite.defaults | {"op": "mlp", "hidden": 1024, "ffn_hidden": 4096, "batch": 1, "sequence": 1}
    needed = suite.memory_bytes(row, cpu_machine(2))
    assert needed is not None
    weights = 4 * 2 * 1024 * 4096
    assert needed == (32 << 20) + weights * (1 + 2 / 2) + 4 * 6 * 1024
    # Of many tokens the call needs more: a share's gradient, 4 replicated activations, half of 4 hidden + 2 ffn_hidden.
    tokens = 1 << 20
    needed = suite.memory_bytes(row | {"sequence": tokens}, cpu_machine(2))
    call = 4 * tokens * (4 * 1024 + 4 * 1024 + (4 * 1024 + 2 * 4096) // 2)
    assert needed == (32 << 20) + weights * (2 / 2 + 1 / 2) + call


@pytest.mark.parametrize(("num_ranks", "times", "passes"), [(8, 3.5, True), (8, 7.0, False), (64, 7.0, True),
                                                            (64, 20.0, False)])  # fmt: skip
def test_what_a_sum_over_many_ranks_may_be_off_grows_with_their_number(
    num_ranks: int, times: float, passes: bool
) -> None:
    """An output that is `times` as far off as one device's in bfloat16."""
    import torch

    from bench.workloads.model.numerics import relative_error
    from bench.workloads.parallel.tensor import BlockSizes, Ranks, check_call, whole_block, whole_call

    sizes, cpu = BlockSizes("mlp", 64, 128, 1, 1, 64), torch.device("cpu")
    whole = whole_call(sizes, "forward", torch.Generator().manual_seed(0), cpu, torch.bfloat16)
    (one_device,) = whole()
    (reference,) = whole.to(torch.float32, lambda dtype: whole_block(sizes, None, cpu, dtype))()
    off = reference.clone()
    off.view(-1)[0] += times * relative_error(one_device, reference) * reference.abs().max()

    class Shared:
        output_gradient = whole.output_gradient

        def __call__(self) -> list[torch.Tensor]:
            return [off]

    group: Any = None
    ranks = Ranks(group, 0, num_ranks, axis="tensor")
    assert check_call(Shared(), whole, sizes, "manual", ranks).passed is passes  # type: ignore[arg-type]
