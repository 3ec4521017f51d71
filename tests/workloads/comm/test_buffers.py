"""Registered and symmetric buffers: what is asked of torch, with fakes, and where they have no meaning."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import Skip
from bench.workloads.comm import buffers
from bench.workloads.comm.buffers import allocator, skip_reason, symmetric_all_reduce


@pytest.mark.parametrize(
    ("kind", "op", "dtype", "num_bytes", "backend", "reason"),
    [
        ("plain", "broadcast", "int32", 12, "gloo", None),
        ("registered", "broadcast", "int32", 12, "nccl", None),
        ("symmetric", "all_reduce", "bfloat16", 64, "nccl", None),
        ("registered", "all_reduce", "float32", 64, "gloo", "needs NCCL, and the backend is gloo"),
        ("registered", "barrier", "float32", 0, "nccl", "barrier moves no data"),
        ("symmetric", "broadcast", "float32", 64, "nccl", "for all_reduce, not for broadcast"),
        ("symmetric", "all_reduce", "float16", 64, "nccl", "for float32, bfloat16, not for float16"),
        ("symmetric", "all_reduce", "float32", 72, "nccl", "72 bytes over 4 ranks are not a multiple of 16 each"),
    ],
)
def test_where_a_kind_of_memory_has_no_meaning(
    kind: str, op: str, dtype: str, num_bytes: int, backend: str, reason: str | None
) -> None:
    found = skip_reason(kind, op, dtype, num_bytes, 4, backend)
    assert found is None if reason is None else reason in str(found)


def _rank(**group: Any) -> Any:
    return SimpleNamespace(device=torch.device("cpu"), group=SimpleNamespace(group_name="0", **group))


def test_registered_memory_comes_from_nccl_s_pool_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    @contextmanager
    def use(pool: str) -> Any:
        said.append(f"in {pool}")
        yield
        said.append("out")

    backend = SimpleNamespace(
        mem_allocator="of nccl",
        register_mem_pool=lambda pool: said.append(f"register {pool}"),
        deregister_mem_pool=lambda pool: said.append(f"deregister {pool}"),
    )
    monkeypatch.setattr(torch.cuda, "MemPool", lambda allocator: f"pool {allocator}")
    monkeypatch.setattr(torch.cuda, "use_mem_pool", use)
    stack = ExitStack()
    with allocator("registered", _rank(_get_backend=lambda device: backend), stack) as empty:
        tensor = empty(3, dtype=torch.float32, device=torch.device("cpu"))
    assert len(tensor) == 3
    assert said == ["in pool of nccl", "out", "register pool of nccl"]
    stack.close()
    assert said[-1] == "deregister pool of nccl"


def test_devices_without_nccl_s_allocator_skip() -> None:
    """As an H100 passed through to a virtual machine answered, under torch 2.11 and NCCL 2.28."""

    class Backend:
        @property
        def mem_allocator(self) -> str:
            raise RuntimeError("NCCL mem allocator is not supported in this NCCL version\nstack")

    rank = _rank(_get_backend=lambda device: Backend())
    with (
        pytest.raises(Skip, match=r"buffer=registered: .* is not supported in this NCCL version$"),
        allocator("registered", rank, ExitStack()),
    ):
        pass


def test_symmetric_memory_is_met_by_all_and_reduced_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed._symmetric_memory as symmetric_memory

    met: list[Any] = []
    monkeypatch.setattr(symmetric_memory, "empty", torch.empty)
    monkeypatch.setattr(symmetric_memory, "rendezvous", lambda tensor, group: met.append((len(tensor), group)))
    rank = _rank()
    with allocator("symmetric", rank, ExitStack()) as empty:
        tensor = empty(8, dtype=torch.float32, device=torch.device("cpu"))
    assert met == [(8, rank.group)]
    call: Any = symmetric_all_reduce(tensor, rank)
    assert call.args[0] is tensor
    assert call.args[1:] == ("sum", "0")
    assert "two_shot_all_reduce_" in str(call.func)


def test_devices_that_cannot_map_each_other_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed._symmetric_memory as symmetric_memory

    def refuse(*_: Any) -> None:
        raise RuntimeError("no peer access\nstack")

    monkeypatch.setattr(symmetric_memory, "empty", torch.empty)
    monkeypatch.setattr(symmetric_memory, "rendezvous", refuse)
    with (
        allocator("symmetric", _rank(), ExitStack()) as empty,
        pytest.raises(Skip, match=r"cannot map each other's memory: no peer access$"),
    ):
        empty(8, dtype=torch.float32, device=torch.device("cpu"))


def test_plain_memory_is_torch_s_own() -> None:
    with allocator(buffers.PLAIN, _rank(), ExitStack()) as empty:
        assert empty is torch.empty
