"""Cases run by one rank of a fake world of GPUs (`tests.support.fake_cuda`), each in a process of its own."""

from __future__ import annotations

import gc
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from bench.measure.planning.suite_loader import load
from bench.measure.system.memory import numa
from bench.parallelism.layout import Layout, layout_of
from bench.suite import Params, Skip
from tests.support.fake_cuda import FakeCuda, install


@dataclass(frozen=True)
class Outcome:
    """What became of a case on one rank."""

    num_variants: int = 0
    peak_bytes: int = 0
    """Of the tensors on the device, from `prepare` to the end of the check."""
    needed_bytes: int = 0
    """By the suite's own estimate."""
    skipped: str | None = None
    error: str | None = None


def run_case(name: str, params: Params, index: int, world_size: int, memory_bytes: int, checks: bool) -> Outcome:
    """Prepare the case, call every variant once and, with `checks`, run its check."""
    suite = load(name)
    params = suite.defaults | params
    fake = FakeCuda(
        index,
        world_size,
        memory_bytes=memory_bytes,
        others=OTHERS.get(name, lambda value, size: [value] * size),
        hidden_states=_hidden_states(name, params, world_size),
        keeps_integers=name == "expert_parallel",
    )
    with fake as rank, _shortened(name):
        needed = suite.memory_bytes(params, rank.machine) or 0
        try:
            work = suite.prepare(params, rank)
        except Skip as skip:
            return Outcome(needed_bytes=needed, skipped=str(skip))
        for run in work.variants.values():
            if work.reset is not None:
                work.reset()
            run()
        if checks:
            work.check()
        return Outcome(len(work.variants), fake.tensors.peak, needed)


OTHERS: dict[str, Callable[[Any, int], list[Any]]] = {
    # It asks for the host of every rank.
    "point_to_point": lambda _host, size: [index // min(size, 8) for index in range(size)],
}
"""Suite -> (this rank's word, world size) -> what all ranks say."""


def _hidden_states(name: str, params: Params, world_size: int) -> Any:
    """Of a microbatch between two stages of a pipeline, at full and at the check's reduced size."""
    import torch

    if name == "pipeline_parallel":
        dtype = getattr(torch, str(params["dtype"]))
        size, sequence, hidden = (int(params[each]) for each in ("microbatch_size", "sequence", "hidden"))
        heads = int(params["num_heads"])
        return ((size, sequence, hidden), dtype), ((1, min(16, sequence), heads * min(16, hidden // heads)), dtype)
    layout = layout_of(world_size, int(params["tp"]), int(params["pp"])) if name == "training_step" else None
    if not isinstance(layout, Layout):
        return ()
    from bench.workloads.training.step_memory import make_job
    from bench.workloads.training.training_check import _reduced

    job = make_job(params, layout.pp)
    is_short = params["dp_mode"] == "shard" and params["dtype"] != "float32"
    dtype, size = torch.bfloat16 if is_short else torch.float32, job.microbatch_size(layout)
    shapes = (job.shape, _reduced(job, layout))
    return tuple(((size, shape.sequence // layout.tp, shape.hidden), dtype) for shape in shapes)


@contextmanager
def _shortened(name: str) -> Iterator[None]:
    """The suite of mixed ranks calls its step many times to learn speeds, which fakes do not have.

    That of transfers sees a host of one NUMA node, whatever this machine has.
    """
    if name == "transfer":
        with patch.object(numa, "topology", lambda: numa.Topology({0: frozenset(os.sched_getaffinity(0))})):
            yield
        return
    if name != "heterogeneous":
        yield
        return
    from bench.workloads.parallel import relative_speed

    with patch.object(relative_speed, "WARMUP_CALLS", 1), patch.object(relative_speed, "num_calls", lambda _: 1):
        yield


def in_child(call: Callable[[], Outcome]) -> Outcome:
    """Run it in a forked process, which ends with it: nothing that a fake world leaves behind meets the next one.

    The process that forks must not have run a backward.
    """
    install()
    gc.freeze()  # collecting goes through what the child makes, and not through all of torch
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        try:
            outcome = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells of it
            place = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in place if "/bench/" in frame.filename or "/suites/" in frame.filename][-1:]
            where = "".join(f" ({frame.filename.rpartition('/')[2]}: {frame.name})" for frame in own)
            outcome = Outcome(error=f"{type(error).__name__}: {str(error)[:300]}{where}")
        with os.fdopen(send, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else Outcome(error="the process died")
