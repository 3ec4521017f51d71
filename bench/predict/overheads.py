"""What a way of splitting costs more than its rates say: the library's own work, from measured training steps.

A layer that DTensor splits, or FSDP gathers, takes its host longer than the plain one, whatever its size, and a rate
of products and transfers knows nothing of that. Where the files have a plain step on one device and others split in
one way only, each way gets

    (measured - predicted) / how often the step pays it

of its steps, the median, 0 at least. One number a way, a machine and a type; a split in several ways pays each of them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bench.predict.calibrate import MeasuredStep
from bench.predict.job import Prediction, Split


@dataclass(frozen=True)
class Way:
    """A row: whether a split has it, and how often a step pays for it on the busiest rank."""

    name: str
    unit: str
    applies: Callable[[Split], bool]
    times: Callable[[Split, int, int], float]
    """(split, layers of the rank, microbatches) -> number of units."""


def _is_sharded(split: Split) -> bool:
    """By torch's fully_shard: also replicas where data is not the only axis (bench/llama_parallel.py)."""
    return split.dp > 1 and (split.zero >= 3 or split.tp * split.pp > 1)


def _gathers(split: Split, layers: int, microbatches: int) -> float:
    """In a pipeline layers stay whole from the first microbatch to the last."""
    return layers if split.pp > 1 else layers * microbatches


WAYS = (
    Way("tensor", "a layer and microbatch", lambda s: s.tp > 1, lambda s, layers, number: layers * number),
    Way("sharded data", "a gathered layer", _is_sharded, _gathers),
    Way("replicated data", "a step", lambda s: s.dp > 1 and not _is_sharded(s), lambda s, layers, number: 1.0),
    Way("pipeline", "a microbatch and stage", lambda s: s.pp > 1, lambda s, layers, number: number + s.pp - 1.0),
)


@dataclass(frozen=True)
class Overheads:
    """Way -> seconds a unit; ways that were not measured are not in it."""

    seconds_of: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, split: Split, layers: int, microbatches: int) -> float:
        """Of a step."""
        return sum(
            self.seconds_of.get(way.name, 0.0) * way.times(split, layers, microbatches)
            for way in WAYS
            if way.applies(split)
        )

    def on(self, share: float) -> Overheads:
        """The same where a device has only this share of its host."""
        return Overheads({name: seconds / share for name, seconds in self.seconds_of.items()})


def fitted(measured: Iterable[MeasuredStep], predict: Callable[[MeasuredStep], Prediction]) -> Overheads:
    """Nothing without a plain step on one device, by which the rates' own error is told from the ways'."""
    known = list(measured)
    found: defaultdict[str, list[float]] = defaultdict(list)
    if not any(step.ranks == 1 for step in known):
        return Overheads()
    for step in known:
        ways = [way for way in WAYS if way.applies(step.split)]
        if len(ways) == 1:
            layers = -(-step.job.shape.layers // step.split.pp)
            number = max(1, step.job.global_batch // (step.split.dp * step.split.microbatch))
            more = step.seconds - predict(step).step_seconds
            found[ways[0].name].append(more / ways[0].times(step.split, layers, number))
    return Overheads({name: max(0.0, statistics.median(each)) for name, each in found.items()})
