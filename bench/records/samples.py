"""The times of a case in one launch, as seconds of one call, from the samples that a record has of every rank.

The *time* of a case is the maximum over the ranks, sample by sample, since a collective or a step is over when its last
rank is; divided by the calls in a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.stats import intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

Record = dict[str, Any]

FEW_SAMPLES = 500
"""Samples of a launch up to which sorting gives the median faster than numpy."""


class Variant(NamedTuple):
    """Samples as a file has them; times are over the ranks, sample by sample."""

    slow: Sequence[Sequence[float]]
    """[rank][sample] whose maximum over the ranks is the time; one row where a file keeps only that."""
    fast: Sequence[Sequence[float]]
    """[rank][sample] whose minimum over the ranks is the fastest time."""
    scale: float
    """Divisor of a sample that gives the seconds of one call."""
    over_ranks: bool
    """True if there are no rows of single ranks, so that the fastest is not known."""

    def slowest(self) -> NDArray[np.float64]:
        seconds: NDArray[np.float64] = np.asarray(self.slow, dtype=float).max(axis=0) / self.scale
        return seconds

    def fastest(self) -> NDArray[np.float64]:
        seconds: NDArray[np.float64] = np.asarray(self.fast, dtype=float).min(axis=0) / self.scale
        return seconds

    def median(self) -> float:
        """Median of the slowest rank's times; sorted if few, since making an array of them takes the most time."""
        if len(self.slow) * len(self.slow[0]) > FEW_SAMPLES:
            return intervals.median(self.slowest())
        ordered: list[float] = sorted(self.slow[0] if len(self.slow) == 1 else map(max, *self.slow))
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle] / self.scale
        return (ordered[middle - 1] / self.scale + ordered[middle] / self.scale) / 2


@dataclass(frozen=True)
class LaunchTimes:
    """Seconds of one call in one launch; over the ranks the slowest and the fastest.

    Read when they are asked for: a comparison of thousands of cases needs the medians alone.
    """

    launch: int
    variants: Mapping[str, Variant]

    @cached_property
    def slowest(self) -> dict[str, NDArray[np.float64]]:
        """Variant -> [sample]."""
        return {name: variant.slowest() for name, variant in self.variants.items()}

    @cached_property
    def fastest(self) -> dict[str, NDArray[np.float64]]:
        """Variant -> [sample]; without variants that have no rows of single ranks."""
        return {name: variant.fastest() for name, variant in self.variants.items() if not variant.over_ranks}

    @cached_property
    def medians(self) -> dict[str, float]:
        return {name: variant.median() for name, variant in self.variants.items()}


def launch_times(record: Record) -> LaunchTimes:
    """Times of a measurement that `bench.records.file.load` accepted; a variant without a sample is left out."""
    variants = {}
    for name, variant in record["variants"].items():
        scale, over_ranks = 1e9 * variant["calls"], is_over_ranks(record, variant)
        rows = variant.get("nanoseconds")
        if rows is None:
            kept = variant["per_iteration"]
            read = Variant([kept["max"]], [kept["min"]], scale, over_ranks)
        else:
            read = Variant(rows, rows, scale, over_ranks)
        if read.slow and len(read.slow[0]):
            variants[name] = read
    return LaunchTimes(record["launch"], variants)


def rank_times(variant: Record) -> list[tuple[int, tuple[float, float, float]]]:
    """Number of samples and (median, fastest, slowest) seconds of one call, per rank."""
    scale = 1e9 * variant["calls"]
    if "nanoseconds" in variant:
        samples = np.asarray(variant["nanoseconds"], dtype=float) / scale
        stats = np.stack([np.median(samples, axis=1), samples.min(axis=1), samples.max(axis=1)], axis=1)
        return [(samples.shape[1], (row[0], row[1], row[2])) for row in stats.tolist()]
    count = len(variant["per_iteration"]["max"])
    kept = variant.get("rank_quantiles") or {"q": [], "nanoseconds": []}
    at = {q: column for column, q in enumerate(kept["q"])}
    middle, low, high = (at.get(q) for q in (0.5, 0, 1))
    if middle is None or low is None or high is None:
        return []
    return [(count, (row[middle] / scale, row[low] / scale, row[high] / scale)) for row in kept["nanoseconds"]]


def is_over_ranks(record: Record, variant: Record) -> bool:
    """True if a variant has no rows of single ranks, but one over them all, as imported results do."""
    rows = variant.get("nanoseconds")
    return rows is not None and len(rows) < int(record.get("num_ranks") or 1)
