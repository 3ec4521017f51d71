"""What a rank gives its groups, and how it tells whether its device is done."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BenchError
from bench.measure.engine import rank as rank_module
from bench.measure.engine import worker
from bench.measure.engine.rank import RankContext, device_is_busy
from bench.measure.launchers.place import Place
from bench.measure.planning.session import Session
from bench.records.lines.header import PlannedCase
from tests.measure.engine.test_consensus import memory_store
from tests.support.plans import a_plan, lone_rank
from tests.support.ranks import on_ranks

SECONDS = 60.0
"""Of the groups that `tests.support.ranks` opens; torch's own are 30 minutes for gloo and 10 for NCCL."""


def _timeouts(rank: RankContext) -> dict[str, float]:
    import torch

    groups = {"all": rank.group, "control": rank.control, "subgroup": rank.subgroup([0, 1])}
    groups["whole mesh"] = rank.mesh([2], ["data"]).get_group("data")
    mesh = rank.mesh([1, 2], ["outer", "inner"])
    groups |= {axis: mesh.get_group(axis) for axis in ("outer", "inner")}
    backends: dict[str, Any] = {name: group._get_backend(torch.device("cpu")) for name, group in groups.items()}
    return {name: backend.options._timeout.total_seconds() for name, backend in backends.items()}


def test_every_group_has_the_time_out_of_the_run() -> None:
    names = ("all", "control", "subgroup", "whole mesh", "outer", "inner")
    assert on_ranks(2, _timeouts) == [dict.fromkeys(names, SECONDS)] * 2


def test_groups_outlast_the_watchdog_of_a_case_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case may take --timeout and what it asks for; the groups' own time-out must not come before."""
    heard: list[float] = []

    def opened(*arguments: Any) -> None:
        heard.append(arguments[4])
        raise BenchError("so far")

    monkeypatch.setattr(worker, "open_groups", opened)
    monkeypatch.setattr(worker, "apply_settings", lambda threads: None)
    plan = a_plan(timeout_seconds=10.0)
    slow = replace(plan, cases=(PlannedCase("sum", "sum/run", {}, prepare_seconds=500.0),))
    for each in (plan, slow):
        with pytest.raises(BenchError, match="so far"):
            worker.join(Session(each, 0, 0, (), None), Place(0, 1, 0, 1), memory_store())
    assert heard == [90.0, 590.0]


class Stream:
    def __init__(self, is_done: bool | None) -> None:
        self.is_done = is_done

    def query(self) -> bool:
        if self.is_done is None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self.is_done


@pytest.mark.parametrize(("is_done", "is_busy"), [(True, False), (False, True), (None, False)])
def test_a_device_is_busy_while_its_stream_is(
    monkeypatch: pytest.MonkeyPatch, is_done: bool | None, is_busy: bool
) -> None:
    import torch

    rank = replace(lone_rank(), device=torch.device("cuda:3"))
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: asked.append(device) or Stream(is_done))
    assert device_is_busy(rank.device) == is_busy
    assert asked == [torch.device("cuda:3")]


def test_a_cpu_is_done_when_its_calls_return(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: pytest.fail("there is no stream"))
    assert not device_is_busy(lone_rank().device)


def test_a_watchdog_that_asks_for_the_device_does_not_hold_the_rank() -> None:
    """Whoever holds it holds its groups: peers are not freed then, and at exit the groups' threads end the process."""
    held: list[Any] = []
    watchdog: Any = SimpleNamespace(
        watch_device=held.append, restart=lambda *_: None, enter=lambda *_: None, allow=lambda *_: None
    )
    rank = lone_rank()
    session = Session(a_plan(), 0, 0, (), None)
    generation = worker.Generation(session, rank, {}, memory_store(), watchdog, "host", lambda event: None)
    assert generation.run()
    known = weakref.ref(rank)
    del rank, generation
    gc.collect()
    assert held
    assert known() is None


def test_groups_are_aborted_only_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    aborted: list[str] = []
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: aborted.append("all"))
    rank_module.abort_groups()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    rank_module.abort_groups()
    assert aborted == ["all"]
