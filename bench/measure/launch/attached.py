"""A run whose ranks another program started: torchrun, srun, or a user's own environment.

Processes cannot be replaced here, so a run is one launch. If a case raises on one rank only, gloo ranks leave their
groups and meet again in new ones; if a rank is gone, or hangs, the run ends with everything measured kept. Ranks
that wait inside NCCL cannot be set free: they hear in the store that the generation is over
(`bench.measure.launch.alarm`), rank 0 saves the error that began it, and all processes end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

from bench.core import clock, exit_codes
from bench.errors import BenchError
from bench.measure.engine import control, worker
from bench.measure.engine.consensus import Broken, case_key, first_error
from bench.measure.engine.rank import RankContext, abort_groups, close_groups, leave_groups
from bench.measure.engine.store import Store
from bench.measure.engine.watchdog import (
    Watchdog,
    describe_limit,
    describe_missing,
    last_phase,
    read_report,
    report_key,
)
from bench.measure.launch.alarm import Alarm
from bench.measure.launch.launchers import connect, connect_again, find_place
from bench.measure.launch.recorder import Recorder
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.events import Emit, Ready
from bench.measure.planning.session import Session
from bench.measure.planning.suite_loader import Suite
from bench.measure.system.backends import BACKENDS
from bench.records.lines.kinds import EndStatus

END_RESERVE_SECONDS = 1.0
REGROUP_SECONDS = 5.0
REPORT_SECONDS = 1.5
FAREWELL_SECONDS = 1.0
ALARM_TIMEOUT_SECONDS = 30 * 86400.0
"""The alarm is waited for as long as a run may take."""
SAY_SECONDS = 20.0
LOST = "the ranks lost each other"
Open = Callable[[Place, Sequence[str], Store], Recorder]
"""Rank 0's: from its place and every rank's host a recorder, with the plan and what a resumed file already has."""
Check = Callable[[Place, Sequence[str], Store], None]
"""Every rank's, once it knows its place and every rank's host. May raise BenchError."""
Close = Callable[[Recorder, int], int]
"""Rank 0's: prints the last screen of a run with an exit code."""


