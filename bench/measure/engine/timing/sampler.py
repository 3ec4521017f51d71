"""Times the variants of a case: warm-up, samples in one of two modes, and the rule that ends them.

A *sample* is the time of one call (`aligned`) or of K calls back to back (`streamed`) on one rank, in integer
nanoseconds. The variants of a case are sampled in turn, one round after the other, so that a drift of the machine hits
all of them alike. Ranks are aligned before every sample, outside the timed part. All ranks take equally many samples:
rank 0 decides after each block and tells the others over the control group.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bench.core.garbage import without_collecting
from bench.measure.engine import control
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.host_launches import HostLaunches
from bench.measure.engine.timing.stop_rule import Limits, StopReason, block_rounds, decide, is_settled, next_block
from bench.measure.engine.timing.time_check import FILLED_SECONDS, TimeCheck
from bench.measure.engine.timing.timed_looks import TimedLooks

if TYPE_CHECKING:
    from bench.core.clock import Clock
    from bench.measure.engine.rank import RankContext
    from bench.suite import Work

Timing = Literal["aligned", "streamed"]

MAX_STREAMED_CALLS = 32
STREAMED_SECONDS = 0.010
"""A streamed sample aims at this length, so that the one alignment before it weighs little."""
LOOK_SECONDS = 0.05
"""Shortest time between two looks at a working device: a look takes about a millisecond of the host's time."""

Look = Callable[[Callable[[], bool]], object]
"""Looks at the device; given what says whether it is still at work."""


@dataclass(frozen=True)
class Samples:
    """One rank's samples of a case."""

    calls: dict[str, int]
    """Variant -> back-to-back calls in each sample."""
    nanoseconds: dict[str, list[int]]
    """Variant -> total of each sample, in the order taken."""
    stop_reason: StopReason
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
            reason, width = decide(slowest, elapsed, limits)
            size = next_block(size, elapsed / len(slowest), limits.sampling_seconds - elapsed)
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
            done = is_settled(slowest) or self.now() - began > max_seconds
            settled = control.broadcast_numbers(self.rank, [int(done and num_rounds >= fewest)])[0]
        return num_rounds, round_seconds

    def _choose_calls(self, block: list[list[int]]) -> None:
        """K for each variant, from one call on its slowest rank, so that a sample lasts about 10 ms."""
        slowest = control.maxima(self.rank, [max(samples) for samples in block])
        self.calls = [max(2, min(MAX_STREAMED_CALLS, round(STREAMED_SECONDS * 1e9 / max(1, ns)))) for ns in slowest]
        for launches, calls in zip(self.launches, self.calls, strict=True):
            launches.forget(calls)

    def _first_block(self, round_seconds: float, limits: Limits) -> int:
        size = block_rounds(round_seconds, limits.seconds)
        size, self.looks.salt = control.broadcast_numbers(self.rank, [size, secrets.randbits(32)])
        return size

    def _block(self, num_rounds: int, first_round: int, num_looks: int = 0) -> list[list[int]]:
        """`num_rounds` samples of each variant, [variant][sample]; the order of the variants rotates."""
        looked = self.looks.choose(first_round, num_rounds, num_looks)
        order: list[int] = []
        marks: list[list[tuple[Any, Any]]] = [[] for _ in self.runs]
        count = len(self.runs)
        with without_collecting():
            self.time_check.begin_block()
            for number in range(first_round, first_round + num_rounds):
                for step in range(count):
                    variant = (number + step) % count
                    order.append(variant)
                    if number in looked:
                        marks[variant].append(self._looked_sample(variant, number))
                    else:
                        marks[variant].append(self._sample(variant))
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


_CODES: list[StopReason | None] = [None, "precision", "time", "samples"]
