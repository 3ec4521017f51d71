"""What the harness adds to a measurement: its samples against a bare loop's, alternating sample by sample.

    .venv/bin/python scripts/overhead.py [SAMPLES] > results/evidence/overhead.md

In one process group of two gloo ranks, every round takes four samples of the same work in ABBA order: harness, bare,
bare, harness; and so for a second bare loop in the harness's place. A sample is the maximum over the ranks. Printed are
the ratio of the medians, and beside it the same ratio of bare to bare: how far two equal loops are apart here. The
interval is the middle 90% of the ratio over resampled rounds (bootstrap). An empty Work shows the clock's own cost.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.measure.system.environment import versions
from bench.measure.system.host import cpu_model

PAGE = """# The harness against a bare loop

{num_rounds} rounds on 2 ranks of one machine: {machine}, gloo, torch {torch}, load average {load:.1f} before.

Each round takes samples of the same work by the harness and by a bare loop in turn. `harness / bare` is the ratio of
their medians, with the middle 90% of it over resampled rounds. `bare / bare` is the same ratio of two bare loops: by so
much two equal loops differ here. This page is what `scripts/overhead.py` printed.
"""
Sample = Callable[[], int]
WORKS: dict[str, tuple[str, int]] = {
    "all_reduce 1 KiB": ("all_reduce", 1 << 10),
    "all_reduce 1 MiB": ("all_reduce", 1 << 20),
    "all_reduce 16 MiB": ("all_reduce", 16 << 20),
    "matmul 512": ("matmul", 512),
}


def on_rank(index: int, path: str, num_rounds: int) -> dict[str, NDArray[np.int64]]:
    """[work] -> nanoseconds [round, 8] of one rank: harness bare bare harness, bare bare bare bare."""
    import torch
    import torch.distributed as dist

    from bench.core.clock import cpu_clock, monotonic_seconds
    from bench.measure.engine.rank import close_groups, open_groups
    from bench.measure.engine.store import Store
    from bench.measure.engine.timing.sampler import Sampler
    from bench.measure.launchers.place import Place
    from bench.suite import Machine, Work

    torch.set_num_threads(1)
    machine = Machine(2, "cpu", "smoke", 0, 2, 2)
    rank = open_groups(Place(index, 2, index, 2), machine, "gloo", Store(dist.FileStore(path, 2)), 600.0, 0)
    token = torch.zeros(1)

    def work(name: str) -> tuple[Callable[[], object], Callable[[], object]]:
        kind, size = WORKS[name]
        if kind == "matmul":
            left, right, out = (torch.randn(size, size) for _ in range(3))
            return (lambda: torch.mm(left, right, out=out)), lambda: None
        source = torch.ones(size // 4)
        buffer = source.clone()
        return (lambda: dist.all_reduce(buffer, group=rank.group)), lambda: buffer.copy_(source)

    found: dict[str, NDArray[np.int64]] = {}
    for name in WORKS:
        run, reset = work(name)
        sampler = Sampler(
            rank,
            Work(variants={"full": run}, check=lambda: (0.0, 0.0), reset=reset),
            cpu_clock(),
            "aligned",
            monotonic_seconds,
        )

        def harness(sampler: Sampler = sampler) -> int:
            return sampler._block(1, 0)[0][0]

        def bare(run: Callable[[], object] = run, reset: Callable[[], object] = reset) -> int:
            reset()
            dist.all_reduce(token)
            began = time.perf_counter_ns()
            run()
            return time.perf_counter_ns() - began

        order = (harness, bare, bare, harness, bare, bare, bare, bare)
        gc.disable()
        for _ in range(5):
            harness(), bare()
        found[name] = np.array([[take() for take in order] for _ in range(num_rounds)])
        gc.enable()
    empty = Sampler(
        rank,
        Work(variants={"full": lambda: None}, check=lambda: (0.0, 0.0)),
        cpu_clock(),
        "aligned",
        monotonic_seconds,
    )
    found["empty"] = np.array([empty._block(100, 0)[0] for _ in range(20)])
    close_groups()
    return found


def _ratio(samples: NDArray[np.int64], over: tuple[int, int], under: tuple[int, int]) -> str:
    """Median of two columns over the median of two others, with the middle 90% over resampled rounds."""
    generator = np.random.default_rng(0)

    def of(rows: NDArray[np.int64]) -> float:
        return float(np.median(rows[:, over]) / np.median(rows[:, under]))

    draws = [of(samples[generator.integers(len(samples), size=len(samples))]) for _ in range(500)]
    low, high = np.quantile(draws, [0.05, 0.95])
    return f"{of(samples):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    num_rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(2) as pool,
    ):
        arguments = [(index, f"{folder}/store", num_rounds) for index in (0, 1)]
        first, second = pool.starmap(on_rank, arguments, chunksize=1)
    machine = cpu_model() or "CPU not known"
    print(PAGE.format(num_rounds=num_rounds, machine=machine, torch=versions()["torch"], load=load))
    print("| work | bare median us | harness / bare | bare / bare |\n| :--- | ---: | ---: | ---: |")
    for name in WORKS:
        slowest = np.maximum(first[name], second[name])
        median = np.median(slowest[:, 1:3]) / 1e3
        print(f"| {name} | {median:.1f} | {_ratio(slowest, (0, 3), (1, 2))} | {_ratio(slowest, (4, 7), (5, 6))} |")
    empty = np.maximum(first["empty"], second["empty"]).ravel()
    median, last = np.quantile(empty, (0.5, 0.99))
    print(f"\nA sample of an empty Work: median {median:.0f} ns, 99th percentile {last:.0f} ns.")


if __name__ == "__main__":
    main()
