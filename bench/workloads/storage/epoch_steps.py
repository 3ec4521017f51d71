"""Training steps of known length that the epochs of the input pipeline take with their batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import BufferLooks

MATMUL_SIZE = {"cpu": 512, "cuda": 8192}


def wait_step(milliseconds: int, rank: RankContext) -> tuple[Callable[[], object], None]:
    """The step in which the host waits."""
    seconds = milliseconds / 1e3
    return lambda: time.sleep(seconds), None


def matmul_step(gflop: int, rank: RankContext) -> tuple[Callable[[], object], BufferLooks]:
    """The step, and the looks at its product."""
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    size = MATMUL_SIZE[rank.device.type]
    dtype = torch.bfloat16 if rank.device.type == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=rank.device, dtype=dtype, generator=rank.generator(i)) for i in range(2))
    c = torch.empty_like(a)
    repeats = range(max(1, round(gflop * 1e9 / (2 * size**3))))

    def step() -> None:
        for _ in repeats:
            torch.mm(a, b, out=c)

    return step, BufferLooks(c)


STEP_KINDS: Mapping[str, Callable[[int, RankContext], tuple[Callable[[], object], BufferLooks | None]]] = {
    "wait": wait_step,
    "matmul": matmul_step,
}
"""Kind of step -> its length (ms, or GFLOP) and the rank -> the step, and looks at what it leaves."""
