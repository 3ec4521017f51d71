"""Pairs of launches that a budget holds: the cost of a launch, and advice if the budget cannot hold them.

A launch costs its start (two interpreters after each other, torch, the process groups) and, for each case, what goes
before and after the samples and enough samples for a median that can be believed. Before the first launch that is a
guess on the low side; afterwards it is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.core.values import counted, parse_seconds
from bench.errors import BenchError
from bench.measure.engine.timing.stop_rule import MIN_ROUNDS
from bench.measure.planning.budget_fit import MIN_CASE_SECONDS, sampling_seconds
from bench.measure.planning.visit_overhead import STARTUP_SECONDS
from bench.records.file import Result
from bench.records.lines.header import PlannedCase
from bench.records.lines.kinds import Measurement
from bench.records.saved_plan import SIDES
from bench.records.visits import num_samples, was_left_out

FEWEST_PAIRS = 3
"""Least pairs that a budget must hold: an interval from two has no use."""
ENOUGH_SAMPLES = 20
"""Samples of each case in a launch, or as many as its preset's time for a case holds."""
RESERVE_SECONDS, RESERVE_SHARE = 5.0, 0.03
"""Time and share of a budget for the interpreters' starts and ends, and for the comparison."""
ACCEPTED_FACTOR, ADVICE_FACTOR = 1.1, 1.35
"""Factors by which later launches may take longer than the first: to accept a budget, and to advise one."""
UNKNOWN_FACTOR = 1.5
"""Least factor to raise a budget in which not every case could be measured once."""


@dataclass(frozen=True)
class LaunchCost:
    """Time of one launch of a side in which each case has enough samples."""

    startup_seconds: float
    cases_seconds: float
    num_cases: int
    num_unknown: int = 0
    """Cases that no launch has measured yet, so that their part is a guess."""

    @property
    def seconds(self) -> float:
        return self.startup_seconds + self.cases_seconds


def guess_cost(cases: Sequence[PlannedCase]) -> LaunchCost:
    """The least that a launch can be expected to cost, before any was made."""
    lasting = sum(case.min_seconds for case in cases)
    return LaunchCost(min(STARTUP_SECONDS.values()), len(cases) * MIN_CASE_SECONDS + lasting, len(cases))


def measured_cost(result: Result, launch: int, wall_seconds: float) -> LaunchCost:
    """Cost by a launch that a side has made, and that took so long in all."""
    records = [record for record in result.measurements if record.launch == launch]
    busy = sum(record.seconds or 0.0 for record in records)
    visits = result.plan.visits
    planned = [record for record in records if record.visit < visits and not was_left_out(record)]
    by_case: dict[str, list[Measurement]] = {}
    for record in planned:
        by_case.setdefault(record.case, []).append(record)
    most = result.plan.case_seconds or math.inf
    lasting = {case.id: case.min_seconds for case in result.plan.cases}
    costs = [max(lasting.get(case, 0.0), _case_seconds(visits_to, most)) for case, visits_to in by_case.items()]
    typical = sum(costs) / len(costs) if costs else sampling_seconds(result.plan.case_seconds or 0.0, visits)
    num_cases = len(result.planned_cases())
    unknown = num_cases - len(costs)
    return LaunchCost(max(0.0, wall_seconds - busy), sum(costs) + unknown * typical, num_cases, unknown)


def _case_seconds(visits: Sequence[Measurement], most_seconds: float) -> float:
    """Seconds of all visits to a case in which it has enough samples, or its time for them."""
    seconds = sum(record.seconds or 0.0 for record in visits)
    counts = sum(num_samples(record) for record in visits)
    if not counts:
        return seconds
    sampled = sum(map(_sampled_seconds, visits))
    visit_seconds = sampled / counts
    around = max(0.0, seconds - sampled)
    return around + max(MIN_ROUNDS * visit_seconds, min(ENOUGH_SAMPLES * visit_seconds, most_seconds))


def _sampled_seconds(record: Measurement) -> float:
    """The timed part of a visit, as far as its samples tell: that of the slowest rank, variant by variant."""
    return sum(
        float(variant.nanoseconds.sum(axis=1).max()) / 1e9
        for variant in record.variants.values()
        if variant.nanoseconds is not None
    )


def mean_cost(costs: Sequence[LaunchCost]) -> LaunchCost:
    """Mean cost of the launches so far, of both sides."""
    count = len(costs)
    return LaunchCost(
        sum(cost.startup_seconds for cost in costs) / count,
        sum(cost.cases_seconds for cost in costs) / count,
        max(cost.num_cases for cost in costs),
        min(cost.num_unknown for cost in costs),
    )


