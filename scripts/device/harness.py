"""What the harness adds to a measurement on a device: its samples against a bare loop's, in turn.

    python -m device.harness DEVICE

Every round takes four samples of one kernel in ABBA order: harness, bare, bare, harness; and four bare ones, which show
how far two equal loops are apart. Both meet the device in the same state, whatever its clocks do meanwhile.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch

from bench.core import clock
from bench.measure.engine.rank import RankContext, close_groups
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.measure.engine.timing.sampler import Sampler
from bench.suite import Check, Work
from device.bare import BIG, COPY_BYTES, SMALL, float8_product, product
from device.findings import judge, note
from device.one_rank import opened

WARMUP_ROUNDS = 3
NUM_ROUNDS = {"cuda": 200, "cpu": 50}


def kernels(device: torch.device) -> dict[str, tuple[Callable[[], object], bool]]:
    """Name -> a kernel, and whether it lasts long enough for a bare loop to be right about it."""
    kind = device.type
    short = torch.bfloat16 if kind == "cuda" else torch.float32
    source = torch.randn(COPY_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    found: dict[str, tuple[Callable[[], object], bool]] = {
        f"matmul {BIG[kind]} {str(short)[6:]}": (product(BIG[kind], short, device), True),
        f"copy {COPY_BYTES[kind]}": (lambda: target.copy_(source), True),
        f"matmul {SMALL[kind]} {str(short)[6:]}": (product(SMALL[kind], short, device), False),
    }
    if kind == "cuda":
        found[f"matmul {BIG[kind]} float8_e4m3fn"] = (float8_product(BIG[kind], device), True)
        found["matmul 1024 bfloat16"] = (product(1024, short, device), False)
    return found


def in_turn(run: Callable[[], object], rank: RankContext) -> tuple[float, float, float]:
    """Median seconds by the harness, harness over bare, and bare over bare."""
    timer = clock_for_work(rank.device.type, "device")
    sampler = Sampler(
        rank, Work(variants={"full": run}, check=lambda: Check(0.0, 0.0)), timer, "aligned", clock.monotonic_seconds
    )

    def harness() -> int:
        return sampler._block(1, 0)[0][0]

    def bare() -> int:
        start = timer.mark()
        run()
        end = timer.mark()
        timer.synchronise()
        return timer.elapsed_ns(start, end)

    sampler._warm_up(1.0, WARMUP_ROUNDS)
    order = (harness, bare, bare, harness, bare, bare, bare, bare)
    rounds = [[take() for take in order] for _ in range(NUM_ROUNDS[rank.device.type])]
    own, plain, one, other = (
        statistics.median(row[i] for row in rounds for i in pair) for pair in ((0, 3), (1, 2), (4, 7), (5, 6))
    )
    return own / 1e9, own / plain, one / other


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    context = opened(sys.argv[1])
    for name, (kernel, is_long) in kernels(context.device).items():
        seconds, over_bare, twice_bare = in_turn(kernel, context)
        told = f"{seconds * 1e6:.2f} us, bare over bare {twice_bare:.3f}"
        if is_long and context.device.type == "cuda":
            judge(f"harness over bare torch, {name} ({told})", over_bare, 0.985, 1.015, "x")
        else:  # a bare loop holds the host's launches of a short kernel; a CPU here is shared
            note("INFO", f"harness over bare torch, {name} ({told})", f"{over_bare:.3f} x")
    close_groups()
