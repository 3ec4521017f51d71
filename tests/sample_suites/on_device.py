"""Goes wrong as a GPU's work does: where one rank misbehaves, the others wait for the device, and hear nothing.

For the backend `nccl_like` alone; see tests/support/nccl_like.py.
"""

import threading

from bench.suite import Work
from tests.support.nccl_like import read, synchronise

FAULTS = (
    "none", "raise_last", "raise_first", "prepare_all", "hang_check", "hang_prepare", "hang_per_rank", "last",
)  # fmt: skip
CHOICES = {"op": FAULTS}


def cases(machine):
    for fault in FAULTS:
        yield {"op": fault}


def prepare(params, rank):
    import torch
    import torch.distributed as dist

    fault, last = params["op"], rank.index == rank.world_size - 1
    calls = {"number": 0}
    buffer = torch.ones(1)

    def summed():
        synchronise()
        buffer.fill_(1.0)
        dist.all_reduce(buffer, group=rank.group)

    def hang(phase):
        if fault == phase:
            if last:
                threading.Event().wait()
            summed()
            read(buffer)

    def run():
        calls["number"] += 1
        if calls["number"] > 1 and fault == ("raise_last" if last else "raise_first"):
            raise RuntimeError("run went wrong")
        summed()
        synchronise()

    def check():
        hang("hang_check")
        summed()
        return read(buffer) - rank.world_size, 0.0

    def per_rank():
        hang("hang_per_rank")
        return {}

    if fault == "prepare_all":
        raise ValueError("prepare went wrong")
    hang("hang_prepare")
    return Work(variants={"full": run}, check=check, reset=synchronise, per_rank=per_rank)
