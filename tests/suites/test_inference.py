"""Serving on real ranks, its metrics by hand, and that the check notices what is wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism.shapes import find_model
from bench.suite import Check, Observed, Params, Skip
from suites import inference
from tests.support.ranks import cpu_machine, on_ranks, run_case

SMALL: Params = {"model": "small", "num_layers": 2, "sequence": 12, "batch": 2}
OPS, WAYS = ("prefill", "decode"), ("tensor", "replicas")
SHAPE = replace(find_model("small"), num_layers=2, sequence=12)


def _cases(context: Any) -> dict[tuple[str, ...], dict[str, Any]]:
    keys = [*itertools.product(OPS, WAYS, ["float32"]), *itertools.product(["decode"], WAYS, ["bfloat16"])]
    return {
        key: run_case(context, "inference", SMALL | dict(zip(("op", "parallel", "dtype"), key, strict=True)))
        for key in keys
    }


def _silenced(context: Any) -> Check:
    """The check of a model whose sums over the ranks never happen."""
    import torch

    from bench.workloads.model.llama import whole_model
    from bench.workloads.parallel.tensor import Ranks, silent_group
    from bench.workloads.training.inference import check_server, draw_prompts, server, split_model

    mute = Ranks(silent_group(), context.index, context.world_size, axis="mute")
    model = split_model(SHAPE, mute, context.generator, context.device, torch.float32)
    prompts = draw_prompts(SHAPE, 2, context.generator(99), context.device)
    tested = server(model, SHAPE, prompts, 1, torch.float32)
    return check_server(tested, "decode", whole_model(SHAPE, context.generator, context.device))


def _without_cache(context: Any) -> Check:
    """The check of a server that forgets its prompt."""
    import torch

    from bench.workloads.model.llama import whole_model
    from bench.workloads.training.inference import check_server, draw_prompts, server

    model = whole_model(SHAPE, context.generator, context.device)
    tested = server(model, SHAPE, draw_prompts(SHAPE, 2, context.generator(99), context.device), 4, torch.float32)
    tested.fill = lambda: None  # type: ignore[method-assign]
    return check_server(tested, "decode", model)


def _all(context: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cases": _cases(context),
        "wrong": [_silenced(context), _without_cache(context)],
    }
    context.machine = cpu_machine(context.world_size, memory_bytes=1)
    found["reduced"] = [run_case(context, "inference", SMALL | {"op": "decode", "parallel": way}) for way in WAYS]
    return found


def test_on_four_ranks() -> None:
    for found in on_ranks(4, _all):
        for (op, way, dtype), result in found["cases"].items():
            assert all(c.passed and c.scope == "full" for c in result["checks"]), (op, way, dtype, result["checks"])
            assert result["variants"] == (["full", "compute_only", "one_device"] if way == "tensor" else ["full"])
            batches = 1 if way == "tensor" else 4
            assert result["tokens"] == batches * 2 * (12 if op == "prefill" else 1)
            a_layer = SHAPE.layer_forward_flops(2) if op == "prefill" else SHAPE.layer_decode_flops(2)
            assert result["flops"] == batches * (2 * a_layer + 2 * 2 * SHAPE.hidden * SHAPE.vocabulary)
        for check in found["wrong"]:
            assert not check.passed
            assert not check.error <= 0.05
        for result in found["reduced"]:
            assert all(c.passed and c.scope == "reduced" for c in result["checks"])
            assert "one_device" not in result["variants"]
            assert any("one device's check needs" in note for note in result["notes"])


def test_the_metrics_by_hand() -> None:
    """One rank of two takes twice as long: together they serve 1.5 x what both would at the slow one's pace."""
    observed = Observed(2, 2, "cpu", {"full": 0.2}, {"full": (0.1, 0.2)}, (), ())
    assert inference.served(observed, op="decode", num_tokens=8, replicas=True) == {
        "time_per_output_token_seconds": 0.2,
        "served_tokens_per_s": pytest.approx(120),
        "served_over_synchronous": pytest.approx(1.5),
    }
    assert inference.served(observed, op="prefill", num_tokens=8, replicas=False) == {
        "time_to_first_token_seconds": 0.2,
        "served_tokens_per_s": pytest.approx(40),
        "served_over_synchronous": None,
    }


def test_a_decoded_token_is_a_row_of_the_whole() -> None:
    """Decoding every token of a sequence, each against all of it, is the forward of the whole in full."""
    assert SHAPE.sequence * SHAPE.layer_decode_flops(2) == SHAPE.layer_forward_flops(2)


def test_what_decode_reads_of_its_memory() -> None:
    """Weights but the embedding, and keys and values of 12 tokens of 2 sequences in 2 layers; half of it on 2 ranks."""
    params = inference.DEFAULTS | SMALL | {"op": "decode", "parallel": "tensor"}
    weights = SHAPE.num_parameters - SHAPE.vocabulary * SHAPE.hidden - SHAPE.hidden
    assert inference._weights_and_cache(params, 1) == (weights, 2 * 2 * 12 * 2 * 4 * 32)
    assert inference._weights_and_cache(params, 2) == (weights // 2, 2 * 12 * 2 * 4 * 32)


@pytest.mark.parametrize(
    ("num_ranks", "change", "reason"),
    [
        (1, {"parallel": "tensor"}, "one rank"),
        (3, {"parallel": "tensor"}, "num_kv_heads=4 of model=small cannot be split evenly over 3 ranks"),
        (2, {"parallel": "replicas", "batch": 0}, "at least one prompt of two tokens"),
        (2, {"parallel": "replicas", "num_layers": 0}, "num_layers=0 is less than 1"),
    ],
)
def test_what_has_no_meaning_is_skipped(num_ranks: int, change: Params, reason: str) -> None:
    suite = load("inference")
    rank: Any = SimpleNamespace(world_size=num_ranks)
    with pytest.raises(Skip, match=reason):
        suite.prepare(suite.defaults | SMALL | {"op": "decode"} | change, rank)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_presets_name_no_case_twice(device_type: str) -> None:
    suite = load("inference")
    machine = replace(cpu_machine(2), device_type=device_type)
    standard, full = (suite.cases(replace(machine, preset=preset)) for preset in ("standard", "full"))
    assert full[: len(standard)] == standard
    assert len({suite.case(row).id for row in full}) == len(full)
    assert len(suite.cases(machine)) == 1
    for row in full:
        assert all(row[name] in values for name, values in suite.choices.items())
        assert suite.memory_bytes(row, machine)
