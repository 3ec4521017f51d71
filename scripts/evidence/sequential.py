"""False alarms of `bench ab --detect` with and without its early stop: simulated pairs, through the product's own rule.

    python scripts/evidence/sequential.py > results/evidence/sequential.md

Pairs of launches have a difference of logarithms with a set standard deviation, half of its variance a factor that all
cases of a launch share. The noise is Gaussian, or Student's t with 3 degrees of freedom: launches have far outliers.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from bench.stats.change_test import SideLaunches, estimate, judge
from bench.stats.power import MOST_PAIRS
from bench.stats.sequential import SequentialPairs

DETECTED, THRESHOLD = 0.1, 0.05
DEVIATION = 0.08
"""Median over the cases of the standard deviation of a pair's difference of logarithms."""
ALONE = 5
"""Factor of runs of a single case: they are cheap, and have one chance of a false alarm each."""
COMMON_SHARE = 0.5
"""Share of the variance that all cases of a launch have in common."""
CHANGED = ("slower", "faster")


class Setting(NamedTuple):
    """One row of the page."""

    is_heavy: bool
    num_cases: int
    num_changed: int
    """The first of the cases."""
    change: float


SETTINGS = tuple(
    Setting(is_heavy, *cases)
    for is_heavy in (False, True)
    for cases in ((10, 0, 0.0), (10, 3, DETECTED), (10, 10, 0.5), (1, 0, 0.0), (1, 1, DETECTED), (1, 1, 0.5))
)


@dataclass
class Counts:
    """What a way to end the pairs came to, over all runs."""

    pairs: int = 0
    alarms: int = 0
    alarmed_runs: int = 0
    false_shares: float = 0.0
    """Sum over the runs of the share of false ones among the cases called changed."""
    found: int = 0
    wrong_sames: int = 0
    early: int = 0

    def add(self, verdicts: list[str], pairs: int, num_changed: int, is_early: bool) -> None:
        """Count one run whose first cases are changed."""
        alarms = sum(verdict in CHANGED for verdict in verdicts[num_changed:])
        self.pairs += pairs
        self.alarms += alarms
        self.alarmed_runs += alarms > 0
        self.false_shares += alarms / max(1, sum(verdict in CHANGED for verdict in verdicts))
        self.found += verdicts[:num_changed].count("slower")
        self.wrong_sames += verdicts[:num_changed].count("same")
        self.early += is_early


def draw(rng: np.random.Generator, setting: Setting) -> NDArray[np.float64]:
    """Differences of logarithms, [case, pair]; the cases differ in their spread."""
    deviations = DEVIATION * np.exp(0.3 * rng.normal(size=(setting.num_cases, 1)))

    def noise(shape: tuple[int, int]) -> NDArray[np.float64]:
        if not setting.is_heavy:
            return rng.normal(size=shape)
        return rng.standard_t(3, size=shape) / math.sqrt(3)  # its variance is 3

    common, own = noise((1, MOST_PAIRS)), noise((setting.num_cases, MOST_PAIRS))
    mixed = math.sqrt(COMMON_SHARE) * common + math.sqrt(1 - COMMON_SHARE) * own
    shifts = np.zeros((setting.num_cases, 1))
    shifts[: setting.num_changed] = math.log1p(setting.change)
    return deviations * mixed + shifts


def cases_of(differences: NDArray[np.float64], pairs: int) -> list[SideLaunches]:
    """The cases with their first pairs."""
    return [SideLaunches([0.0] * pairs, row[:pairs].tolist(), "simulated") for row in differences]


def verdicts_of(cases: list[SideLaunches]) -> list[str]:
    """The verdicts as the last screen has them."""
    return [one.verdict for one in judge(cases, estimate(cases, paired=True), THRESHOLD, paired=True)]


def simulate(setting: Setting, repeats: int, seed: int) -> dict[str, Counts]:
    """Ways to end the pairs, over the same simulated runs."""
    rng = np.random.default_rng(seed)
    counts = {"as planned, no early stop": Counts(), "`--detect`": Counts(), "at 95% at every look": Counts()}
    for _ in range(repeats):
        differences = draw(rng, setting)
        rule = SequentialPairs(math.log1p(DETECTED), THRESHOLD)
        planned, ends = MOST_PAIRS, dict.fromkeys(counts, 0)
        pairs = 0
        while pairs < planned:
            pairs += 1
            cases = cases_of(differences, pairs)
            if rule.plans_at(pairs):
                planned = rule.plan(cases)[0].pairs
            if pairs == planned or not rule.looks_at(pairs):
                continue
            if not ends["`--detect`"] and rule.decided(cases) == setting.num_cases:
                ends["`--detect`"] = pairs
            # One who looks for a difference stops as soon as there is one.
            if not ends["at 95% at every look"] and any(verdict in CHANGED for verdict in verdicts_of(cases)):
                ends["at 95% at every look"] = pairs
        for name, end in ends.items():
            made = end or planned
            counts[name].add(verdicts_of(cases_of(differences, made)), made, setting.num_changed, bool(end))
    return counts


def main(repeats: int) -> None:
    """Print the document."""
    click.echo("# Simulated: error rates of `bench ab --detect`\n")
    click.echo(
        f"{repeats} **simulated** runs per row of ten cases, {ALONE * repeats} per row of one, `--detect "
        f"{DETECTED:.0%}` and a threshold of {THRESHOLD:.0%}, judged by the product's own rule "
        "(`bench/stats/sequential.py`). This page is what `scripts/evidence/sequential.py` printed.\n"
    )
    click.echo(
        f"The logarithms of a pair differ with a standard deviation of {DEVIATION:.0%}, of single cases between about "
        "half of it and twice it. Half of the variance is common to all cases of a launch. Heavy tails: Student's t "
        "with 3 degrees of freedom. A false alarm is an unchanged case that is called slower or faster. The false "
        "discovery rate is the mean share of false ones among the cases called changed, which the verdicts hold at 5%. "
        "The last of the three ways is the mistake that the rule avoids: to look after every second pair and to stop "
        "at the first difference. All three see the same data.\n"
    )
    heads = [
        "noise", "cases", "changed", "pairs end", "mean pairs", "ended early", "false alarms per case",
        "runs with one", "false discovery rate", "changed cases found", "called the same",
    ]  # fmt: skip
    lines = [heads, [":---", "---:", ":---", ":---"] + ["---:"] * 7]
    for number, setting in enumerate(SETTINGS):
        runs = repeats if setting.num_cases > 1 else ALONE * repeats
        for name, counts in simulate(setting, runs, seed=number).items():
            lines.append(_row(setting, name, counts, runs))
    click.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _row(setting: Setting, name: str, counts: Counts, repeats: int) -> list[str]:
    changed, unchanged = (repeats * number for number in (setting.num_changed, setting.num_cases - setting.num_changed))
    return [
        "heavy tails" if setting.is_heavy else "Gaussian",
        f"{setting.num_cases}",
        f"{setting.num_changed}, {setting.change:.0%} slower" if changed else "none",
        name,
        f"{counts.pairs / repeats:.1f}",
        f"{counts.early / repeats:.0%}",
        f"{counts.alarms / unchanged:.2%}" if unchanged else "-",
        f"{counts.alarmed_runs / repeats:.1%}" if unchanged else "-",
        f"{counts.false_shares / repeats:.1%}" if unchanged else "-",
        f"{counts.found / changed:.0%}" if changed else "-",
        f"{counts.wrong_sames / changed:.1%}" if changed else "-",
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
