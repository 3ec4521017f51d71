"""The input of a suite's `derive` and `tables`: samples, spans and facts of all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.records.samples import sample_matrix
from bench.stats import intervals
from bench.suite import Observed

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.measure.engine.timing.sampler import Samples
    from bench.records.lines.kinds import Measurement


def observe(
    rank: RankContext, samples: Samples, record: Measurement, medians: Sequence[Mapping[str, float]]
) -> Observed:
    """Gather what was measured, on rank 0; `medians` are each rank's own, by variant."""
    matrices = {name: sample_matrix(record.variants[name]) for name in samples.calls}
    return Observed(
        world_size=rank.world_size,
        num_cores=rank.machine.num_cores,
        device_type=rank.device.type,
        seconds={
            name: intervals.median(matrices[name].max(axis=0)) / calls / 1e9 for name, calls in samples.calls.items()
        },
        rank_seconds={name: tuple(row[name] for row in medians) for name in samples.calls},
        spans=tuple(record.spans),
        traced_call_ns=tuple(tuple(row) for row in record.traced_call_ns),
        traced_variants=tuple(record.traced_variants),
        per_rank=tuple(record.per_rank),
        samples={
            name: tuple((matrices[name].max(axis=0) / calls / 1e9).tolist()) for name, calls in samples.calls.items()
        },
        rank_samples={
            name: tuple(map(tuple, (matrices[name] / calls / 1e9).tolist()))
            for name, calls in samples.calls.items()
            if record.variants[name].nanoseconds is not None
        },
    )
