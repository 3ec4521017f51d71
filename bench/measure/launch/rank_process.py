"""Entry of a process that `bench run` started as a rank; its parent is `bench.measure.launch.supervisor`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass

from bench.core import exit_codes
from bench.core.crash import unforeseen
from bench.core.crash.module_shadows import ShadowsNamed
from bench.errors import BenchError
from bench.measure.engine.store import LOOPBACK, Store, connect_store
from bench.measure.planning import events
from bench.measure.planning.session import Session

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Orders:
    """The parent's orders on a rank's command line."""

    index: int
    world_size: int
    port: int
    generation: int
    events_fd: int | None
    """Pipe to which rank 0 writes its events as JSON lines."""
    parent: int


def die_with_parent(parent: int) -> None:
    """Have the kernel end this rank when its parent is gone, however it went (prctl(2), Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(exit_codes.TERMINATED)


def main() -> None:
    orders = Orders(**json.loads(sys.argv[1]))
    die_with_parent(orders.parent)
    unforeseen.watch_threads()
    try:
        code = _run(orders)
    except BaseException as error:  # noqa: BLE001 - the parent is to hear of whatever ends this rank
        code = _end_of(error)
    sys.stdout.flush()
    sys.stderr.flush()
    # Groups that a broken case left open have threads that would abort an orderly end of the interpreter.
    os._exit(unforeseen.final_code(code))


def _end_of(error: BaseException) -> int:
    """The exit code of a rank that an error ended; its last line, which the parent repeats, says what it was."""
    if not unforeseen.is_of_machine(error):
        return unforeseen.complain(error)
    traceback.print_exception(error)
    return exit_codes.RANK_FAILED


def _run(orders: Orders) -> int:
    from bench.measure.engine import worker
    from bench.measure.engine.consensus import START, Broken, post_error
    from bench.measure.engine.rank import close_groups
    from bench.measure.engine.watchdog import Watchdog
    from bench.measure.launchers.place import Place

    place = Place(orders.index, orders.world_size, orders.index, orders.world_size)
    store = _connect(orders.port)
    session = Session.from_text(store.get(f"bench/generation{orders.generation}/session"))
    host = worker.host_name()
    watchdog = Watchdog(orders.index, host, store, _connect(orders.port), session.prefix, session.plan.timeout_seconds)
    try:
        with ShadowsNamed():
            suites = worker.load_suites(session)
            rank = worker.join(session, place, store)
            environment = worker.describe_all(rank, host)
        emit = _emitter(orders.events_fd)
        if environment is not None:
            emit(events.Ready(environment))
        generation = worker.Generation(session, rank, suites, store, watchdog, host, emit)
        done = generation.run()
    except BenchError as error:
        post_error(store, session.prefix, START, str(error))
        return exit_codes.USAGE
    except Broken:
        return exit_codes.BROKEN_GENERATION
    watchdog.stop()
    close_groups()
    return 0 if done else exit_codes.BROKEN_GENERATION


def _connect(port: int) -> Store:
    return connect_store(LOOPBACK, port, timeout_seconds=120.0)


def _emitter(events_fd: int | None) -> events.Emit:
    stream = None if events_fd is None else os.fdopen(events_fd, "wb")

    def emit(event: events.Event) -> None:
        assert stream is not None, "only rank 0 has something to say"
        stream.write(events.encode(event) + b"\n")
        stream.flush()

    return emit
