"""Splits of a training step: planning, real ranks against one device, and time by part known by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bench.measure.planning.suite_loader import load
from bench.parallelism import step_breakdown
from bench.parallelism.layout import Layout, MicrobatchedJob, all_layouts, layout_of
from bench.parallelism.shapes import ModelShape, find_model
from bench.suite import COMMUNICATION, Params, Skip, Span
from bench.workloads.training import step_memory
from bench.workloads.training.training_check import compare_steps, one_device
from suites import training_step
from tests.support.ranks import cpu_machine, on_ranks, run_case

JOB = MicrobatchedJob(find_model("tiny"), 8, num_microbatches=4)


def test_ranks_and_their_places() -> None:
    layout = Layout(tp=4, pp=2, dp=3)
    assert layout.world_size == 24
    assert [layout.rank(layout.coordinates(rank)) for rank in range(24)] == list(range(24))
    assert layout.coordinates(23) == (1, 2, 3)
    assert layout.peers(13, "tensor") == (12, 13, 14, 15)
    assert layout.peers(13, "data") == (13, 17, 21)
    assert layout.peers(13, "pipeline") == (1, 13)


def test_all_layouts() -> None:
    sizes = {(layout.pp, layout.dp, layout.tp) for layout in all_layouts(4)}
    assert sizes == {(1, 4, 1), (1, 2, 2), (1, 1, 4), (2, 2, 1), (2, 1, 2), (4, 1, 1)}
    assert len(list(all_layouts(1024))) == 66
    assert layout_of(8, tp=2, pp=2) == Layout(tp=2, pp=2, dp=2)
    assert layout_of(8, tp=3, pp=1) == "tp=3 x pp=1 = 3 does not divide the 8 ranks"


@pytest.mark.parametrize(
    ("job", "layout", "reason"),
    [
        (JOB, Layout(tp=4), "num_kv_heads=2 cannot be split evenly over tp=4"),
        (JOB, Layout(pp=3), "num_layers=4 cannot be split evenly over stages=3"),
        (JOB, Layout(dp=4), "batch=8 cannot be split evenly over dp x microbatches=16"),
        (replace(JOB, num_microbatches=1), Layout(pp=2), "as many microbatches as ranks, 2; there are 1"),
        (replace(JOB, num_microbatches=0), Layout(), "microbatches=0"),
    ],
)
def test_what_cannot_be_split(job: MicrobatchedJob, layout: Layout, reason: str) -> None:
    assert reason in str(job.objection(layout))


def test_what_cannot_run_is_skipped_with_its_numbers() -> None:
    rank: Any = SimpleNamespace(world_size=2, machine=cpu_machine(2), backend="gloo")
    base = next(iter(training_step.cases(cpu_machine(2))))
    for change, reason in (
        ({"tp": 3}, "tp=3 x pp=1 = 3 does not divide the 2 ranks"),
        ({"tp": 2, "dp_mode": "shard"}, "leaves one data rank"),
        ({"batch": 7}, "batch=7 cannot be split evenly"),
        ({"shape": "llama3-70b", "batch": 2}, "the fewest layers need"),
    ):
        with pytest.raises(Skip, match=reason):
            training_step.prepare(base | change, rank)


def test_compiling_is_skipped_where_it_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(type="cpu")
    rank: Any = SimpleNamespace(world_size=2, machine=cpu_machine(2), device=device, backend="gloo")
    base = next(iter(training_step.cases(cpu_machine(2)))) | {"compile": True}
    with pytest.raises(Skip, match=r"compile=true with tp=2: torch 2\.13, .* breaks in the backward"):
        training_step.prepare(base | {"tp": 2, "dp_mode": "replicate"}, rank)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Skip, match=r"needs a C\+\+ compiler, and there is no"):
        training_step.prepare(base, rank)


def test_as_many_layers_as_fit() -> None:
    params: Params = {
        **training_step.DEFAULTS,
        "shape": "llama3-8b",
        "batch": 8,
        "num_microbatches": 1,
        "tp": 1,
        "pp": 1,
        "dp_mode": "shard",
        "dtype": "bfloat16",
    }
    machine = replace(cpu_machine(8, memory_bytes=75 << 30), device_type="cuda")
    few = step_memory.num_layers_that_fit(params, Layout(dp=8), machine)
    more = step_memory.num_layers_that_fit(params | {"recompute": True}, Layout(dp=8), machine)
    assert 4 <= few < more == 32
    assert step_memory.num_layers_that_fit(params | {"num_layers": 3}, Layout(dp=8), machine) == 3


GIB = 2**30


@pytest.mark.parametrize(
    ("num_gpus", "gib", "shape", "recompute"),
    [
        (1, 79, "llama3-1b", False),
        (1, 139, "llama3-1b", False),
        (8, 79, "llama3-8b", True),
        (8, 139, "llama3-8b", False),
        (64, 79, "llama3-8b", False),
    ],
)
def test_on_gpus_the_first_case_trains_a_whole_published_model(
    num_gpus: int, gib: int, shape: str, recompute: bool
) -> None:
    machine = replace(cpu_machine(num_gpus, "standard", gib * GIB), device_type="cuda", ranks_per_host=min(8, num_gpus))
    first, compiled, *_ = training_step.cases(machine)
    assert (first["shape"], first["recompute"]) == (shape, recompute)
    assert compiled == first | {"compile": True}
    layout = layout_of(num_gpus, int(first["tp"]), int(first["pp"]))
    assert isinstance(layout, Layout)
    assert step_memory.num_layers_that_fit(first, layout, machine) == find_model(shape).num_layers


def test_on_gpus_a_microbatch_is_one_sequence() -> None:
    for preset, num_gpus in product(("smoke", "standard", "full"), (1, 8, 64)):
        machine = replace(cpu_machine(num_gpus, preset, 79 * GIB), device_type="cuda", ranks_per_host=min(8, num_gpus))
        for case in training_step.cases(machine):
            layout = layout_of(num_gpus, int(case["tp"]), int(case["pp"]))
            assert isinstance(layout, Layout)
            assert int(case["batch"]) == layout.dp * int(case["num_microbatches"])


def test_on_gpus_splits_that_train_the_whole_model_come_first() -> None:
    """Replicas of a pipeline's half of llama3-8b do not fit into 80 GB, shares of it do."""
    machine = replace(cpu_machine(8, "standard", 79 * GIB), device_type="cuda", ranks_per_host=8)
    splits = [layout_of(8, int(case["tp"]), int(case["pp"])) for case in training_step.cases(machine)]
    counts = [
        step_memory.num_layers_that_fit(case, layout, machine)
        for case, layout in zip(training_step.cases(machine), splits, strict=True)
        if isinstance(layout, Layout) and case["recompute"]
    ]
    whole = [count == 32 for count in counts]
    assert whole == sorted(whole, reverse=True)
    assert 4 <= sum(whole) < len(whole)