def launch_budget(budget_seconds: float) -> float:
    """Part of a budget that is for launches."""
    return max(0.0, budget_seconds - max(RESERVE_SECONDS, RESERVE_SHARE * budget_seconds))


def pairs_within(seconds: float, cost: LaunchCost, launches_made: int = 0) -> int:
    """Whole pairs there will be, if this much time is left for further launches."""
    return (launches_made + max(0, int(seconds / cost.seconds))) // len(SIDES)


def needed_seconds(cost: LaunchCost, pairs: int, spent_seconds: float = 0.0) -> float:
    """The budget that holds this many pairs, besides what is spent before the first."""
    launches = ADVICE_FACTOR * len(SIDES) * pairs * cost.seconds + spent_seconds
    return max(launches + RESERVE_SECONDS, launches / (1 - RESERVE_SHARE))


def too_short(budget: str, cost: LaunchCost, pairs: int, spent_seconds: float, is_known: bool) -> BenchError:
    """Error for a budget, as it was typed, that cannot hold the fewest pairs.

    If some cases could not even be measured once, their part of what is needed is a guess, and more than there was.
    """
    seconds = needed_seconds(cost, pairs, spent_seconds)
    if cost.num_unknown:
        seconds = max(seconds, UNKNOWN_FACTOR * parse_seconds("--budget", budget))
    here = "starting takes" if is_known else "starting takes about"
    cases = counted(cost.num_cases, "case")
    least = "about" if is_known else "at least"
    needed = duration(seconds)
    return BenchError(
        f"--budget {budget} is too short: {here} {cost.startup_seconds:.0f} s here; {pairs} pairs of {cases} need "
        f"{least} {needed}; give more, or name fewer cases"
    )


def duration(seconds: float) -> str:
    """A time as one would type it, rounded up: `50s`, `100s`, `2m`, `3.5m`."""
    if seconds <= 110:
        return f"{10 * math.ceil(seconds / 10)}s"
    return f"{math.ceil(2 * seconds / 60) / 2:g}m"


@dataclass
class PairBudget:
    """A budget's time left, and the pairs that it still holds; all times are seconds since `bench ab` began."""

    budget: str
    """Text that the user typed."""
    seconds: float
    most_pairs: int
    made: int = 0
    """Launches of both sides so far; those of an alternation that is gone on with count."""
    costs: list[LaunchCost] = field(default_factory=list)
    pairs: int = 0
    """Number of pairs there will be, as far as is known; 0: not yet."""

    @property
    def fewest(self) -> int:
        return min(FEWEST_PAIRS, self.most_pairs)

    @property
    def known(self) -> LaunchCost:
        """Cost of a launch, by those that were made."""
        return mean_cost(self.costs)

    def left(self, elapsed: float, kept: float = 0.0) -> float:
        """Seconds left for launches, minus what is `kept` for something else."""
        return max(0.0, launch_budget(self.seconds) - elapsed - kept)

    def launch_seconds(self, elapsed: float, kept: float = 0.0) -> float:
        """Seconds for the next launch: an equal part; for the first, of as few launches as there may be."""
        pairs = max(self.pairs or self.fewest, self.made // len(SIDES) + 1)
        return self.left(elapsed, kept) / (len(SIDES) * pairs - self.made)

    def learn(self, cost: LaunchCost, began: float, elapsed: float, kept: float = 0.0) -> None:
        """A launch that began and ended then turned out to cost this much.

        Raises BenchError if it was the first of all and shows that the budget does not hold the fewest pairs.
        """
        self.costs.append(cost)
        self.made += 1
        cost_known, left = self.known, self.left(elapsed, kept)
        fitting = min(self.most_pairs, pairs_within(left, cost_known, self.made))
        is_tight = pairs_within(left / ACCEPTED_FACTOR, cost_known, self.made) < self.fewest
        # The first launch had all the time that one of so few can have: what it left out, the others would leave out.
        if self.made == 1 and (is_tight or cost_known.num_unknown):
            raise too_short(self.budget, cost_known, self.fewest, began, is_known=True)
        begun = -(-self.made // len(SIDES))
        starts = (len(SIDES) * self.fewest - self.made) * cost_known.startup_seconds
        # What was accepted is seen through, if with fewer samples, as long as there is more than starting to it.
        self.pairs = max(fitting, begun, self.fewest if left > starts else 0)
