"""Published facts of clusters, nodes and training speeds, each with its source.

Data files: `clusters.csv`, `nodes.csv` and `published_speeds.csv` in `bench/catalog/data`. They are
never shown as measured by us.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class ClusterPart:
    """Accelerators of one kind in a published cluster."""

    cluster: str
    accelerator: str
    """Name of the row of the catalogue."""
    count: int
    as_of: str
    source: str
    address: str
    notes: str


@dataclass(frozen=True)
class Node:
    """A node, or a rack, with the power that it takes at most."""

    name: str
    accelerator: str
    num_accelerators: int
    kw: float
    source: str

    @property
    def kw_per_accelerator(self) -> float:
        return self.kw / self.num_accelerators


@dataclass(frozen=True)
class PublishedSpeed:
    """Tokens per second of an accelerator in a published training run."""

    model: str
    accelerator: str
    num_accelerators: int
    precision: str
    tokens_per_s: float
    source: str


@functools.cache
def cluster(name: str) -> tuple[ClusterPart, ...]:
    """Parts of a published cluster, in the file's order; empty for an unknown one."""
    rows = (row for row in _rows("clusters.csv") if row["cluster"] == name)
    return tuple(
        ClusterPart(
            row["cluster"],
            row["accelerator"],
            int(row["count"]),
            row["as_of"],
            row["source"],
            row["address"],
            row["notes"],
        )
        for row in rows
    )


@functools.cache
def nodes() -> dict[str, Node]:
    """Name of an accelerator -> its node."""
    return {
        row["accelerator"]: Node(
            row["node"], row["accelerator"], int(row["num_accelerators"]), float(row["kw"]), row["source"]
        )
        for row in _rows("nodes.csv")
    }


@functools.cache
def speeds() -> tuple[PublishedSpeed, ...]:
    return tuple(
        PublishedSpeed(
            row["model"],
            row["accelerator"],
            int(row["num_accelerators"]),
            row["precision"],
            float(row["tokens_per_s_per_accelerator"]),
            row["source"],
        )
        for row in _rows("published_speeds.csv")
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("bench.catalog.data") / name).read_text(encoding="utf-8")
    return iter(csv.DictReader(io.StringIO(text)))
