"""A host of two NUMA nodes on a machine that has one: a kernel that puts pages where it is told, or does not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from bench.measure.system.memory import numa, page_nodes

FAR_CORES = frozenset({1000, 1001})
"""No machine here has them."""


def two_nodes() -> numa.Topology:
    """Node 0 has the cores of this process, node 1 others."""
    own = frozenset(os.sched_getaffinity(0))
    return numa.Topology({0: own, 1: FAR_CORES}, {(0, 0): 10, (0, 1): 21, (1, 0): 21, (1, 1): 10})


class FakeKernel:
    """Puts pages on the nodes that it is asked for, unless it refuses: they are then on node 0."""

    def __init__(self, refuses: bool = False, tells: bool = True) -> None:
        self.refuses, self.tells = refuses, tells
        self.asked: list[int] = []
        """Nodes that memory was asked for on, in order."""
        self.moved: int | None = None
        """Node that all pages have been moved to since."""
        self._nodes: dict[int, int] = {}

    def bind_pages(self, address: int, _num_bytes: int, node: int) -> str | None:
        self.asked.append(node)
        self._nodes[address] = 0 if self.refuses else node
        return "Operation not permitted" if self.refuses else None

    def count_nodes(self, addresses: Sequence[int]) -> Counter[int] | None:
        node = self._nodes.get(addresses[0], 0) if self.moved is None else self.moved
        return Counter({node: len(addresses)}) if self.tells else None

    @contextmanager
    def installed(self, topology: numa.Topology | None = None) -> Iterator[FakeKernel]:
        known = topology or two_nodes()
        with (
            patch.object(numa, "topology", lambda: known),
            patch.object(page_nodes, "bind_pages", self.bind_pages),
            patch.object(page_nodes, "count_nodes", self.count_nodes),
        ):
            yield self
