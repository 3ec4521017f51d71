"""Calls that do nothing, or leave work out, only while they are timed: the look of every suite finds them.

The checks before and after pass in all of these cases, so that nothing else would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.ranks import on_ranks
from tests.support.timed_faults import (
    Done,
    Fault,
    Outcome,
    first_call_only,
    half_done,
    other_variant,
    outcome,
    replaced,
)

LLAMA: dict[str, Any] = {"model": "tiny", "num_layers": 2, "sequence": 16}
PAIR: dict[str, Any] = {"num_bytes": 4096}
ATTENTION: dict[str, Any] = {"sequence": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
EXPERTS: dict[str, Any] = {
    "hidden": 16, "ffn_hidden": 32, "num_experts": 4, "top_k": 2, "imbalance": 0.5, "tokens_per_rank": 8,
}  # fmt: skip
STEP: dict[str, Any] = {"shape": "tiny", "num_layers": 2, "sequence": 16, "batch": 4, "tp": 1, "pp": 1,
                        "num_microbatches": 2}  # fmt: skip
MIXED: dict[str, Any] = {"hidden": 32, "num_heads": 4, "sequence": 16, "num_layers": 1, "units": 4}
PIPELINE: dict[str, Any] = {"hidden": 32, "num_heads": 2, "sequence": 16, "num_layers": 4, "num_microbatches": 4}
TENSOR: dict[str, Any] = {"hidden": 32, "batch": 1, "sequence": 16}
STATE: dict[str, Any] = {"num_bytes": 96 * 1024, "num_layers": 2}
FILES: dict[str, Any] = {"op": "samples", "sample_bytes": 512, "batch_size": 2, "num_batches": 3}

CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "matmul": ("compute", {"op": "matmul", "shape": "square", "size": 128}),
    "copy": ("compute", {"op": "copy", "num_bytes": 65536}),
    "triad": ("compute", {"op": "triad", "num_bytes": 65536}),
    "host_to_host": ("transfer", {"op": "host_to_host", "node": "near", "num_bytes": 65536}),
    "one_way": ("point_to_point", {"op": "one_way"} | PAIR),
    "both_ways": ("point_to_point", {"op": "both_ways"} | PAIR),
    "concurrent": ("concurrent", {"op": "same"} | PAIR),
    "overlap": ("overlap", {"op": "all_reduce", "size": 64} | PAIR),
    "soak": ("soak", {"size": 64, "num_rounds": 2, "num_bytes": 4096, "seconds": 1}),
    "ddp": ("data_parallel", {"op": "ddp", "bucket_mb": 1} | LLAMA),
    "fsdp": ("data_parallel", {"op": "fsdp", "layers_per_group": 1, "reshard_after_forward": True} | LLAMA),
    "manual": ("tensor_parallel", {"op": "mlp", "ffn_hidden": 64} | TENSOR),
    "sequence": ("tensor_parallel", {"op": "attention", "num_heads": 4, "implementation": "sequence"} | TENSOR),
    "dtensor": ("tensor_parallel", {"op": "mlp", "ffn_hidden": 64, "implementation": "dtensor"} | TENSOR),
    "ring": ("context_parallel", {"op": "ring"} | ATTENTION),
    "all_gather": ("context_parallel", {"op": "all_gather"} | ATTENTION),
    "experts": ("expert_parallel", {"op": "moe"} | EXPERTS),
    "1f1b": ("pipeline_parallel", {"op": "1f1b"} | PIPELINE),
    "zero bubble": ("pipeline_parallel", {"op": "zbv_zero_bubble"} | PIPELINE),
    "step": ("training_step", STEP),
    "sharded step": ("training_step", STEP | {"dp_mode": "shard"}),
    "decode": ("inference", {"op": "decode", "parallel": "tensor", "batch": 2} | LLAMA),
    "prefill": ("inference", {"op": "prefill", "parallel": "replicas", "batch": 2} | LLAMA),
    "mixed data": ("heterogeneous", {"op": "data"} | MIXED),
    "mixed tensor": ("heterogeneous", {"op": "tensor"} | MIXED),
    "mixed pipeline": ("heterogeneous", {"op": "pipeline"} | MIXED),
    "save": ("checkpoint", {"op": "save", "fsync": False} | STATE),
    "async_save": ("checkpoint", {"op": "async_save", "fsync": False, "batch_size": 4} | STATE),
    "load": ("checkpoint", {"op": "load"} | STATE),
    "samples": ("input_pipeline", FILES | {"step_ms": 1}),
    "computed": ("input_pipeline", FILES | {"step": "matmul"}),
}
NO_COLLECTIVE = "a collective that leaves its output as it was"


def _faults() -> dict[str, dict[str, Fault]]:
    """Case -> faults in which it does part of its work."""
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining import schedules
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader

    from bench.workloads.model.llama import KVCache
    from bench.workloads.storage import checkpoints
    from bench.workloads.storage.checkpoints import Training

    forward, entered = DistributedDataParallel.forward, DataLoader.__iter__
    save = checkpoints.save

    def without_sum(model: Any, *arguments: Any) -> Any:
        model.require_backward_grad_sync = False
        try:
            return forward(model, *arguments)
        finally:
            model.require_backward_grad_sync = True

    def not_kept(cache: Any, layer: int, offset: int, key: Any, value: Any) -> Any:
        end = offset + key.shape[2]
        return cache.keys[layer][:, :, :end], cache.values[layer][:, :, :end]

    def half_written(*arguments: Any, **named: Any) -> Any:
        saved = save(*arguments, **named)
        for path in named["storage_writer"].path.glob("__*"):
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
        return saved

    def first_batch_again(loader: Any) -> Any:
        batches = list(entered(loader))
        return iter(batches[:1] * len(batches))

    def lost_gradient(optimizer: Any, *_arguments: Any) -> None:
        optimizer.param_groups[0]["params"][0].grad = None

    def half_product(run: Any) -> None:
        a, b = run.args
        torch.matmul(a[: len(a) // 2], b, out=run.keywords["out"][: len(a) // 2])

    def half_copy(run: Any) -> None:
        target, source = run.func.__self__, run.args[0]
        target[: len(target) // 2].copy_(source[: len(target) // 2])

    def nothing(*_arguments: Any, **_named: Any) -> None:
        return None

    def none_sent(_operations: Any) -> list[Any]:
        return [Done()]

    def none_of(operations: Any, **_named: Any) -> list[Any]:
        return [Done() for _ in operations]

    def not_sent(*_arguments: Any, **_named: Any) -> Done:
        return Done()

    gathers = replaced(dist, "all_gather_into_tensor", "all_gather_single", by=nothing)
    scatters = replaced(dist, "reduce_scatter_tensor", "reduce_scatter_single", by=nothing)
    sums = {NO_COLLECTIVE: replaced(dist, "all_reduce", by=nothing)}
    messages = {NO_COLLECTIVE: replaced(dist, "batch_isend_irecv", by=none_sent)}
    last_left_out = {"the last microbatch left out": first_call_only(torch.Tensor, "backward")}
    computed = {"no step": other_variant("loader_only"), "no data": other_variant("step_only")}
    overlapped = {name: other_variant(f"{name}_alone") for name in ("communication", "compute")}
    updates = {
        "no optimizer": replaced(torch.optim.AdamW, "step", by=nothing),
        "a gradient that is not there": replaced(torch.optim.AdamW, "step", by=lost_gradient),
    }
    exchanges = {"no gather": gathers, "no scatter": scatters}
    return {
        "matmul": {"half of the rows": half_done(half_product)},
        "copy": {"half of the array": half_done(half_copy)},
        "host_to_host": {"half of the array": half_done(half_copy)},
        "one_way": {"one direction": other_variant("round_0_back")},
        "concurrent": {"one axis": other_variant("first")},
        "overlap": overlapped,
        "soak": {"no collective": other_variant("compute_only")},
        "ddp": {"no sum": replaced(DistributedDataParallel, "forward", by=without_sum)},
        "fsdp": exchanges,
        "manual": sums,
        "ring": messages,
        "all_gather": exchanges,
        "experts": {"no dispatch": replaced(dist, "all_to_all_single", by=nothing)},
        "1f1b": messages,
        "zero bubble": {"no message": replaced(schedules, "_batch_p2p", by=none_of)},
        "step": last_left_out | updates,
        "sharded step": exchanges,
        "decode": sums | {"no gather": gathers, "nothing kept": replaced(KVCache, "append", by=not_kept)},
        "prefill": {"nothing kept": replaced(KVCache, "append", by=not_kept)},
        "mixed data": sums,
        "mixed tensor": sums,
        "mixed pipeline": {"no message": replaced(dist, "isend", "irecv", by=not_sent)},
        "save": {"half": replaced(checkpoints, "save", by=half_written)},
        "async_save": {"only steps": other_variant("steps")},
        "load": {"nothing set": replaced(Training, "set_state", by=nothing)},
        "samples": {"one batch again": replaced(DataLoader, "__iter__", by=first_batch_again)},
        "computed": computed,
    }


def _all(context: Any, folder: str) -> dict[str, Outcome]:
    faults, found = _faults(), {}
    for name, (suite, params) in CASES.items():
        place = {"folder": folder} if suite in ("checkpoint", "input_pipeline") else {}
        found[name] = outcome(context, suite, params | place, faults.get(name, {}))
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    return on_ranks(2, _all, str(tmp_path_factory.mktemp("files")))


@pytest.mark.ranks
@pytest.mark.parametrize("name", CASES)
def test_checks_and_looks_pass_if_all_is_done(outcomes: list[dict[str, Outcome]], name: str) -> None:
    for rank in outcomes:
        assert rank[name].checks == (True, True)
        assert set(rank[name].idle) & {"full", "even"}
        assert all(rank[name].honest.values()), rank[name].honest


@pytest.mark.ranks
@pytest.mark.parametrize("name", CASES)
def test_a_call_that_does_nothing_is_found_in_every_variant(outcomes: list[dict[str, Outcome]], name: str) -> None:
    looked = {variant for rank in outcomes for variant in rank[name].idle}
    for variant in looked:
        passed = [rank[name].idle[variant] for rank in outcomes if variant in rank[name].idle]
        assert passed
        assert not any(passed), variant


@pytest.mark.ranks
@pytest.mark.parametrize("name", CASES)
def test_a_call_that_leaves_work_out_is_found_on_some_rank(outcomes: list[dict[str, Outcome]], name: str) -> None:
    for fault in outcomes[0][name].faulty:
        assert not all(rank[name].faulty[fault] for rank in outcomes), fault
