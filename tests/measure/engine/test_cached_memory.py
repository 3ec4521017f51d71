"""Memory that a case left in torch's cache is free again before the next one is asked about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import Skip
from bench.measure.engine import case_run as case_module
from bench.measure.engine.case_run import CaseRun
from bench.measure.system.devices import release_cached_memory
from tests.support.ranks import cpu_machine

GIB = 2**30


class Allocator:
    """A GPU of 78 GiB, of which torch's allocator keeps 48 GiB that no tensor uses any more."""

    def __init__(self) -> None:
        self.cached = 48 * GIB
        self.released = 0

    def empty_cache(self) -> None:
        self.cached = 0
        self.released += 1

    def free_bytes(self, device: torch.device) -> tuple[int, int]:
        return 78 * GIB - self.cached, 78 * GIB


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    fake = Allocator()
    monkeypatch.setattr(torch.cuda, "empty_cache", fake.empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fake.free_bytes)
    monkeypatch.setattr(case_module.control, "maxima", lambda rank, values: values)
    return fake


def _ask(needed: int) -> Any:
    rank = SimpleNamespace(device=torch.device("cuda:0"), local_world_size=1, machine=cpu_machine(1))
    suite = SimpleNamespace(memory_bytes=lambda params, machine: needed)
    run: Any = SimpleNamespace(rank=rank, suite=suite, case=SimpleNamespace(params={}))
    CaseRun._ask_memory(run)
    return rank.machine


def test_a_case_is_not_skipped_for_what_the_one_before_left_cached(allocator: Allocator) -> None:
    """`copy[20 GiB]` after `triad[16 GiB]` needs 40 GiB of an empty GPU."""
    assert _ask(40 * GIB).memory_bytes == 78 * GIB
    assert allocator.released == 1


def test_a_case_that_does_not_fit_is_skipped_with_its_numbers(allocator: Allocator) -> None:
    with pytest.raises(Skip, match=r"needs 80\.00 GiB per rank, and 78\.00 GiB are free"):
        _ask(80 * GIB)


def test_a_cpu_has_no_such_cache(allocator: Allocator) -> None:
    release_cached_memory(torch.device("cpu"))
    assert allocator.released == 0
