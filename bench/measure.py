"""Times the variants of a case: warm-up, samples in one of two modes, and the rule that ends them.

A *sample* is the time of one call (`aligned`) or of K calls back to back (`streamed`) on one rank, in integer
nanoseconds. The variants of a case are sampled in turn, one round after the other, so that a drift of the machine hits
all of them alike. Ranks are aligned before every sample, outside the timed part. All ranks take equally many samples:
rank 0 decides after each block and tells the others over the control group.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from bench import control, statistics

if TYPE_CHECKING:
    from bench.clock import Clock
    from bench.rank import RankContext
    from bench.suite import Work

Timing = Literal["aligned", "streamed"]

MAX_STREAMED_CALLS = 32
STREAMED_SECONDS = 0.010
"""A streamed sample aims at this length, so that the one alignment before it weighs little."""
MIN_ROUNDS_FOR_PRECISION = 20
MIN_ROUNDS = 20
"""Samples of a case in a launch, taken even where their time is up: fewer say little of a median."""
MIN_VISIT_ROUNDS = 3
"""The fewest of one visit, where several share MIN_ROUNDS: a median of three outlives an outlier."""
OVERRUN, OVERRUN_SECONDS = 8, 3.0
"""A case that took so many times its time, and so long, stops with fewer, if nothing else says what it may take."""
NUM_BLOCKS_FOR_PRECISION = 5
BLOCK_SECONDS = 0.05
"""A block lasts at least about this long: control messages between blocks then cost little of the time."""
MAX_BLOCK_ROUNDS = 512
MAX_LASTING_ROUNDS = 200_000
WARMUP_WINDOW = 3
WARMUP_SETTLED = 0.95
"""Warm-up goes on while the last rounds are still faster than this share of the ones before them."""


@dataclass(frozen=True)
class Limits:
    """When a case has enough samples."""

    precision: float
    """Half width of the 95% interval of the block medians, relative to their mean, at which sampling may stop."""
    seconds: float
    """Time for all samples of one visit to the case; warm-up takes at most a quarter of it on top."""
    max_rounds: int = 20_000
    min_rounds: int = MIN_ROUNDS
    most_seconds: float | None = None
    """After which it ends with fewer than `min_rounds`, warm-up included; None: some times `seconds`."""
    warmup_rounds: int = 2
    """At least; one more where the calls in a streamed sample have to be chosen."""
    min_seconds: float = 0.0
    """Sampling does not end before, whatever the precision."""

    def lasting(self, seconds: float) -> Limits:
        """The same, for work that needs so long; the number of samples is then no reason to stop early."""
        return replace(self, seconds=max(self.seconds, seconds), min_seconds=seconds, max_rounds=MAX_LASTING_ROUNDS)

    def spent(self, seconds: float) -> Limits:
        """What is left of them after so long a warm-up."""
        return self if self.most_seconds is None else replace(self, most_seconds=max(0.0, self.most_seconds - seconds))

    @property
    def sampling_seconds(self) -> float:
        """Time for the samples, as long as there are enough of them."""
        return self.seconds if self.most_seconds is None else min(self.seconds, self.most_seconds)

    @property
    def last_seconds(self) -> float:
        """When sampling ends, however few there are."""
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

    @property
    def num_rounds(self) -> int:
        """How many samples each variant has."""
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

    `calls` are the back-to-back calls in a streamed sample of each variant, where an earlier visit chose them: samples
    of one launch are all of one kind. They count only where they are those of just these variants.
    """

    def __init__(
        self,
        rank: RankContext,
        work: Work,
        clock: Clock,
        timing: Timing,
        now: Callable[[], float],
        calls: Mapping[str, int] | None = None,
    ) -> None:
        self.rank = rank
        self.clock = clock
        self.now = now
        self.reset = work.reset
        self.names = list(work.variants)
        self.runs = list(work.variants.values())
        known = calls if calls is not None and timing == "streamed" and set(calls) == set(self.names) else {}
        self.chooses_calls = timing == "streamed" and not known
        self.calls = [known.get(name, 1) for name in self.names]
        self.align = alignment(rank, clock)

    def measure(self, limits: Limits) -> Samples:
        """Warm up, then sample block by block until the rule of `limits` ends it."""
        warmed_from = self.now()
        warmup_rounds, round_seconds = self._warm_up(limits.seconds / 4, limits.warmup_rounds)
        taken: list[list[int]] = [[] for _ in self.runs]
        slowest: list[int] = []
        began = self.now()
        limits = limits.spent(began - warmed_from)
        size = min(self._first_block(round_seconds, limits), limits.max_rounds)
        reason, width = None, None
        while reason is None:
            block = self._block(size, len(slowest))
            for variant, samples in enumerate(block):
                taken[variant] += samples
            slowest += control.maxima(self.rank, block[0])
            elapsed = self.now() - began
            reason, width = _decide(slowest, elapsed, limits)
            size = _next_block(size, elapsed / len(slowest), limits.sampling_seconds - elapsed)
            size = max(1, min(size, limits.max_rounds - len(slowest)))
            code, size = control.broadcast_numbers(self.rank, [_CODES.index(reason), size])
            reason = _CODES[code]
        return Samples(
            calls=dict(zip(self.names, self.calls, strict=True)),
            nanoseconds=dict(zip(self.names, taken, strict=True)),
            stop_reason=reason,
            half_width=width,
            warmup_rounds=warmup_rounds,
        )

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

    def _first_block(self, round_seconds: float, limits: Limits) -> int:
        size = _block_rounds(round_seconds, limits.seconds)
        return control.broadcast_numbers(self.rank, [size])[0]

    def _block(self, num_rounds: int, first_round: int) -> list[list[int]]:
        """`num_rounds` samples of each variant, [variant][sample]; the order of the variants rotates."""
        marks: list[list[tuple[Any, Any]]] = [[] for _ in self.runs]
        count = len(self.runs)
        collecting = gc.isenabled()
        gc.disable()
        try:
            for number in range(first_round, first_round + num_rounds):
                for step in range(count):
                    variant = (number + step) % count
                    if self.reset is not None:
                        self.reset()
                    self.align(self.calls[variant])
                    marks[variant].append(take_sample(self.clock, self.runs[variant], self.calls[variant]))
        finally:
            if collecting:
                gc.enable()
        self.clock.synchronise()
        elapsed = self.clock.elapsed_ns
        return [[elapsed(start, end) for start, end in pairs] for pairs in marks]


