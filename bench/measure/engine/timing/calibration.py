"""Fixed kernels of the harness, sampled with every visit: controls, which a change under test does not touch.

What disturbs a whole launch (clocks, other guests of the host, where its pages and threads lie) disturbs these kernels
too, so a comparison can tell if the machine was another on one side. Neither suites nor options reach them: on a CPU
two of them are numpy's, on one thread, and the third is an exchange on a process group of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.clock import monotonic_seconds
from bench.core.garbage import without_collecting
from bench.measure.engine import control
from bench.measure.engine.timing.device_clock import clock_for_work

if TYPE_CHECKING:
    from bench.core.clock import Clock
    from bench.measure.engine.rank import RankContext

COMPUTE, COPY, EXCHANGE = "compute", "copy", "exchange"
PLANNED_SHARE = 0.015
"""Share of a visit's time that all of them take together, as planned: half of the most that they should take, since
disturbed rounds last longer than planned. Of visits planned at 3%, a fifth was above it."""
MOST_ROUNDS = 100
"""Rounds before or after the samples of a visit beyond which further ones tell nothing more, however long it takes."""
WARMUP_ROUNDS = 3
REMEMBERED_BLOCKS = 10
"""Blocks of rounds whose mean says what a round takes: one alone may have been disturbed."""
HOST_VALUES, HOST_REPEATS = 8192, 32
"""float64 numbers, which the first-level cache of a core nearly holds, and passes over them."""
HOST_COPY_BYTES = 2**21
"""Beyond what a core has to itself, as a rule."""
DEVICE_PRODUCT_SIZE, DEVICE_COPY_BYTES = 2048, 2**26
EXCHANGED_VALUES = 256
"""float32 numbers, 1 KiB."""

Kernel = Callable[[], object]


class Calibration:
    """The controls of one rank, in step with those of its peers."""

    def __init__(
        self, rank: RankContext, kernels: Mapping[str, Kernel], clock: Clock, now: Callable[[], float]
    ) -> None:
        self._rank, self._kernels, self._clock, self._now = rank, kernels, clock, now
        self._take(1)  # cold: the group connects, pages are mapped
        self._known: deque[tuple[int, float]] = deque(maxlen=REMEMBERED_BLOCKS)
        self._rest_seconds = 0.0
        self._timed_rounds(WARMUP_ROUNDS)

    def begin_visit(self) -> VisitControls:
        """Controls of a visit that begins now."""
        return VisitControls(self, self._now)

    def sample(self, seconds: float) -> dict[str, list[int]]:
        """Samples of each control in nanoseconds, as many as rank 0 expects to fit into the time; maybe none."""
        seconds += self._rest_seconds
        rounds = min(MOST_ROUNDS, int(seconds / self._round_seconds))
        (rounds,) = control.broadcast_numbers(self._rank, [rounds])
        # What is too little for a round counts for the next time, so that short visits are sampled now and then.
        self._rest_seconds = min(self._round_seconds, seconds - rounds * self._round_seconds)
        return self._timed_rounds(rounds) if rounds else {name: [] for name in self._kernels}

    @property
    def _round_seconds(self) -> float:
        rounds, seconds = map(sum, zip(*self._known, strict=True))
        return max(1e-6, seconds / rounds)

    def _timed_rounds(self, rounds: int) -> dict[str, list[int]]:
        began = self._now()
        samples = self._take(rounds)
        self._known.append((rounds, self._now() - began))
        return samples

    def _take(self, rounds: int) -> dict[str, list[int]]:
        marks: dict[str, list[tuple[Any, Any]]] = {name: [] for name in self._kernels}
        mark = self._clock.mark
        together = self._kernels.get(EXCHANGE)
        with without_collecting():
            if together is not None:
                together()  # untimed: it brings the ranks to one starting line
            for name, run in self._kernels.items():
                for _ in range(rounds):
                    start = mark()
                    run()
                    marks[name].append((start, mark()))
        self._clock.synchronise()
        elapsed = self._clock.elapsed_ns
        return {name: [elapsed(start, end) for start, end in pairs] for name, pairs in marks.items()}


def calibrate(rank: RankContext) -> Calibration:
    """The controls of a rank, warm, by its device's clock; every rank must ask for them."""
    return Calibration(rank, make_kernels(rank), clock_for_work(rank.device.type, "device"), monotonic_seconds)


class VisitControls:
    """Controls of one visit: some before its samples and some after, in no more than their share of its time."""

    def __init__(self, calibration: Calibration, now: Callable[[], float]) -> None:
        self._calibration, self._now = calibration, now
        self._began, self._granted = now(), 0.0
        self.nanoseconds: dict[str, list[int]] = {}

    def sample(self, share: float = 1.0) -> None:
        """Sample the controls for what is left of this share of their time; the visit's time so far is what counts."""
        seconds = share * PLANNED_SHARE * (self._now() - self._began) - self._granted
        self._granted += seconds
        for name, samples in self._calibration.sample(seconds).items():
            self.nanoseconds.setdefault(name, []).extend(samples)


def make_kernels(rank: RankContext) -> Mapping[str, Kernel]:
    """The kernels by name; of one rank alone there is none that exchanges."""
    own = _host_kernels() if rank.device.type == "cpu" else _device_kernels(rank)
    return own if rank.world_size == 1 else {EXCHANGE: _exchange(rank), **own}


def _host_kernels() -> dict[str, Kernel]:
    values = np.linspace(0.5, 1.5, HOST_VALUES)
    source = np.ones(HOST_COPY_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)

    def compute() -> None:
        for _ in range(HOST_REPEATS):
            np.multiply(values, 0.999, out=values)
            np.add(values, 0.001, out=values)  # towards 1: never denormal

    return {COMPUTE: compute, COPY: lambda: np.copyto(target, source)}


def _device_kernels(rank: RankContext) -> dict[str, Kernel]:
    import torch

    square = torch.ones(DEVICE_PRODUCT_SIZE, DEVICE_PRODUCT_SIZE, device=rank.device, dtype=torch.bfloat16)
    product = torch.empty_like(square)
    source = torch.ones(DEVICE_COPY_BYTES, device=rank.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return {COMPUTE: lambda: torch.mm(square, square, out=product), COPY: lambda: target.copy_(source)}


def _exchange(rank: RankContext) -> Kernel:
    import torch
    import torch.distributed as dist

    values = torch.zeros(EXCHANGED_VALUES, device=rank.device)
    # Asked for at each call: a broken generation lets go of its groups, and nothing else may hold one.
    return lambda: dist.all_reduce(values, group=rank.calibration)
