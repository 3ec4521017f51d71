"""Two ranks on one GPU are refused in words on every rank, before anything of NCCL is opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from bench.errors import BenchError
from bench.measure.engine import gpu_claims, worker
from bench.measure.launchers.place import Place
from bench.measure.planning.session import Session
from bench.measure.system import devices
from tests.measure.engine.test_consensus import memory_store
from tests.support.plans import a_plan

SHARED = "ranks 1 and 2 were given one GPU (GPU-b); start one rank a GPU, each with its own LOCAL_RANK"
# What the ranks say (host, UUID), and what each of them is told.
CLAIMS: dict[str, tuple[list[tuple[str, str | None]], str | None]] = {
    "one each": ([("node0", "GPU-a"), ("node0", "GPU-b"), ("node0", "GPU-c")], None),
    "alike on two hosts": ([("node0", "GPU-a"), ("node1", "GPU-a")], None),
    "not known": ([("node0", None), ("node0", None)], None),
    "two on one": ([("node0", "GPU-a"), ("node0", "GPU-b"), ("node0", "GPU-b")], SHARED),
    "all on one": ([("n", "GPU-a")] * 3, SHARED.replace("1 and 2", "0 and 1").replace("GPU-b", "GPU-a")),
}


def _place(index: int, world_size: int) -> Place:
    return Place(index, world_size, index, world_size)


def _told(store: Any, index: int, world_size: int, claim: tuple[str, str | None]) -> str | None:
    try:
        gpu_claims.refuse_shared(store, _place(index, world_size), *claim)
    except BenchError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CLAIMS)
def test_every_rank_is_told_the_same(name: str) -> None:
    claims, told = CLAIMS[name]
    store, size = memory_store(), len(claims)
    with ThreadPoolExecutor(size) as pool:
        assert list(pool.map(lambda index: _told(store, index, size, claims[index]), range(size))) == [told] * size


def test_a_rank_that_never_comes_ends_the_wait_of_all() -> None:
    store: Any = memory_store()
    store.raw.set_timeout(timedelta(seconds=0.2))
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda index: _told(store, index, 3, ("node0", f"GPU-{index}")), range(2)))
    assert told[0] == "rank 2 does not say which GPU is its own: it did not start, or was ended"
    assert told[1] in (
        told[0],
        "rank 0 does not say whether every rank has a GPU of its own: it did not start, or was ended",
    )


def test_gpus_are_told_apart_before_any_group_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def opened(*_: object, **__: object) -> None:
        pytest.fail("NCCL was opened with two ranks on one GPU")

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.distributed, "init_process_group", opened)
    monkeypatch.setattr(worker, "apply_settings", lambda threads: None)
    asked = []
    monkeypatch.setattr(devices, "gpu_addresses", lambda device: asked.append(device.index) or ("GPU-b", None))
    store = memory_store()
    session = Session(a_plan(device_type="cuda", backend="nccl"), 0, 0, (), None)
    store.set(f"{session.prefix}/gpus/1", f'["{worker.host_name()}", "GPU-b"]')
    with pytest.raises(BenchError, match="ranks 0 and 1 were given one GPU"):
        worker.join(session, _place(0, 2), store)
    assert asked == [0]


def test_a_rank_on_a_cpu_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_claims, "refuse_shared", lambda *_: pytest.fail("a CPU is shared by all"))
    monkeypatch.setattr(worker, "apply_settings", lambda threads: None)
    monkeypatch.setattr(worker, "open_groups", lambda *_: (_ for _ in ()).throw(BenchError("so far")))
    with pytest.raises(BenchError, match="so far"):
        worker.join(Session(a_plan(), 0, 0, (), None), _place(0, 1), memory_store())
