"""How fast each rank is, beside the fastest: its own computation in a step that all do with equal shares.

For splitting work in proportion. Only what the step marks as computation counts, so that waiting for a slower rank
makes nobody slow. It is measured in the step itself rather than on a piece of it: a core that just slept, as that of a
rank which waits, is slower for a while than one that is kept busy. It runs when a case is prepared, never in a timed
part.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from bench import clock, control
from bench.rank import RankContext, Tracer
from bench.suite import COMMUNICATION

WARMUP_CALLS, CALLS = 2, 5


def relative_speeds(rank: RankContext, step: Callable[[], object], clear: Callable[[], object]) -> list[float]:
    """[rank] speed, 1 for the fastest; the ranks of `step` call it together, and each gets all.

    A rank that has no part in the step counts as the fastest.
    """
    ticks = clock.for_work(rank.device.type, "host")
    tracer = Tracer(rank.index, ticks)
    for number in range(WARMUP_CALLS + CALLS):
        clear()
        rank.tracer = tracer if number >= WARMUP_CALLS else None
        start = ticks.mark()
        step()
        if rank.tracer is not None:
            tracer.calls.append((start, ticks.mark()))
            tracer.num_calls += 1
        rank.tracer = None
    clear()
    ticks.synchronise()
    own = [0] * CALLS
    for span in tracer.spans():
        own[span.call] += 0 if span.kind == COMMUNICATION else span.duration_ns
    times = control.all_gather_json(rank, median(own))
    fastest = min(time for time in times if time > 0)
    return [fastest / time if time > 0 else 1.0 for time in times]
