"""Bits of repeated computations: one that flips is found, with its repeat and its operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.measure.planning.suite_loader import load
from bench.workloads.model.bit_repeats import (
    LEARNING_CALLS,
    PENDING_REPEATS,
    BitRepeats,
    refuse_unlike_ranks,
    seeded_operations,
)
from tests.support.plans import lone_rank
from tests.support.ranks import on_ranks


def flipping(call: int, bit: int = 0, dtype: torch.dtype = torch.float32) -> Callable[[], torch.Tensor]:
    """An operation whose result has one other bit at one call, from 1."""
    made = iter(range(1, 10**6))

    def run() -> torch.Tensor:
        result = torch.arange(1, 9, dtype=dtype)
        if next(made) == call:
            words = result.view(torch.int32 if dtype is torch.float32 else torch.int64)
            words[3] ^= 1 << bit
        return result

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("bit", [0, 30])
def test_one_bit_of_one_repeat_is_found(dtype: torch.dtype, bit: int) -> None:
    repeats = BitRepeats({"steady": flipping(0), "flips": flipping(LEARNING_CALLS + 7, bit, dtype)})
    repeats.learn()
    for _ in range(3 * PENDING_REPEATS):
        repeats.repeat()
    repeats.read()
    assert repeats.corruptions == [("flips", 7, 1)]
    assert repeats.num_corrupted == 1
    assert repeats.bits_per_repeat == 8 * 32 + 8 * dtype.itemsize * 8


def test_an_operation_that_is_not_deterministic_is_not_compared() -> None:
    repeats = BitRepeats({"steady": flipping(0), "random": lambda: torch.rand(8)})
    repeats.learn()
    assert repeats.compared == ["steady"]
    for _ in range(5):
        repeats.repeat()
    repeats.read()
    assert (repeats.num_corrupted, repeats.repeats) == (0, 5)
    assert repeats.digests()[1] == 0


def test_a_zero_of_another_sign_and_another_nan_are_other_bits() -> None:
    values = iter([0.0] * LEARNING_CALLS + [-0.0])
    repeats = BitRepeats({"zero": lambda: torch.tensor([next(values)])})
    repeats.learn()
    repeats.repeat()
    repeats.read()
    assert repeats.num_corrupted == 1


def test_real_operations_repeat_their_bits() -> None:
    repeats = BitRepeats(seeded_operations(lone_rank(), 64, 4096))
    repeats.learn()
    assert repeats.compared == ["product", "attention"]
    for _ in range(10):
        repeats.repeat()
    repeats.read()
    assert repeats.num_corrupted == 0
    again = BitRepeats(seeded_operations(lone_rank(), 64, 4096))
    again.learn()
    assert again.digests() == repeats.digests()


def test_ranks_of_like_devices_have_the_same_bits_and_one_that_has_not_is_named() -> None:
    assert on_ranks(2, _compare_ranks, False) == ["", ""]
    for text in on_ranks(2, _compare_ranks, True):
        assert text.startswith("silent corruption: the product of rank ")
        assert "other bits than that of 1 ranks with a like device" in text


def _compare_ranks(rank: Any, is_wrong: bool) -> str:
    operations = seeded_operations(rank, 64, 4096)
    if is_wrong and rank.index == 1:
        product = operations["product"]
        operations["product"] = lambda: product() + 1
    repeats = BitRepeats(operations)
    repeats.learn()
    assert repeats.compared == ["product", "attention", "sum of whole numbers"]
    try:
        refuse_unlike_ranks(rank, repeats, "a device")
    except BenchError as error:
        return str(error)
    return ""


def test_a_soak_ends_with_the_device_the_operation_and_the_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.matmul
    calls = {"number": 0}

    def flips(a: torch.Tensor, b: torch.Tensor, **named: Any) -> torch.Tensor:
        result = multiply(a, b, **named)
        if a.shape == (32, 32):
            calls["number"] += 1
            if calls["number"] == LEARNING_CALLS + 5:
                result.view(torch.int32)[4, 4] ^= 1 << 7
        return result

    monkeypatch.setattr("suites.soak.MOST_REPEATED_SIZE", {"cpu": 32})
    monkeypatch.setattr(torch, "matmul", flips)
    suite = load("soak")
    work = suite.prepare(suite.defaults | {"size": 64, "num_rounds": 1, "num_bytes": 4096, "seconds": 1}, lone_rank())
    assert work.check()[0] <= 1.0
    assert work.reset is not None
    for _ in range(9):
        work.reset()
    with pytest.raises(BenchError, match=r"silent corruption on cpu .*the product of repeat 5 of 9 .* in 1 number"):
        work.check()
    assert work.close is not None
    work.close()
