"""Whether async tensor parallelism really fused: counts in a graph, and what is said where it did not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import Skip
from bench.measure.planning.suite_loader import load
from bench.workloads.parallel.tensor_async import Graphs, compile_block, count_operators, skip_reason
from tests.support.ranks import on_ranks


def _graph(*targets: str) -> Any:
    nodes = [SimpleNamespace(op="call_function", target=target) for target in targets]
    return SimpleNamespace(nodes=[SimpleNamespace(op="placeholder", target="x"), *nodes])


def test_operators_are_counted_by_name() -> None:
    gather, scatter = "symm_mem.fused_all_gather_matmul.default", "symm_mem.fused_matmul_reduce_scatter.default"
    left = "_c10d_functional.all_gather_into_tensor.default"
    assert count_operators([gather, gather, left, "aten.mm.default", torch.relu]) == {
        "symm_mem.fused_all_gather_matmul": 2,
        "_c10d_functional.all_gather_into_tensor": 1,
    }
    graphs = Graphs()
    graphs.look(_graph(gather, "aten.mm.default"))
    graphs.look(_graph(scatter, left))
    assert graphs.num_fused == 2
    assert graphs.said() == "2 fused operators, 1 all-gathers and reduce-scatters left as they were"


def test_names_are_those_of_torch() -> None:
    import torch.distributed._symmetric_memory  # registers the operators

    fused = torch.ops.symm_mem.fused_all_gather_matmul.default
    assert count_operators([fused, torch.ops._c10d_functional.reduce_scatter_tensor.default]) == {
        "symm_mem.fused_all_gather_matmul": 1,
        "_c10d_functional.reduce_scatter_tensor": 1,
    }


def test_where_it_cannot_run() -> None:
    assert skip_reason("cuda", "nccl", 1) is None
    assert "this is cpu with gloo" in str(skip_reason("cpu", "gloo", 1))
    assert "the group is on 2" in str(skip_reason("cuda", "nccl", 2))


def test_the_block_is_compiled_with_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed._symmetric_memory as symmetric_memory

    named: list[str] = []
    seen: dict[str, Any] = {}
    monkeypatch.setattr(symmetric_memory, "enable_symm_mem_for_group", named.append)
    monkeypatch.setattr(torch, "compile", lambda block, **options: seen.update(options) or block)
    graphs, group = Graphs(), SimpleNamespace(group_name="7")
    block = torch.nn.Identity()
    assert compile_block(block, group, graphs) is block  # type: ignore[arg-type]
    assert named == ["7"]
    assert seen["options"] == {"_micro_pipeline_tp": True, "post_grad_custom_post_pass": graphs.look}
    # Inductor knows both options; it refuses others.
    from torch._inductor import config

    assert set(seen["options"]) <= set(config.get_config_copy())


def test_on_a_cpu_it_is_skipped_on_every_rank() -> None:
    assert all("needs GPUs" in reason for reason in on_ranks(2, _skipped))


def _skipped(rank: Any) -> str:
    suite = load("tensor_parallel")
    params = {"op": "mlp", "hidden": 32, "ffn_hidden": 64, "batch": 1, "sequence": 8, "implementation": "async_tp"}
    try:
        suite.prepare(suite.defaults | params, rank)
    except Skip as skip:
        return str(skip)
    return "ran"