@dataclass
class AttachedRun:
    """One rank of a joined run."""

    joined: LauncherRank
    place: Place
    hosts: list[str]
    store: Store
    side: Store
    close: Close
    recorder: Recorder | None = None
    _ending: threading.Lock = field(default_factory=threading.Lock)
    """Lock taken, for good, by the thread that ends a run whose ranks cannot be set free."""
    session: Session = field(init=False)
    """Session of the generation that is under way."""

    def run(self, open_run: Open, began: float) -> int:
        """Returns the exit code, the same on every rank. Raises BenchError on every rank."""
        self.session = self._first_session(open_run, began)
        watch = _SignalWatch(self)
        try:
            while True:
                finished, self.session = self._generation(self.session)
                if finished is not None:
                    return finished
        finally:
            watch.close()

    def _first_session(self, open_run: Open, began: float) -> Session:
        """Rank 0 plans; the others wait for its word."""
        if self.place.index != 0:
            return self._await("session")
        try:
            self.recorder = open_run(self.place, self.hosts, self.store)
        except BenchError as error:
            self.store.set("session", json.dumps({"error": str(error)}))
            raise
        plan, seconds = self.recorder.plan, clock.monotonic_seconds() - began
        left = None if plan.budget_seconds is None else plan.budget_seconds - END_RESERVE_SECONDS - seconds
        recorder = self.recorder
        session = Session(plan, 0, 0, recorder.pending(0), left, recorder.calls(0), recorder.profile)
        self.store.set("session", session.to_text())
        return session

    def _await(self, key: str) -> Session:
        text = self.store.get(key)
        if "error" in json.loads(text):
            raise BenchError(json.loads(text)["error"])
        return Session.from_text(text)

    def _generation(self, session: Session) -> tuple[int | None, Session]:
        """One generation of process groups: the exit code when all is done, or the session of the next one."""
        watchdog = Watchdog(
            self.place.index,
            self.hosts[self.place.index],
            self.store,
            self.side,
            session.prefix,
            session.plan.timeout_seconds,
            expired=lambda: self._end_overdue(session, watchdog.limit_seconds),
        )
        began = clock.monotonic_seconds()
        with watchdog, self._alarm(session) as alarm:
            suites = worker.load_suites(session)
            rank = worker.join(session, self.place, self.store)
            self._describe(rank)
            if self._measure(session, rank, suites, watchdog):
                return self._finish(rank), session
            watchdog.restart()  # it goes on watching: to leave may hang too
            watchdog.enter("leaving the groups")
            if alarm is not None:
                return self._end(session, alarm)
            leave_groups(rank)
            return self._regroup(session, clock.monotonic_seconds() - began)

    def _measure(self, session: Session, rank: RankContext, suites: dict[str, Suite], watchdog: Watchdog) -> bool:
        """Measure; return True if all is done. It keeps nothing of the case, so that its groups can be left."""
        host = self.hosts[self.place.index]
        try:
            return worker.Generation(session, rank, suites, self.store, watchdog, host, self._emit()).run()
        except Broken:
            return False  # why is said in the store already

    def _alarm(self, session: Session) -> AbstractContextManager[Alarm | None]:
        """Open the alarm of a backend whose ranks cannot set each other free; for others a null context."""
        if BACKENDS[session.plan.backend].frees_peers:
            return nullcontext()
        connection = connect_again(self.joined, timeout_seconds=ALARM_TIMEOUT_SECONDS)
        return Alarm(self.store, connection, session.prefix, lambda: self._ended_elsewhere(session))

    def _end(self, session: Session, alarm: Alarm) -> tuple[int, Session]:
        """End a run whose ranks may be inside NCCL: it waits for no rank, and the groups are not left in order."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # the alarm's thread is at it, and ends the process
        alarm.ring()
        if self.recorder is not None:
            self.recorder.blame(session.launch, self._cause(session) or LOST)
            self.recorder.end("failed", exit_codes.PARTIAL)
        abort_groups()
        return exit_codes.PARTIAL, session

    def _ended_elsewhere(self, session: Session) -> None:
        """End this rank, on the alarm's thread, after another rank ended the generation."""
        if self.recorder is None:
            self._wait_for_rank_0()
            with suppress(RuntimeError):
                self.side.set(f"left/{self.place.index}", "here")
            os._exit(exit_codes.PARTIAL)
        if self._ending.acquire(blocking=False):
            self._give_up(session, self._cause(session) or LOST, "failed", exit_codes.PARTIAL)

    def leave(self, code: int) -> int:
        """Returns the exit code, or ends the process with it: threads of a broken generation would abort it."""
        if self._ending.locked():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def _cause(self, session: Session) -> str | None:
        """The first error of the case under way, if any rank raised."""
        assert self.recorder is not None
        return first_error(self.side, session.prefix, case_key(self.recorder.current))

    def _describe(self, rank: RankContext) -> None:
        environment = worker.describe_all(rank, self.hosts[self.place.index])
        if self.recorder is not None and environment is not None:
            self.recorder.handle(Ready(environment))

    def _finish(self, rank: RankContext) -> int:
        """Finish the file on rank 0 and return its exit code on all ranks."""
        code = control.broadcast_numbers(rank, [self.recorder.finish() if self.recorder else 0])[0]
        close_groups()
        return code

    def _emit(self) -> Emit:
        recorder = self.recorder
        return (lambda event: None) if recorder is None else recorder.handle

    def _regroup(self, session: Session, seconds: float) -> tuple[int | None, Session]:
        """Meet again in new groups, or end the run if a rank does not come."""
        prefix = f"{session.prefix}/regroup"
        self.store.set(f"{prefix}/{self.place.index}", "here")
        if self.recorder is None:
            following = self._await(f"{prefix}/next")
            return (None, following) if following.pending else (exit_codes.PARTIAL, session)
        recorder = self.recorder
        missing = self._missing(prefix, REGROUP_SECONDS)
        reason = self._cause(session) or LOST
        if missing:
            reason = f"{_name_ranks(missing, self.hosts)} died; the others found their connection closed"
        recorder.blame(session.launch, reason)
        pending = recorder.pending(session.launch)
        ends = bool(missing) or not pending
        left = None if session.seconds_left is None else session.seconds_left - seconds
        following = replace(
            session,
            generation=session.generation + 1,
            pending=() if ends else pending,
            seconds_left=left,
            calls=recorder.calls(session.launch),
            known=recorder.known,
        )
        self.store.set(f"{prefix}/next", following.to_text())
        if not ends:
            return None, following
        recorder.end("failed", exit_codes.PARTIAL)
        return exit_codes.PARTIAL, session

    def _wait_for_rank_0(self) -> None:
        """Wait until rank 0 has saved its records: after a rank's error the launcher ends the others."""
        ends = clock.monotonic_seconds() + SAY_SECONDS
        pause = threading.Event()
        with suppress(RuntimeError):  # the store may end with rank 0
            while not self.side.check(["said"]) and clock.monotonic_seconds() < ends:
                pause.wait(0.05)

    def _missing(self, prefix: str, seconds: float) -> list[int]:
        """Ranks that did not set their key within a time; asked over the side connection."""
        ends = clock.monotonic_seconds() + seconds
        absent = set(range(self.place.world_size))
        pause = threading.Event()
        while absent and clock.monotonic_seconds() < ends:
            absent -= {index for index in absent if self.side.check([f"{prefix}/{index}"])}
            if absent:
                pause.wait(0.05)
        return sorted(absent)

    def _end_overdue(self, session: Session, limit_seconds: float) -> None:
        """End the run, on the watchdog's thread after its report, if a case took too long: no rank can be replaced."""
        if self.recorder is None:
            threading.Event().wait(2 * REPORT_SECONDS)
            os._exit(exit_codes.PARTIAL)
        missing = set(self._missing(f"{session.prefix}/late", REPORT_SECONDS))
        keys = {i: report_key(session.prefix, i) for i in range(self.place.world_size) if i not in missing}
        reports = {index: read_report(self.side.get(key)) for index, key in keys.items()}
        limit = describe_limit(
            limit_seconds, session.plan.whole_timeout(self.recorder.current), session.plan.timeout_seconds
        )
        held_up = describe_missing(reports, self.place.world_size, limit)
        self._give_up(session, self._cause(session) or held_up, "failed", exit_codes.PARTIAL)

    def _give_up(self, session: Session, reason: str | None, status: EndStatus, code: int) -> None:
        """Save the last records and end the process, from a thread: the main thread may be inside a collective."""
        recorder = self.recorder
        assert recorder is not None
        if reason is not None:
            recorder.blame(session.launch, reason)
        recorder.end(status, code)
        try:
            if recorder.has_header:
                self.close(recorder, code)
        finally:  # whatever became of the screen: the process ends
            with suppress(RuntimeError):  # nobody is left to hear it
                self.side.set("said", "all")
            sys.stdout.flush()
            os._exit(code)


