"""Operations that wait for one another, run level by level: when would each end, given how long each takes?

A step of training is such a graph. Every operation begins when the last of those before it has ended, so that

    end = max(ends of those before it, 0) + its own duration

Operations of one level (the longest chain before them has this many links) do not wait for each other, and numpy takes
all of them at once. So a step of a thousand ranks takes as many array operations as its longest chain is long, not as
many Python steps as it has operations. Durations have lanes: several steps, or scenarios, are run through one graph
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Seconds = NDArray[np.float64]


class Dag:
    """`before[i]` has to end before `after[i]` begins; nodes are 0 to num_nodes - 1.

    Raises ValueError if operations wait for each other in a circle.
    """

    def __init__(self, num_nodes: int, before: Numbers, after: Numbers) -> None:
        self.num_nodes = num_nodes
        level = _levels(num_nodes, before, after)
        self._order = np.argsort(level, kind="stable")
        position = np.empty(num_nodes, dtype=np.int64)
        position[self._order] = np.arange(num_nodes)
        by_target = np.argsort(position[after], kind="stable")
        self._sources = position[before][by_target]
        counts = np.bincount(position[after], minlength=num_nodes)
        first_edge = np.concatenate([[0], np.cumsum(counts)])
        bounds = np.concatenate([[0], np.cumsum(np.bincount(level, minlength=1))]).tolist()
        self._first_level = bounds[1]
        # Of each later level: its nodes, its edges, and where the edges of each of its nodes begin.
        self._levels = [
            (start, end, int(first_edge[start]), int(first_edge[end]), first_edge[start:end] - first_edge[start])
            for start, end in pairwise(bounds[1:])
        ]
        self._place = position

    @property
    def depth(self) -> int:
        """Number of operations of the longest chain."""
        return 1 + len(self._levels) if self.num_nodes else 0

    def ends(self, seconds: Seconds) -> Seconds:
        """End of each node, in seconds from the start; `seconds` and the result are [node, lane]."""
        ordered = seconds[self._order]
        ends = np.empty_like(ordered)
        ends[: self._first_level] = ordered[: self._first_level]
        for start, end, first, last, offsets in self._levels:
            ready = np.maximum.reduceat(ends[self._sources[first:last]], offsets, axis=0)
            np.add(ready, ordered[start:end], out=ends[start:end])
        return ends[self._place]

    def makespans(self, seconds: Seconds) -> Seconds:
        """[lane]: when the last node has ended."""
        return np.asarray(self.ends(seconds).max(axis=0))


def edges(pairs: Iterable[tuple[int, int]]) -> tuple[Numbers, Numbers]:
    """(before, after) arrays of single pairs."""
    table = np.asarray(list(pairs), dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _levels(num_nodes: int, before: Numbers, after: Numbers) -> Numbers:
    """Links of the longest chain that ends in each node: one front after the other, all of a front at once."""
    waiting = np.bincount(after, minlength=num_nodes)
    by_source = np.argsort(before, kind="stable")
    targets = after[by_source]
    first = np.concatenate([[0], np.cumsum(np.bincount(before, minlength=num_nodes))])
    level = np.full(num_nodes, -1, dtype=np.int64)
    seen = np.empty(num_nodes, dtype=np.int64)
    front = np.flatnonzero(waiting == 0)
    number, done = 0, 0
    while front.size:
        level[front] = number
        done += front.size
        starts = first[front]
        counts = first[front + 1] - starts
        total = int(counts.sum())
        # All edges out of the front: position within the run of each node, added to where that run starts.
        within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        freed = targets[np.repeat(starts, counts) + within]
        np.subtract.at(waiting, freed, 1)
        ready = freed[waiting[freed] == 0]
        seen[ready] = np.arange(ready.size)  # each node once, if several of the front led to it
        front = ready[seen[ready] == np.arange(ready.size)]
        number += 1
    if done < num_nodes:
        raise ValueError(f"{num_nodes - done} of {num_nodes} operations wait for each other in a circle")
    return level
