"""Brings the ranks to one starting line before a sample, outside the timed part, and keeps a GPU busy until then.

On a device's clock the host enqueues a sample while the device still does something else; otherwise the host's launches
would be timed. That something is a row of small matrix products, as long as the host needs for the alignment and the
sample: longer would only hold the GPU at full power between samples of small kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.clock import monotonic_seconds

if TYPE_CHECKING:
    from bench.core.clock import Clock
    from bench.measure.engine.rank import RankContext

PRODUCT_SIZE = 2048
"""Small products rather than one as long: 16 MiB instead of 64 pass through the L2, so that it is still warm."""
GUESSED_HOST_SECONDS = 1.5e-4
"""Guess of the host's time for a sample that it has not enqueued yet."""
MARGIN = 1.5
"""The host takes now and then longer than what was seen."""
MAX_FILL_SECONDS = 5e-3
"""A call that takes the host longer to enqueue is timed with some of its launches."""
TIMED_PRODUCTS = 32


@dataclass(frozen=True)
class FillerProduct:
    """Cost of one product of the filler."""

    host_seconds: float
    """Host's time to enqueue it."""
    device_seconds: float

    def number(self, host_seconds: float) -> int:
        """Products that last until the host, which enqueues them first, has enqueued this much more; at least one."""
        # If products are hardly longer than their launch, more of them gain next to nothing.
        gain = max(self.device_seconds - self.host_seconds, self.device_seconds / 4)
        most = int(MAX_FILL_SECONDS / self.device_seconds)
        return max(1, min(math.ceil(MARGIN * host_seconds / gain), most))


def time_product(run: Callable[[], object], clock: Clock, now: Callable[[], float]) -> FillerProduct:
    """The mean over a few products in a row."""
    run()
    clock.synchronise()
    began, start = now(), clock.mark()
    for _ in range(TIMED_PRODUCTS):
        run()
    ended, end = now(), clock.mark()
    clock.synchronise()
    device_seconds = max(1, clock.elapsed_ns(start, end)) / 1e9
    return FillerProduct((ended - began) / TIMED_PRODUCTS, device_seconds / TIMED_PRODUCTS)


class Alignment:
    """`fill`, then `together`, then the sample; a call of the whole does the first two."""

    def __init__(
        self,
        together: Callable[[], object],
        run: Callable[[], object] | None = None,
        time_run: Callable[[], FillerProduct] | None = None,
    ) -> None:
        """`run` enqueues a product of the filler, of which `time_run` says how long it takes; None: there is none."""
        self.together = together
        self._run, self._time_run = run, time_run
        self.calibrate()

    def calibrate(self) -> None:
        """Time the filler again: clocks of a GPU that was idle rise with the first work."""
        self.product = self._time_run() if self._time_run is not None else None

    def fill(self, host_seconds: float) -> None:
        """Keep the device busy for as long as the host needs to enqueue `together` and the sample."""
        if self._run is not None and self.product is not None:
            for _ in range(self.product.number(host_seconds)):
                self._run()

    def fill_for(self, seconds: float) -> None:
        """Keep the device busy for so long."""
        if self._run is not None and self.product is not None:
            for _ in range(math.ceil(seconds / self.product.device_seconds)):
                self._run()

    def __call__(self, host_seconds: float = GUESSED_HOST_SECONDS) -> None:
        self.fill(host_seconds)
        self.together()


def make_alignment(rank: RankContext, clock: Clock, now: Callable[[], float] = monotonic_seconds) -> Alignment:
    """The alignment of a rank by the clock of the case; `now` is the host's time, for the filler."""
    if rank.world_size == 1 and rank.device.type == "cpu":
        return Alignment(lambda: None)
    import torch
    import torch.distributed as dist

    token = torch.zeros(1, device=rank.device)

    def together() -> None:
        dist.all_reduce(token, group=rank.group)

    if clock.name == "host":

        def at_once() -> None:
            together()
            clock.synchronise()

        return Alignment(at_once if rank.device.type != "cpu" else together)

    square = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device=rank.device, dtype=torch.bfloat16)
    product = torch.empty_like(square)

    def run() -> None:
        torch.mm(square, square, out=product)

    return Alignment(together, run, lambda: time_product(run, clock, now))
