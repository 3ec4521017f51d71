"""Split attention on real ranks, the pure plan of its pieces, and that the check notices what is wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism.overlap import exposure
from bench.parallelism.sequence_chunks import ORDERS, blocks, num_pairs, num_pieces, work_imbalance
from bench.suite import Check, Observed, Params, Skip
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: Params = {"sequence": 48, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
OPS = ("ring", "all_gather")


@pytest.mark.parametrize(("order", "size", "causal"), list(itertools.product(ORDERS, (1, 2, 3, 8), (True, False))))
def test_every_pair_of_the_mask_is_computed_once(order: str, size: int, causal: bool) -> None:
    count = num_pieces(order, size)
    held = [piece for rank in range(size) for piece in ORDERS[order](rank, size)]
    assert sorted(held) == list(range(count))
    everything = tuple(range(count))
    for rank, others in itertools.product(range(size), ([ORDERS[order](r, size) for r in range(size)], [everything])):
        own = ORDERS[order](rank, size)
        found: list[tuple[int, int]] = []
        for other in others:
            for (first, last), (first_key, last_key), masked in blocks(own, other, causal):
                pairs = itertools.product(own[first:last], other[first_key:last_key])
                found += [pair for pair in pairs if not masked or pair[0] >= pair[1]]
        wanted = [(q, k) for q in own for k in everything if not causal or k <= q]
        assert sorted(found) == sorted(wanted)


def test_imbalance_of_two_ranks() -> None:
    """Halves of a triangle: 1/4 and 3/4 of it, so that the busy rank has 1.5 x the mean."""
    assert work_imbalance("contiguous", 2, 4096, True) == pytest.approx(1.5, rel=1e-3)
    assert work_imbalance("contiguous", 64, 65536, True) == pytest.approx(2.0, rel=0.02)
    assert work_imbalance("balanced", 2, 4096, True) == 1
    assert work_imbalance("contiguous", 4, 4096, False) == 1
    assert num_pairs(blocks((0, 3), (1, 2), True), 10) == 10 * 20


def test_exposure_by_hand() -> None:
    def observed(**seconds: float) -> Observed:
        return Observed(2, 2, "cpu", seconds, {}, (), ())

    found = exposure(observed(full=10.0, compute_only=9.0, communication=4.0))
    assert found == {
        "exposed_communication_seconds": 1.0,
        "communication_alone_seconds": 4.0,
        "overlapped_share": 0.75,
    }
    assert set(exposure(observed(full=1.0)).values()) == {None}


def _cases(context: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = [
        *((op, order, True, "float32", "forward_backward") for op in OPS for order in ORDERS),
        *((op, "contiguous", False, "float32", "forward_backward") for op in OPS),
        *((op, "balanced", True, "float32", "forward") for op in OPS),
        *((op, "balanced", True, "bfloat16", "forward_backward") for op in OPS),
    ]
    names = ("op", "order", "causal", "dtype", "direction")
    return {
        key: run_case(context, "context_parallel", SMALL | dict(zip(names, key, strict=True)) | {"batch": 2})
        for key in keys
    }


def _silenced(context: Any, op: str) -> Check:
    """The check of attention whose messages never arrive."""
    import torch

    from bench.workloads.parallel.context_check import AttentionProblem, bench_call, check_call, inputs, split_attention
    from bench.workloads.parallel.tensor import Ranks, silent_group

    of = AttentionProblem(op, 1, 48, 4, 2, 16, True, "balanced", "forward_backward")
    whole = inputs(of, context.generator(), context.device, torch.float32)
    mute = Ranks(silent_group(), context.index, context.world_size, axis="mute")
    return check_call(bench_call(split_attention(whole, of, mute), of), whole, of, mute)


def _all(context: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"cases": _cases(context), "silenced": [_silenced(context, op) for op in OPS]}
    context.machine = cpu_machine(context.world_size, memory_bytes=1)
    found["reduced"] = [run_case(context, "context_parallel", SMALL | {"op": op}) for op in OPS]
    return found


def test_on_four_ranks() -> None:
    for found in on_ranks(4, _all):
        for key, result in found["cases"].items():
            assert all(c.passed and c.scope == "full" for c in result["checks"]), (key, result["checks"])
            assert result["variants"] == ["full", "compute_only", "communication", "one_device"]
            assert result["tokens"] == 96
            # Two products of 48 x 48 x 64, for each of 2 sequences.
            assert result["flops"] == (1 if key[-1] == "forward" else 3) * 2 * 2 * 2 * 48 * 48 * 64
        assert not any(check.error <= 0.05 for check in found["silenced"])
        for result in found["reduced"]:
            assert all(c.passed and c.scope == "reduced" for c in result["checks"])
            assert "one_device" not in result["variants"]


@pytest.mark.parametrize(
    ("num_ranks", "device", "change", "reason"),
    [
        (1, "cpu", {}, "one rank"),
        (5, "cpu", {}, "sequence=48 cannot be cut evenly into the 10 pieces"),
        (2, "cpu", {"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        (2, "cpu", {"causal": False}, "take order=contiguous"),
        (2, "cpu", {"implementation": "torch"}, "no rule for the CPU's attention kernel"),
        (2, "cuda", {"implementation": "torch", "dtype": "bfloat16"}, "without grouped heads"),
        (2, "cuda", {}, "dtype=float32: flash attention on cuda takes bfloat16 and float16"),
    ],
)
def test_what_has_no_meaning_is_skipped(num_ranks: int, device: str, change: Params, reason: str) -> None:
    suite = load("context_parallel")
    rank: Any = SimpleNamespace(world_size=num_ranks, device=SimpleNamespace(type=device))
    with pytest.raises(Skip, match=reason):
        suite.prepare(suite.defaults | {"op": "ring"} | SMALL | change, rank)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_presets_nest_and_name_no_case_twice(device_type: str) -> None:
    suite = load("context_parallel")
    machine = replace(cpu_machine(2), device_type=device_type)
    smoke, standard, full = (
        [suite.case(row).id for row in suite.cases(replace(machine, preset=preset))]
        for preset in ("smoke", "standard", "full")
    )
    assert smoke == standard[:1]
    assert full[: len(standard)] == standard
    assert len(set(full)) == len(full)
    for row in suite.cases(replace(machine, preset="full")):
        assert all(row[name] in values for name, values in suite.choices.items())
        assert suite.memory_bytes(row, machine)