def test_every_listed_case_can_run_and_differs_from_the_others() -> None:
    suite = load("training_step")
    sizes = (1, 2, 4, 8, 64, 1024)
    for preset, device_type, ranks in product(("smoke", "standard", "full"), ("cpu", "cuda"), sizes):
        machine = replace(cpu_machine(ranks, preset), device_type=device_type, ranks_per_host=min(ranks, 8))
        cases = suite.cases(machine)
        assert len({suite.case(case).id for case in cases}) == len(cases)
        assert preset != "smoke" or len(cases) <= 3
        for case in cases:
            layout = layout_of(ranks, int(case["tp"]), int(case["pp"]))
            assert isinstance(layout, Layout)
            assert layout.dp > 1 or case["dp_mode"] == "replicate"
            assert all(case[name] in choices for name, choices in suite.choices.items())


def _two_ranks(context: Any) -> dict[str, Any]:
    base = {
        **training_step.DEFAULTS,
        "shape": "tiny",
        "batch": 8,
        "tp": 1,
        "pp": 1,
        "num_microbatches": 2,
        "num_layers": 2,
        "sequence": 16,
    }
    cases: dict[str, Params] = {
        "ddp": {},
        "fsdp": {"dp_mode": "shard", "recompute": True},
        "tensor": {"tp": 2, "dtype": "bfloat16"},
        "pipeline": {"pp": 2, "num_microbatches": 4},
    }
    results: dict[str, Any] = {}
    for name, change in cases.items():
        results[name] = run_case(context, "training_step", base | change, calls=1)
    results["wrong"] = _wrong(context)
    context.machine = replace(context.machine, memory_bytes=8 << 20)
    results["reduced"] = run_case(context, "training_step", base, calls=1)
    return results


def _wrong(context: Any) -> list[bool]:
    """Whether a check passes: of a sound step, and of one whose gradients are not averaged but summed."""
    import torch

    from bench.workloads.training.parallelize import Treatment
    from bench.workloads.training.training_step import TrainingStep

    layout, job = Layout(dp=2), replace(JOB, num_microbatches=1)
    treatment = Treatment("float32", "shard", recompute=False, compile=False)
    expected = one_device(job, layout, treatment, context)
    step = TrainingStep(job, layout, treatment, context)
    passed = [compare_steps(step, expected).passed]
    accumulate = step.accumulate

    def summed(trace: Any = None) -> None:
        accumulate(trace)
        with torch.no_grad():
            for parameter in step.parameters:
                assert parameter.grad is not None
                parameter.grad.mul_(2)

    step.accumulate = summed  # type: ignore[method-assign]
    return [*passed, compare_steps(step, expected).passed]


