"""Where the time of a launch goes before its first case: two gloo ranks, started as `bench run` starts them.

    .venv/bin/python scripts/evidence/launch_parts.py [REPEATS]

Printed as Markdown: of each part the median over the repeats of the slower rank's seconds, and at the end the first
and the third call of three kinds of work, since a first call makes threads, buffers and connections.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time

NUM_RANKS = 2
SUITES = ("compute", "collective", "tensor_parallel", "pipeline_parallel", "training_step")


def on_rank(index: int, port: int, started: float) -> dict[str, float]:
    """Part -> seconds, on one rank; `started` is when its parent asked for it, on the clock that all share."""
    parts: dict[str, float] = {}
    before = time.time()
    parts["interpreter"] = before - started

    def part(name: str) -> None:
        nonlocal before
        now = time.time()
        parts[name] = now - before
        before = now

    import torch
    import torch.distributed as dist

    part("import torch")
    from bench.measure.engine import worker
    from bench.measure.engine.rank import open_groups
    from bench.measure.engine.store import LOOPBACK, connect_store
    from bench.measure.launchers.place import Place
    from bench.measure.planning.suite_loader import load
    from bench.measure.system import host

    part("import bench")
    for name in SUITES:
        load(name)
    part("load suites")
    worker.apply_settings(1)
    place = Place(index, NUM_RANKS, index, NUM_RANKS)
    store = connect_store(LOOPBACK, port, timeout_seconds=120.0)
    machine = place.machine("cpu", "smoke", host.usable_cores(), memory_bytes=0)
    rank = open_groups(place, machine, "gloo", store, 120.0, 0)
    part("process groups")
    worker.describe_all(rank, worker.host_name())
    part("describe the machine")
    layer, vector, buffer = torch.nn.Linear(256, 256), torch.randn(256, 256), torch.ones(1 << 18)

    def matmul() -> None:
        torch.mm(vector, vector)

    def all_reduce() -> None:
        dist.all_reduce(buffer, group=rank.group)

    def backward() -> None:
        layer(vector).sum().backward()

    for run in (matmul, all_reduce, backward):
        for number in ("first", "second", "third"):
            run()
            part(f"{number} {run.__name__}")
    return parts


def launch() -> dict[str, float]:
    """Part -> seconds of the slower rank."""
    from bench.measure.engine.store import LOOPBACK, hosted_store

    store = hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=120.0)
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-P", __file__, "--rank"]
    ranks = [
        subprocess.Popen([*words, str(n), str(store.port), repr(time.time())], stdout=subprocess.PIPE, env=environ)
        for n in range(NUM_RANKS)
    ]
    parts = [json.loads(process.communicate()[0]) for process in ranks]
    return {name: max(each[name] for each in parts) for name in parts[0]}


def main() -> None:
    if sys.argv[1:2] == ["--rank"]:
        print(json.dumps(on_rank(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
        return
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    launches = [launch() for _ in range(repeats)]
    print(f"{NUM_RANKS} gloo ranks, median of {repeats} launches, load {os.getloadavg()[0]:.1f} after\n")
    print("| part | seconds | least | most |\n| --- | ---: | ---: | ---: |")
    for name in launches[0]:
        found = sorted(each[name] for each in launches)
        if not name.startswith("second"):
            print(f"| {name} | {statistics.median(found):.4f} | {found[0]:.4f} | {found[-1]:.4f} |")


if __name__ == "__main__":
    main()