def _name_ranks(ranks: list[int], hosts: list[str]) -> str:
    return ", ".join(f"rank {index} on {hosts[index]}" for index in ranks)


class _SignalWatch:
    """Hears SIGTERM and SIGINT on a thread: the main thread may be in a collective, where Python hears nothing.

    torchrun sends SIGTERM to the ranks that are left when one died. Each says farewell in the store; the rank that does
    not is the one that died.
    """

    def __init__(self, run: AttachedRun) -> None:
        self.run = run
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._previous = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGTERM, signal.SIGINT)}
        threading.Thread(target=self._listen, name="bench-signals", daemon=True).start()

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._write.close()

    def _listen(self) -> None:
        data = self._read.recv(1)
        if not data:
            return
        run = self.run
        run.side.set(f"farewell/{run.place.index}", "here")
        code = exit_codes.INTERRUPTED if data[0] == signal.SIGINT else exit_codes.TERMINATED
        if run.recorder is None:
            os._exit(code)
        missing = run._missing("farewell", FAREWELL_SECONDS)
        if data[0] == signal.SIGTERM and missing:
            phase = last_phase(run.side, run.session.prefix, missing[0])
            reason = f"{_name_ranks(missing, run.hosts)} died in phase {phase}; its launcher ended the others"
            if not BACKENDS[run.session.plan.backend].frees_peers:
                # Without a connection to lose, a raised error is not a consequence of the death: it led to it.
                reason = run._cause(run.session) or reason
            run._give_up(run.session, reason, "failed", exit_codes.PARTIAL)
        run._give_up(run.session, None, "interrupted", code)


def run_attached(
    joined: LauncherRank,
    open_run: Open,
    began: float,
    check: Check,
    close: Close,
) -> int:
    """See a run through as one of its ranks; `close` says on rank 0 what came out. Returns the exit code.

    Raises BenchError on every rank; the caller lets rank 0 alone say it.
    """
    host = worker.host_name()
    store = connect(joined)
    side = connect_again(joined)
    place, hosts = find_place(joined, host, store)
    check(place, hosts, store)
    run = AttachedRun(joined, place, hosts, store, side, close)
    code = run.run(open_run, began)
    if run.recorder is None:
        # A launcher ends the other ranks once one ended with an error: let rank 0 have its say before.
        with suppress(RuntimeError):
            store.get("said")
            store.set(f"left/{place.index}", "here")
        return run.leave(code)
    close(run.recorder, code)
    store.set("said", "all")
    store.set("left/0", "here")
    if not joined.agent_hosts_store:
        run._missing("left", REGROUP_SECONDS)  # the process that hosts the store is the last to go
    return run.leave(code)
