"""What makes a GPU's L2 cold before a sample, compared with a device that keeps a diary; and how it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.core.clock import Clock
from bench.errors import BenchError, Skip
from bench.measure.engine.timing import l2_cache
from bench.measure.engine.timing.alignment import Alignment
from bench.measure.engine.timing.sampler import Sampler
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.planning.cases import choose_cases, declared_machine
from bench.measure.planning.suite_loader import load
from bench.suite import Work
from tests.support.plans import lone_rank

MIB = 2**20
CUDA = torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("l2_bytes", "expected"),
    [
        (50 * MIB, 256 * MIB),  # H100: Triton's buffer is larger than twice the cache
        (126 * MIB, 256 * MIB),
        (192 * MIB, 384 * MIB),
        (0, 256 * MIB),
        (None, 256 * MIB),
    ],
)
def test_what_is_written_is_larger_than_the_cache(l2_bytes: int | None, expected: int) -> None:
    assert l2_cache.flush_bytes(l2_bytes) == expected


@pytest.mark.parametrize("properties", [SimpleNamespace(L2_cache_size=200 * MIB), SimpleNamespace()])
def test_the_flush_writes_one_buffer_on_the_rank_s_own_device(
    monkeypatch: pytest.MonkeyPatch, properties: SimpleNamespace
) -> None:
    made: list[tuple[int, Any]] = []
    written: list[str] = []

    def empty(count: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        made.append((count * dtype.itemsize, device))
        return SimpleNamespace(zero_=lambda: written.append("zero"))

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    flush = l2_cache.make_flush({"l2": "cold"}, CUDA)
    assert flush is not None
    assert made == [((400 if hasattr(properties, "L2_cache_size") else 256) * MIB, CUDA)]
    assert written == []
    flush()
    flush()
    assert written == ["zero", "zero"]
    assert len(made) == 1


def test_warm_asks_nothing_of_any_device_and_leaves_the_work_alone() -> None:
    assert l2_cache.make_flush({"l2": "warm"}, CUDA) is None
    assert l2_cache.make_flush({}, CUDA) is None
    assert l2_cache.make_flush({"l2": "warm"}, torch.device("cpu")) is None
    work = Work(variants={"full": lambda: None}, check=lambda: (0.0, 0.0))
    assert l2_cache.flush_before_samples(work, None) is work


def test_cold_on_a_cpu_is_skipped_with_the_reason() -> None:
    with pytest.raises(Skip, match="only a GPU's L2 is flushed"):
        l2_cache.make_flush({"l2": "cold"}, torch.device("cpu"))


@pytest.mark.parametrize("has_reset", [True, False])
def test_before_every_sample_the_inputs_are_restored_then_the_cache_is_flushed_then_ranks_are_aligned(
    has_reset: bool,
) -> None:
    diary: list[str] = []
    work = Work(
        variants={"full": lambda: diary.append("run")},
        check=lambda: (0.0, 0.0),
        reset=(lambda: diary.append("reset")) if has_reset else None,
    )
    flushed = l2_cache.flush_before_samples(work, lambda: diary.append("flush"))
    ticks = iter(range(10**6))

    def mark() -> int:
        diary.append("mark")
        return next(ticks)

    clock = Clock("host", mark, lambda a, b: b - a, lambda: None)
    sampler = Sampler(lone_rank(), flushed, clock, "aligned", lambda: next(ticks) / 1000)
    sampler.align = Alignment(lambda: diary.append("align"))
    samples = sampler.measure(Limits(precision=0.0, seconds=0.01, max_rounds=8))
    one = ["reset"] * has_reset + ["flush", "align", "mark", "run", "mark"]
    rounds = samples.num_rounds + samples.warmup_rounds
    assert rounds >= 8
    assert diary == one * rounds


SUITES = [load("compute"), load("collective")]


def _ids(device_type: str, settings: dict[str, list[str]], wanted: tuple[str, ...] = ()) -> list[str]:
    machine = declared_machine(2, device_type, "smoke")
    return [case.id for case in choose_cases(SUITES, machine, settings, wanted)]


def test_suites_ask_for_a_cold_cache_on_a_gpu_only_and_beside_a_warm_one() -> None:
    found = _ids("cuda", {})
    cold = sorted(case for case in found if "l2=" in case)
    assert cold == [
        "collective/all_reduce[l2=cold,num_bytes=1024]",
        "collective/all_reduce[l2=cold,num_bytes=67108864]",
        "compute/matmul[dtype=bfloat16,l2=cold,shape=square,size=2048]",
    ]
    assert {case.replace("l2=cold,", "") for case in cold} < set(found)
    assert not [case for case in _ids("cpu", {}) if "l2=" in case]


def test_a_setting_drops_the_rows_of_the_suite_that_it_would_spoil() -> None:
    assert any("timing=streamed" in case for case in _ids("cuda", {}))
    cold = _ids("cuda", {"l2": ["cold"]})
    assert cold
    assert all("l2=cold" in case and "timing=streamed" not in case for case in cold)
    streamed = _ids("cuda", {"timing": ["streamed"]})
    assert streamed
    assert all("timing=streamed" in case and "l2=cold" not in case for case in streamed)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"l2": ["cold"], "timing": ["streamed"]}, ()),
        ({}, ("collective/all_reduce[l2=cold,num_bytes=1024,timing=streamed]",)),
    ],
)
def test_cold_and_streamed_together_are_refused(settings: dict[str, list[str]], wanted: tuple[str, ...]) -> None:
    with pytest.raises(BenchError, match="only the first of streamed calls finds a cold L2"):
        _ids("cuda", settings, wanted)


def test_there_is_no_third_state() -> None:
    with pytest.raises(BenchError, match="takes warm, cold"):
        _ids("cuda", {"l2": ["hot"]})
