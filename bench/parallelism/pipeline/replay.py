"""Replays a pipeline schedule: when each operation would start if only order and durations mattered.

A pipeline's bubble is the time that its ranks wait because of the schedule alone. It cannot be read off a
measured step, where waiting for messages and the host's own work are mixed in. So it is computed: every
rank runs its operations one after another, in its own order, each as soon as what it depends on is done.
The chain rule gives the dependencies:

    forward                    after the forward of the stage before, for the same microbatch
    backward, backward_input   after the stage's own forward, and the same of the stage behind
    backward_weight            after the stage's own backward_input

Pure Python, no torch, and linear in the number of operations: a thousand ranks take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["KINDS", "Computation", "Replay", "replay"]

_ACTIVATION, _GRADIENT, _WEIGHT = range(3)
_NUM_YIELDS = 3


class _Kind(NamedTuple):
    """Result of an operation, the result of its own stage that it needs, and the neighbour that it needs the same
    from."""

    yields: int
    needs_own: int | None
    neighbour: int


# A whole `backward` yields both gradients; the stage before waits for it as for a `backward_input`.
_KINDS = {
    "forward": _Kind(_ACTIVATION, None, -1),
    "backward": _Kind(_GRADIENT, _ACTIVATION, +1),
    "backward_input": _Kind(_GRADIENT, _ACTIVATION, +1),
    "backward_weight": _Kind(_WEIGHT, _GRADIENT, 0),
}
KINDS = tuple(_KINDS)


class Computation(NamedTuple):
    """One computation of a schedule: `kind` (of KINDS) of a stage on a microbatch, and how long it takes."""

    rank: int
    stage: int
    microbatch: int
    kind: str
    seconds: float
    sends_with_next: bool = False
    """One of a pair that its rank runs as one: others get its result only when the rank's next operation is
    done too. The two must not depend on each other."""

    @property
    def name(self) -> str:
        return f"{self.kind} of stage {self.stage}, microbatch {self.microbatch}, on rank {self.rank}"


@dataclass(frozen=True)
class Replay:
    """A replayed schedule. Times are in seconds from the start of the step."""

    start_seconds: tuple[float, ...]
    """Start of each operation, in the order in which they were given."""
    busy_seconds: tuple[float, ...]
    """Sum of the durations of each rank's operations."""
    makespan_seconds: float

    @property
    def overhead(self) -> float:
        """o = makespan / ideal - 1; ideal is the work spread evenly over the ranks, without a wait."""
        return self.makespan_seconds * len(self.busy_seconds) / sum(self.busy_seconds) - 1.0

    @property
    def bubble(self) -> float:
        """The idle share of the step: 1 - sum(busy) / (ranks x makespan), which is o / (1 + o)."""
        return 1.0 - sum(self.busy_seconds) / (self.makespan_seconds * len(self.busy_seconds))


def replay(operations: Sequence[Computation], transfer_seconds: Callable[[int, int], float] | None = None) -> Replay:
    """Run the operations of all ranks, 0 to p - 1; those of one rank in the order in which they are given.

    `transfer_seconds(sender, receiver)` says how long a result travels between two ranks; without it
    messages take no time. Ranks send and receive while they compute.

    Raises ValueError if there is no work, a kind is unknown, an operation is given twice, or the order is
    deadlocked: ranks would wait for ever, for one another or for an operation that no rank does.
    """
    table = _ComputationTable.of(operations)
    travel = table.travel_seconds(operations, transfer_seconds)
    starts = _start_seconds(operations, table, travel)
    busy = [0.0] * len(table.queues)
    for operation in operations:
        busy[operation.rank] += operation.seconds
    if not sum(busy) > 0.0:
        raise ValueError("the operations take no time at all; give at least one a duration")
    makespan = max(start + operation.seconds for start, operation in zip(starts, operations, strict=True))
    return Replay(tuple(starts), tuple(busy), makespan)


