"""Goodput of a run under failures, the best interval between checkpoints, and failures that come together.

Failures are exponential with mean M between them. Work goes in intervals of tau seconds, each ended by a checkpoint of
delta seconds; a failure at any time, restarts included, costs what was done since the last checkpoint and a restart of
R seconds. The expected wall time of one interval is then M e^(R/M) (e^((tau + delta)/M) - 1), exactly (Daly 2006, "A
higher order estimate of the optimum checkpoint interval for restart dumps", equation 20), and the goodput

    tau / (M e^(R/M) (e^((tau + delta)/M) - 1))

Its best interval solves (1 - tau/M) e^((tau + delta)/M) = 1; Young's sqrt(2 delta M) (1974) is its first-order
approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.errors import BenchError

LLAMA3_DEVICES = 16384
LLAMA3_DAYS = 54
LLAMA3_INTERRUPTIONS = 419
"""Unexpected interruptions (arXiv 2407.21783, section 3.3.4): 3.09 h between them, over 90% of the time effective."""

DEVICE_MTBF_SECONDS = LLAMA3_DAYS * 86400.0 * LLAMA3_DEVICES / LLAMA3_INTERRUPTIONS
"""Mean time between failures of one device with its share of node and network: 5.8 years."""


@dataclass(frozen=True)
class Domain:
    """Something whose loss takes many devices with it: a power feed, a cooling loop, a leaf switch."""

    name: str
    devices: int
    mtbf_seconds: float
    """Mean time between losses of one such domain."""
    restart_seconds: float | None = None
    """Restart after its loss; None: as after the loss of a device."""


@dataclass(frozen=True)
class Failures:
    """Failures of a job, and its checkpoints against them."""

    mtbf_seconds: float
    """Mean time between failures of the whole job, all causes together."""
    checkpoint_seconds: float
    restart_seconds: float

    def goodput(self, interval_seconds: float) -> float:
        """Share of the wall time that is work that lasts; 0 if an interval is never survived."""
        mean, whole = self.mtbf_seconds, (interval_seconds + self.checkpoint_seconds) / self.mtbf_seconds
        exponent = whole + self.restart_seconds / mean
        if exponent > 600.0:
            return 0.0
        return interval_seconds / (mean * math.exp(self.restart_seconds / mean) * math.expm1(whole))

    @property
    def young_seconds(self) -> float:
        return math.sqrt(2.0 * self.checkpoint_seconds * self.mtbf_seconds)

    @property
    def best_seconds(self) -> float:
        """The interval with the highest goodput, by bisection of the derivative's sign."""
        delta, mean = self.checkpoint_seconds / self.mtbf_seconds, self.mtbf_seconds
        low, high = 0.0, 1.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            # In units of M: log((1 - x) e^(x + delta)) is above 0 until the best x, and falls after.
            if math.log1p(-middle) + middle + delta > 0.0:
                low = middle
            else:
                high = middle
        return mean * low


def failures_of_job(
    devices: int,
    device_mtbf_seconds: float,
    checkpoint_seconds: float,
    restart_seconds: float,
    domains: tuple[Domain, ...] = (),
) -> Failures:
    """Independent causes add up by rate; the restart is the mean over causes. Raises BenchError for times below 0."""
    named = {"checkpoint time": checkpoint_seconds, "restart time": restart_seconds}
    for what, seconds in named.items():
        if not seconds > 0.0:
            raise BenchError(f"{what} {seconds} s: has to be above 0")
    if not device_mtbf_seconds > 0.0:
        raise BenchError(f"mean time between failures of {device_mtbf_seconds} s: has to be above 0")
    rate = devices / device_mtbf_seconds
    restarts = rate * restart_seconds
    for domain in domains:
        of_domain = math.ceil(devices / domain.devices) / domain.mtbf_seconds
        rate += of_domain
        restarts += of_domain * (restart_seconds if domain.restart_seconds is None else domain.restart_seconds)
    return Failures(1.0 / rate, checkpoint_seconds, restarts / rate)


def checkpoint_bytes(parameters: float) -> float:
    """A copy in 16 bits and the optimizer's 12 bytes of each parameter."""
    return 14.0 * parameters