def _spans(ranks: list[dict[str, Any]]) -> tuple[list[Span], list[list[int]]]:
    return [span for rank in ranks for span in rank["spans"]], [rank["call_ns"] for rank in ranks]


def _assert_parts_add_up(ranks: list[dict[str, Any]], layout: Layout, num_stages: int) -> step_breakdown.Parts:
    spans, call_ns = _spans(ranks)
    calls = step_breakdown.step_parts(spans, call_ns, layout, num_stages)
    assert len(calls) == training_step.TRACED_CALLS
    for call, parts_of_ranks in enumerate(calls):
        for parts in parts_of_ranks:
            assert sum(parts.values()) == max(rank[call] for rank in call_ns)
            assert min(parts.values()) >= 0
            assert min(parts["forward"], parts["backward"], parts["optimizer"]) > 0
    shares = step_breakdown.mean_shares(calls)
    assert sum(share or 0.0 for share in shares.values()) == pytest.approx(1.0)
    return calls[0][0]


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return on_ranks(2, _two_ranks)


@pytest.mark.parametrize(
    ("name", "layout", "axis"),
    [
        ("ddp", Layout(dp=2), "data"),
        ("fsdp", Layout(dp=2), "data"),
        ("tensor", Layout(tp=2), "tensor"),
        ("pipeline", Layout(pp=2), "pipeline"),
    ],
)
def test_splits_over_two_ranks(two_ranks: list[dict[str, Any]], name: str, layout: Layout, axis: str) -> None:
    ranks = [rank[name] for rank in two_ranks]
    for rank in ranks:
        assert all(check.passed and check.scope == "full" for check in rank["checks"])
        assert rank["tokens"] == 8 * 16
        assert rank["flops"] == replace(find_model("tiny"), num_layers=2, sequence=16).step_flops(8)
        blocked = [span for span in rank["spans"] if span.kind == COMMUNICATION]
        assert {span.axis for span in blocked} == {axis}
        assert all((span.num_bytes or 0) > 0 for span in blocked)
    _assert_parts_add_up(ranks, layout, layout.pp)


def test_the_check_notices_what_adam_hides(two_ranks: list[dict[str, Any]]) -> None:
    assert all(rank["wrong"] == [True, False] for rank in two_ranks)


def test_without_room_for_one_device_the_check_is_reduced(two_ranks: list[dict[str, Any]]) -> None:
    for rank in two_ranks:
        assert all(check.passed and check.scope == "reduced" for check in rank["reduced"]["checks"])


def _four_ranks(context: Any) -> dict[str, Any]:
    base = {
        **training_step.DEFAULTS,
        "shape": "tiny",
        "batch": 8,
        "tp": 2,
        "pp": 1,
        "num_microbatches": 2,
        "num_layers": 2,
        "sequence": 16,
    }
    return {
        "2x2 shard": run_case(context, "training_step", base | {"dp_mode": "shard"}, calls=1),
        "2x2 pipeline": run_case(context, "training_step", base | {"pp": 2}, calls=1),
    }


@pytest.mark.long
def test_a_mesh_of_two_by_two_on_two_cores() -> None:
    results = on_ranks(4, _four_ranks)
    for name, layout, axes in (
        ("2x2 shard", Layout(tp=2, dp=2), {"data", "tensor"}),
        ("2x2 pipeline", Layout(tp=2, pp=2), {"pipeline", "tensor"}),
    ):
        ranks = [rank[name] for rank in results]
        assert all(check.passed for rank in ranks for check in rank["checks"])
        found = {span.axis for rank in ranks for span in rank["spans"] if span.kind == COMMUNICATION}
        assert found == axes
        assert any("4 ranks share 2 cores" in note for note in ranks[0]["notes"])
        _assert_parts_add_up(ranks, layout, layout.pp)


LARGE = find_model("llama3-70b")


