"""Brings all ranks' samples to rank 0 in the form of the result file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.measure.engine import control
from bench.records.file import MAX_FULL_RANKS
from bench.records.lines.parts import RankExtremes, RankQuantiles, VariantSamples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.measure.engine.rank import RankContext

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def gather_samples(
    rank: RankContext, nanoseconds: Mapping[str, Sequence[int]], calls: Mapping[str, int]
) -> dict[str, VariantSamples]:
    """`variants` or `controls` as the result file has them (on rank 0; empty elsewhere), from one rank's samples.

    `calls`: name -> calls in a sample, 1 if it is not there.
    """
    variants = {}
    for name, totals in nanoseconds.items():
        rows = control.gather_numbers(rank, totals)
        if rows is not None:
            variants[name] = reduce_rows(rows, calls.get(name, 1))
    return variants


def reduce_rows(rows: list[list[int]], calls: int) -> VariantSamples:
    """[rank][sample] nanoseconds of this many calls per sample, in full, or reduced above MAX_FULL_RANKS.

    `last_rank` is the last to arrive at synchronising work: the one that waited least, so with the *smallest* time.
    """
    matrix = np.asarray(rows, dtype=np.int64)
    if len(rows) <= MAX_FULL_RANKS:
        return VariantSamples(calls=calls, nanoseconds=matrix)
    return VariantSamples(
        calls=calls,
        per_iteration=RankExtremes(
            max=matrix.max(axis=0), min=matrix.min(axis=0), last_rank=matrix.argmin(axis=0).tolist()
        ),
        rank_quantiles=RankQuantiles(
            q=list(QUANTILES), nanoseconds=np.quantile(matrix, QUANTILES, axis=1).round().astype(np.int64).T
        ),
    )
