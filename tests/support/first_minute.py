"""A run on a clock of its own: recorded times of cases go through the planner, and nothing waits.

The times are of a smoke run on two cores (a virtual machine, Sapphire Rapids, torch 2.13): what each case took around
its samples, one round of all its variants, and one call of the case itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.measure.engine.timing.case_cost import DEAR_ROUNDS, WARMUP_ROUNDS, CaseCost
from bench.measure.engine.timing.stop_rule import MIN_ROUNDS
from bench.measure.engine.worker import timeout_seconds
from bench.measure.planning.plan import Plan, Turn
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.time_budget import NextTurn, TimeBudget
from bench.records.lines.header import PlannedCase
from tests.support.plans import a_plan

RECORDED_MS: tuple[tuple[str, float, float, float], ...] = (
    ("compute", 272, 50.6, 23.79),
    ("collective", 387, 0.82, 0.82),
    ("tensor_parallel", 192, 17.53, 7.49),
    ("pipeline_parallel", 1339, 38.78, 19.73),
    ("training_step", 898, 70.7, 70.7),
    ("point_to_point", 305, 5.83, 3.01),
    ("overlap", 679, 50.96, 24.44),
    ("data_parallel", 249, 18.07, 10.15),
    ("inference", 302, 13.22, 10.46),
    ("compute", 288, 5.27, 1.79),
    ("collective", 336, 0.3, 0.3),
    ("tensor_parallel", 213, 16.34, 5.58),
    ("pipeline_parallel", 292, 39.86, 19.86),
    ("point_to_point", 193, 9.88, 3.44),
    ("compute", 223, 29.06, 10.0),
    ("collective", 353, 0.76, 0.76),
    ("tensor_parallel", 275, 26.68, 12.76),
    ("pipeline_parallel", 641, 108.9, 71.52),
    ("compute", 148, 1.35, 0.44),
    ("collective", 433, 1.46, 1.46),
    ("tensor_parallel", 279, 20.22, 7.59),
    ("pipeline_parallel", 323, 45.32, 26.52),
    ("compute", 107, 13.04, 4.38),
    ("collective", 274, 0.45, 0.45),
    ("tensor_parallel", 292, 6.52, 3.02),
    ("compute", 155, 4.82, 1.63),
    ("collective", 369, 0.44, 0.44),
    ("tensor_parallel", 313, 26.42, 12.53),
    ("compute", 141, 18.13, 6.09),
    ("collective", 401, 0.71, 0.71),
    ("compute", 141, 18.44, 6.21),
    ("collective", 314, 0.46, 0.46),
    ("compute", 484, 0.91, 0.31),
    ("collective", 372, 0.33, 0.33),
    ("compute", 533, 0.69, 0.24),
    ("collective", 394, 0.23, 0.23),
    ("collective", 277, 1.97, 1.97),
    ("collective", 433, 1.0, 1.0),
    ("collective", 51, 29.79, 29.79),
    ("collective", 344, 1.14, 1.14),
    ("collective", 184, 12.77, 12.77),
    ("collective", 352, 0.32, 0.32),
    ("collective", 372, 0.34, 0.34),
)
"""(suite, around the samples, a round, a call) of the smoke preset's cases, in the plan's order."""
STARTUP_SECONDS, BUDGET_SECONDS, CAP_SECONDS = 6.0, 52.5, 0.5
PREPARE, CHECK = 0.4, 0.3
"""Shares of what is around the samples: preparing, and each of two checks."""


@dataclass(frozen=True)
class Times:
    """What a case truly takes, in seconds."""

    suite: str
    around: float
    round: float
    call: float

    def times(self, factor: float) -> Times:
        return Times(self.suite, self.around * factor, self.round * factor, self.call * factor)


RECORDED = tuple(Times(suite, *(ms / 1000 for ms in rest)) for suite, *rest in RECORDED_MS)


@dataclass(frozen=True)
class Done:
    """A turn that was made, or put off."""

    turn: Turn
    began: float
    seconds: float
    samples: int
    """0: it was postponed."""
    choice: NextTurn
    expected_seconds: float
    """What the planner said after it of all that is to come."""


@dataclass
class Replay:
    """One launch: the planner's choices, and the clock moved by what they take."""

    cases: Sequence[Times]
    seconds: float = BUDGET_SECONDS - STARTUP_SECONDS
    noise: random.Random | None = None
    """Each turn takes e to the normal of it as long, at a deviation of 0.3; None: as recorded."""
    disturbed_share: float = 0.0
    now: float = 0.0
    done: list[Done] = field(default_factory=list)

    def plan(self) -> Plan:
        suites = enumerate(times.suite for times in self.cases)
        cases = tuple(PlannedCase(suite, f"{suite}/run[n={n}]", {"n": n}) for n, suite in suites)
        return a_plan(cases=cases, launches=1, timeout_seconds=PRESETS["smoke"].timeout_seconds)

    def run(self) -> Replay:
        suites, plan = [times.suite for times in self.cases], self.plan()
        pace = TimeBudget(self.seconds, CAP_SECONDS, plan.order(0), suites, now=lambda: self.now)
        while (choice := pace.choose()) is not None:
            began, times = self.now, self._times(choice.turn[0])
            samples, dear_seconds = self._take(choice, times)
            limit = timeout_seconds(plan, self.seconds - began, choice)
            if self.now - began > limit:  # cut off: the ranks are ended, and there is no time to start others
                self.now = began + limit
                break
            took = self.now - began
            if dear_seconds is not None:
                pace.put_off(choice.turn, dear_seconds)
            else:
                disturbed = self.noise is not None and self.noise.random() < self.disturbed_share
                pace.finish(choice.turn, took, choice.seconds, disturbed)
                if choice.is_dear:
                    pace.give_up(choice.turn[0])
            self.done.append(Done(choice.turn, began, took, samples, choice, pace.expected_seconds()))
        return self

    def _times(self, index: int) -> Times:
        recorded = self.cases[index]
        return recorded if self.noise is None else recorded.times(self.noise.lognormvariate(0.0, 0.3))

    def _take(self, choice: NextTurn, times: Times) -> tuple[int, float | None]:
        """Move the clock as a turn does; the samples taken, and what another turn takes where it is put off."""
        began = self.now
        self.now += (PREPARE + CHECK) * times.around
        if choice.is_dear:
            self.now += (1 + DEAR_ROUNDS) * times.call + CHECK * times.around
            return DEAR_ROUNDS, None
        variants = max(1, round(times.round / times.call))
        price = CaseCost(PREPARE * times.around, CHECK * times.around, True, (WARMUP_ROUNDS + DEAR_ROUNDS) * variants)
        most = float("inf") if choice.most_seconds is None else choice.most_seconds
        if price.is_dear(most - (self.now - began)):
            return 0, price.dear_seconds
        self.now += times.call
        price = CaseCost(price.prepare_seconds, price.check_seconds, True, price.calls, 0, times.call)
        if price.is_dear(most - (self.now - began)):
            return 0, price.dear_seconds
        warm_up = WARMUP_ROUNDS * times.round
        left = most - (self.now - began) - price.after_seconds
        aim = left - most + (choice.aim_seconds or most)
        left = min(left, max(price.calls * times.call, aim)) - warm_up
        rounds = max(1, min(int(left / times.round), max(MIN_ROUNDS, round(choice.seconds / times.round))))
        self.now += warm_up + rounds * times.round + price.after_seconds
        return rounds, None

    @property
    def measured(self) -> Mapping[int, int]:
        """Index of a case -> samples of its turn, in the order made."""
        return {done.turn[0]: done.samples for done in self.done if done.samples}

    def readings(self, first: int = 10) -> Iterator[tuple[float, float]]:
        """(the time left as told, as it came to be) after each case from the tenth on, but for the last."""
        made = [done for done in self.done if done.samples]
        for done in made[first - 1 : -1]:
            yield done.expected_seconds, self.now - (done.began + done.seconds)
