"""Looks at timed collectives, on ranks that are simulated: every tensor is in this process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.suite import Check, TimedCheck
from bench.workloads.comm.collectives import OPERATIONS, ROOT, Buffers, Payload
from bench.workloads.comm.exact_check import PERIOD, fill, pattern
from bench.workloads.comm.timed_outputs import (
    NUM_PLACES,
    barrier_check,
    combined_check,
    received_check,
    timed_check,
)

DTYPES = ("float32", "bfloat16", "float16", "int32")
MOVING = tuple(name for name, row in OPERATIONS.items() if row.bus_factor)
IN_PLACE_SUMS = tuple(name for name, row in OPERATIONS.items() if row.reduces_in_place)
CALLS = (1, 2, 32)


class World:
    """The tensors of all ranks, and what a collective makes of them: reckoned with whole numbers, not by torch."""

    def __init__(self, op: str, dtype: str, num_ranks: int, elements_per_rank: int = 60) -> None:
        self.op, self.row, self.num_ranks = op, OPERATIONS[op], num_ranks
        self.payloads = [Payload(elements_per_rank * num_ranks, num_ranks, index) for index in range(num_ranks)]
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.buffers = [self._buffers(payload) for payload in self.payloads]
        self.inputs = [each.input.clone() for each in self.buffers]
        self.checks = [timed_check(self.row, *pair) for pair in zip(self.payloads, self.buffers, strict=True)]

    def _buffers(self, payload: Payload) -> Buffers:
        inputs = torch.empty(self.row.input(payload), dtype=self.dtype)
        rank: Any = SimpleNamespace(index=payload.index, world_size=self.num_ranks, device=torch.device("cpu"))
        if len(inputs):
            fill(inputs, rank)
        output = torch.empty(self.row.output(payload), dtype=self.dtype) if self.row.output else inputs
        return Buffers(inputs, output, None)

    def sample(self, calls: int, does: Callable[[int, int], bool] = lambda _rank, _call: True) -> None:
        """Arm, restore, and call as often as a sample does; `does(rank, call)` False: that rank's output stays."""
        for check in self.checks:
            check.arm()
        if self.row.reduces_in_place:
            for buffers, given in zip(self.buffers, self.inputs, strict=True):
                buffers.input.copy_(given)
        for call in range(calls):
            given = [each.input.clone() for each in self.buffers]
            for rank, buffers in enumerate(self.buffers):
                result = RESULTS[self.op](given, rank)
                if result is not None and does(rank, call):
                    buffers.output.copy_(result)

    def looks(self, calls: int) -> list[Check]:
        return [Check(*check.look(calls)) for check in self.checks]

    def has_output(self, rank: int) -> bool:
        """Whether a rank's output is defined, and another one than its own input."""
        expected = self.row.expected(self.payloads[rank])
        return bool(expected) and not (self.row.output is None and expected[0].sources == (rank,))


def _total(given: list[torch.Tensor]) -> torch.Tensor:
    total = given[0].clone()
    for each in given[1:]:
        total += each  # in the type of the case, as a library adds
    return total


# (every rank's input, rank) -> what its output has to be; None: it is undefined.
RESULTS: dict[str, Callable[[list[torch.Tensor], int], torch.Tensor | None]] = {
    "all_reduce": lambda given, _: _total(given),
    "all_gather": lambda given, _: torch.cat(given),
    "reduce_scatter": lambda given, rank: _total(given).chunk(len(given))[rank],
    "all_to_all": lambda given, rank: torch.cat([each.chunk(len(given))[rank] for each in given]),
    "broadcast": lambda given, _: given[ROOT],
    "reduce": lambda given, rank: _total(given) if rank == ROOT else None,
    "gather": lambda given, rank: torch.cat(given) if rank == ROOT else None,
    "scatter": lambda given, rank: given[ROOT].chunk(len(given))[rank],
}


def passed(checks: list[Check]) -> list[bool]:
    return [check.passed for check in checks]


