"""A suite that, on a rank with UNRULY set, raises, dies or hangs as it is imported."""

import os
import signal
import threading

from bench.suite import Work

if os.environ.get("UNRULY") == "raise":
    raise RuntimeError("no good on this rank")
if os.environ.get("UNRULY") == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("UNRULY") == "hang":
    threading.Event().wait()


def cases(machine):
    yield {"op": "none"}


def prepare(params, rank):
    return Work(variants={"full": lambda: None}, check=lambda: (0.0, 0.0))
