"""NCCL with a single rank, every call of torch that the product makes of it, one by one.

python -m device.one_rank DEVICE
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack

import torch
import torch.distributed as dist

from bench.measure.engine.rank import RankContext, close_groups, open_groups
from bench.measure.engine.store import LOOPBACK, hosted_store
from bench.measure.launchers.place import Place
from device.findings import note


def attempt(name: str, run: Callable[[], object]) -> None:
    try:
        note("PASS", name, run() or "ok")
    except Exception as error:  # noqa: BLE001 - each attempt is told, whatever it ends in
        traceback.print_exc()
        note("FAIL", name, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def opened(kind: str) -> RankContext:
    place, backend = Place(0, 1, 0, 1), "nccl" if kind == "cuda" else "gloo"
    store = hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=60)
    return open_groups(place, place.machine(kind, "smoke", 1, 2**33), backend, store, 60.0, 0)


def common(rank: RankContext, x: torch.Tensor) -> None:
    from bench.workloads.parallel.tensor import silent_group

    def silent() -> None:
        group = silent_group()
        dist.all_reduce(x, group=group)
        dist.destroy_process_group(group)

    def to_itself() -> None:
        received = torch.empty_like(x)
        operations = [
            dist.P2POp(dist.isend, x, 0, group=rank.group),
            dist.P2POp(dist.irecv, received, 0, group=rank.group),
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    attempt("all_reduce", lambda: dist.all_reduce(x, group=rank.group))
    attempt("subgroup (comm split)", lambda: dist.all_reduce(x, group=rank.subgroup((0,))))
    attempt("sample of nothing", lambda: empty_sample(rank))
    attempt("mesh", lambda: str(rank.mesh((1, 1), ("data", "tensor"))))
    attempt("silent group (fake backend on a bound device)", silent)
    if rank.device.type == "cuda":  # gloo refuses it
        attempt("batch_isend_irecv to itself", to_itself)


def empty_sample(rank: RankContext) -> str:
    """What the product times of a call that does nothing: the floor of every sample."""
    from bench.core import clock
    from bench.measure.engine.timing.device_clock import clock_for_work
    from bench.measure.engine.timing.sampler import Sampler
    from bench.measure.engine.timing.stop_rule import Limits
    from bench.suite import Check, Work

    work = Work(variants={"full": lambda: None}, check=lambda: Check(0.0, 0.0))
    timer = clock_for_work(rank.device.type, "device")
    samples = Sampler(rank, work, timer, "aligned", clock.monotonic_seconds).measure(Limits(0.02, 1.0))
    return f"{statistics.median(samples.nanoseconds['full'])} ns, of {samples.num_rounds} samples"


def on_cuda(rank: RankContext, x: torch.Tensor) -> None:
    from bench.measure.engine.emulation import CudaSpeed
    from bench.measure.system.devices import gpu_addresses
    from bench.measure.system.nvml import open_state_reader
    from bench.workloads.comm.buffers import allocator, symmetric_all_reduce
    from suites.collective import _capture

    device = rank.device

    def graph() -> None:
        run, close = _capture(lambda: dist.all_reduce(x, group=rank.group))
        run()
        torch.cuda.synchronize()
        close()

    def allocated(kind: str, reduce: Callable[[torch.Tensor], object]) -> None:
        with ExitStack() as stack:
            with allocator(kind, rank, stack) as empty:
                buffer = empty(1 << 20, dtype=torch.float32, device=device)
            buffer.fill_(1)
            reduce(buffer)
            torch.cuda.synchronize()

    def pace() -> str:
        """Parts at half speed, at the power cap, take twice as long as others."""
        half, matrix = (
            CudaSpeed(device, compute_speed=0.5),
            torch.randn(8192, 8192, device=device, dtype=torch.bfloat16),
        )

        def products() -> None:
            for _ in range(10):
                matrix @ matrix

        def slowed() -> None:
            with half.part("products"):
                products()

        timed = [(host_seconds(slowed), host_seconds(products)) for _ in range(20)]
        slow, fast = (statistics.median(each[i] for each in timed[5:]) for i in (0, 1))
        assert abs(slow / fast / 2 - 1) < 0.05, f"{slow:.4g} s at half speed, {fast:.4g} s at full"
        return f"{slow / fast:.3f} times as long"

    def host_seconds(run: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - began

    attempt("graph of an all-reduce", graph)
    attempt("registered buffer", lambda: allocated("registered", lambda b: dist.all_reduce(b, group=rank.group)))
    attempt("symmetric memory", lambda: allocated("symmetric", lambda b: symmetric_all_reduce(b, rank)()))
    attempt("emulated half speed", pace)
    uuid, pci = gpu_addresses(device)
    with open_state_reader(pci, uuid) as read:
        note("INFO", "NVML by PCI address", read())


if __name__ == "__main__":
    context = opened(sys.argv[1])
    splits = context.group._get_backend(context.device).supports_splitting
    note("PASS", "open_groups", f"{context.backend} {context.device}, splits: {splits}")
    ones = torch.ones(1 << 20, device=context.device)
    common(context, ones)
    if context.device.type == "cuda":
        on_cuda(context, ones)
    close_groups()