_CODES: list[Literal["precision", "time", "samples"] | None] = [None, "precision", "time", "samples"]


def _decide(
    slowest: Sequence[int], elapsed: float, limits: Limits
) -> tuple[Literal["precision", "time", "samples"] | None, float | None]:
    """Whether to stop, and the half width reached; `slowest` is the maximum over ranks of each sample."""
    width = None
    if len(slowest) >= MIN_ROUNDS_FOR_PRECISION:
        width = statistics.half_width(slowest, NUM_BLOCKS_FOR_PRECISION)
        if width is not None and width <= limits.precision and elapsed >= limits.min_seconds:
            return "precision", width
    enough = len(slowest) >= limits.min_rounds or elapsed >= limits.last_seconds
    if elapsed >= limits.sampling_seconds and enough:
        return "time", width
    return ("samples", width) if len(slowest) >= limits.max_rounds else (None, width)


def _next_block(size: int, round_seconds: float, seconds_left: float) -> int:
    """At most doubled, so that a first guess that was far off does not overrun."""
    return max(1, min(2 * size, _block_rounds(round_seconds, max(seconds_left, 0.0))))


def _block_rounds(round_seconds: float, seconds_left: float) -> int:
    if round_seconds <= 0:
        return MAX_BLOCK_ROUNDS
    wanted = max(BLOCK_SECONDS, seconds_left / (2 * NUM_BLOCKS_FOR_PRECISION))
    return max(1, min(MAX_BLOCK_ROUNDS, int(wanted / round_seconds)))


def _is_settled(slowest: Sequence[int]) -> bool:
    if len(slowest) < 2 * WARMUP_WINDOW:
        return False
    last = statistics.median(slowest[-WARMUP_WINDOW:])
    before = statistics.median(slowest[-2 * WARMUP_WINDOW : -WARMUP_WINDOW])
    return last >= WARMUP_SETTLED * before


def alignment(rank: RankContext, clock: Clock) -> Callable[[int], object]:
    """What brings the ranks to one starting line before a sample of so many calls, outside the timed part."""
    if rank.world_size == 1 and rank.device.type == "cpu":
        return lambda calls: None
    import torch
    import torch.distributed as dist

    token = torch.zeros(1, device=rank.device)

    def together(calls: int) -> None:
        dist.all_reduce(token, group=rank.group)

    if clock.name == "host":

        def at_once(calls: int) -> None:
            together(calls)
            clock.synchronise()

        return at_once if rank.device.type != "cpu" else together

    # The stream is kept busy while the host enqueues the sample; otherwise the host's launch cost would be timed.
    # Eight small products rather than one as long: 16 MiB instead of 64 pass through the L2, so that it is still warm.
    filler = torch.randn(2048, 2048, device=rank.device, dtype=torch.bfloat16)
    product = torch.empty_like(filler)

    def enqueued(calls: int) -> None:
        for _ in range(8 * (1 + calls // 2)):
            torch.mm(filler, filler, out=product)
        together(calls)

    return enqueued