def test_every_operation_that_moves_data_is_here() -> None:
    assert set(RESULTS) == set(MOVING)


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", MOVING)
def test_what_a_collective_has_to_leave_passes(op: str, dtype: str, num_ranks: int) -> None:
    world = World(op, dtype, num_ranks)
    for calls in CALLS:
        world.sample(calls)
        assert all(passed(world.looks(calls))), calls


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", MOVING)
def test_calls_that_do_nothing_are_found_on_every_rank_with_an_output(op: str, dtype: str, num_ranks: int) -> None:
    world = World(op, dtype, num_ranks)
    wanted = [not world.has_output(rank) for rank in range(num_ranks)]
    for calls in CALLS:
        world.sample(calls, lambda _rank, _call: False)
        assert passed(world.looks(calls)) == wanted, calls
        world.sample(calls)
        assert all(passed(world.looks(calls)))  # the look is as good as ever


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("op", MOVING)
def test_one_rank_without_its_output_is_named(op: str, num_ranks: int) -> None:
    world = World(op, "float32", num_ranks)
    for broken in filter(world.has_output, range(num_ranks)):
        world.sample(1, lambda rank, _call, broken=broken: rank != broken)  # type: ignore[misc]
        assert [not check.passed for check in world.looks(1)] == [rank == broken for rank in range(num_ranks)]


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", MOVING)
def test_one_wrong_element_is_found_wherever_it_is(op: str, dtype: str, num_ranks: int) -> None:
    """As long as all of the output is compared; of a larger one each element that is still spoilt is found."""
    world = World(op, dtype, num_ranks)
    for rank in filter(world.has_output, range(num_ranks)):
        output = world.buffers[rank].output
        for place in (0, len(output) // 3, len(output) - 1):
            world.sample(1)
            output[place] += 1
            assert passed(world.looks(1)) == [each != rank for each in range(num_ranks)], place


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", MOVING)
def test_not_a_number_is_found(op: str, dtype: str) -> None:
    world = World(op, dtype, 2)
    rank = next(rank for rank in range(2) if world.has_output(rank))
    world.sample(1)
    world.buffers[rank].output[-1] = torch.nan
    assert not world.looks(1)[rank].passed


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_sum_too_few_in_a_streamed_sample_is_found(dtype: str, num_ranks: int) -> None:
    """A sum that has left its type says nothing more: infinity for floats, and zero for 8^11 = 2^33 times a number."""
    world = World("all_reduce", dtype, num_ranks)
    for calls, missing in product((2, 3, 32), (0, 1)):
        world.sample(calls, lambda _rank, call, missing=missing: call != missing)  # type: ignore[misc]
        grown = num_ranks ** (calls - 1)
        has_left = grown > torch.finfo(world.dtype).max / 256 if dtype != "int32" else grown % 2**32 == 0
        assert has_left or not any(passed(world.looks(calls))), (calls, missing)


@pytest.mark.parametrize("op", IN_PLACE_SUMS)
def test_a_streamed_sum_in_place_that_never_came_is_found(op: str) -> None:
    world = World(op, "float32", 2)
    world.sample(32, lambda _rank, _call: False)
    assert not world.looks(32)[ROOT].passed


def test_each_element_of_a_large_output_that_was_not_written_is_found() -> None:
    world = World("all_gather", "float32", 2, elements_per_rank=3 * NUM_PLACES)
    output = world.buffers[1].output
    for place in (1, 2, len(output) // 2 + 1, len(output) - 2):
        world.sample(1)
        spoilt = output.clone()
        world.checks[1].arm()
        poisoned = float(output[0])
        output.copy_(spoilt)
        output[place] = poisoned
        assert passed(world.looks(1)) == [True, False]


def test_test_data_repeat_after_a_period_and_the_look_knows() -> None:
    world = World("all_to_all", "float32", 2, elements_per_rank=PERIOD + 1000)
    world.sample(1)
    assert all(passed(world.looks(1)))
    world.sample(1, lambda rank, _call: rank == 0)
    assert passed(world.looks(1)) == [True, False]


def test_a_world_with_more_ranks_than_whole_numbers_is_looked_at_too() -> None:
    """Above 256 ranks only some have data at an element."""
    expected = pattern(range(300), 300, 64)
    buffers = Buffers(expected.float(), expected.float(), None)
    look = timed_check(OPERATIONS["all_reduce"], Payload(64, 300, 5), buffers)
    assert Check(*look.look(1)).passed
    buffers.output[7] += 1
    assert not Check(*look.look(1)).passed


# A message.


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_message_has_to_hold_what_its_sender_has(dtype: str) -> None:
    output = torch.empty(1000, dtype=getattr(torch, dtype))
    check = received_check(output, 1, 2)
    check.arm()
    assert not Check(*check.look(1)).passed
    output.copy_(pattern((1,), 2, 1000))
    assert Check(*check.look(1)).passed
    output[-1] += 1
    assert Check(*check.look(1)) == Check(1.0, 0.0)
    output.copy_(pattern((0,), 2, 1000))
    assert not Check(*check.look(1)).passed


def test_the_worst_of_several_outputs_counts() -> None:
    armed: list[str] = []

    def check(name: str, error: float, tolerance: float) -> TimedCheck:
        return TimedCheck(lambda: armed.append(name), lambda _calls: (error, tolerance))

    assert combined_check(check("a", 0.5, 0.1), check("b", 0.9, 0.8)).look(1) == Check(0.5, 0.1)
    assert combined_check(check("a", 0.5, 0.1), check("b", float("nan"), 9.0)).look(1).tolerance == 9.0  # type: ignore[union-attr]
    combined_check(check("a", 0.0, 0.0), check("b", 0.0, 0.0)).arm()
    assert armed == ["a", "b"]


# A barrier.


class FakeGroup:
    """A group that counts its collectives."""

    count = 0

    def _get_sequence_number_for_group(self) -> int:
        return self.count


@pytest.mark.parametrize("calls", [1, 32])
@pytest.mark.parametrize("missing", [0, 1])
def test_barriers_are_counted_with_the_alignment_before_them(calls: int, missing: int) -> None:
    group: Any = FakeGroup()
    rank: Any = SimpleNamespace(group=group)
    check = barrier_check(rank)
    for _ in range(2):
        check.arm()
        group.count += 1 + calls - missing
        assert check.look(calls) == Check(float(missing), 0.0)


def test_ranks_without_an_output_are_those_that_the_table_says() -> None:
    made = [(op, World(op, "int32", size)) for op, size in product(MOVING, (2, 3, 8))]
    without = {(op, rank) for op, world in made for rank in range(world.num_ranks) if not world.has_output(rank)}
    assert without == {("broadcast", 0), *((op, rank) for op in ("reduce", "gather") for rank in range(1, 8))}
