"""One case as the formulas of metrics see it: its samples in one or several launches, its work, what limits it.

Of several launches the time is the median of the launches' medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.parallelism import step_breakdown
from bench.records.lines.parts import Energy, WorkFacts
from bench.records.samples import LaunchTimes
from bench.stats import intervals
from bench.stats.variance_prior import LEAST_SPREAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP_SHARES = frozenset(step_breakdown.SHARES.values())
LINK = "link"
"""Key of the ceiling that collectives are compared with, besides those of types."""


class Ceiling(NamedTuple):
    """Rate that the devices, or the links between pairs of ranks, sustained in the same file."""

    rate: float
    """FLOP/s of one device, while all of them compute; GB/s in one direction of the median pair of ranks."""
    case: str


@dataclass(frozen=True)
class CaseView:
    """One case as formulas see it. A case that is not ok has no launches, and so no number."""

    main: str
    """The variant that is the case itself."""
    num_ranks: int
    launches: tuple[LaunchTimes, ...]
    work: WorkFacts = field(default_factory=WorkFacts)
    derived: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The suite's own metrics: the known values, one per launch."""
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    """Type -> what the devices sustained; LINK -> what pairs of ranks did."""
    spread: Callable[[], tuple[float, float] | None] = lambda: None
    """Variance of the logarithm of a launch's median, and its degrees of freedom, as the like cases of the file tell;
    None: they do not."""
    energies: tuple[Energy, ...] = ()
    """Those of the launches, if they have one."""
    busy_share: float | None = None
    """Share of a call for which a rank does its own work; mean over the ranks, from spans."""
    peak_flops: Callable[[str], float | None] = lambda _: None
    """Type -> sum over the ranks of the peak dense FLOP/s."""

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """Each launch's median time, in seconds."""
        return tuple(launch.medians[self.main] for launch in self.launches if self.main in launch.medians)

    @cached_property
    def spread_within(self) -> float | None:
        """Interquartile range of the logarithms of a launch's samples, the geometric mean over the launches.

        None if it is not known of each launch.
        """
        spreads = [launch.variants[self.main].spread() for launch in self.launches if self.main in launch.variants]
        known = [math.log(max(spread, LEAST_SPREAD)) for spread in spreads if spread is not None]
        return math.exp(fmean(known)) if known and len(known) == len(spreads) else None

    @cached_property
    def seconds(self) -> float | None:
        return intervals.median(self.medians) if self.medians else None

    @cached_property
    def all_seconds(self) -> NDArray[np.float64]:
        """Every sample of every launch."""
        parts = [launch.slowest[self.main] for launch in self.launches if self.main in launch.slowest]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def ordered_seconds(self) -> NDArray[np.float64]:
        """Every sample of every launch in ascending order, from which quantiles are read directly."""
        return np.sort(self.all_seconds)

    @cached_property
    def interval(self) -> intervals.Interval | None:
        """95%: of the median within the only launch, or between launches (t, logarithms of their medians).

        Three launches that happen to agree do not make a case sure: their variance is taken to be no less than what
        like cases suggest (`bench.stats.variance_prior`), and runs to differ by more than their launches.
        """
        if len(self.medians) > 1:
            return intervals.log_t_interval(self.medians, spread=self.spread())
        return intervals.median_interval(self.ordered_seconds) if self.medians else None

    @property
    def undisturbed_seconds(self) -> float | None:
        """The faster half of a launch's samples, the median over the launches."""
        variants = [launch.variants[self.main] for launch in self.launches if self.main in launch.variants]
        known = [seconds for variant in variants if (seconds := variant.undisturbed()) is not None]
        return intervals.median(known) if known else None

    @property
    def interval_kind(self) -> str | None:
        if self.interval is None:
            return None
        return "between_launches" if len(self.medians) > 1 else "within_launch"

    def rate(self, amount: float | None) -> float | None:
        """An amount of the work per second of the case's time."""
        return None if amount is None or not self.seconds else float(amount) / self.seconds

    def ratio(self, variant: str) -> float | None:
        """Time of a variant over the time of the case: the median of the launches' ratios, like with like."""
        ratios = [
            launch.medians[variant] / launch.medians[self.main]
            for launch in self.launches
            if variant in launch.medians and launch.medians.get(self.main)
        ]
        return intervals.median(ratios) if ratios else None

    def suite_metric(self, name: str) -> float | None:
        """A metric that the suite derived: the median of the launches that know it.

        Shares of a step are the mean, so that they add up to the step.
        """
        values = self.derived.get(name, ())
        if not values or not self.launches:
            return None
        return fmean(values) if name in _STEP_SHARES else intervals.median(values)

    @property
    def joules(self) -> float | None:
        """Joules of one call: the median of the launches that know it."""
        return _median_known(energy.joules for energy in self.energies)

    @property
    def idle_watts(self) -> float | None:
        """Power of the devices without work: the median of the launches that know it."""
        return _median_known(energy.idle_watts for energy in self.energies)

    def joules_for(self, amount: float | None) -> float | None:
        """Joules for one unit of an amount of the work."""
        return None if not amount or self.joules is None else self.joules / float(amount)

    @property
    def ceiling(self) -> Ceiling | None:
        """Ceiling of the type that the case computes in; of the links if it is communication."""
        return self.ceilings.get(self.work.flops_dtype or LINK)


def _median_known(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return intervals.median(known) if known else None
