"""A split mixture of experts on real ranks, its made routing, and that the check notices what is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism import flops
from bench.parallelism.expert_routing import Routing
from bench.suite import Check, Observed, Params, Skip, Span
from suites import expert_parallel
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: Params = {
    "op": "moe",
    "hidden": 32,
    "ffn_hidden": 16,
    "num_experts": 8,
    "top_k": 2,
    "imbalance": 0.25,
    "tokens_per_rank": 24,
}
CHANGES: tuple[Params, ...] = (
    {},
    {"imbalance": 0.5},
    {"imbalance": 1.0, "top_k": 1},
    {"imbalance": 1.0, "top_k": 7},
    {"direction": "forward"},
    {"dtype": "bfloat16", "imbalance": 0.6},
    {"tokens_per_rank": 1},
)


@pytest.mark.parametrize(
    "routing", [Routing(24, 8, 2, 0.25), Routing(24, 8, 2, 0.5), Routing(7, 4, 3, 1.0), Routing(50, 16, 1, 0.3)]
)
def test_the_routing_is_what_was_asked_for(routing: Routing) -> None:
    from bench.workloads.parallel.expert import choose_experts

    choices = choose_experts(routing)
    assert tuple(choices.shape) == (routing.num_tokens, routing.top_k)
    assert choices.flatten().bincount(minlength=routing.num_experts).tolist() == routing.loads()
    assert all(len(set(row)) == routing.top_k for row in choices.tolist())
    assert routing.loads()[0] == round(routing.imbalance * routing.num_tokens)


def test_load_imbalance_by_hand() -> None:
    """Two ranks of 4 experts; half of 24 tokens choose expert 0, the other 36 choices fall on seven experts."""
    routing = Routing(24, 8, 2, 0.5)
    assert routing.loads() == [12, 6, 5, 5, 5, 5, 5, 5]
    assert routing.rank_loads(2) == [56, 40]
    assert routing.load_imbalance(2) == pytest.approx(56 / 48)
    assert Routing(24, 8, 2, 0.25).load_imbalance(4) == 1


def test_share_of_dispatch_and_combine_by_hand() -> None:
    spans = tuple(
        Span(rank=rank, call=0, kind=kind, start_ns=0, duration_ns=length)
        for rank, kind, length in ((0, "dispatch", 10), (0, "combine", 20), (1, "combine", 50), (1, "other", 7))
    )
    observed = Observed(2, 2, "cpu", {}, {}, spans, ((100,), (100,)))
    assert expert_parallel.communicating_share(observed) == pytest.approx(0.4)
    assert expert_parallel.communicating_share(replace(observed, traced_call_ns=((), ()))) is None


def _silenced(context: Any) -> Check:
    """The check of a layer whose rows never arrive."""
    import torch

    from bench.workloads.parallel.expert import Exchange, check_call, rank_layer, split_layer, whole_layer
    from bench.workloads.parallel.tensor import Ranks, silent_group

    mute = Ranks(silent_group(), context.index, context.world_size, axis="mute")
    routing = Routing(24, 8, 2, 0.5)
    whole = whole_layer(routing, context.world_size, 32, 16, context.generator(), context.device, torch.float32)
    quiet = Exchange(mute, context.span, silent=True)
    return check_call(split_layer(rank_layer(whole, mute), routing, quiet, True), whole, mute)


def _all(context: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cases": [run_case(context, "expert_parallel", SMALL | change) for change in CHANGES],
        "silenced": _silenced(context),
    }
    context.machine = cpu_machine(context.world_size, memory_bytes=1)
    found["reduced"] = run_case(context, "expert_parallel", SMALL)
    return found


def test_on_four_ranks() -> None:
    for found in on_ranks(4, _all):
        for change, result in zip(CHANGES, found["cases"], strict=True):
            params = SMALL | change
            assert all(c.passed and c.scope == "full" for c in result["checks"]), (change, result["checks"])
            assert result["variants"] == ["full", "compute_only", "communication", "one_device"]
            num_rows = 4 * int(params["tokens_per_rank"]) * int(params["top_k"])
            calls = 1 if change.get("direction") == "forward" else 3
            assert result["tokens"] == 4 * params["tokens_per_rank"]
            assert result["flops"] == calls * 3 * 2 * num_rows * 32 * 16
            # Dispatch and combine, and with the backward the same again.
            kinds = [span.kind for span in result["spans"]]
            assert len(kinds) == 5 * (2 if calls == 1 else 4)
            assert kinds.count("dispatch") == kinds.count("combine")
        assert not found["silenced"].error <= 0.05
        assert all(c.passed and c.scope == "reduced" for c in found["reduced"]["checks"])
        assert "one_device" not in found["reduced"]["variants"]


@pytest.mark.parametrize(
    ("num_ranks", "change", "reason"),
    [
        (1, {}, "one rank"),
        (3, {}, "num_experts=8 cannot be split evenly over 3 ranks"),
        (2, {"top_k": 8}, "top_k=8 leaves nothing to choose"),
        (2, {"imbalance": 0.1}, "between the even top_k / num_experts = 0.25 and 1"),
        (2, {"tokens_per_rank": 0}, "one is < 1"),
    ],
)
def test_what_has_no_meaning_is_skipped(num_ranks: int, change: Params, reason: str) -> None:
    suite = load("expert_parallel")
    rank: Any = SimpleNamespace(world_size=num_ranks)
    with pytest.raises(Skip, match=reason):
        suite.prepare(suite.defaults | SMALL | change, rank)
    assert num_ranks == 1 or suite.memory_bytes(suite.defaults | SMALL | change, cpu_machine(num_ranks)) == 0


@pytest.mark.parametrize(("device_type", "world_size"), [("cpu", 2), ("cpu", 3), ("cuda", 16)])
def test_every_listed_case_has_a_routing(device_type: str, world_size: int) -> None:
    suite = load("expert_parallel")
    machine = replace(cpu_machine(world_size, "full"), device_type=device_type)
    rows = suite.cases(machine)
    ids = [suite.case(row).id for row in rows]
    assert len(set(ids)) == len(ids)
    assert ids[:1] == [suite.case(row).id for row in suite.cases(replace(machine, preset="smoke"))]
    for row in rows:
        assert all(row[name] in values for name, values in suite.choices.items())
        assert suite.memory_bytes(row, machine)
    assert [row["imbalance"] for row in suite.cases(machine)][:1] == [2 / rows[0]["num_experts"]]


def test_only_active_experts_are_counted() -> None:
    assert flops.moe_forward(10, 2, 4, 16) == flops.mlp_forward(20, 4, 16, num_matrices=3)
