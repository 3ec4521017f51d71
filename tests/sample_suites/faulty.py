"""Misbehaves on purpose, one way a case, so that tests can see what the engine makes of it."""

import os
import signal
import threading

from bench.suite import Skip, Work

FAULTS = (
    "none", "raise_one", "raise_all", "prepare_one", "prepare_all", "skip", "skip_one", "wrong", "not_a_number",
    "wrong_after", "kill", "hang", "hang_all", "no_work", "memory", "exit", "last",
)  # fmt: skip
CHOICES = {"op": FAULTS}


def cases(machine):
    for fault in FAULTS:
        yield {"op": fault}


def memory(params, machine):
    return 1 << 60 if params["op"] == "memory" else 1


def prepare(params, rank):
    import torch
    import torch.distributed as dist

    fault, last = params["op"], rank.index == rank.world_size - 1
    calls = {"number": 0}
    if fault == "prepare_all" or (fault == "prepare_one" and last):
        raise ValueError("prepare went wrong")
    if fault == "skip" or (fault == "skip_one" and last):
        raise Skip("nothing to do here")
    if fault == "no_work":
        return None
    buffer = torch.ones(8)

    def run():
        calls["number"] += 1
        if calls["number"] > 2:
            misbehave()
        dist.all_reduce(buffer, group=rank.group)

    def misbehave():
        if fault == "raise_all" or (fault == "raise_one" and last):
            raise RuntimeError("run went wrong")
        if fault == "kill" and last:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit" and last:
            os._exit(7)
        if fault == "hang_all" or (fault == "hang" and last):
            threading.Event().wait()

    def check():
        buffer.fill_(1.0)
        dist.all_reduce(buffer, group=rank.group)
        error = (buffer - rank.world_size).abs().max().item()
        wrong = fault == "wrong" or (fault == "wrong_after" and calls["number"] > 0)
        return (float("nan") if fault == "not_a_number" else error + wrong), 0.0

    return Work(variants={"full": run}, check=check, reset=lambda: buffer.fill_(1.0))
