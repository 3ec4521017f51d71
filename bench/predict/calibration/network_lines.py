"""Transfers by lines that were fitted to measured sweeps: t = latency + bytes / rate of each operation."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.core.values import as_count
from bench.predict.rates.constants import Common
from bench.predict.rates.device import Device
from bench.predict.rates.network import Network, NetworkGroup
from bench.records.metrics import TIME


@dataclass(frozen=True)
class Line:
    """t = latency + bytes / rate of one operation among `ranks`; `rate` is of the payload."""

    op: str
    ranks: int
    latency_seconds: float
    bytes_per_s: float
    sizes: int


def lines_of(rows: Sequence[Mapping[str, Any]]) -> Iterable[Line]:
    points: defaultdict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        params = row["params"]
        size = as_count(params.get("num_bytes"))
        plain = params.get("timing", "aligned") == "aligned" and not params.get("async_op", False)
        plain &= params.get("dtype", "float32") == "float32" and row["suite"] == "collective"
        if plain and size is not None:
            points[str(params.get("op")), row["num_ranks"]][size].append(row[TIME])
    yield from _pairs(rows)
    for (op, ranks), sizes in points.items():
        if len(sizes) >= 2 and ranks > 1:
            yield fit_line(op, ranks, {size: statistics.median(times) for size, times in sizes.items()})


def _pairs(rows: Sequence[Mapping[str, Any]]) -> Iterable[Line]:
    """A message between two ranks, by the `point_to_point` suite's own latency and bandwidth of the median pair."""
    pair_rows = [row for row in rows if row["suite"] == "point_to_point"]
    latencies = [row["pair_latency_seconds"] for row in pair_rows if row.get("pair_latency_seconds")]
    speeds = [row["median_pair_gb_per_s"] * 1e9 for row in pair_rows if row.get("median_pair_gb_per_s")]
    if latencies and speeds:
        ranks = max(row["num_ranks"] for row in pair_rows)
        yield Line("send", ranks, min(latencies), max(speeds), len(speeds))


def fit_line(op: str, ranks: int, seconds: Mapping[int, float]) -> Line:
    """Least squares of (a + b n - t) / t; a latency or slope below 0 is noise, and the other is fitted alone."""
    sizes = np.array(sorted(seconds), dtype=float)
    times = np.array([seconds[int(size)] for size in sizes])
    matrix = np.stack([1.0 / times, sizes / times], axis=1)
    (latency, slope), *_ = np.linalg.lstsq(matrix, np.ones(len(sizes)), rcond=None)
    if latency <= 0.0:
        column = sizes / times
        latency, slope = 0.0, float(column.sum() / (column**2).sum())
    if slope <= 0.0:
        latency, slope = float(np.median(times)), 1e-15
    return Line(op, ranks, float(latency), 1.0 / float(slope), len(sizes))


class MeasuredNetwork(Network):
    """Inside a domain by the fitted lines, each operation by its own; across domains as the catalogue's or given.

    Among another number of ranks than measured the bytes cost as bus bandwidth says (nccl-tests, doc/PERFORMANCE.md),
    and the latency grows with the steps of a ring.
    """

    def __init__(self, device: Device, common: Common, lines: Sequence[Line], share: float = 1.0) -> None:
        """`share`: of a core that a rank has; within a host transfers take the same ones as the work."""
        super().__init__(device, common)
        self._lines: dict[str, Line] = {}
        for line in sorted(lines, key=lambda line: line.ranks):
            latency, rate = line.latency_seconds / share, line.bytes_per_s * share
            # Of several numbers of ranks the largest stays.
            self._lines[line.op] = replace(line, latency_seconds=latency, bytes_per_s=rate)

    def all_reduce_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        seconds = self._of("all_reduce", num_bytes, group)
        return super().all_reduce_seconds(num_bytes, group) if seconds is None else seconds

    def gather_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        lines = [self._of(op, num_bytes, group) for op in ("all_gather", "reduce_scatter")]
        known = [seconds for seconds in lines if seconds is not None]
        return sum(known) / len(known) if known else super().gather_seconds(num_bytes, group)

    def all_to_all_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        seconds = self._of("all_to_all", num_bytes, group)
        return super().all_to_all_seconds(num_bytes, group) if seconds is None else seconds

    def send_seconds(self, num_bytes: float, crosses: bool) -> float:
        line = next((self._lines[op] for op in ("send", "broadcast") if op in self._lines), None)
        if crosses or line is None:
            return super().send_seconds(num_bytes, crosses)
        return line.latency_seconds + num_bytes / line.bytes_per_s

    def _inside(self) -> float:
        line = self._lines.get("all_reduce")
        if self.inside_bytes_per_s is None and line is not None:
            return line.bytes_per_s * 2.0 * (line.ranks - 1) / line.ranks
        return super()._inside()

    def _of(self, op: str, num_bytes: float, group: NetworkGroup) -> float | None:
        line = self._lines.get(op)
        if line is None or group.domains > 1:
            return None
        if group.size == 1:
            return 0.0
        share = ((group.size - 1) / group.size) / ((line.ranks - 1) / line.ranks)
        return line.latency_seconds * (group.size - 1) / (line.ranks - 1) + num_bytes / line.bytes_per_s * share
