"""Real ranks for tests: `on_ranks(4, function, ...)` calls `function(rank_context, ...)` on each.

On gloo; with `backend=nccl_like.NAME` on what `tests.support.nccl_like` makes of it. Each rank is a new process, forked
from one that has torch imported already: the import takes longer than most tests on ranks, and no state is shared.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.suite import Machine

PRELOADED = (
    "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel", "torch.nn.parallel", "pytest",
)  # fmt: skip
"""What the process that ranks are forked from imports: nothing of ours, which might start a thread."""


def cpu_machine(world_size: int, preset: str = "smoke", memory_bytes: int = 2 << 30) -> Machine:
    return Machine(
        world_size=world_size,
        device_type="cpu",
        preset=preset,
        memory_bytes=memory_bytes,
        num_cores=2,
        ranks_per_host=world_size,
    )


def _on_rank(
    index: int, world_size: int, backend: str, path: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    import torch
    import torch.distributed as dist

    from bench.measure.engine.rank import close_groups, open_groups
    from bench.measure.engine.store import Store
    from bench.measure.launchers.place import Place
    from tests.support import nccl_like

    torch.set_num_threads(1)
    if backend == nccl_like.NAME:
        nccl_like.install()
    store = Store(dist.FileStore(path, world_size))
    place = Place(index=index, world_size=world_size, local_index=index, local_world_size=world_size)
    context = open_groups(place, cpu_machine(world_size), backend, store, timeout_seconds=60.0, seed=0)
    try:
        return function(context, *args)
    finally:
        close_groups()


def on_ranks(world_size: int, function: Callable[..., Any], *args: Any, backend: str = "gloo") -> list[Any]:
    """Every rank's return value, in rank order; a raise on a rank is raised here."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(PRELOADED))
    with tempfile.NamedTemporaryFile() as file, ProcessPoolExecutor(world_size, mp_context=processes) as pool:
        jobs = [
            pool.submit(_on_rank, index, world_size, backend, file.name + ".store", function, args)
            for index in range(world_size)
        ]
        return [job.result() for job in jobs]


def run_case(context: Any, reference: str, params: dict[str, Any], calls: int = 2) -> dict[str, Any]:
    """Prepare a case, check it, call every variant, trace it, check it again: what the engine does, without a clock."""
    from bench.measure.engine.rank import Tracer
    from bench.measure.engine.timing.alignment import make_alignment
    from bench.measure.engine.timing.device_clock import clock_for_work
    from bench.measure.planning.suite_loader import load
    from bench.suite import Check

    suite = load(reference)
    work = suite.prepare(suite.defaults | params, context)
    is_streamed = "streamed" in suite.choices.get("timing", ())
    checks = [Check(*work.check())]
    looks: dict[str, list[Check]] = {name: [] for name in work.timed_checks}
    align = make_alignment(context, clock_for_work("cpu", work.clock))
    for number in range(calls):
        for name, run in work.variants.items():
            looked = work.timed_checks.get(name)
            if looked:
                looked.arm()
            if work.reset:
                work.reset()
            align()
            # As in a streamed sample, the last time there are two calls.
            for _ in range(repeats := 2 if is_streamed and number == calls - 1 else 1):
                run()
            if looked:
                looks[name].append(Check(*looked.look(repeats)))
    assert all(check.passed for found in looks.values() for check in found), (reference, params, looks)
    full = next(iter(work.variants.values()))
    tracer = context.tracer = Tracer(context.index, clock_for_work("cpu", work.clock))
    for _ in range(work.traced_calls):
        if work.reset:
            work.reset()
        start = tracer.clock.mark()
        full()
        tracer.calls.append((start, tracer.clock.mark()))
        tracer.num_calls += 1
    context.tracer = None
    checks.append(Check(*work.check()))
    if work.close:
        work.close()
    return {
        "checks": checks,
        "looks": looks,
        "variants": list(work.variants),
        "bytes": work.bytes,
        "bus_factor": work.bus_factor,
        "flops": work.flops,
        "tokens": work.tokens,
        "spans": tracer.spans(),
        "call_ns": tracer.call_ns(),
        "derive": None,
        "notes": work.notes,
    }
