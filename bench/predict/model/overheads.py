"""Costs of a way of splitting beyond its rates: the library's own work, in seconds per unit of that work.

A layer that DTensor splits takes its host longer than the plain one, whatever its size; parameters that FSDP gathers,
or gradients that DDP sums, are copied into buffers and out of them besides. The seconds are measured
(`bench.predict.calibration.overheads`); without a measurement they are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.predict.model.prediction import TrainingStrategy


@dataclass(frozen=True)
class RankWork:
    """Work of the busiest rank in a step."""

    layers: int
    parameters: float
    """Parameters after tensor parallelism, embedding and output layer included."""
    microbatches: int


@dataclass(frozen=True)
class Way:
    """A row: whether a split has it, and how often a step pays for it on the busiest rank."""

    name: str
    unit: str
    applies: Callable[[TrainingStrategy], bool]
    times: Callable[[TrainingStrategy, RankWork], float]
    is_own_work: bool = True
    """The cost shows in a rank's own work; else only in the whole step."""


def _is_sharded(strategy: TrainingStrategy) -> bool:
    """True if torch's fully_shard is used: also for replicas if data is not the only axis."""
    return strategy.dp > 1 and (strategy.zero >= 3 or strategy.tp * strategy.pp > 1)


def _is_replicated(strategy: TrainingStrategy) -> bool:
    return strategy.dp > 1 and not _is_sharded(strategy)


def _gathered(strategy: TrainingStrategy, work: RankWork) -> float:
    """Millions of parameters; in a pipeline they stay whole from the first microbatch to the last."""
    return work.parameters / 1e6 * (1 if strategy.pp > 1 else work.microbatches)


WAYS = (
    Way("tensor", "a layer and microbatch", lambda s: s.tp > 1, lambda s, rank: rank.layers * rank.microbatches),
    Way("sharded data", "a million gathered parameters", _is_sharded, _gathered),
    Way("replicated data", "a million parameters", _is_replicated, lambda s, rank: rank.parameters / 1e6),
    Way("pipeline", "a microbatch and stage", lambda s: s.pp > 1, lambda s, rank: rank.microbatches + s.pp - 1, False),
)


@dataclass(frozen=True)
class Overheads:
    """Way -> seconds a unit; ways that were not measured are not in it."""

    seconds_of: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, strategy: TrainingStrategy, work: RankWork) -> float:
        """Seconds of a step beyond its rates."""
        return sum(
            self.seconds_of.get(way.name, 0.0) * way.times(strategy, work) for way in WAYS if way.applies(strategy)
        )

    def on(self, share: float) -> Overheads:
        """Overheads if a device has only this share of its host."""
        return Overheads({name: seconds / share for name, seconds in self.seconds_of.items()})
