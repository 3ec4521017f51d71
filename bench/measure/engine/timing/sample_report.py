"""One rank's report on its samples, besides their times: is its clock right, and did timed calls do their work?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.measure.engine.timing.sampler import Samples

UNLOOKED_NOTE = (
    "no timed call was looked at: the suite has no Work.timed_checks, and a call that did nothing while it was timed "
    "would not be seen"
)


@dataclass(frozen=True)
class SampleReport:
    """Findings of one rank; sent to the others as plain values."""

    clock_trouble: str
    num_looked: int
    """Samples of the case's first variant that were looked at."""
    error: float | None
    """Largest error of any variant's look; None if it is not a number, or if there was no look."""
    tolerance: float
    at: str
    """Variant and sample of the largest error; empty: there was no look."""
    shortcut: str = ""
    """Reason to think that calls do less if their outputs are as they left them; empty: none."""

    def excess(self) -> float:
        """Error above the tolerance: a look found nothing unless it is positive."""
        if not self.at:
            return -math.inf
        return math.inf if self.error is None else self.error - self.tolerance


def sample_report(samples: Samples, main_variant: str) -> SampleReport:
    """Sum up a visit's samples on this rank."""
    looks = samples.looks
    if looks is None or looks.worst is None:
        return SampleReport(samples.clock_trouble, 0, None, 0.0, "")
    error = looks.worst.error
    return SampleReport(
        clock_trouble=samples.clock_trouble,
        num_looked=looks.counts.get(main_variant, 0),
        error=error if math.isfinite(error) else None,
        tolerance=looks.worst.tolerance,
        at=looks.worst_at,
        shortcut=looks.shortcut(),
    )
