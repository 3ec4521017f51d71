"""Times the variants of a case: warm-up, samples in one of two modes, and the rule that ends them.

A *sample* is the time of one call (`aligned`) or of K calls back to back (`streamed`) on one rank, in integer
nanoseconds. The variants of a case are sampled in turn, one round after the other, so that a drift of the machine hits
all of them alike. Ranks are aligned before every sample, outside the timed part. All ranks take equally many samples:
rank 0 decides after each block and tells the others over the control group.
"""

from __future__ import annotations

import gc
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from bench.measure.engine import control
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.host_launches import HostLaunches
from bench.measure.engine.timing.time_check import FILLED_SECONDS, TimeCheck
from bench.measure.engine.timing.timed_looks import TimedLooks
from bench.stats import intervals

if TYPE_CHECKING:
    from bench.core.clock import Clock
    from bench.measure.engine.rank import RankContext
    from bench.suite import Work

Timing = Literal["aligned", "streamed"]

MAX_STREAMED_CALLS = 32
STREAMED_SECONDS = 0.010
"""A streamed sample aims at this length, so that the one alignment before it weighs little."""
MIN_ROUNDS_FOR_PRECISION = 20
MIN_ROUNDS = 20
"""Samples of a case in a launch, taken even if their time is up: fewer say little of a median."""
MIN_VISIT_ROUNDS = 3
"""The fewest of one visit, if several share MIN_ROUNDS: a median of three outlives an outlier."""
OVERRUN, OVERRUN_SECONDS = 8, 3.0
"""A case that took this many times its time, and so long, stops with fewer, if nothing else says what it may take."""
NUM_BLOCKS_FOR_PRECISION = 5
BLOCK_SECONDS = 0.05
"""A block lasts at least about this long: control messages between blocks then cost little of the time."""
MAX_BLOCK_ROUNDS = 512
MAX_LASTING_ROUNDS = 200_000
WARMUP_WINDOW = 3
WARMUP_SETTLED = 0.95
"""Warm-up goes on while the last rounds are still faster than this share of the ones before them."""
LOOK_SECONDS = 0.05
"""Shortest time between two looks at a working device: a look takes about a millisecond of the host's time."""

Look = Callable[[Callable[[], bool]], object]
"""Looks at the device; given what says whether it is still at work."""


@dataclass(frozen=True)
class Limits:
    """Limits at which a case has enough samples."""

    precision: float
    """Half width of the 95% interval of the block medians, relative to their mean, at which sampling may stop."""
    seconds: float
    """Time for all samples of one visit to the case; warm-up takes at most a quarter of it on top."""
    max_rounds: int = 20_000
    min_rounds: int = MIN_ROUNDS
    most_seconds: float | None = None
    """Time, warm-up included, after which sampling ends with fewer than `min_rounds`; None: a multiple of `seconds`."""
    warmup_rounds: int = 2
    """Fewest warm-up rounds; one more if the calls in a streamed sample have to be chosen."""
    min_seconds: float = 0.0
    """Sampling does not end before, whatever the precision."""

    def extended(self, seconds: float) -> Limits:
        """Return limits for work that needs so long; the number of samples is then no reason to stop early."""
        return replace(self, seconds=max(self.seconds, seconds), min_seconds=seconds, max_rounds=MAX_LASTING_ROUNDS)

    def after_warmup(self, seconds: float) -> Limits:
        """Return the limits that are left after a warm-up of that length."""
        return self if self.most_seconds is None else replace(self, most_seconds=max(0.0, self.most_seconds - seconds))

    @property
    def sampling_seconds(self) -> float:
        """Time for the samples, as long as there are enough of them."""
        return self.seconds if self.most_seconds is None else min(self.seconds, self.most_seconds)

    @property
    def last_seconds(self) -> float:
        """Time after which sampling ends, however few samples there are."""
        return max(OVERRUN * self.seconds, OVERRUN_SECONDS) if self.most_seconds is None else self.most_seconds