@pytest.mark.parametrize("layout", [Layout(tp=8, dp=128), Layout(tp=8, pp=8, dp=16), Layout(pp=4, dp=256)])
def test_a_rank_of_1024_holds_its_share(layout: Layout) -> None:
    """A fake process group plans as 1,024 ranks would, on the meta device: nothing is sent, nothing is held."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from bench.workloads.training.parallelize import MESH_AXES, Treatment, build_part, local_part, mesh_shape

    rank = 1000
    job = MicrobatchedJob(LARGE, 2048, num_microbatches=8)
    assert job.objection(layout) is None
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=1024)
    try:
        mesh = init_device_mesh("cpu", mesh_shape(layout, "shard"), mesh_dim_names=MESH_AXES)
        at = layout.coordinates(rank)
        for name, place in (("pipeline", at.pipeline), ("shard", at.data), ("tensor", at.tensor)):
            assert mesh.get_local_rank(name) == place
            assert len(dist.get_process_group_ranks(mesh.get_group(name))) == mesh[name].size()
        assert dist.get_process_group_ranks(mesh.get_group("tensor")) == list(layout.peers(rank, "tensor"))
        assert dist.get_process_group_ranks(mesh.get_group("shard")) == list(layout.peers(rank, "data"))
        treatment = Treatment("bfloat16", "shard", recompute=True, compile=False)
        (layers,) = job.layers_of(layout, at.pipeline).values()
        # One layer of the stage: the others are like it.
        meta = torch.device("meta")
        part = build_part(LARGE, layers[-1:], layout, mesh, treatment, lambda _: torch.Generator(), meta)
        shares = layout.dp * layout.tp
        weight = dict(part.named_parameters())[f"layers.{layers[-1]}.mlp.gate.weight"]
        assert tuple(weight.shape) == (28672, 8192)
        assert local_part(weight).numel() == 28672 * 8192 // shares
        assert part.head is None or layers[-1] == 79
    finally:
        dist.destroy_process_group()


def _span(rank: int, kind: str, start: int, duration: int, **further: Any) -> Span:
    return Span(rank=rank, call=0, kind=kind, start_ns=start, duration_ns=duration, **further)


def test_a_collective_by_hand() -> None:
    """Rank 0 stands still from 10 to 40 inside its backward; rank 1 hands over at 25: 15 waited, 15 exposed."""
    sum_of = {"axis": "data", "sequence": 0, "num_bytes": 8}
    spans = [
        _span(0, "forward", 0, 5, stage=0, microbatch=0),
        _span(0, "backward", 5, 40, stage=0, microbatch=0),
        _span(0, COMMUNICATION, 10, 30, launch_ns=8, **sum_of),
        _span(1, "forward", 0, 20, stage=0, microbatch=0),
        _span(1, "backward", 20, 20, stage=0, microbatch=0),
        _span(1, COMMUNICATION, 26, 10, launch_ns=25, **sum_of),
        _span(0, "optimizer", 45, 3),
    ]
    ((first, second),) = step_breakdown.step_parts(spans, [[50], [45]], Layout(dp=2), 1)
    zero = {"pipeline_idle": 0}
    assert first == {
        "forward": 5,
        "backward": 10,
        "optimizer": 3,
        "exposed_communication": 15,
        "waiting": 15,
        "other": 2,
        **zero,
    }
    assert second == {
        "forward": 20,
        "backward": 10,
        "optimizer": 0,
        "exposed_communication": 10,
        "waiting": 5,
        "other": 5,
        **zero,
    }
    assert msgspec.json.decode(msgspec.json.encode(spans), type=list[Span]) == spans


def test_a_pipeline_by_hand() -> None:
    """Stage 1 stands still from 2 to 14 for a forward that ends at 10: 8 idle, 4 exposed. Stage 0 ends early."""
    spans = [
        _span(0, "forward", 0, 10, stage=0, microbatch=0),
        _span(1, COMMUNICATION, 2, 12, axis="pipeline", num_bytes=8, launch_ns=1),
        _span(1, "forward", 14, 6, stage=1, microbatch=0),
        _span(1, "loss", 20, 2, stage=1),
        _span(1, "backward", 22, 8, stage=1, microbatch=0),
    ]
    ((first, second),) = step_breakdown.step_parts(spans, [[12], [30]], Layout(pp=2), 2)
    assert (first["forward"], first["pipeline_idle"], first["other"]) == (10, 18, 2)
    assert (second["forward"], second["backward"]) == (8, 8)
    assert (second["pipeline_idle"], second["exposed_communication"], second["other"]) == (8, 4, 2)
    assert step_breakdown.mean_shares([]) == dict.fromkeys(step_breakdown.PARTS)


def test_recomputed_flops_are_those_that_torch_counts() -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from bench.workloads.model.llama import whole_model

    shape = ModelShape(
        vocabulary=48, hidden=16, ffn_hidden=40, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=4, sequence=8
    )
    model = whole_model(shape, lambda part: torch.Generator().manual_seed(part), torch.device("cpu"))
    for layer in model.layers.values():
        layer.recompute = True  # type: ignore[assignment]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 8, dtype=torch.int64)).sum().backward()
    assert counter.get_total_flops() == shape.step_flops(2) + 2 * shape.recomputed_flops(2)
