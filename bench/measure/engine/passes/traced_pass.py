"""The separate, untimed pass that records the spans of a few calls of a case.

By the device's clock, whichever times the case: one that waited for the device at every mark would let nothing overlap,
and report as idle what it had held up itself. It is also the only moment at which a case that the host's clock times
can be looked at while the device works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measure.engine.rank import Tracer
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.case_cost import traced_variants
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.suite import Span, Work

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.measure.engine.timing.sampler import Look


def traced_pass(rank: RankContext, work: Work, look: Look) -> tuple[list[Span], list[int]]:
    """The spans of one rank, and the nanoseconds of its traced calls; `look` is called while the device is at work."""
    if not work.traced_calls:
        return [], []
    clock = clock_for_work(rank.device.type, "device")
    tracer, align = Tracer(rank.index, clock), make_alignment(rank, clock)
    for name in (name for name in traced_variants(work) for _ in range(work.traced_calls)):
        if work.reset is not None:
            work.reset()
        align()
        rank.tracer = tracer
        start = clock.mark()
        work.variants[name]()
        tracer.calls.append((start, clock.mark()))
        rank.tracer = None
        tracer.num_calls += 1
    last = tracer.calls[-1][1]
    if not clock.reached(last):
        look(lambda: not clock.reached(last))
    clock.synchronise()
    return tracer.spans(), tracer.call_ns()
