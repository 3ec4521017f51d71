"""How fast each rank is, beside the fastest: the same piece of work on all ranks at once, again and again.

For splitting work in proportion. The medians of many rounds are compared, not the fastest rounds: a fast rank does more
rounds in its time, and the best of more is better. It runs when a case is prepared, never in a timed part.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from bench import clock, control
from bench.rank import RankContext

WARMUP_ROUNDS, MIN_ROUNDS, MIN_SECONDS = 5, 15, 0.4


def relative_speeds(rank: RankContext, work: Callable[[], object]) -> list[float]:
    """[rank] speed, 1 for the fastest; every rank calls it, and each gets all."""
    ticks = clock.for_work(rank.device.type, "host")
    for _ in range(WARMUP_ROUNDS):
        work()
    seconds: list[int] = []
    while len(seconds) < MIN_ROUNDS or sum(seconds) < MIN_SECONDS * 1e9:
        ticks.synchronise()
        start = ticks.mark()
        work()
        end = ticks.mark()
        ticks.synchronise()
        seconds.append(ticks.elapsed_ns(start, end))
    times = control.all_gather_json(rank, median(seconds))
    return [min(times) / time for time in times]
