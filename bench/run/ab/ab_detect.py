"""`bench ab --detect`: as many pairs as the spread of this machine asks for, and no more than decide.

The rule is that of `bench.stats.sequential`. Here it gets the launches of both files, and tells in words the plan and
its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click

from bench.analysis.compare import selection, sides
from bench.analysis.compare.comparison import Settings, compare
from bench.analysis.compare.settling import show_minutes
from bench.analysis.comparison_output.presentation import CompareOptions as Comparing
from bench.core.values import counted, parse_share, show_share
from bench.errors import BenchError
from bench.records.case_names import name_cases
from bench.records.file import Result, load
from bench.stats.change_test import THRESHOLD, SideLaunches
from bench.stats.intervals import median
from bench.stats.power import PairPlan
from bench.stats.sequential import INTERIM_CONFIDENCE, SequentialPairs

MOST_NAMED = 3
"""Cases that are named in a line."""


def parse_detect(detect: str | None, pairs: int | None, threshold: float, is_typed: bool) -> tuple[float, float] | None:
    """The change to detect and the threshold that goes with it; None: nothing is to be detected.

    A change within the threshold counts as the same. So the threshold is half of the change if that is smaller, unless
    one was typed. Raises BenchError for no share, for --pairs with it, and for a typed threshold that hides it.
    """
    if detect is None:
        return None
    share = parse_share("--detect", detect)
    if pairs is not None:
        raise BenchError(f"--detect {detect} with --pairs {pairs}: the one plans the other; leave one of them out")
    if share > threshold:
        return share, threshold
    if is_typed:
        raise BenchError(
            f"--detect {detect} with --threshold {show_share(threshold)}: a change within the threshold counts as the "
            f"same; give a smaller threshold, such as {show_share(share / 2)}"
        )
    return share, share / 2


def plan_detection(
    detect: str | None, pairs: int | None, budget: str | None, comparing: Comparing
) -> tuple[Comparing, Detection | None]:
    """The comparison with the threshold for what is to be detected, and the detection if one was asked for.

    Raises BenchError as `parse_detect` does.
    """
    detected = parse_detect(detect, pairs, comparing.settings().threshold, comparing.threshold is not None)
    if detected is None:
        return comparing, None
    share, threshold = detected
    if threshold != comparing.settings().threshold:
        comparing = replace(comparing, threshold=show_share(threshold))
    return comparing, Detection(share, comparing.settings(), lambda text: click.echo(text, err=True), budget)


class PairedCases(NamedTuple):
    """Cases that both sides have at least two pairs of."""

    names: tuple[str, ...]
    cases: tuple[SideLaunches, ...]


def read_pairs(a: Result, b: Result, settings: Settings) -> PairedCases:
    """The pairs of two files so far, of the cases and metrics that are to be compared."""
    both = sides.build([[a], [b]], settings.allow_unlike)
    metrics = [selection.metric(name, [a, b]) for name in settings.metrics]
    base, new = (side.groups for side in both)
    ids, cases = [], []
    for metric in metrics:
        for case in _common_cases(both, settings):
            one, two = (selection.values(groups[case], metric) for groups in (base, new))
            common = sorted(one.keys() & two.keys())
            if len(common) >= 2:
                of_base, of_new = ([math.log(values[launch]) for launch in common] for values in (one, two))
                ids.append(case)
                kind = f"{metric.name}/{base[case].leader.suite}"
                spread = selection.spread_within(base[case], new[case]) if settings.controls else None
                cases.append(SideLaunches(of_base, of_new, kind, metric.better == "lower", spread))
    names = name_cases(ids)
    return PairedCases(tuple(names.across(case) for case in ids), tuple(cases))


def _common_cases(both: Sequence[sides.Side], settings: Settings) -> list[str]:
    """Cases of both sides that are to be compared, in the order of the first."""
    base, new = (side.groups for side in both)
    return [case for case, group in base.items() if case in new and selection.fits(group.leader, settings.where)]


@dataclass
class Detection:
    """The plan of one alternation, which it changes as it goes on."""

    share: float
    """Change to detect."""
    settings: Settings
    say: Callable[[str], None]
    budget: str | None = None
    """Budget that the user typed."""

    def __post_init__(self) -> None:
        self.rule = SequentialPairs(math.log1p(self.share), self.settings.threshold)

    def threshold_words(self) -> tuple[str, ...]:
        """Words for `bench compare` to compare with the same threshold."""
        threshold = self.settings.threshold
        return () if threshold == THRESHOLD else ("--threshold", show_share(threshold))

    def next_pairs(self, files: Sequence[Path], made: int, planned: int, most: int, pair_seconds: float | None) -> int:
        """Number of pairs to make in all, if some are made; the same number: this is the end."""
        plans, looks = self.rule.plans_at(made, most), made < planned and self.rule.looks_at(made)
        if not (plans or looks):
            return planned
        a, b = map(load, files)
        pairs = read_pairs(a, b, self.settings)
        if not pairs.cases:
            return planned
        if plans:
            planned = self._plan(pairs, made, planned, most, pair_seconds)
        if made < planned and looks and self._is_decided(pairs, a, b):
            self.say(
                f"stopped after {made} of {planned} pairs: {_all(len(pairs.cases))} decided at "
                f"{show_share(INTERIM_CONFIDENCE)}"
            )
            return made
        return planned

    def _plan(self, pairs: PairedCases, made: int, planned: int, most: int, pair_seconds: float | None) -> int:
        """Plan, and say it the first time and if it has changed."""
        is_first = not self.rule.plans
        # A pair that was cut short is in the files, and its cases do not count.
        lost = made - max(len(case.base) for case in pairs.cases)
        plan, deviations = self.rule.plan(pairs.cases, max(most - lost, 1))
        total = max(made, plan.pairs + lost)
        if is_first or total != planned:
            for line in self.lines(plan, deviations, pairs.names, total - made, pair_seconds):
                self.say(line)
        return total

    def _is_decided(self, pairs: PairedCases, a: Result, b: Result) -> bool:
        if self.rule.decided(pairs.cases) < len(pairs.cases):
            return False
        return not compare([a], [[b]], self.settings).counts()["unclear"]

    def lines(
        self,
        plan: PairPlan,
        deviations: Sequence[float],
        names: Sequence[str],
        further: int,
        pair_seconds: float | None,
    ) -> list[str]:
        """The plan in words."""
        lines = [f"{self._spread(deviations)}; {self._reach(plan)}: {_further(further, pair_seconds)}"]
        if plan.hidden:
            hidden = list(dict.fromkeys(names[number] for number in plan.hidden))
            more = f" and {len(hidden) - MOST_NAMED} more" if len(hidden) > MOST_NAMED else ""
            lines.append(f"probably not found in {', '.join(hidden[:MOST_NAMED])}{more}, which vary too much")
        if not plan.shows_same:
            lines.append(
                f"most unchanged cases stay unclear: {plan.pairs} pairs do not show that a case is the same within "
                f"{show_share(self.settings.threshold)}"
            )
        return lines

    def _spread(self, deviations: Sequence[float]) -> str:
        typical = f"{100 * median(deviations):.2g}%"
        if len(deviations) == 1:
            return f"the sides of a pair differ by {typical} by chance (standard deviation)"
        return (
            f"the sides of a pair differ by {typical} by chance (standard deviation, median of {len(deviations)} cases)"
        )

    def _reach(self, plan: PairPlan) -> str:
        asked = show_share(self.share)
        if plan.finds:
            return f"{plan.pairs} pairs find a change of {asked} with a power of 80%"
        holds = (
            f"{plan.pairs} pairs" if self.budget is None else f"--budget {self.budget} holds {plan.pairs} pairs, which"
        )
        if plan.smallest_shift is None:
            return f"{holds} do not find a change of {asked}, nor a much larger one"
        return f"{holds} do not find a change of {asked}, but one of {100 * math.expm1(plan.smallest_shift):.2g}%"


def _further(pairs: int, pair_seconds: float | None) -> str:
    if not pairs:
        return "no more are needed"
    time = "" if pair_seconds is None else f", about {show_minutes(pairs * pair_seconds)}"
    return f"{pairs} more{time}"


def _all(number: int) -> str:
    return "the case is" if number == 1 else f"all {counted(number, 'case')} are"