@dataclass(frozen=True)
class Samples:
    """One rank's samples of a case."""

    calls: dict[str, int]
    """Variant -> back-to-back calls in each sample."""
    nanoseconds: dict[str, list[int]]
    """Variant -> total of each sample, in the order taken."""
    stop_reason: Literal["precision", "time", "samples"]
    half_width: float | None
    warmup_rounds: int
    launch_ns: dict[str, int] = field(default_factory=dict)
    """Variant -> time that the host takes to launch one call, by the device's clock; empty by the host's."""
    num_late: dict[str, int] = field(default_factory=dict)
    """Variant -> samples within which the device may have waited for the host's launches; empty by the host's clock."""
    clock_trouble: str = ""
    """Reason for which this rank's clock is wrong; empty: nothing was found."""
    looks: TimedLooks | None = None
    """Looks at what timed calls left on this rank."""

    @property
    def num_rounds(self) -> int:
        """Number of samples of each variant."""
        return len(next(iter(self.nanoseconds.values())))


def take_sample(clock: Clock, run: Callable[[], object], calls: int) -> tuple[Any, Any]:
    """The timed part and nothing else: marks before and after `calls` calls."""
    mark = clock.mark
    if calls == 1:
        start = mark()
        run()
        return start, mark()
    repeats = range(calls)
    start = mark()
    for _ in repeats:
        run()
    return start, mark()


