"""How fast each rank is, beside the fastest: the same piece of work on all ranks at once.

For splitting work in proportion. The fastest round of many counts, since whatever else a machine does
can only make a round longer. It runs when a case is prepared, never in a timed part.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import clock, control
from bench.rank import RankContext

MIN_ROUNDS, MIN_SECONDS = 15, 0.4


def relative_speeds(rank: RankContext, work: Callable[[], object]) -> list[float]:
    """[rank] speed, 1 for the fastest; every rank calls it, and each gets all."""
    ticks = clock.for_work(rank.device.type, "host")
    seconds: list[int] = []
    while len(seconds) < MIN_ROUNDS or sum(seconds) < MIN_SECONDS * 1e9:
        ticks.synchronise()
        start = ticks.mark()
        work()
        end = ticks.mark()
        ticks.synchronise()
        seconds.append(ticks.elapsed_ns(start, end))
    times = control.all_gather_json(rank, min(seconds))
    return [min(times) / time for time in times]
