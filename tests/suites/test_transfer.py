"""The transfer suite: real copies on ranks, fake GPUs and far nodes, wrong copies, and its metrics by hand."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch

from bench.errors import BenchError, Skip
from bench.measure.engine.rank import RankContext
from bench.measure.launchers.place import Place
from bench.measure.planning.suite_loader import load
from bench.measure.system.memory import numa
from bench.suite import Check, Machine, Observed, Work
from bench.workloads.comm.exact_check import PERIOD
from suites import transfer
from tests.support.fake_cases import Outcome, in_child
from tests.support.fake_cuda import FakeCuda, missing
from tests.support.fake_numa import FAR_CORES, FakeKernel
from tests.support.ranks import cpu_machine, on_ranks, run_case

SUITE = load("transfer")
NUM_ELEMENTS = PERIOD + 11
NEAR: dict[str, Any] = {"op": "host_to_host", "node": "near", "num_bytes": 4 * NUM_ELEMENTS}
FAR = NEAR | {"node": "far"}
TO_DEVICE: dict[str, Any] = {"op": "host_to_device", "memory": "pinned", "node": "near", "num_bytes": 4096}
needs_fakes = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def _one_rank(local: int = 0, ranks_per_host: int = 1) -> RankContext:
    machine = replace(cpu_machine(ranks_per_host), ranks_per_host=ranks_per_host)
    nobody: Any = None
    place = Place(local, machine.world_size, local, ranks_per_host)
    return RankContext(place, machine, "gloo", torch.device("cpu"), nobody, nobody, nobody)


def _prepare(params: dict[str, Any], rank: RankContext | None = None) -> Work:
    return SUITE.prepare(SUITE.defaults | params, rank or _one_rank())


def _exercise(rank: Any) -> list[dict[str, Any]]:
    sizes = (1, 8, 4096, NEAR["num_bytes"])
    near = [run_case(rank, "transfer", NEAR | {"num_bytes": size, "timing": "streamed"}) for size in sizes]
    with FakeKernel().installed():
        return [*near, run_case(rank, "transfer", FAR)]


def test_every_copy_is_right_on_every_rank() -> None:
    alone = [f"alone_{i}" for i in range(3)]
    for results in on_ranks(3, _exercise):
        assert all(check.passed for result in results for check in result["checks"])
        assert [result["variants"] for result in results[:4]] == [["full", *alone]] * 4
        assert results[4]["variants"] == ["full", "near", *alone]
        assert all(len(result["looks"]["full"]) == 2 for result in results)


def test_a_far_copy_reads_from_the_far_node_and_writes_to_the_near_one() -> None:
    with FakeKernel().installed() as kernel:
        work = _prepare(FAR)
        assert Check(*work.check()).passed
    assert kernel.asked == [1, 0, 0, 0]  # source and target of the case, then of the copy within the node
    assert work.per_rank is not None
    assert [buffer["pages"].keys() for buffer in work.per_rank()["buffers"]] == [{"1"}, {"0"}, {"0"}, {"0"}]
    assert work.notes == ()


@pytest.mark.parametrize(
    ("topology", "reason"),
    [
        (numa.Topology({0: frozenset({0})}), "1 NUMA node: no memory is far; node=near measures a copy within it"),
        (numa.Topology(), "the kernel shows no NUMA nodes"),
    ],
)
def test_no_memory_is_far_on_one_node(topology: numa.Topology, reason: str) -> None:
    with FakeKernel().installed(topology), pytest.raises(Skip, match=reason):
        _prepare(FAR)


def test_far_memory_is_not_claimed_unless_the_kernel_tells() -> None:
    with FakeKernel(refuses=True).installed(), pytest.raises(Skip, match=r"3 are on node 0 \(mbind: Operation not"):
        _prepare(FAR | {"num_bytes": 12000})
    with FakeKernel(tells=False).installed(), pytest.raises(Skip, match="the kernel does not tell on which NUMA node"):
        _prepare(FAR)


def test_a_skipped_case_leaves_no_thread_bound() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one core: nothing to bind to")
    first, *others = sorted(before)
    nodes = numa.Topology({0: frozenset({first}), 1: frozenset(others)})
    with FakeKernel(refuses=True).installed(nodes), pytest.raises(Skip) as caught:
        _prepare(FAR)
    assert os.sched_getaffinity(0) == before
    assert "asked for on NUMA node 1" in str(caught.value)
    with FakeKernel().installed(nodes):
        work = _prepare(FAR)
        assert os.sched_getaffinity(0) == {first}
        assert work.close is not None
        work.close()
    assert os.sched_getaffinity(0) == before


def test_pages_that_are_moved_while_they_are_measured_are_no_result() -> None:
    with FakeKernel().installed() as kernel:
        work = _prepare(FAR)
        assert Check(*work.check()).passed
        kernel.moved = 0
        with pytest.raises(BenchError, match=r"asked for on NUMA node 1, .*; set kernel\.numa_balancing=0"):
            work.check()


def test_ranks_are_spread_over_the_nodes_that_they_may_run_on() -> None:
    nodes = numa.Topology({0: frozenset({0, 1}), 1: frozenset({2, 3})})
    with FakeKernel().installed(nodes), patch("os.sched_getaffinity", lambda _thread: {0, 1, 2, 3}):
        from bench.workloads.model.transfers import find_places

        places = [find_places(_one_rank(local, 4)) for local in range(4)]
    assert [place.near for place in places] == [0, 0, 1, 1]
    assert [place.far for place in places] == [1, 1, 0, 0]


def test_what_is_not_known_of_the_nodes_is_a_note() -> None:
    with FakeKernel(tells=False).installed():
        assert _prepare(NEAR).notes == ("the kernel does not tell on which NUMA node the pages are",)
    with FakeKernel().installed(), patch("bench.workloads.model.host_memory._affinities", lambda: {1: FAR_CORES}):
        assert _prepare(NEAR).notes == ("threads may run on other NUMA nodes than 0, which is near",)
    with FakeKernel().installed(numa.Topology()):
        (note,) = _prepare(NEAR).notes
    assert note.endswith("the memory is on whichever it chose")


@pytest.mark.parametrize("index", [0, PERIOD - 1, NUM_ELEMENTS - 1])
@pytest.mark.parametrize("value", [float("nan"), 300.0])
def test_a_wrong_element_is_caught(index: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = torch.Tensor.copy_

    def wrong(target: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        copy(target, *args, **named)
        if len(target) == NUM_ELEMENTS:
            target[index] = value
        return target

    assert Check(*_prepare(NEAR).check()).passed
    monkeypatch.setattr(torch.Tensor, "copy_", wrong)
    assert not Check(*_prepare(NEAR).check()).passed


def test_copies_of_the_wrong_source_are_caught() -> None:
    """The near and the far source hold different numbers, so that one is not taken for the other."""
    with FakeKernel().installed():
        work = _prepare(FAR)
        assert Check(*work.check()).passed
        full, near = (work.variants[name] for name in ("full", "near"))
        full.func.__self__.copy_(near.args[0])  # type: ignore[attr-defined]
        assert not Check(*work.timed_checks["full"].look(1)).passed
        assert Check(*work.timed_checks["near"].look(1)).passed


def _on_gpu(params: dict[str, Any], gpu_node: int | None, expected: list[int], variants: list[str]) -> Outcome:
    """Prepare, call and check on a GPU whose board states a node; asserts where memory was put."""
    with (
        FakeKernel().installed() as kernel,
        patch("bench.workloads.model.transfers.gpu_addresses", lambda _device: (None, "0000:3b:00.0")),
        patch("bench.workloads.model.transfers.pci_numa_node", lambda _address: gpu_node),
        FakeCuda(0, 2) as rank,
    ):
        try:
            work = SUITE.prepare(SUITE.defaults | params, rank)
        except Skip as skip:
            return Outcome(skipped=str(skip))
        for run in work.variants.values():
            run()
        work.check()
        assert list(work.variants) == [*variants, "alone_0", "alone_1"], list(work.variants)
        assert kernel.asked == expected, kernel.asked
        assert work.close is not None
        work.close()
        return Outcome(num_variants=len(work.variants))


@needs_fakes
@pytest.mark.parametrize(
    ("changes", "gpu_node", "asked", "variants"),
    [
        ({}, 0, [0], ["full"]),
        ({}, 1, [1], ["full"]),
        ({"node": "far"}, 1, [0, 1], ["full", "near"]),
        ({"op": "device_to_host", "node": "far", "memory": "pageable"}, 0, [1, 0], ["full", "near"]),
        ({"op": "both_ways", "node": "far"}, 0, [1, 1, 0, 0], ["full", "to_device", "to_host", "near"]),
        ({"op": "latency", "num_bytes": 8}, 1, [1, 1], ["full"]),
        ({}, None, [], ["full"]),
    ],
    ids=str,
)
def test_memory_is_near_to_the_gpu_or_far_from_it(
    changes: dict[str, Any], gpu_node: int | None, asked: list[int], variants: list[str]
) -> None:
    found = in_child(partial(_on_gpu, TO_DEVICE | changes, gpu_node, asked, variants))
    assert not found.error, found.error
    assert found.num_variants == len(variants) + 2


@needs_fakes
def test_a_copy_goes_to_the_next_gpu() -> None:
    params = {"op": "device_to_device", "num_bytes": 4096}
    found = in_child(partial(_on_gpu, params, 0, [], ["full"]))
    assert not found.error, found.error
    assert found.num_variants == 3


@needs_fakes
def test_what_a_gpu_cannot_show_is_skipped_with_the_reason() -> None:
    found = in_child(partial(_on_gpu, TO_DEVICE | {"node": "far"}, None, [], []))
    assert found.skipped == "the kernel does not say which NUMA node is near this GPU, so none is known to be far"
    found = in_child(partial(_on_gpu, TO_DEVICE | {"op": "both_ways", "memory": "pageable"}, 0, [], []))
    assert found.skipped is not None
    assert "both_ways needs memory=pinned" in found.skipped
    with patch.object(transfer, "available_host_memory_bytes", lambda: 2**20):
        found = in_child(partial(_on_gpu, TO_DEVICE | {"num_bytes": 2**30}, 0, [], []))
    assert found.skipped == "needs 1.0 GiB of host memory per rank, and 0.0 GiB are free"


def test_one_gpu_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    rank = replace(_one_rank(), device=torch.device("cuda", 0))
    with pytest.raises(Skip, match="this process sees 1 GPU"):
        _prepare({"op": "device_to_device", "num_bytes": 4096}, rank)


def _observed(**rank_seconds: tuple[float, ...]) -> Observed:
    return Observed(
        world_size=2,
        num_cores=2,
        device_type="cuda",
        seconds={name: max(times) for name, times in rank_seconds.items()},
        rank_seconds=rank_seconds,
        spans=(),
        traced_call_ns=(),
    )


def test_metrics_by_hand() -> None:
    alone = {"alone_0": (0.5, 1e-7), "alone_1": (1e-7, 1.0)}
    found = transfer.derive(transfer.FORMS["host_to_host"], 10**9, _observed(full=(1.0, 2.0), near=(0.5, 1.0), **alone))
    assert found == pytest.approx(
        {"copy_gb_per_s": 0.5, "far_over_near": 2.0, "contention": 2.0, "rank_spread": 2.0, "alone_gb_per_s": 1.5}
    )
    both = _observed(full=(2.0, 2.5), to_device=(2.0, 2.0), to_host=(2.5, 2.5))
    found = transfer.derive(transfer.FORMS["both_ways"], 10**10, both)
    assert found == pytest.approx({"copy_gb_per_s": 4.0, "duplex_gain": 1.8})
    found = transfer.derive(transfer.FORMS["latency"], 8, _observed(full=(1e-5, 2e-5), **alone))
    assert found == pytest.approx({"copy_latency_seconds": 1e-5, "contention": 2e-5, "rank_spread": 2.0})
    assert transfer.derive(transfer.FORMS["latency"], 8, _observed(full=(0.0, 0.0))) == {}


def test_the_table_says_where_the_memory_of_every_rank_is() -> None:
    with FakeKernel().installed():
        far, near = _prepare(FAR), _prepare(NEAR)
    assert far.per_rank
    assert far.tables
    assert near.per_rank
    observed = replace(_observed(full=(1.0, 1.0)), per_rank=(far.per_rank(), far.per_rank()))
    table = far.tables(observed)["placement"]
    pages = f"{far.per_rank()['buffers'][0]['pages']['1']} on node 1"
    assert table.rows[0] == (0, 0, 1, pages, "mbind")
    assert [row[0] for row in table.rows] == [0] * 4 + [1] * 4
    assert far.tables(replace(observed, per_rank=(near.per_rank(), near.per_rank()))) == {}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (TO_DEVICE, "host_to_device needs a GPU; host_to_host is the copy that a CPU makes"),
        ({"op": "latency", "num_bytes": 8}, "latency needs a GPU"),
        ({"op": "host_to_host", "num_bytes": 8}, "host_to_host needs a value for node"),
        (NEAR | {"memory": "pinned"}, "memory has no meaning for host_to_host"),
    ],
)
def test_parameters_that_do_not_fit_together_are_skipped(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        _prepare(params)


@pytest.mark.parametrize(
    "changes",
    [{"num_bytes": 0}, {"num_bytes": 1.5}, {"node": "nearer"}, {"op": "copy"}, {"memory": "managed"}],
    ids=str,
)
def test_a_bad_value_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=r"^transfer: "):
        _prepare(TO_DEVICE | changes)
    with pytest.raises(BenchError, match=r"^transfer: "):
        SUITE.memory_bytes(TO_DEVICE | changes, cpu_machine(2))


def test_memory_by_hand() -> None:
    gpu = replace(cpu_machine(2), device_type="cuda")
    table: list[tuple[dict[str, Any], Machine, int]] = [
        (NEAR, cpu_machine(2), 2), (FAR, cpu_machine(2), 4), (NEAR, gpu, 0), (TO_DEVICE, gpu, 1),
        (TO_DEVICE | {"op": "both_ways", "node": "far"}, gpu, 4),
        ({"op": "device_to_device", "num_bytes": 4096}, gpu, 2),
    ]  # fmt: skip
    for params, machine, arrays in table:
        assert SUITE.memory_bytes(params, machine) == arrays * params["num_bytes"] + transfer.CHECK_BYTES


def test_ids_are_permanent() -> None:
    assert SUITE.case(NEAR | {"num_bytes": 64}).id == "transfer/host_to_host[node=near,num_bytes=64]"
    assert SUITE.case(TO_DEVICE).id == "transfer/host_to_device[memory=pinned,node=near,num_bytes=4096]"


@pytest.mark.parametrize("preset", ["smoke", "standard", "full"])
@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_cases_fit_together(device_type: str, preset: str) -> None:
    rows = SUITE.cases(Machine(2, device_type, preset, 8 << 30, num_cores=2, ranks_per_host=2))
    ids = [SUITE.case(row).id for row in rows]
    assert len(ids) == len(set(ids)) <= (2 if preset == "smoke" else 50)
    assert all(transfer._misfit(row, transfer.FORMS[str(row["op"])], device_type) is None for row in rows)
    kinds = {(row.get("memory"), row.get("node")) for row in rows}
    if preset != "smoke" and device_type == "cuda":
        assert {(memory, node) for memory in ("pinned", "pageable") for node in ("near", "far")} <= kinds
    if preset != "smoke" and device_type == "cpu":
        assert kinds == {(None, "near"), (None, "far")}
