"""`bench run --profile`: traces of a few calls of each case by torch's profiler, one file per rank.

The profiler slows what it watches, so its calls are calls of their own, made when the case is measured and checked; no
sample is taken meanwhile. Each file is in Chrome's trace format, compressed (chrome://tracing and ui.perfetto.dev open
it as it is), with the CPU's operators and, on CUDA, the kernels. They lie next to the result file, in a folder of its
name; on several hosts without a common file system each host has those of its ranks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.lines.parts import Profile

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.suite import Work

CALLS = 3
"""Calls in a trace; one call before them is left out, since the profiler's own start falls into it."""
MAX_NAME = 120
"""Characters of a case's id in a file's name."""


def trace_folder(result: Path) -> Path:
    """Return the folder for the traces of a result file: `results/run.jsonl` -> `results/run.profile`."""
    return result.with_name(re.sub(r"\.jsonl(\.gz)?$", "", result.name) + ".profile")


def trace_name(index: int, case: str, rank: int) -> str:
    """Name a rank's trace; `index` is the case's number in the plan, so that no two names are equal when cut."""
    safe = re.sub(r"[^A-Za-z0-9._=+,-]+", "_", case).strip("_")[:MAX_NAME]
    return f"{index:03d}-{safe}-rank{rank}.json.gz"


def write_trace(work: Work, rank: RankContext, align: Callable[[], object], path: Path) -> None:
    """Profile some calls of the case itself on this rank and save the trace; every rank calls it. Raises OSError."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    path.parent.mkdir(parents=True, exist_ok=True)
    full = next(iter(work.variants.values()))
    activities = [ProfilerActivity.CPU]
    if rank.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)

    def call(name: str) -> None:
        if work.reset is not None:
            work.reset()
        align()
        with record_function(name):
            full()
        if rank.device.type == "cuda":
            torch.cuda.synchronize()

    call("before the trace")
    with profile(activities=activities, record_shapes=True) as profiler:
        for number in range(CALLS):
            call(f"call {number}")
    profiler.export_chrome_trace(str(path))


def profile_record(names: list[str], folder: Path) -> Profile:
    """Make the measurement's entry for the traces: the folder, by name, and each rank's file in it."""
    return Profile(folder=folder.name, files=names, calls=CALLS)
