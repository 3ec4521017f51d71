"""Ends a rank, fills the machine or leaves it changed, one way a case; `before` and `after` have to survive it."""

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.suite import Work

TROUBLES = (
    "before", "segfault", "abort", "system_exit", "exit_0", "keyboard", "memory_error", "recursion", "stop", "pause",
    "hog", "chatter", "closed_output", "lost_folder", "threads", "dtype", "environment", "after",
)  # fmt: skip
CHOICES = {"op": TROUBLES}


def cases(machine):
    for op in TROUBLES:
        yield {"op": op}


def _recurse(depth):
    return _recurse(depth + 1) + 1


def _hog():
    held = []
    while True:
        held.append(bytearray(os.urandom(1) * (32 << 20)))


def _stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def _pause():
    """Stopped for two seconds, as by Ctrl-Z: a child wakes it up."""
    if os.fork() == 0:
        time.sleep(2)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    _stop()


def _chatter():
    for _ in range(2000):
        sys.stdout.write("x" * 200 + "\n")
        sys.stderr.write("y" * 200 + "\n")


def _lost_folder():
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    folder.rmdir()


def _threads():
    for _ in range(50):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def _dtype():
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)


def _environment():
    os.environ["OMP_NUM_THREADS"] = "77"
    os.environ["TMPDIR"] = "/does/not/exist"


def _raise(error):
    raise error


ACTS = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "system_exit": lambda: sys.exit(0),
    "exit_0": lambda: os._exit(0),
    "keyboard": lambda: _raise(KeyboardInterrupt()),
    "memory_error": lambda: _raise(MemoryError()),
    "recursion": lambda: _recurse(0),
    "stop": _stop,
    "pause": _pause,
    "hog": _hog,
    "chatter": _chatter,
    "closed_output": lambda: os.closerange(1, 3),
    "lost_folder": _lost_folder,
    "threads": _threads,
    "dtype": _dtype,
    "environment": _environment,
}


def prepare(params, rank):
    import torch
    import torch.distributed as dist

    act, last = ACTS.get(params["op"]), rank.index == rank.world_size - 1
    buffer, calls = torch.ones(8, dtype=torch.float32), {"number": 0}

    def run():
        calls["number"] += 1
        if calls["number"] == 3 and last and act is not None:
            act()
        dist.all_reduce(buffer, group=rank.group)

    def check():
        buffer.fill_(1.0)
        dist.all_reduce(buffer, group=rank.group)
        # The default type of new tensors is what a case before this one may have changed.
        return (buffer - rank.world_size).abs().max().item() + float(torch.ones(1).dtype != torch.float32), 0.0

    is_last_word = params["op"] == "dtype"  # its own check after the samples sees what it did
    return Work(variants={"full": run}, check=check, reset=lambda: buffer.fill_(1.0), check_after=not is_last_word)
