"""Looks at what timed calls left behind, so that a call that does nothing while it is timed is found.

The checks before and after the samples spoil the outputs and call the case themselves, so that they say nothing of the
calls between them: a library that returns early if its inputs did not change would pass both. Here the outputs are
spoilt before some of the timed samples, and looked at after them; both outside the timed part. All ranks look at the
same samples, since a look may communicate. They are drawn by chance, since a fault may have a period: at least one of
each block, more until there are ENOUGH_LOOKS, and as many as cost a twentieth of its time.

A call may also do its work only if its output is not as it left it, and so pass every look. The samples that were
looked at then take far longer than the others, which nothing else explains: SHORTCUT_RATIO.

If n looks found nothing, a fault that strikes a share p of the calls, each by chance, would have gone unseen with
probability (1 - p)^n: shares above 3/n are excluded at 95% (the rule of three: Hanley and Lippman-Hand 1983, JAMA 249).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.measure.planning.suite_contract import to_check

if TYPE_CHECKING:
    from bench.suite import Check, TimedCheck

LOOK_SHARE = 0.05
"""Share of a block's time that looks beyond its first one may take."""
ENOUGH_LOOKS, FIRST_LOOKS, ROUNDS_PER_LOOK, FIRST_SHARE = 8, 3, 8, 0.5
"""Number of looks that a case should have. Until it has them, looks may take half of a block's time, and one sample
in eight. The first block has FIRST_LOOKS, since the cost of a look is not known yet."""
SHORTCUT_RATIO = 4.0
"""If even the shortest sample behind spoilt outputs takes this many times as long as three quarters of the others, then
these do not do the same work. Three quarters of those right after a look count for themselves: like the spoilt ones,
they may begin with a rank that another program has kept from its core meanwhile."""
FEWEST_LOOKED, FEWEST_OTHERS = 6, 8
"""Samples behind spoilt outputs, and right after a look, below which times are not compared; and other samples."""


@dataclass
class TimedLooks:
    """The looks of one visit to a case on one rank."""

    checks: Mapping[str, TimedCheck]
    now: Callable[[], float]
    salt: int = 0
    """Rank 0's random number, by which all ranks draw the same samples."""
    counts: dict[str, int] = field(default_factory=dict)
    """Variant -> samples looked at."""
    worst: Check | None = None
    worst_at: str = ""
    """Variant and number of the sample with the largest error."""
    seconds: float = 0.0
    times: dict[str, tuple[list[int], list[int], list[int]]] = field(default_factory=dict)
    """Variant -> nanoseconds of its samples that were looked at, of those right after a look, and of the others."""

    def choose(self, first_round: int, num_rounds: int, num_looks: int) -> frozenset[int]:
        """Return the rounds of a block whose samples are looked at; the same on every rank."""
        if not self.checks or num_looks <= 0:
            return frozenset()
        drawn = random.Random(f"{self.salt}:{first_round}")
        return frozenset(drawn.sample(range(first_round, first_round + num_rounds), min(num_looks, num_rounds)))

    def arm(self, variant: str) -> None:
        """Spoil the outputs of a variant that has a check."""
        check = self.checks.get(variant)
        if check is not None:
            began = self.now()
            check.arm()
            self.seconds += self.now() - began

    def look(self, variant: str, calls: int, number: int) -> None:
        """Look at what a sample of `calls` calls left."""
        check = self.checks.get(variant)
        if check is None:
            return
        began = self.now()
        found = to_check(check.look, check.look(calls))
        self.seconds += self.now() - began
        self.counts[variant] = self.counts.get(variant, 0) + 1
        if self.worst is None or _excess(found) > _excess(self.worst):
            self.worst, self.worst_at = found, f"{variant}, sample {number}"

    def next_number(self, num_rounds: int, round_seconds: float) -> int:
        """Return the number of looks for a block of `num_rounds`; see the top of the file."""
        looked, thinned = max(self.counts.values(), default=0), num_rounds // ROUNDS_PER_LOOK
        if not looked:
            return max(1, min(thinned, FIRST_LOOKS))
        per_look, seconds = self.seconds / looked, num_rounds * round_seconds

        def affordable(share: float) -> int:
            return num_rounds if per_look <= 0 else min(num_rounds, int(share * seconds / per_look))

        return max(1, affordable(LOOK_SHARE), min(ENOUGH_LOOKS - looked, thinned, affordable(FIRST_SHARE)))

    def compare(self, samples: Iterable[tuple[str, int, int]], looked: Container[int]) -> None:
        """Take a block's samples in the order taken: variant, round and nanoseconds; `looked` are rounds."""
        follows = False
        for variant, number, nanoseconds in samples:
            is_looked = number in looked and variant in self.checks
            if variant in self.checks:
                behind, after, others = self.times.setdefault(variant, ([], [], []))
                (behind if is_looked else after if follows else others).append(nanoseconds)
            follows = is_looked

    def shortcut(self) -> str:
        """Reason to think that calls do less if their outputs are as they left them; empty: none."""
        for variant, (behind, after, others) in self.times.items():
            if min(len(behind), len(after)) < FEWEST_LOOKED or len(others) < FEWEST_OTHERS:
                continue
            shortest, usual = min(behind), max(_upper_quartile(after), _upper_quartile(others))
            if shortest > SHORTCUT_RATIO * usual:
                return (
                    f"calls of {variant} do not do their work each time: behind spoilt outputs samples took "
                    f"{shortest / 1e6:.4g} ms or more, and most others {usual / 1e6:.4g} ms or less"
                )
        return ""


def _upper_quartile(samples: Sequence[int]) -> int:
    return sorted(samples)[len(samples) * 3 // 4]


def _excess(check: Check) -> float:
    """Error above the tolerance; infinite for one that is not a number."""
    return math.inf if math.isnan(check.error) else check.error - check.tolerance
