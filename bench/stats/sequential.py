"""Sequential rule of `bench ab --detect`: plan the pairs from their spread, and stop early if all cases are decided.

A test at 95% after every pair, which stops at the first difference, finds one in the end. So the looks before the
last ask for 99.9%, which leaves nearly all of the error to the last look, at the usual 95%. Sources: J. L. Haybittle,
"Repeated assessment of results in clinical trials of cancer treatment", Br. J. Radiol. 44 (1971) 793; R. Peto et al.,
Br. J. Cancer 34 (1976) 585. The plan is made from the spread alone, which says nothing of the change, once from the
first pairs and once later: an internal pilot (J. Wittes and E. Brittain, Stat. Med. 9 (1990) 65).
Ending at a number that follows from the spread makes somewhat more false alarms than a fixed number:
results/evidence/sequential.md has simulated error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.stats.change_test import SideLaunches, estimate, judge
from bench.stats.power import FEWEST_PAIRS, MOST_PAIRS, PairPlan, plan_pairs

INTERIM_CONFIDENCE = 0.999
FIRST_PLAN_PAIRS, SECOND_PLAN_PAIRS = 4, 10
"""Pairs after which the plan is made; the second time earlier if fewer are planned."""
FIRST_LOOK_PAIRS, LOOK_PAIRS = 6, 2
"""Pairs before the first look, and from one look to the next."""


@dataclass
class SequentialPairs:
    """Number of pairs to make for a change of a size, as the pairs so far tell."""

    shift: float
    """Size of the change, in logarithms."""
    threshold: float
    plans: list[PairPlan] = field(default_factory=list)

    def plans_at(self, pairs: int, most: int = MOST_PAIRS) -> bool:
        """True if a plan is due after this number of pairs."""
        if not self.plans:
            return pairs >= min(FIRST_PLAN_PAIRS, most)
        return len(self.plans) == 1 and pairs >= min(SECOND_PLAN_PAIRS, self.plans[0].pairs)

    def plan(self, cases: Sequence[SideLaunches], most: int = MOST_PAIRS) -> tuple[PairPlan, list[float]]:
        """The plan by the spread of the pairs so far, with each case's standard deviation of a pair.

        Each case needs two pairs.
        """
        deviations = [math.sqrt(one.variance) for one in estimate(cases, paired=True)]
        pairs = max(len(case.base) for case in cases)
        # A plan is only ever raised: one that follows a spread which is small by chance makes more false alarms.
        fewest = max([pairs, FEWEST_PAIRS, *(plan.pairs for plan in self.plans)])
        plan = plan_pairs(deviations, self.shift, self.threshold, fewest, most)
        self.plans.append(plan)
        return plan, deviations

    def looks_at(self, pairs: int) -> bool:
        """True if the data may end the pairs early after this number of them."""
        return pairs >= FIRST_LOOK_PAIRS and pairs % LOOK_PAIRS == 0

    def decided(self, cases: Sequence[SideLaunches]) -> int:
        """Number of cases that are decided at 99.9%, with the verdict that they have at 95%."""
        estimates = estimate(cases, paired=True)
        usual = judge(cases, estimates, self.threshold, paired=True)
        strict = judge(cases, estimates, self.threshold, paired=True, confidence=INTERIM_CONFIDENCE)
        return sum(
            one.verdict != "unclear" and one.verdict == other.verdict for one, other in zip(strict, usual, strict=True)
        )
