"""Host memory on a node: where it is put, what is said if it is elsewhere, and threads that are bound meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import BenchError, Skip
from bench.workloads.model.host_memory import MOST_ASKED, BoundThreads, HostBuffer, on_cores
from tests.support.fake_numa import FakeKernel

ANY: frozenset[int] = frozenset()


def test_a_buffer_of_this_host_is_where_the_kernel_says() -> None:
    buffer = HostBuffer(2**20, None, ANY, is_pinned=False)
    assert buffer.placed_by == "kernel"
    assert buffer.tensor.shape == (2**20,)
    assert not buffer.tensor.any()
    assert buffer.misplaced() is None
    buffer.close()


@pytest.mark.parametrize("num_elements", [1, 1024, 1025, 1024 * (MOST_ASKED + 7)])
def test_pages_are_asked_for_over_the_whole_buffer(num_elements: int) -> None:
    with FakeKernel().installed():
        buffer = HostBuffer(num_elements, 1, ANY, is_pinned=False)
    pages = -(-4 * num_elements // os.sysconf("SC_PAGESIZE"))
    assert min(pages, MOST_ASKED) / 3 <= buffer.pages_found[1] <= min(pages, MOST_ASKED)
    assert buffer.placed_by == "mbind"


def test_memory_that_is_elsewhere_is_skipped_with_the_reason() -> None:
    with FakeKernel(refuses=True).installed():
        near = HostBuffer(3000, 0, ANY, is_pinned=False)
        assert near.placed_by == "first touch"
        with pytest.raises(Skip, match=r"^of 3 pages of memory asked for on NUMA node 1, 3 are on node 0 \(mbind: "):
            HostBuffer(3000, 1, ANY, is_pinned=False)


def test_pages_that_are_moved_later_are_seen() -> None:
    with FakeKernel().installed() as kernel:
        buffer = HostBuffer(3000, 1, ANY, is_pinned=False)
        assert buffer.misplaced() is None
        kernel.moved = 0
        assert buffer.misplaced() == "of 3 pages of memory asked for on NUMA node 1, 3 are on node 0"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The CUDA runtime's calls on host memory, which take addresses down."""
    pinned: dict[int, int] = {}

    def register(address: int, num_bytes: int, _flags: int) -> int:
        pinned[address] = num_bytes
        return 0

    found = SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=pinned.pop, pinned=pinned)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: found)
    return found


def test_pinned_memory_is_unpinned_once(runtime: Any) -> None:
    buffer = HostBuffer(2000, None, ANY, is_pinned=True)
    assert list(runtime.pinned.items()) == [(buffer.tensor.data_ptr(), 8192)]
    buffer.close()
    buffer.close()
    assert not runtime.pinned


def test_pinned_memory_is_unpinned_if_nobody_closes_it(runtime: Any) -> None:
    buffer = HostBuffer(2000, None, ANY, is_pinned=True)
    assert runtime.pinned
    del buffer
    assert not runtime.pinned


def test_memory_that_cannot_be_pinned_is_an_error(runtime: Any) -> None:
    runtime.cudaHostRegister = lambda *_arguments: 2
    with pytest.raises(BenchError, match=r"8192 bytes of host memory cannot be pinned \(CUDA error 2\); .*pageable"):
        HostBuffer(2000, None, ANY, is_pinned=True)


def _affinity_of(thread: int) -> set[int]:
    return os.sched_getaffinity(thread)


def test_all_threads_are_bound_until_the_end() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one core: nothing to bind to")
    one = frozenset({min(before)})
    done, started = threading.Event(), threading.Event()
    seen: list[int] = []

    def wait() -> None:
        seen.append(threading.get_native_id())
        started.set()
        done.wait()

    other = threading.Thread(target=wait)
    other.start()
    started.wait()
    binding = BoundThreads(one)
    try:
        assert binding.is_bound
        assert _affinity_of(0) == _affinity_of(seen[0]) == one
    finally:
        binding.close()
    assert _affinity_of(0) == _affinity_of(seen[0]) == before
    done.set()
    other.join()


@pytest.mark.parametrize("cores", [ANY, frozenset({100_000})], ids=["no cores", "cores of others"])
def test_nothing_is_bound_to_cores_that_cannot_be_had(cores: frozenset[int]) -> None:
    before = os.sched_getaffinity(0)
    binding = BoundThreads(cores)
    assert not binding.is_bound
    with on_cores(cores):
        assert os.sched_getaffinity(0) == before
    binding.close()
    assert os.sched_getaffinity(0) == before


def test_a_block_runs_on_cores_of_its_own() -> None:
    before = os.sched_getaffinity(0)
    with on_cores(frozenset({min(before)})):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
