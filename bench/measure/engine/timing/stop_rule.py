"""The rule that ends the samples of a case: how many, for how long, and in blocks of which size. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.stats import intervals

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

StopReason = Literal["precision", "time", "samples"]


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


def decide(slowest: Sequence[int], elapsed: float, limits: Limits) -> tuple[StopReason | None, float | None]:
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


def next_block(size: int, round_seconds: float, seconds_left: float) -> int:
    """Return the next block's size, at most doubled, so that a first guess that was far off does not overrun."""
    return max(1, min(2 * size, block_rounds(round_seconds, max(seconds_left, 0.0))))


def block_rounds(round_seconds: float, seconds_left: float) -> int:
    if round_seconds <= 0:
        return MAX_BLOCK_ROUNDS
    wanted = max(BLOCK_SECONDS, seconds_left / (2 * NUM_BLOCKS_FOR_PRECISION))
    return max(1, min(MAX_BLOCK_ROUNDS, int(wanted / round_seconds)))


def is_settled(slowest: Sequence[int]) -> bool:
    if len(slowest) < 2 * WARMUP_WINDOW:
        return False
    last = intervals.median(slowest[-WARMUP_WINDOW:])
    before = intervals.median(slowest[-2 * WARMUP_WINDOW : -WARMUP_WINDOW])
    return last >= WARMUP_SETTLED * before
