"""Speed of each rank against the fastest: its own computation in a step that all do with equal shares.

For splitting work in proportion. Only what the step marks as computation counts, so that waiting for a slower rank
makes no rank slow. It is measured in the step itself rather than on a piece of it: a core that just slept, as that of a
rank which waits, is slower for a while than one that is kept busy. It runs when a case is prepared, never in a timed
part.

Also the fraction of a computation that does not shrink with the rank's share of it (`fixed_fractions`): starting
kernels, copying tensors of the same size for any share. A slow rank pays that at its own speed, so that a small share
costs it more than in proportion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.measure.engine import control
from bench.measure.engine.rank import RankContext, Tracer
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.suite import COMMUNICATION

Call = Callable[[], object]

WARMUP_CALLS = 2
FEWEST_CALLS, MOST_CALLS, ENOUGH_SECONDS = 5, 25, 1.0
"""Time to fill with calls, and bounds of their number: a single call is off by a tenth and more."""


def relative_speeds(rank: RankContext, step: Call, clear: Call) -> list[float]:
    """[rank] speed, 1 for the fastest; the ranks of `step` call it together, and each gets all.

    A rank that has no part in the step counts as the fastest.
    """
    seconds = _own_seconds(rank, step, clear)
    times = control.all_gather_json(rank, sum(seconds.values()))
    fastest = min(time for time in times if time > 0)
    return [fastest / time if time > 0 else 1.0 for time in times]


def fixed_fractions(
    rank: RankContext, even: tuple[Call, Call], skewed: tuple[Call, Call], ratio: float | None
) -> dict[str, float]:
    """Kind of computation -> the fraction of its time at an even share that stays at any share.

    `even` and `skewed` are the (step, clear) of two splits over equal ranks, `ratio` this rank's skewed share over its
    even one, None for a rank without a share. A computation of time 1 at the even share takes f + (1 - f) x at x times
    the share; f is the least-squares fit over the ranks. Empty if no rank's share differs.
    """
    before, after = _own_seconds(rank, *even), _own_seconds(rank, *skewed)
    pairs = [] if ratio is None else [(kind, ratio, after[kind] / before[kind]) for kind in before if before[kind] > 0]
    return fitted_fractions([pair for row in control.all_gather_json(rank, pairs) for pair in row])


def fitted_fractions(pairs: Sequence[tuple[str, float, float]]) -> dict[str, float]:
    """The fit, from (kind, share over even share, time over time at the even share) of every rank."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for kind, share, time in pairs:
        sums[kind][0] += (time - share) * (1.0 - share)
        sums[kind][1] += (1.0 - share) ** 2
    return {kind: min(MOST_FIXED, max(0.0, above / below)) for kind, (above, below) in sums.items() if below > 0}


MOST_FIXED = 0.9
"""A fit above it is noise: such a part would not be worth splitting."""


def skew_shares(shares: Sequence[int]) -> tuple[int, ...]:
    """Return the shares with every second rank's halved, and the rest given to the rank before it."""
    skewed_shares = list(shares)
    for first in range(0, len(shares) - 1, 2):
        moved = shares[first + 1] // 2
        skewed_shares[first], skewed_shares[first + 1] = shares[first] + moved, shares[first + 1] - moved
    return tuple(skewed_shares)


def num_calls(step_seconds: float) -> int:
    """Return the calls to take a speed from, by the length of one on the slowest rank."""
    return min(MOST_CALLS, max(FEWEST_CALLS, int(ENOUGH_SECONDS / max(step_seconds, 1e-9))))


def _own_seconds(rank: RankContext, step: Call, clear: Call) -> Mapping[str, float]:
    """Kind of computation -> seconds of the rank's own in a call; the median over as many calls as are enough."""
    warm = _traced(rank, step, clear, WARMUP_CALLS)
    slowest_seconds = max(control.all_gather_json(rank, warm.call_ns()[-1])) / 1e9
    durations_ns = _own_ns(_traced(rank, step, clear, num_calls(slowest_seconds)))
    return {kind: median(times) / 1e9 for kind, times in durations_ns.items()}


def _traced(rank: RankContext, step: Call, clear: Call, calls: int) -> Tracer:
    ticks = clock_for_work(rank.device.type, "host")
    tracer = Tracer(rank.index, ticks)
    for _ in range(calls):
        clear()
        rank.tracer = tracer
        start = ticks.mark()
        step()
        tracer.calls.append((start, ticks.mark()))
        tracer.num_calls += 1
        rank.tracer = None
    clear()
    ticks.synchronise()
    return tracer


def _own_ns(tracer: Tracer) -> dict[str, list[int]]:
    """Kind of computation -> [call] nanoseconds of the rank's own."""
    durations_ns: defaultdict[str, list[int]] = defaultdict(lambda: [0] * tracer.num_calls)
    for span in tracer.spans():
        if span.kind != COMMUNICATION:
            durations_ns[span.kind][span.call] += span.duration_ns
    return durations_ns
