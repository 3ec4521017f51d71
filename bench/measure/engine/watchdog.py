"""A thread in each rank that says where the rank is when a case takes longer than it may.

A rank that waits in a collective cannot speak for itself: its only Python thread is inside a C++ call. This thread can.
It posts the rank's phase and whether its main thread waits in communication, over a store connection of its own;
a reader of the posts of all ranks can then name the one that did *not* arrive. It wakes only when a deadline is due,
so that it costs the timed parts nothing.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.clock import monotonic_seconds
from bench.measure.engine.store import StoreLost

if TYPE_CHECKING:
    from bench.measure.engine.store import Store


@dataclass(frozen=True)
class OverdueReport:
    """Position of one rank when its deadline passed."""

    rank: int
    host: str
    phase: str
    waits_in_communication: bool
    frame: str
    """Innermost Python frame outside libraries: file, line and function."""


class Watchdog:
    """Watches one rank's main thread; `expired` is called, once, after the report was posted.

    `main_store` serves the main thread, `store` is a connection of the watchdog's own: a client's calls queue up.
    """

    def __init__(
        self,
        rank: int,
        host: str,
        main_store: Store,
        store: Store,
        prefix: str,
        timeout_seconds: float,
        expired: Callable[[], None] | None = None,
    ) -> None:
        self.rank = rank
        self.host = host
        self.timeout_seconds = timeout_seconds
        self.phase = "start"
        self._prefix = prefix
        self._main_store = main_store
        self._store = store
        self._expired = expired
        self._device_is_busy: Callable[[], bool] = lambda: False
        self.limit_seconds = timeout_seconds
        """Limit of the current case, whatever it is allowed on the way."""
        self._deadline: float | None = None
        self._latest = float("inf")
        self._stopped = False
        self._changed = threading.Condition()
        self._main = threading.main_thread().ident
        threading.Thread(target=self._watch, name="bench-watchdog", daemon=True).start()

    def watch_device(self, is_busy: Callable[[], bool]) -> None:
        """Ask this at a time-out: a rank whose device is not done waits for it, wherever its Python code stands."""
        self._device_is_busy = is_busy

    def enter(self, phase: str) -> None:
        """The main thread enters a phase of the current case; the store gets it too, for the case of a kill."""
        self.phase = phase
        self._main_store.set(_phase_key(self._prefix, self.rank), phase)

    def restart(self, timeout_seconds: float | None = None, most_seconds: float | None = None) -> None:
        """A case begins: it has so long, or the whole time-out. Before the first one nothing is watched.

        However much longer it is allowed on the way, `most_seconds` is the end; None: there is none.
        """
        with self._changed:
            if timeout_seconds is not None:
                self.timeout_seconds = timeout_seconds
            before, now = self._deadline, monotonic_seconds()
            self.limit_seconds = self.timeout_seconds if most_seconds is None else most_seconds
            self._latest = float("inf") if most_seconds is None else now + most_seconds
            self._deadline = min(now + self.timeout_seconds, self._latest)
            if before is None or self._deadline < before:
                self._changed.notify()

    def allow(self, seconds: float) -> None:
        """The current case may take this much longer, since its work asks for it."""
        with self._changed:
            if self._deadline is not None:
                self._deadline = min(self._deadline + seconds, self._latest)

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _watch(self) -> None:
        if not self._wait_for_deadline():
            return
        with suppress(StoreLost):  # whoever ends the rank finds out
            self._store.set(report_key(self._prefix, self.rank), json.dumps(asdict(self._report())))
        if self._expired is not None:
            self._expired()

    def _wait_for_deadline(self) -> bool:
        """True when a case is late, False when watching has ended."""
        with self._changed:
            while not self._stopped:
                left = None if self._deadline is None else self._deadline - monotonic_seconds()
                if left is not None and left <= 0:
                    return True
                self._changed.wait(left)
        return False

    def _report(self) -> OverdueReport:
        assert self._main is not None
        current = sys._current_frames().get(self._main)
        stack = traceback.extract_stack(current) if current is not None else []
        # On a GPU the wait for a collective is one for the device, and may have no frame of its own: `float(tensor)`.
        names = (Path(entry.filename).as_posix() for entry in stack[-6:])
        waits = any(re.search("torch/(distributed|cuda)/", name) for name in names) or self._device_is_busy()
        own_frames = [entry for entry in stack if not _is_library(entry.filename)]
        last = own_frames[-1] if own_frames else None
        frame = f"{Path(last.filename).name}:{last.lineno} {last.name}" if last else "unknown"
        return OverdueReport(self.rank, self.host, self.phase, waits, frame)


def _is_library(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith(("<frozen", sysconfig.get_path("stdlib")))


def _phase_key(prefix: str, rank: int) -> str:
    return f"{prefix}/phase/{rank}"


def last_phase(store: Store, prefix: str, rank: int) -> str:
    """The phase that a rank of a generation entered last."""
    key = _phase_key(prefix, rank)
    return store.get(key).decode() if store.check([key]) else "start"


def report_key(prefix: str, rank: int) -> str:
    return f"{prefix}/late/{rank}"


def read_report(text: str | bytes) -> OverdueReport:
    return OverdueReport(**json.loads(text))


def describe_limit(limit_seconds: float, whole_seconds: float, timeout_seconds: float) -> str:
    """Name the limit that cut off a case: `--timeout 60 s`, or the end of the run's own time.

    `whole_seconds` is what it would have had by its time-out and what it asked for besides.
    """
    if limit_seconds != whole_seconds:
        return f"the {limit_seconds:.3g} s that were left of the run's time"
    return f"--timeout {timeout_seconds:g} s"


def describe_missing(reports: Mapping[int, OverdueReport], num_ranks: int, limit: str) -> str:
    """One sentence that names the rank, host and phase that held up a case, from what the ranks' watchdogs said.

    `limit` is the text of `describe_limit`. A rank whose watchdog is silent is stopped or gone; otherwise the
    ranks that do not wait in communication are the ones that the others wait for.
    """
    head = f"no end within {limit}: "
    silent = [index for index in range(num_ranks) if index not in reports]
    if silent and reports:
        ranks = ", ".join(str(index) for index in silent)
        return f"{head}rank {ranks} gives no sign of life (stopped, or its interpreter is stuck)"
    if not reports:
        return f"{head}no rank gives a sign of life"
    busy = [r for r in reports.values() if not r.waits_in_communication]
    if not busy:
        phases = ", ".join(f"rank {r.rank} ({r.host}, {r.phase})" for r in reports.values())
        return f"{head}every rank waits in communication: {phases}"
    named = "; ".join(f"rank {r.rank} on {r.host} in phase {r.phase}, at {r.frame}" for r in busy)
    return f"{head}{named}" + ("" if len(busy) == num_ranks else "; the others wait in communication")
