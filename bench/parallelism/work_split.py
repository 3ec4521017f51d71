"""Whole-number shares of work for ranks of unequal speed: even, and the best that there is.

Work comes in equal units (microbatches, layers, columns of a matrix), and all ranks wait for the last. Giving each unit
in turn to the rank that would be done with it first makes the longest time as short as whole units allow; for equal
jobs on machines of unequal speed that greedy choice is optimal. The bound is what units of any size would reach: the
work over the sum of the speeds.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def even(num_units: int, num_ranks: int) -> tuple[int, ...]:
    """Shares as equal as whole numbers allow, the first ranks one more. Raises ValueError for fewer units than
    ranks."""
    _refuse_few(num_units, num_ranks)
    base, more = divmod(num_units, num_ranks)
    return tuple(base + (rank < more) for rank in range(num_ranks))


def balanced(
    num_units: int, speeds: Sequence[float], most: Sequence[int] | None = None, fixed_units: float = 0.0
) -> tuple[int, ...]:
    """Units of each rank, at least one, so that max((fixed_units + units) / speed) is least.

    `most` are caps, such as by memory; `fixed_units` is what any share costs on top of its units, in units.

    Raises ValueError for fewer units than ranks, a speed that is not positive, or caps that leave units over.
    """
    _refuse_few(num_units, len(speeds))
    if any(not speed > 0 for speed in speeds):
        raise ValueError(f"speeds {list(speeds)}: every rank needs a speed above 0")
    caps = [num_units] * len(speeds) if most is None else list(most)
    if min(caps) < 1 or sum(caps) < num_units:
        raise ValueError(f"{num_units} units do not fit on ranks that hold {caps}")
    shares = [1] * len(speeds)
    queue = [((fixed_units + 2) / speed, rank) for rank, speed in enumerate(speeds)]
    heapq.heapify(queue)
    for _ in range(num_units - len(speeds)):
        while shares[queue[0][1]] >= caps[queue[0][1]]:
            heapq.heappop(queue)
        _, rank = heapq.heappop(queue)
        shares[rank] += 1
        heapq.heappush(queue, ((fixed_units + shares[rank] + 1) / speeds[rank], rank))
    return tuple(shares)


def longest(shares: Sequence[float], speeds: Sequence[float]) -> float:
    """max(units / speed): how long the work takes, where a rank of speed 1 takes 1 per unit."""
    return max(share / speed for share, speed in zip(shares, speeds, strict=True))


def bound(num_units: float, speeds: Sequence[float]) -> float:
    """The least that any split could take: all ranks done at once."""
    return num_units / sum(speeds)


def offsets(shares: Sequence[int]) -> list[range]:
    """The units of each rank, if they are dealt out in order."""
    first, ranges = 0, []
    for share in shares:
        ranges.append(range(first, first + share))
        first += share
    return ranges


def _refuse_few(num_units: int, num_ranks: int) -> None:
    if num_units < num_ranks:
        raise ValueError(f"{num_units} units for {num_ranks} ranks: every rank needs at least one")
