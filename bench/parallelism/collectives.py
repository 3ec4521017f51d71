"""Collectives as arithmetic: bus factors, which work in place, and the defaults that a case's id leaves out.

Sources: nccl-tests, doc/PERFORMANCE.md, and for gather and scatter src/gather.cu and src/scatter.cu.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.suite import Params

SUITE = "collective"
"""Name of the suite of collectives, which other tools' rows of the same operations are cases of."""
CASE_DEFAULTS: Params = {
    "dtype": "float32",
    "timing": "aligned",
    "async_op": False,
    "graph": False,
    "l2": "warm",
    "buffer": "plain",
}


@dataclass(frozen=True)
class BusFactor:
    """Bus bandwidth / algorithm bandwidth of an operation: slope * (n - 1) / n + offset on n ranks."""

    slope: int
    offset: int
    works_in_place: bool = False

    def at(self, num_ranks: int) -> float:
        """The factor on `num_ranks` ranks."""
        return self.slope * (num_ranks - 1) / num_ranks + self.offset


BUS_FACTORS: Mapping[str, BusFactor] = {
    "all_reduce": BusFactor(2, 0, works_in_place=True),
    "all_gather": BusFactor(1, 0),
    "reduce_scatter": BusFactor(1, 0),
    "all_to_all": BusFactor(1, 0),
    "broadcast": BusFactor(0, 1, works_in_place=True),
    "reduce": BusFactor(0, 1, works_in_place=True),
    "gather": BusFactor(1, 0),
    "scatter": BusFactor(1, 0),
    "send_recv": BusFactor(0, 1),
    "hypercube": BusFactor(1, 0),
}
"""The last two are operations of nccl-tests alone. What is missing, such as barrier, moves no data."""


def bus_factor(op: str, num_ranks: int) -> float | None:
    """Bus bandwidth / algorithm bandwidth of an operation; None if it moves no data, or is unknown."""
    row = BUS_FACTORS.get(op)
    return None if row is None else row.at(num_ranks)
