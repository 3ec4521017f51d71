"""A long sequence cut into pieces: which rank holds which, and which pieces attend to which.

With a causal mask a late token attends to many, an early one to few. If each rank holds one contiguous piece
(`contiguous`), the last rank has nearly twice the mean's work, and all wait for it. In the `balanced` order the
sequence is cut into 2 n pieces, of which rank r of n holds number r from the head and number r from the tail, so that
all have equal work (zig-zag order; Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.3.2, and torch's
context_parallel). Pure functions; importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

Pieces = tuple[int, ...]
"""Numbers of pieces, counted from the start of the sequence, in rising order."""

ORDERS: dict[str, Callable[[int, int], Pieces]] = {
    "balanced": lambda rank, size: (rank, 2 * size - 1 - rank),
    "contiguous": lambda rank, size: (rank,),
}
"""Order -> the pieces of a rank: (rank, number of ranks)."""


class Block(NamedTuple):
    """One call of an attention kernel: a range of a rank's own query pieces against a range of key pieces."""

    queries: tuple[int, int]
    """[first, last) among the rank's own pieces."""
    keys: tuple[int, int]
    """[first, last) among the pieces at hand."""
    causal: bool
    """Both ranges are the same pieces: each token attends to itself and those before it."""


def num_pieces(order: str, size: int) -> int:
    return size * len(ORDERS[order](0, size))


def blocks(own: Pieces, other: Pieces, causal: bool) -> list[Block]:
    """The kernel calls in which the queries of `own` attend to the keys of `other`, as few as can be."""
    everything = (0, len(own)), (0, len(other))
    if not causal or own == other:
        return [Block(*everything, causal)]
    calls: list[Block] = []
    for index, piece in enumerate(own):
        before = sum(number < piece for number in other)
        if before:
            last = calls[-1] if calls else None
            if last and (last.queries[1], last.keys, last.causal) == (index, (0, before), False):
                calls[-1] = last._replace(queries=(last.queries[0], index + 1))
            else:
                calls.append(Block((index, index + 1), (0, before), False))
        if piece in other:
            calls.append(Block((index, index + 1), (before, before + 1), True))
    return calls


def num_pairs(calls: Sequence[Block], piece_length: int) -> int:
    """Pairs of a query and a key that some kernel calls attend to."""
    total = 0
    for (first, last), (first_key, last_key), causal in calls:
        queries, keys = (last - first) * piece_length, (last_key - first_key) * piece_length
        total += queries * (queries + 1) // 2 if causal else queries * keys
    return total


def work_imbalance(order: str, size: int, sequence: int, causal: bool) -> float:
    """Attended pairs of the busiest rank / mean over the ranks; 1 is perfect."""
    count = num_pieces(order, size)
    pairs = [
        num_pairs(blocks(ORDERS[order](rank, size), tuple(range(count)), causal), sequence // count)
        for rank in range(size)
    ]
    return max(pairs) * size / sum(pairs)
