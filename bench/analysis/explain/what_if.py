"""Simulation of a step: how long would it take if no rank were slow, or only this rank, stage or link?

After "Understanding Stragglers in Large Model Training Using What-if Analysis" (Lin et al., OSDI 2025). A step is a
graph of operations with one duration each; it is run again

    actual    with the durations as they were (without the gaps that no operation explains)
    ideal     every compute operation at the mean of its kind, every communication at the median of its kind
    fixed     as it was, but the operations of one rank, stage or link as in the ideal
    only      as in the ideal, but the operations of one rank, stage or kind as they were

and from the step times follow

    slowdown        S = actual / ideal, means over the steps (equation 1)
    wasted share    1 - 1 / S
    explained by X  (actual - fixed X) / (actual - ideal); above 1 if others are faster than the mean (equation 5)
    slowdown by X   only X / ideal (equations 2 and 4)

Durations are those of each single operation, not means of them: if ranks wait for the last of several, random
stragglers make the expectation of the maximum larger than the maximum of the expectations.

The duration of a communication is apart from waiting: end - the latest start among its peers. The time before that
is the wait for the last of them, which the graph gives back when the step is run again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bench.analysis.explain.dag import Dag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Seconds = NDArray[np.float64]
    Mask = NDArray[np.bool_]

WORST_SHARE = 0.03
"""M_W is what the worst 3% of the ranks explain, at least one rank (section 4.2 of the paper)."""


@dataclass(frozen=True)
class Operations:
    """The operations of a step, with a lane for each that was recorded: arrays are [operation] or [operation, step]."""

    seconds: Seconds
    """[operation, step]: own duration; of a communication without the wait for its peers."""
    kind: Numbers
    """[operation]: index into `kinds`."""
    kinds: tuple[str, ...]
    communicates: Mask
    """[operation]: its ideal is the median of its kind, not the mean."""
    places: Mapping[str, Numbers]
    """Place that can be fixed -> [operation] its number there, -1 for none: `rank`, `dp_rank`, `stage`, `link`."""
    before: Numbers
    after: Numbers
    """[edge]: operation `before` ends before operation `after` can begin."""
    group: Numbers
    """[operation]: number of the meeting that a communication needs, 0 to num_groups - 1; -1: it waits for no peer."""

    @property
    def num_operations(self) -> int:
        return len(self.kind)

    @cached_property
    def graph(self) -> Dag:
        """Nodes: the operations, then one of no duration for each meeting, when all members have begun."""
        num_groups = int(self.group.max(initial=-1)) + 1
        meeting = self.num_operations + self.group
        meets = self.group >= 0
        # What comes before a member comes before the meeting; the member's own transfer begins at the meeting.
        after = np.where(meets[self.after], meeting[self.after], self.after)
        members = np.flatnonzero(meets)
        return Dag(
            self.num_operations + num_groups,
            np.concatenate([self.before, meeting[members]]),
            np.concatenate([after, members]),
        )

    def run(self, seconds: Seconds) -> Seconds:
        """[step]: the step time with other durations, [operation, step]."""
        meetings = self.graph.num_nodes - self.num_operations
        return self.graph.makespans(np.concatenate([seconds, np.zeros((meetings, seconds.shape[1]))]))

    def ideal_seconds(self) -> Seconds:
        """[operation, step]: mean of the kind over ranks, stages and steps; of communication the median."""
        ideal = np.empty_like(self.seconds)
        for number in range(len(self.kinds)):
            of_kind = self.kind == number
            if not of_kind.any():
                continue
            typical = np.median if bool(self.communicates[of_kind][0]) else np.mean
            ideal[of_kind] = typical(self.seconds[of_kind])
        return ideal


@dataclass(frozen=True)
class WhatIf:
    """The scenarios of one set of steps; all times are means over the steps, in seconds."""

    operations: Operations

    @cached_property
    def _ideal_durations(self) -> Seconds:
        return self.operations.ideal_seconds()

    @cached_property
    def actual_steps(self) -> Seconds:
        """[step]"""
        return self.operations.run(self.operations.seconds)

    @cached_property
    def actual(self) -> float:
        return float(self.actual_steps.mean())

    @cached_property
    def ideal(self) -> float:
        # The same in every step: one lane says it all.
        return float(self.operations.run(self._ideal_durations[:, :1])[0])

    @property
    def slowdown(self) -> float:
        return self.actual / self.ideal

    @property
    def wasted_share(self) -> float:
        return 1.0 - 1.0 / self.slowdown

    def fixed_steps(self, chosen: Mask) -> Seconds:
        """[step]: time with the chosen operations as in the ideal."""
        return self.operations.run(np.where(chosen[:, None], self._ideal_durations, self.operations.seconds))

    def fixed(self, chosen: Mask) -> float:
        """Step time with the chosen operations as in the ideal."""
        return float(self.fixed_steps(chosen).mean())

    def only(self, chosen: Mask) -> float:
        """Step time of the ideal with the chosen operations as they were."""
        return float(
            self.operations.run(np.where(chosen[:, None], self.operations.seconds, self._ideal_durations)).mean()
        )

    def explained(self, chosen: Mask) -> float | None:
        """Share of actual - ideal that is gone with the chosen operations as in the ideal; None if nothing is lost."""
        lost = self.actual - self.ideal
        return None if lost <= 0 else (self.actual - self.fixed(chosen)) / lost

    def num_steps_explained(self, chosen: Mask, share: float) -> int:
        """Number of steps that lose time, and get back at least a share of it with the chosen operations fixed."""
        lost = self.actual_steps - self.ideal
        return int(np.sum((lost > 0) & (self.actual_steps - self.fixed_steps(chosen) >= share * lost)))

    def at(self, place: str, *numbers: int) -> Mask:
        """The operations of some ranks, stages or links."""
        return np.isin(self.operations.places[place], numbers)

    def numbers(self, place: str) -> list[int]:
        """All that there is of a place."""
        numbers = np.unique(self.operations.places.get(place, np.empty(0, dtype=np.int64)))
        return [int(number) for number in numbers if number >= 0]

    def slowdown_by(self, place: str) -> dict[int, float]:
        """Number -> slowdown by the operations there alone: only / ideal."""
        return {number: self.only(self.at(place, number)) / self.ideal for number in self.numbers(place)}

    def slowdown_by_kind(self) -> dict[str, float]:
        """Kind -> slowdown by its operations alone."""
        kind = self.operations.kind
        return {name: self.only(kind == number) / self.ideal for number, name in enumerate(self.operations.kinds)}

    @cached_property
    def rank_slowdowns(self) -> dict[int, float]:
        """Rank -> the smaller of the slowdowns by its data-parallel rank and by its stage (equation 4).

        So a thousand ranks take as many runs as there are rows and columns. Without both, each rank's own.
        """
        places = self.operations.places
        if "dp_rank" not in places or "stage" not in places:
            return self.slowdown_by("rank")
        rows, columns = self.slowdown_by("dp_rank"), self.slowdown_by("stage")
        both = {}
        for rank in self.numbers("rank"):
            index = int(np.argmax(places["rank"] == rank))
            both[rank] = min(rows[int(places["dp_rank"][index])], columns[int(places["stage"][index])])
        return both

    @property
    def worst_ranks(self) -> list[int]:
        """The slowest 3% of the ranks, at least one, the worst first."""
        scores = self.rank_slowdowns
        count = math.ceil(WORST_SHARE * len(scores))
        return sorted(scores, key=lambda rank: (-scores[rank], rank))[:count]

    @property
    def explained_by_worst_ranks(self) -> float | None:
        """M_W."""
        return self.explained(self.at("rank", *self.worst_ranks))

    @property
    def explained_by_last_stage(self) -> float | None:
        """M_S; None without stages."""
        stages = self.numbers("stage")
        return self.explained(self.at("stage", stages[-1])) if len(stages) > 1 else None
