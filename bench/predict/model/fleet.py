"""Devices of several types in one job, by the same predictor: each replica of one type, all replicas in one step.

`even`: every replica gets as many microbatches, so that all wait for the slowest type. `balanced`: a replica gets
microbatches in proportion to its speed, in whole ones, so that the slowest type is done as early as can be. Gradients
go over all replicas at the pace of the slowest type's network either way. One split of tp x pp x cp serves all types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.rates.device import Device

MODES = ("even", "balanced")


@dataclass(frozen=True)
class FleetPart:
    """Devices of one type."""

    device: Device
    devices: int


@dataclass(frozen=True)
class Shared:
    """One type's part in a step."""

    member: FleetPart
    replicas: int
    microbatches: int
    """Microbatches of each of its replicas."""
    prediction: Prediction


@dataclass(frozen=True)
class FleetPrediction:
    mode: str
    strategy: TrainingStrategy
    parts: tuple[Shared, ...]
    job: Job

    @property
    def step_seconds(self) -> float:
        return max(part.prediction.step_seconds for part in self.parts if part.microbatches)

    @property
    def tokens_per_s(self) -> float:
        return self.job.tokens / self.step_seconds

    @property
    def fits(self) -> bool:
        return all(part.prediction.fits is not False for part in self.parts)

    @property
    def slowest(self) -> Shared:
        return max((part for part in self.parts if part.microbatches), key=lambda part: part.prediction.step_seconds)


def predict(
    make: Callable[[Device, Job], Predictor],
    job: Job,
    members: Sequence[FleetPart],
    strategy: TrainingStrategy,
    mode: str,
) -> FleetPrediction:
    """Prediction of one strategy, whose `dp` is taken from the numbers of devices. Raises BenchError if a type is too
    few for one."""
    if mode not in MODES:
        raise BenchError(f"fleet {mode!r}: there are: {', '.join(MODES)}")
    size = strategy.tp * strategy.pp * strategy.cp
    replicas = [member.devices // size for member in members]
    for member, number in zip(members, replicas, strict=True):
        if number == 0:
            raise BenchError(f"{member.devices} {member.device.name} are less than one replica of {size} devices")
    whole = replace(strategy, dp=sum(replicas))

    def of(member: FleetPart, microbatches: int) -> Prediction:
        share = replace(job, global_batch=microbatches * whole.microbatch * whole.dp)
        return make(member.device, share).predict(whole, member.devices, replay=False)

    if mode == "even":
        number = math.ceil(job.global_batch / (whole.dp * whole.microbatch))
        counts = [number] * len(members)
    else:
        counts = _balanced(job, members, replicas, whole, of)
    parts = tuple(
        Shared(member, replica, count, of(member, max(1, count)))
        for member, replica, count in zip(members, replicas, counts, strict=True)
    )
    return FleetPrediction(mode, whole, parts, job)


def _balanced(
    job: Job,
    members: Sequence[FleetPart],
    replicas: Sequence[int],
    strategy: TrainingStrategy,
    of: Callable[[FleetPart, int], Prediction],
) -> list[int]:
    """The most microbatches each type can do until a common deadline, which is the earliest that does them all."""
    lines = []
    for member in members:
        first, second = of(member, 1).step_seconds, of(member, 101).step_seconds
        lines.append((first, (second - first) / 100.0))
    wanted = math.ceil(job.global_batch / strategy.microbatch)

    def done(deadline: float) -> list[int]:
        return [max(0, 1 + math.floor((deadline - first) / slope)) for first, slope in lines]

    low, high = 0.0, max(first + slope * wanted for first, slope in lines)
    for _ in range(100):
        middle = 0.5 * (low + high)
        if sum(r * n for r, n in zip(replicas, done(middle), strict=True)) >= wanted:
            high = middle
        else:
            low = middle
    return done(high)
