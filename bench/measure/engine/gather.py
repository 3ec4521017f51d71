"""Brings all ranks' samples to rank 0 in the form of the result file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.measure.engine import control
from bench.records.file import MAX_FULL_RANKS

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.measure.engine.timing.sampler import Samples

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def gather_samples(rank: RankContext, samples: Samples) -> dict[str, Any]:
    """`variants` as the result file has them (on rank 0; empty elsewhere)."""
    variants: dict[str, Any] = {}
    for name, totals in samples.nanoseconds.items():
        rows = control.gather_numbers(rank, totals)
        if rows is not None:
            variants[name] = {"calls": samples.calls[name], **reduce_rows(rows)}
    return {"variants": variants}


def reduce_rows(rows: list[list[int]]) -> dict[str, Any]:
    """[rank][sample] nanoseconds, whole, or reduced above MAX_FULL_RANKS.

    `last_rank` is the last to arrive at synchronising work: the one that waited least, so with the *smallest* time.
    """
    if len(rows) <= MAX_FULL_RANKS:
        return {"nanoseconds": rows}
    import numpy as np

    matrix = np.asarray(rows, dtype=np.int64)
    return {
        "per_iteration": {
            "max": matrix.max(axis=0).tolist(),
            "min": matrix.min(axis=0).tolist(),
            "last_rank": matrix.argmin(axis=0).tolist(),
        },
        "rank_quantiles": {
            "q": list(QUANTILES),
            "nanoseconds": np.quantile(matrix, QUANTILES, axis=1).round().astype(np.int64).T.tolist(),
        },
    }


def slowest_samples(variant: dict[str, Any]) -> list[int]:
    """The maximum over the ranks of each sample, from a variant as the result file has it."""
    if "per_iteration" in variant:
        slowest: list[int] = variant["per_iteration"]["max"]
        return slowest
    return [max(column) for column in zip(*variant["nanoseconds"], strict=True)]
