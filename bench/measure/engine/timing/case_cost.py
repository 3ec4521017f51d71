"""Cost of a case from its first calls, which decides if it goes on or waits until all others had their turn.

The check before the samples is the first call: it and what was prepared are paid by then. If no more than a second
check would take more time than the turn may, the case is expensive. If not, one call of the case itself says what
samples take. If there is time for a few, as many are taken as the turn has time for. If not, the case is expensive: it
comes last, and then has one call to warm up and a few samples of itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.core import clock as clocks
from bench.measure.engine import control
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.stop_rule import Limits

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.suite import Work

WARMUP_ROUNDS = 2
DEAR_ROUNDS = 3
DEAR_NOTE = (
    f"expensive: it takes more than its share of the time, so it came last: one call to warm up, {DEAR_ROUNDS} samples "
    "of the case alone"
)


@dataclass(frozen=True)
class Postponement:
    """Outcome of a turn that was postponed, in place of a measurement."""

    dear_seconds: float
    """Time of another turn in the end."""


class PutOff(Exception):  # noqa: N818 - the way out of a case that waits, agreed by all ranks
    """Raised on all ranks alike: the case takes more than its turn may, and gets another turn in the end."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"about {seconds:.3g} s in the end")
        self.seconds = seconds


@dataclass(frozen=True)
class Allowance:
    """Share of the run's time that a turn may take."""

    most_seconds: float | None = None
    """Limit for the whole turn; None: there is no limit."""
    aim_seconds: float | None = None
    """Time to stay within if it allows DEAR_ROUNDS samples; None: `most_seconds`."""
    is_dear: bool = False
    """True: the case was postponed and has its turn now, with one warm-up and DEAR_ROUNDS samples of it alone."""


UNLIMITED = Allowance()


@dataclass(frozen=True)
class CaseCost:
    """Known cost of a case, and the decision that follows from it; pure."""

    prepare_seconds: float
    check_seconds: float
    checks_after: bool
    calls: int
    """Fewest calls of the case and its variants in a turn: to warm up and for DEAR_ROUNDS samples."""
    traced_calls: int = 0
    call_seconds: float = 0.0
    """Seconds of one call of the main variant; 0: not timed yet."""

    @property
    def after_seconds(self) -> float:
        """Seconds of the check and the traced calls after the samples."""
        return (self.check_seconds if self.checks_after else 0.0) + self.traced_calls * self.call_seconds

    def is_dear(self, seconds_left: float) -> bool:
        """Return True if the time left of a turn is too little for the rest of it, as far as is known."""
        return self.calls * self.call_seconds + self.after_seconds > seconds_left

    @property
    def dear_seconds(self) -> float:
        """Seconds of its turn once it was postponed; a call that was not timed may be as long as the check."""
        checks = self.check_seconds * (2 if self.checks_after else 1)
        return self.prepare_seconds + checks + (1 + DEAR_ROUNDS) * (self.call_seconds or self.check_seconds)


@dataclass
class CostProbe:
    """Measures the cost of one case on one rank; rank 0's clock and allowance count on all ranks."""

    rank: RankContext
    allowance: Allowance
    now: Callable[[], float] = clocks.monotonic_seconds
    price: CaseCost | None = None
    _began: float = field(init=False)
    _prepared: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._prepared = self.now()

    def begin_check(self) -> None:
        """The work is there, and its first check comes next."""
        self._prepared = self.now()

    def dear_seconds(self, work: Work, clock: clocks.Clock, timing: str) -> float | None:
        """Return the seconds of another turn in the end if this one is too short for the case; None: it can go on.

        Calls the case once if that may be. None: it can go on.
        """
        if self.allowance.is_dear:
            self.price = CaseCost(0.0, self.now() - self._prepared, work.check_after, 1 + DEAR_ROUNDS)
            return None
        calls_per_round = len(work.variants) * (2 if timing == "streamed" else 1)
        price = CaseCost(
            prepare_seconds=self._prepared - self._began,
            check_seconds=self.now() - self._prepared,
            checks_after=work.check_after,
            calls=(WARMUP_ROUNDS + DEAR_ROUNDS) * calls_per_round,
            traced_calls=work.traced_calls * len(traced_variants(work)),
        )
        has_limit = self.allowance.most_seconds is not None and work.min_seconds is None
        dear, has_limit = self._agree(has_limit and price.is_dear(self._left()), has_limit)
        if has_limit and not dear:
            price = replace(price, call_seconds=self._call_seconds(work, clock))
            dear, has_limit = self._agree(price.is_dear(self._left()), has_limit)
        self.price = price if has_limit else None
        return price.dear_seconds if dear else None

    def limit(self, limits: Limits) -> Limits:
        """Limits of the samples with which all of the turn stays within its allowance, and near what it aims at."""
        if self.price is None:
            return limits
        left = self._left() - self.price.after_seconds
        aim = left - (self.allowance.most_seconds or 0.0) + (self.allowance.aim_seconds or 0.0)
        least = self.price.calls * self.price.call_seconds
        limits = replace(limits, most_seconds=max(0.0, min(left, max(least, aim))))
        if not self.allowance.is_dear:
            return limits
        return replace(limits, seconds=0.0, min_rounds=DEAR_ROUNDS, max_rounds=DEAR_ROUNDS, warmup_rounds=1)

    def _left(self) -> float:
        most = self.allowance.most_seconds
        return float("inf") if most is None else most - (self.now() - self._began)

    def _agree(self, *answers: bool) -> list[bool]:
        return [bool(n) for n in control.broadcast_numbers(self.rank, [int(answer) for answer in answers])]

    def _call_seconds(self, work: Work, clock: clocks.Clock) -> float:
        """One call of the case itself, on its slowest rank."""
        if work.reset is not None:
            work.reset()
        make_alignment(self.rank, clock)()
        clock.synchronise()
        began = self.now()
        next(iter(work.variants.values()))()
        clock.synchronise()
        return control.maxima(self.rank, [round((self.now() - began) * 1e6)])[0] / 1e6


def main_variant_only(work: Work) -> Work:
    """Return the work with its main variant alone, without baselines and the metrics derived from them."""
    main, run = next(iter(work.variants.items()))
    return replace(
        work,
        variants={main: run},
        timed_checks={name: check for name, check in work.timed_checks.items() if name == main},
        least_seconds={name: seconds for name, seconds in work.least_seconds.items() if name == main},
        traced_calls=0,
        derive=None,
        tables=None,
    )


def traced_variants(work: Work) -> tuple[str, ...]:
    """Names of the variants that the pass of traced calls takes."""
    return work.traced_variants or (next(iter(work.variants)),)
