"""Stands for NCCL: rank 0's calls write debug text where NCCL_DEBUG_FILE says, as NCCL would; for tests of the pass."""

import os
import socket
from pathlib import Path

from bench.suite import Work

LINES = {
    "ring": ["AllReduce: 4096 Bytes -> Algo RING proto LL128 channel{Lo..Hi}={0..7}"],
    "graph": [],
    "split": [
        "ReduceScatter: 2048 Bytes -> Algo NVLS proto SIMPLE channel{Lo..Hi}={0..15}",
        "AllGather: 2048 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..1}",
    ],
    "raises": ["AllReduce: 1 Bytes -> Algo TREE proto LL channel{Lo..Hi}={0..0}"],
}
PREPARED = [
    "NCCL version 2.27.3+cuda12.9",
    "Using network Socket",
    "8 coll channels, 8 collnet channels, 0 nvls channels",
]


def cases(machine):
    for op in (*LINES, "alone"):
        yield {"op": op}


def prepare(params, rank):
    import torch.distributed as dist

    op = params["op"]
    pattern = os.environ.get("NCCL_DEBUG_FILE")
    if pattern and op == "raises":
        raise RuntimeError("not in this pass")

    def say(lines):
        if pattern and rank.index == 0:
            host = socket.gethostname()
            path = Path(pattern.replace("%h", host).replace("%p", str(os.getpid())))
            with path.open("a") as file:
                file.writelines(f"{host}:{os.getpid()}:7 [0] NCCL INFO {line}\n" for line in lines)

    def run():
        dist.barrier(group=rank.control)
        say(LINES.get(op, []))

    captured = "AllReduce: 64 Bytes -> Algo TREE proto LL channel{Lo..Hi}={0..0}"
    say([*PREPARED, captured] if op == "graph" else PREPARED)
    return Work(variants={"full": run}, check=lambda: (0.0, 0.0), bus_factor=None if op == "alone" else 1.0)
