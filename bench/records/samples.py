"""The times of a case in one launch, as seconds of one call, from the samples that a record has of every rank.

The *time* of a case is the maximum over the ranks, sample by sample, since a collective or a step is over when its last
rank is; divided by the calls in a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.stats import intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.records.lines.kinds import Measurement
    from bench.records.lines.parts import VariantSamples


class Variant(NamedTuple):
    """Samples as a file has them; times are over the ranks, sample by sample."""

    slow: NDArray[Any]
    """[rank][sample] whose maximum over the ranks is the time; one row where a file keeps only that."""
    fast: NDArray[Any]
    """[rank][sample] whose minimum over the ranks is the fastest time."""
    scale: float
    """Divisor of a sample that gives the seconds of one call."""
    over_ranks: bool
    """True if there are no rows of single ranks, so that the fastest is not known."""

    def slowest(self) -> NDArray[np.float64]:
        seconds: NDArray[np.float64] = self.slow.max(axis=0) / self.scale
        return seconds

    def fastest(self) -> NDArray[np.float64]:
        seconds: NDArray[np.float64] = self.fast.min(axis=0) / self.scale
        return seconds

    def median(self) -> float:
        """Median of the slowest rank's times."""
        return intervals.median(self.slowest())

    def undisturbed(self) -> float | None:
        """Geometric mean of the faster half of the slowest rank's times; None for one of no time."""
        seconds = self.slowest()
        half = (seconds.size + 1) // 2
        faster = np.partition(seconds, half - 1)[:half]
        return float(np.exp(np.log(faster).mean())) if faster.min() > 0 else None

    def spread(self) -> float | None:
        """Interquartile range of the logarithms of the slowest rank's times; None for too few, or if it is none."""
        seconds = self.slowest()
        quarter = seconds.size // 4
        if quarter < 1:
            return None
        parted = np.partition(seconds, (quarter, seconds.size - 1 - quarter))
        low, high = float(parted[quarter]), float(parted[seconds.size - 1 - quarter])
        return math.log(high / low) if 0 < low < high else None


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


def launch_times(record: Measurement) -> LaunchTimes:
    """Times of a measurement; a variant without a sample is left out."""
    variants = {}
    for name, samples in record.variants.items():
        scale, over_ranks = 1e9 * samples.calls, is_over_ranks(record, samples)
        slow = sample_matrix(samples)
        fast = slow if samples.per_iteration is None else samples.per_iteration.min[np.newaxis, :]
        if slow.size:
            variants[name] = Variant(slow, fast, scale, over_ranks)
    return LaunchTimes(record.launch, variants)


def sample_matrix(samples: VariantSamples) -> NDArray[Any]:
    """[rank][sample] nanoseconds; above 64 ranks one row, the maximum over the ranks."""
    if samples.nanoseconds is not None:
        return samples.nanoseconds
    assert samples.per_iteration is not None
    return samples.per_iteration.max[np.newaxis, :]


def num_samples(samples: VariantSamples) -> int:
    """Number of samples of a rank."""
    return int(sample_matrix(samples).shape[1])


def rank_times(samples: VariantSamples) -> list[tuple[int, tuple[float, float, float]]]:
    """Number of samples and (median, fastest, slowest) seconds of one call, per rank."""
    scale = 1e9 * samples.calls
    if samples.nanoseconds is not None:
        seconds = samples.nanoseconds / scale
        stats = np.stack([np.median(seconds, axis=1), seconds.min(axis=1), seconds.max(axis=1)], axis=1)
        return [(seconds.shape[1], (row[0], row[1], row[2])) for row in stats.tolist()]
    quantiles = rank_quantiles(samples, (0.5, 0, 1))
    if quantiles is None:
        return []
    return [(num_samples(samples), (row[0], row[1], row[2])) for row in (quantiles / scale).tolist()]


def rank_quantiles(samples: VariantSamples, shares: tuple[float, ...]) -> NDArray[Any] | None:
    """[rank][share] nanoseconds above 64 ranks; None if the file lacks one of the quantiles."""
    kept = samples.rank_quantiles
    if kept is None or not kept.nanoseconds.size or not set(shares) <= set(kept.q):
        return None
    columns: NDArray[Any] = kept.nanoseconds[:, [kept.q.index(share) for share in shares]]
    return columns


MIN_SAMPLES = 20
"""Samples of a case below which its figures are rough."""


def has_few_samples(row: Mapping[str, Any]) -> bool:
    """True for the row of a case that was timed too few times; False for one that was not timed at all."""
    return 0 < (row.get("num_samples") or 0) < MIN_SAMPLES


def is_over_ranks(record: Measurement, samples: VariantSamples) -> bool:
    """True if a variant has no rows of single ranks, but one over them all, as imported results do."""
    return samples.nanoseconds is not None and len(samples.nanoseconds) < (record.num_ranks or 1)