@dataclass(frozen=True)
class _ComputationTable:
    """The operations by number: a result is a place in a flat list, so that looking one up costs an index."""

    num_stages: int
    num_microbatches: int
    queues: list[list[int]]
    """Indices of each rank's operations, in its order."""

    @classmethod
    def of(cls, operations: Sequence[Computation]) -> _ComputationTable:
        if not operations:
            raise ValueError("no operations to replay")
        unknown = {operation.kind for operation in operations} - _KINDS.keys()
        if unknown:
            raise ValueError(f"unknown kind of operation {min(unknown)!r}; there are: {', '.join(KINDS)}")
        queues: list[list[int]] = [[] for _ in range(1 + max(operation.rank for operation in operations))]
        for index, operation in enumerate(operations):
            queues[operation.rank].append(index)
        num_stages = 1 + max(operation.stage for operation in operations)
        num_microbatches = 1 + max(operation.microbatch for operation in operations)
        return cls(num_stages, num_microbatches, queues)

    @property
    def num_results(self) -> int:
        return _NUM_YIELDS * self.num_stages * self.num_microbatches

    def result(self, yields: int, stage: int, microbatch: int) -> int:
        return (yields * self.num_stages + stage) * self.num_microbatches + microbatch

    def needs(self, operation: Computation) -> tuple[int | None, int | None]:
        """The results that an operation is made from: its own stage's, and a neighbour's."""
        _, stage, microbatch, kind, _, _ = operation
        yields, needs_own, step = _KINDS[kind]
        of_stage = None if needs_own is None else self.result(needs_own, stage, microbatch)
        neighbour = stage + step
        if not step or not 0 <= neighbour < self.num_stages:
            return of_stage, None
        return of_stage, self.result(yields, neighbour, microbatch)

    def travel_seconds(
        self, operations: Sequence[Computation], transfer_seconds: Callable[[int, int], float] | None
    ) -> dict[tuple[int, int], float]:
        """(stage, step to the neighbour) -> seconds from there; absent if nothing travels."""
        if transfer_seconds is None:
            return {}
        rank_of = {operation.stage: operation.rank for operation in operations}
        return {
            (stage, step): transfer_seconds(rank_of[stage + step], rank)
            for stage, rank in rank_of.items()
            for step in (-1, +1)
            if rank_of.get(stage + step, rank) != rank
        }


def _start_seconds(
    operations: Sequence[Computation], table: _ComputationTable, travel: dict[tuple[int, int], float]
) -> list[float]:
    """Start of each operation. A rank that must wait goes on when that result is there."""
    num_ranks = len(table.queues)
    starts = [0.0] * len(operations)
    done: list[float | None] = [None] * table.num_results
    waiting: dict[int, list[int]] = {}
    clock, position = [0.0] * num_ranks, [0] * num_ranks
    unsent: list[list[Computation]] = [[] for _ in range(num_ranks)]
    runnable = list(range(num_ranks))
    while runnable:
        rank = runnable.pop()
        queue = table.queues[rank]
        while position[rank] < len(queue):
            index = queue[position[rank]]
            operation = operations[index]
            missing, ready = _ready(operation, table, done, travel)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            starts[index] = max(clock[rank], ready)
            clock[rank] = starts[index] + operation.seconds
            position[rank] += 1
            unsent[rank].append(operation)
            if not operation.sends_with_next:
                for result in _send(unsent[rank], table, done, clock[rank]):
                    runnable.extend(waiting.pop(result, ()))
    _refuse_deadlock(operations, table, position, waiting)
    return starts


def _send(unsent: list[Computation], table: _ComputationTable, done: list[float | None], seconds: float) -> list[int]:
    """Make results known, and return their numbers."""
    results = []
    for operation in unsent:
        result = table.result(_KINDS[operation.kind].yields, operation.stage, operation.microbatch)
        if done[result] is not None:
            raise ValueError(f"{operation.name} comes twice")
        done[result] = seconds
        results.append(result)
    unsent.clear()
    return results


def _ready(
    operation: Computation, table: _ComputationTable, done: list[float | None], travel: dict[tuple[int, int], float]
) -> tuple[int | None, float]:
    """The first result that an operation still lacks, if any, or else when all that it needs is there."""
    of_stage, neighbour = table.needs(operation)
    ready = 0.0
    if of_stage is not None:
        at = done[of_stage]
        if at is None:
            return of_stage, 0.0
        ready = at
    if neighbour is not None:
        at = done[neighbour]
        if at is None:
            return neighbour, 0.0
        if travel:
            at += travel.get((operation.stage, _KINDS[operation.kind].neighbour), 0.0)
        ready = max(ready, at)
    return None, ready


def _refuse_deadlock(
    operations: Sequence[Computation], table: _ComputationTable, position: list[int], waiting: dict[int, list[int]]
) -> None:
    blocked = [(rank, queue) for rank, queue in enumerate(table.queues) if position[rank] < len(queue)]
    if not blocked:
        return
    rank, queue = blocked[0]
    missing = next(result for result, ranks in waiting.items() if rank in ranks)
    stage, microbatch = divmod(missing % (table.num_stages * table.num_microbatches), table.num_microbatches)
    what = ("activation", "input gradient", "weight gradient")[missing // (table.num_stages * table.num_microbatches)]
    raise ValueError(
        f"the order is deadlocked, {len(blocked)} of {len(table.queues)} ranks wait for ever: "
        f"{operations[queue[position[rank]]].name} needs the {what} of stage {stage}, microbatch {microbatch}"
    )
