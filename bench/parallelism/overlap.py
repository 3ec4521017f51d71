"""Cost of communication to a piece of work, from its time with and without and that of the communication alone.

    exposed    = full - compute_only             what the work waits for its communication
    overlapped = 1 - exposed / communication     share of the communication that hides behind computation

`communication` is the same messages with nothing between them. On a CPU communication also takes cores from the
computation, which slows it: the exposed part holds that too, and may exceed the communication alone (an overlapped
share below 0). Times are maxima over the ranks, so that waiting for a busier rank is in `compute_only` already.
"""

from __future__ import annotations

from bench.suite import Observed, SuiteMetric

FULL, COMPUTE_ONLY, COMMUNICATION = "full", "compute_only", "communication"

METRICS = {
    "exposed_communication_seconds": SuiteMetric(
        "s", "lower", "Time of the case less that of the same local work without communication."
    ),
    "communication_alone_seconds": SuiteMetric(
        "s", "lower", "Time of the same messages with no computation between them."
    ),
    "overlapped_share": SuiteMetric(
        "share",
        "higher",
        "Share of the communication that hides behind computation: 1 - exposed / alone; below 0 if "
        "communication slows the computation.",
    ),
}


def exposure(observed: Observed) -> dict[str, float | None]:
    """The metrics above; None if the work has no such variants."""
    full, compute, alone = (observed.seconds.get(name) for name in (FULL, COMPUTE_ONLY, COMMUNICATION))
    exposed = None if full is None or compute is None else full - compute
    return {
        "exposed_communication_seconds": exposed,
        "communication_alone_seconds": alone,
        "overlapped_share": None if exposed is None or not alone else 1 - exposed / alone,
    }
