"""Exact checks of collectives: whole-number test data, what must come of it, and a barrier that must hold.

Whole numbers up to 256 are exact in every type measured here, bfloat16 with its 8 bits of significand
included, and so is every partial sum as long as the magnitudes of all ranks together stay within that.
Any difference fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext

MAX_EXACT = 256
PERIOD = 262_147
"""Test data repeats after this many elements: a prime, so that no two chunks of a power of two look alike."""
CHECK_BYTES = 24 * 2**20
"""Memory of a check besides the tensors: patterns of test data while they are made, in 64-bit integers."""
POISON = 2 * MAX_EXACT
"""Written over outputs before a check; no expected value is near it."""
LATE_SECONDS = 0.01
"""Delay of a rank at a barrier under test: time enough for a broken one to let the others go."""


class Segment(NamedTuple):
    """A stretch of an expected output: the sum over `sources` of their test data from element `start` on."""

    sources: tuple[int, ...]
    start: int
    length: int


def pattern(sources: Iterable[int], num_ranks: int, length: int, device: torch.device | None = None) -> torch.Tensor:
    """[length] int64: the sum of the test data of the ranks `sources`, different on every rank.

    The magnitudes of all ranks together stay within MAX_EXACT, so that every order of adding is exact; above
    that many ranks only some of them have data at any one element. Multiplicative hashing: Knuth, TAOCP
    volume 3, 6.4.
    """
    import torch

    return pattern_at(sources, num_ranks, torch.arange(length, device=device))


def pattern_at(sources: Iterable[int], num_ranks: int, index: torch.Tensor) -> torch.Tensor:
    """[place] int64: the same at some elements, by their index below PERIOD."""
    import torch

    bound = max(1, MAX_EXACT // num_ranks)
    stride = -(-num_ranks // MAX_EXACT)
    total = torch.zeros_like(index)
    for source in sources:
        mixed = (((index + (source + 1) * PERIOD) * 2_654_435_761) & 0xFFFFFFFF) >> 16
        total += torch.where((index + source) % stride == 0, mixed % (2 * bound + 1) - bound, 0)
    return total


def fill(tensor: torch.Tensor, rank: RankContext) -> None:
    """Writes the rank's own test data, repeated to the end of the tensor."""
    data = pattern((rank.index,), rank.world_size, min(PERIOD, len(tensor)), rank.device).to(tensor.dtype)
    for block in _blocks(tensor):
        block.copy_(data[: len(block)])


def poison(tensor: torch.Tensor) -> None:
    tensor.fill_(POISON)


def largest_error(output: torch.Tensor, expected: Sequence[Segment], rank: RankContext) -> float:
    """Largest absolute error of any element of `output`, which the segments cover in order; NaN where one
    is NaN."""
    import torch

    worst = torch.zeros((), device=rank.device)
    begin = 0
    for segment in expected:
        length = min(PERIOD, segment.start + segment.length)
        data = pattern(segment.sources, rank.world_size, length, rank.device).roll(-(segment.start % length))
        for block in _blocks(output[begin : begin + segment.length]):
            error = (block.float() - data[: len(block)].float()).abs().max()
            worst = torch.maximum(worst, error)  # keeps a NaN
        begin += segment.length
    return float(worst)


def _blocks(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    import torch

    return torch.split(tensor, PERIOD)


def early_departures(barrier: Callable[[], object], rank: RankContext) -> int:
    """Count the late ranks, of three tried, that this rank's barrier did not wait for."""
    late_ranks = sorted({0, rank.world_size // 2, rank.world_size - 1})
    return sum(_leaves_before(late, barrier, rank) for late in late_ranks)


def _leaves_before(late: int, barrier: Callable[[], object], rank: RankContext) -> bool:
    """Return True if the barrier let this rank go before the rank `late` had come to it; no clock is read.

    The late rank enters only after the second meeting, and thus when every other has taken note, in a thread
    of its own, that it is about to. A rank that leaves the barrier without the note was let go too early.
    """
    _meet(rank)
    if rank.index == late:
        threading.Event().wait(LATE_SECONDS)
        _meet(rank)
        _meet(rank)
        barrier()
        return False
    noted = threading.Event()

    def take_note() -> None:
        _meet(rank)
        noted.set()
        _meet(rank)

    listener = threading.Thread(target=take_note, daemon=True)
    listener.start()
    barrier()
    was_early = not noted.is_set()
    listener.join()
    return was_early


def _meet(rank: RankContext) -> None:
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.zeros(1), group=rank.control)