class Sampler:
    """Takes the samples of one case on one rank, in step with the other ranks.

    `calls` are the back-to-back calls in a streamed sample of each variant, if an earlier visit chose them: samples
    of one launch are all of one kind. They count only if they are those of just these variants. `look` is called
    while a device is at work, at most once per block.
    """

    def __init__(
        self,
        rank: RankContext,
        work: Work,
        clock: Clock,
        timing: Timing,
        now: Callable[[], float],
        calls: Mapping[str, int] | None = None,
        look: Look | None = None,
    ) -> None:
        self.looks = TimedLooks(work.timed_checks, now)
        self.time_check = TimeCheck(clock, {name: 1e9 * seconds for name, seconds in work.least_seconds.items()})
        self.rank = rank
        self.clock = clock
        self.now = now
        self.reset = work.reset
        self.names = list(work.variants)
        self.runs = list(work.variants.values())
        kept_calls = calls if calls is not None and timing == "streamed" and set(calls) == set(self.names) else {}
        self.chooses_calls = timing == "streamed" and not kept_calls
        self.calls = [kept_calls.get(name, 1) for name in self.names]
        self.align = make_alignment(rank, clock, now)
        self.look = look
        self.next_look = now()
        # A host's clock waits for the device before it starts, so that nothing is launched ahead.
        self.learns_launches = clock.name == "device"
        self.launches = [HostLaunches() for _ in self.runs]

    def measure(self, limits: Limits) -> Samples:
        """Warm up, then sample block by block until the rule of `limits` ends it."""
        warmed_from = self.now()
        warmup_rounds, round_seconds = self._warm_up(limits.seconds / 4, limits.warmup_rounds)
        launch_ns = self._launch_ns()
        taken: list[list[int]] = [[] for _ in self.runs]
        slowest: list[int] = []
        began = self.now()
        limits = limits.after_warmup(began - warmed_from)
        size = min(self._first_block(round_seconds, limits), limits.max_rounds)
        reason, width, num_looks = None, None, self.looks.next_number(size, round_seconds)
        while reason is None:
            block = self._block(size, len(slowest), num_looks)
            for variant, samples in enumerate(block):
                taken[variant] += samples
            slowest += control.maxima(self.rank, block[0])
            elapsed = self.now() - began
            reason, width = _decide(slowest, elapsed, limits)
            size = _next_block(size, elapsed / len(slowest), limits.sampling_seconds - elapsed)
            size = max(1, min(size, limits.max_rounds - len(slowest)))
            num_looks = self.looks.next_number(size, elapsed / len(slowest))
            code, size, num_looks = control.broadcast_numbers(self.rank, [_CODES.index(reason), size, num_looks])
            reason = _CODES[code]
        for name, samples, calls in zip(self.names, taken, self.calls, strict=True):
            self.time_check.check_least(name, samples, calls)
        self.time_check.check_gaps()
        return Samples(
            calls=dict(zip(self.names, self.calls, strict=True)),
            nanoseconds=dict(zip(self.names, taken, strict=True)),
            stop_reason=reason,
            half_width=width,
            warmup_rounds=warmup_rounds,
            launch_ns=launch_ns,
            num_late={name: each.num_late for name, each in zip(self.names, self.launches, strict=True)}
            if launch_ns
            else {},
            clock_trouble=self.time_check.trouble,
            looks=self.looks,
        )

    def _launch_ns(self) -> dict[str, int]:
        """Return the host's launch times learnt in warm-up; the filler is timed again, since the device is warm now."""
        if not self.learns_launches:
            return {}
        self.learns_launches = False
        for launches in self.launches:
            launches.begin_counting()
        self.align.calibrate()
        self.time_check.check_device(lambda: self.align.fill_for(FILLED_SECONDS))
        marks_seconds = min(self._marks_seconds() for _ in range(5))
        self.clock.synchronise()
        rows = zip(self.names, self.launches, self.calls, strict=True)
        return {name: launches.call_ns(marks_seconds, calls) for name, launches, calls in rows}

    def _marks_seconds(self) -> float:
        began = self.now()
        take_sample(self.clock, lambda: None, 1)
        return self.now() - began

    def _warm_up(self, max_seconds: float, fewest: int) -> tuple[int, float]:
        """Rounds until the times have settled; returns their number and the seconds of the last one."""
        began = self.now()
        slowest: list[int] = []
        settled, num_rounds, round_seconds = 0, 0, 0.0
        # The first call is cold: it says nothing of how many fit into a streamed sample. The second does.
        fewest += self.chooses_calls
        while not settled:
            round_began = self.now()
            block = self._block(1, num_rounds)
            slowest += control.maxima(self.rank, block[0])
            num_rounds += 1
            if num_rounds == 2 and self.chooses_calls:
                self._choose_calls(block)
                slowest = []
            round_seconds = self.now() - round_began
            done = _is_settled(slowest) or self.now() - began > max_seconds
            settled = control.broadcast_numbers(self.rank, [int(done and num_rounds >= fewest)])[0]
        return num_rounds, round_seconds

    def _choose_calls(self, block: list[list[int]]) -> None:
        """K for each variant, from one call on its slowest rank, so that a sample lasts about 10 ms."""
        slowest = control.maxima(self.rank, [max(samples) for samples in block])
        self.calls = [max(2, min(MAX_STREAMED_CALLS, round(STREAMED_SECONDS * 1e9 / max(1, ns)))) for ns in slowest]
        for launches, calls in zip(self.launches, self.calls, strict=True):
            launches.forget(calls)

    def _first_block(self, round_seconds: float, limits: Limits) -> int:
        size = _block_rounds(round_seconds, limits.seconds)
        size, self.looks.salt = control.broadcast_numbers(self.rank, [size, secrets.randbits(32)])
        return size

    def _block(self, num_rounds: int, first_round: int, num_looks: int = 0) -> list[list[int]]:
        """`num_rounds` samples of each variant, [variant][sample]; the order of the variants rotates."""
        looked = self.looks.choose(first_round, num_rounds, num_looks)
        order: list[int] = []
        marks: list[list[tuple[Any, Any]]] = [[] for _ in self.runs]
        count = len(self.runs)
        collecting = gc.isenabled()
        gc.disable()
        self.time_check.begin_block()
        try:
            for number in range(first_round, first_round + num_rounds):
                for step in range(count):
                    variant = (number + step) % count
                    order.append(variant)
                    if number in looked:
                        marks[variant].append(self._looked_sample(variant, number))
                    else:
                        marks[variant].append(self._sample(variant))
        finally:
            if collecting:
                gc.enable()
        self._look(marks[variant][-1][1])
        self.clock.synchronise()
        elapsed = self.clock.elapsed_ns
        block = [[elapsed(start, end) for start, end in pairs] for pairs in marks]
        taken = [iter(samples) for samples in block]
        in_order = [next(taken[variant]) for variant in order]
        self.time_check.end_block(in_order)
        for launches, totals, calls in zip(self.launches, block, self.calls, strict=True):
            launches.end_block(totals, calls)
        if num_looks:
            rounds = (first_round + index // count for index in range(len(order)))
            names = (self.names[variant] for variant in order)
            self.looks.compare(zip(names, rounds, in_order, strict=True), looked)
        return block

    def _looked_sample(self, variant: int, number: int) -> tuple[Any, Any]:
        """One sample, with a look at what it left."""
        name = self.names[variant]
        self.looks.arm(name)
        marks = self._sample(variant)
        self.looks.look(name, self.calls[variant], number)
        return marks

    def _sample(self, variant: int) -> tuple[Any, Any]:
        """One sample behind the reset and the alignment; in warm-up, what the host takes for both is learnt."""
        if self.reset is not None:
            self.reset()
        run, calls, launches = self.runs[variant], self.calls[variant], self.launches[variant]
        self.align.fill(launches.sample_seconds)
        if not self.learns_launches:
            self.align.together()
            marks = self.time_check.around(lambda: take_sample(self.clock, run, calls))
        else:
            began = self.now()
            self.align.together()
            aligned = self.now()
            marks = take_sample(self.clock, run, calls)
            launches.learn(began, aligned, self.now())
        if self.clock.name == "device":
            launches.note_late(self.clock.reached(marks[0]))
        return marks

    def _look(self, last: Any) -> None:
        """Look at the device if it has not come to the last mark yet."""
        if self.look is None or self.now() < self.next_look or self.clock.reached(last):
            return
        self.next_look = self.now() + LOOK_SECONDS
        self.look(lambda: not self.clock.reached(last))


_CODES: list[Literal["precision", "time", "samples"] | None] = [None, "precision", "time", "samples"]


def _decide(
    slowest: Sequence[int], elapsed: float, limits: Limits
) -> tuple[Literal["precision", "time", "samples"] | None, float | None]:
    """Return the reason to stop, if any, and the half width reached; `slowest` is each sample's maximum over ranks."""
    width = None
    if len(slowest) >= MIN_ROUNDS_FOR_PRECISION:
        width = intervals.half_width(slowest, NUM_BLOCKS_FOR_PRECISION)
        if width is not None and width <= limits.precision and elapsed >= limits.min_seconds:
            return "precision", width
    enough = len(slowest) >= limits.min_rounds or elapsed >= limits.last_seconds
    if elapsed >= limits.sampling_seconds and enough:
        return "time", width
    return ("samples", width) if len(slowest) >= limits.max_rounds else (None, width)


def _next_block(size: int, round_seconds: float, seconds_left: float) -> int:
    """Return the next block's size, at most doubled, so that a first guess that was far off does not overrun."""
    return max(1, min(2 * size, _block_rounds(round_seconds, max(seconds_left, 0.0))))


def _block_rounds(round_seconds: float, seconds_left: float) -> int:
    if round_seconds <= 0:
        return MAX_BLOCK_ROUNDS
    wanted = max(BLOCK_SECONDS, seconds_left / (2 * NUM_BLOCKS_FOR_PRECISION))
    return max(1, min(MAX_BLOCK_ROUNDS, int(wanted / round_seconds)))


def _is_settled(slowest: Sequence[int]) -> bool:
    if len(slowest) < 2 * WARMUP_WINDOW:
        return False
    last = intervals.median(slowest[-WARMUP_WINDOW:])
    before = intervals.median(slowest[-2 * WARMUP_WINDOW : -WARMUP_WINDOW])
    return last >= WARMUP_SETTLED * before
