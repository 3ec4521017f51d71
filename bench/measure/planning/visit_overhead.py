"""Overhead of launches and visits besides samples: first guesses, which the measured values of a run replace.

A guess only decides until the run knows better; the figures are from two cores of a virtual machine. Nothing is learnt
of a suite from one of its cases: the second tells which of the two was the odd one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STARTUP_SECONDS = {"cpu": 6.0, "cuda": 20.0}
"""Device type -> a launch before its first case: torch's import on every rank, and on GPUs contexts and NCCL."""
OVERHEAD_SECONDS = {
    "collective": 0.15,
    "compute": 0.2,
    "point_to_point": 0.25,
    "transfer": 0.4,
    "tensor_parallel": 0.3,
    "data_parallel": 0.4,
    "inference": 0.4,
    "concurrent": 0.5,
    "overlap": 1.0,
    "expert_parallel": 0.5,
    "context_parallel": 0.6,
    "input_pipeline": 2.0,
    "checkpoint": 1.5,
    "pipeline_parallel": 1.3,
    "training_step": 1.5,
}
"""Suite -> what a visit to a case takes beyond the time meant for samples: prepare, checks, warm-up, trace."""
OTHER_OVERHEAD_SECONDS = 0.3
FEWEST_FOR_SUITE = 2
"""Cases of a suite that are known before they count."""
FEWEST_FOR_MACHINE = 3
"""Cases of any suite that are known before they say how fast the machine is against the guesses."""
FASTEST, SLOWEST = 0.1, 10.0
"""Bounds of the machine's factor against the guesses."""
CLOSING_SECONDS = 1.5
"""Guess of what it takes from the last case to the end of the run: the ranks' end, and the tables."""


def startup_seconds(device_type: str) -> float:
    """First guess of one launch before its first case."""
    return STARTUP_SECONDS.get(device_type, max(STARTUP_SECONDS.values()))


def guess_overhead(suite: str) -> float:
    """Seconds that a visit to a case of a suite takes besides its samples, before any is known."""
    return OVERHEAD_SECONDS.get(suite, OTHER_OVERHEAD_SECONDS)


@dataclass(frozen=True)
class VisitCost:
    """Cost of an earlier visit to a case."""

    around_seconds: float
    """Time beyond that meant for its samples."""
    dear_seconds: float | None = None
    """Time of the whole visit, if the case was postponed for its cost."""


class VisitOverheads:
    """Seconds that a visit takes besides its samples: of a case that is known its own, else as like ones tell."""

    def __init__(self, suites: Sequence[str], known: Mapping[int, VisitCost] | None = None) -> None:
        """`suites` has the suite's name of every case in the plan; `known` is from earlier launches, by index."""
        self._suites = suites
        self._seconds: dict[int, list[float]] = {}
        for index, earlier in (known or {}).items():
            self.learn(index, earlier.around_seconds)

    def learn(self, index: int, seconds: float) -> None:
        """A visit to a case took so long besides its samples."""
        self._seconds.setdefault(index, []).append(max(0.0, seconds))

    def expected_seconds(self, index: int) -> float:
        """Return the overhead expected of the next visit to a case."""
        seconds = self._seconds.get(index)
        if seconds:
            return statistics.median(seconds)
        suite = self._suites[index]
        guess = guess_overhead(suite) * self.machine_factor()
        alike = [statistics.median(seconds) for other, seconds in self._seconds.items() if self._suites[other] == suite]
        # With the guess as one more, so that of two the one farther away counts for nothing.
        return statistics.median_low([guess, *alike]) if len(alike) >= FEWEST_FOR_SUITE else guess

    def machine_factor(self) -> float:
        """Return the factor of measured over guessed overheads here: the median over all cases."""
        if len(self._seconds) < FEWEST_FOR_MACHINE:
            return 1.0
        ratios = [
            statistics.median(seconds) / guess_overhead(self._suites[index]) for index, seconds in self._seconds.items()
        ]
        return min(SLOWEST, max(FASTEST, statistics.median(ratios)))
