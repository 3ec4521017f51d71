"""A run whose ranks another program started: torchrun, srun, mpirun, or a user's own environment.

The processes of a launch cannot be replaced here. If a case raises on one rank only, gloo ranks leave their groups and
meet again in new ones; if a rank is gone, or hangs, the run ends with everything measured kept. Ranks that wait inside
NCCL cannot be set free: they hear in the store that the generation is over (`bench.measure.launch.alarm`), rank 0 saves
the error that began it, and all processes end. For the next launch every process replaces itself
(`bench.measure.launch.relaunch`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

import click

from bench.core import clock, exit_codes
from bench.errors import BenchError
from bench.measure.engine import control, worker
from bench.measure.engine.consensus import Broken, case_key, first_error
from bench.measure.engine.rank import RankContext, abort_groups, close_groups, leave_groups
from bench.measure.engine.store import Store, StoreLost
from bench.measure.engine.watchdog import (
    Watchdog,
    describe_limit,
    describe_missing,
    last_phase,
    read_report,
    report_key,
)
from bench.measure.joining.meeting import Meeting
from bench.measure.joining.roll import name_ranks
from bench.measure.joining.start_guard import StartGuard
from bench.measure.launch.alarm import Alarm
from bench.measure.launch.joined_start import JoinedJob, JoinedStart
from bench.measure.launch.recorder import Recorder
from bench.measure.launch.signals import SignalWatch
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.events import Emit, Ready
from bench.measure.planning.session import Session
from bench.measure.planning.suite_loader import Suite
from bench.measure.system.backends import BACKENDS
from bench.records.lines.kinds import EndStatus

REGROUP_SECONDS = 5.0
REPORT_SECONDS = 1.5
FAREWELL_SECONDS = 1.0
ALARM_TIMEOUT_SECONDS = 30 * 86400.0
"""The alarm is waited for as long as a run may take."""
SAY_SECONDS = 20.0
LOST = "the ranks lost each other"
RunAgain = Callable[[Recorder | None], None]
"""Replaces this process with one that makes the next launch; does not return."""


@dataclass
class AttachedRun:
    """One rank of a joined run."""

    joined: LauncherRank
    job: JoinedJob
    start: JoinedStart
    run_again: RunAgain
    _ending: threading.Lock = field(default_factory=threading.Lock)
    """Lock taken, for good, by the thread that ends a run whose ranks cannot be set free."""
    session: Session | None = None
    """Session of the generation that is under way; None: the ranks have not agreed yet."""

    @property
    def recorder(self) -> Recorder | None:
        """The file's keeper, on rank 0."""
        return self.start.recorder

    @property
    def place(self) -> Place:
        assert self.start.place is not None
        return self.start.place

    @property
    def hosts(self) -> list[str]:
        return self.start.hosts

    @property
    def store(self) -> Store:
        return self.start.meeting.store

    @property
    def side(self) -> Store:
        """A connection for threads: a client's calls queue up."""
        return self.start.meeting.side

    @property
    def code_lost(self) -> int:
        """Exit code of a run whose ranks lost each other: nothing is measured before the first vote."""
        return exit_codes.PARTIAL if self.session is not None else self.job.refused_code

    def run(self) -> int:
        """Returns the exit code, the same on every rank, unless another launch follows. Raises BenchError."""
        watch = SignalWatch(self.stop)
        try:
            session, finished = self.start.run(), None
            try:
                while finished is None:
                    finished, session = self._generation(session)
                return self._part(finished)
            except StoreLost as error:
                self._lose_store(error)
                raise AssertionError("the process has ended") from error
        finally:
            watch.close()

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
            suites, rank = self._begin(session)
            if self._measure(session, rank, suites, watchdog):
                return self._finish(rank), session
            watchdog.restart()  # it goes on watching: to leave may hang too
            watchdog.enter("leaving the groups")
            if alarm is not None:
                return self._end(session, alarm)
            leave_groups(rank)
            return self._regroup(session, clock.monotonic_seconds() - began)

    def _begin(self, session: Session) -> tuple[dict[str, Suite], RankContext]:
        """Load the suites and open the process groups; the first time every rank hears of one that cannot."""
        limit = self.job.limit_seconds
        connection = self.start.meeting.again(limit)
        guard = StartGuard(self.store, connection, limit, f"start/{session.generation}", self._fail_start)
        with guard:
            try:
                suites = worker.load_suites(session)
                rank = worker.join(session, self.place, self.store)
                self._describe(rank)
            except Exception as error:
                first = (str(error).splitlines() or [""])[0]
                reason = first if isinstance(error, BenchError) else f"{type(error).__name__}: {first}"
                guard.fail(f"{self._name([self.place.index])}: {reason}")
                guard.wait()
                raise
            if self.place.index == 0:
                guard.ready()
        self.session = session
        return suites, rank

    def _fail_start(self, reason: str | None) -> None:
        """End this rank, on the guard's thread, since the ranks cannot begin."""
        if not self._ending.acquire(blocking=False):
            return
        if reason is None:
            reason = (
                f"the ranks met, but torch did not connect them within {self.job.limit_seconds:g} s; set "
                "GLOO_SOCKET_IFNAME (NCCL: NCCL_SOCKET_IFNAME) to the interface that the hosts share"
            )
        if self.recorder is None:
            self._wait_for_rank_0()
        else:
            self.recorder.trouble = reason
            self.recorder.end("failed", self.code_lost)
            self._complain(reason)
        self._vanish(self.code_lost)

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
        connection = self.start.meeting.again(ALARM_TIMEOUT_SECONDS)
        return Alarm(self.store, connection, session.prefix, lambda: self._ended_elsewhere(session), self._lose_store)

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
            self._vanish(exit_codes.PARTIAL)
        if self._ending.acquire(blocking=False):
            self._give_up(session, self._cause(session) or LOST, "failed", exit_codes.PARTIAL)

    def _lose_store(self, error: StoreLost) -> None:
        """End this rank after the host of the store died: nobody can be heard any more."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # another thread is at it
        holder = "its agent of torchrun" if self.joined.agent_hosts_store else "rank 0"
        reason = f"the store at {self.start.meeting.where} is gone: {holder} died there, or its host ({error})"
        if self.recorder is not None:
            launch = 0 if self.session is None else self.session.launch
            self._save_end(launch, reason, "failed", self.code_lost)
        if self.place.local_index == 0:
            self._complain(f"{self._name([self.place.index])}: {reason}")
        self._vanish(self.code_lost)

    def _part(self, code: int) -> int:
        """End this rank's part in good order, after rank 0 said what came out; go on with a launch that is left."""
        recorder = self.recorder
        if recorder is None:
            # A launcher ends the other ranks once one ended with an error: let rank 0 have its say before.
            word = ""
            with suppress(RuntimeError):
                word = self.store.get("said", 2 * SAY_SECONDS).decode()
                self.store.set(f"left/{self.place.index}", "here")
            if word == "again":
                self.run_again(None)
            return self._leave(code)
        again = self._goes_on(code)
        if not again:
            self.job.close(recorder, code)
        self.store.set("said", "again" if again else "all")
        self.store.set("left/0", "here")
        if not self.joined.agent_hosts_store:
            self._missing("left", REGROUP_SECONDS)  # the process that hosts the store is the last to go
        if again:
            self.run_again(recorder)
        return self._leave(code)

    def _goes_on(self, code: int) -> bool:
        """True on rank 0 if this launch came to its end and another one is left."""
        assert self.recorder is not None
        return self.recorder.launches_left > 0 and not self.recorder.has_ended and not self._ending.locked()

    def _leave(self, code: int) -> int:
        """Returns the exit code, or ends the process with it: threads of a broken generation would abort it."""
        if self._ending.locked():
            self._exit(code)
        return code

    @staticmethod
    def _exit(code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _vanish(self, code: int) -> None:
        """End this process, from a thread, once the others know."""
        with suppress(RuntimeError):
            if self.recorder is not None:
                self.side.set("said", "all")
            self.side.set(f"left/{self.place.index}", "here")
        self._exit(code)

    @staticmethod
    def _complain(reason: str) -> None:
        click.echo(f"bench: error: {reason}", err=True)

    def _cause(self, session: Session) -> str | None:
        """The first error of the case under way, if any rank raised."""
        assert self.recorder is not None
        with suppress(StoreLost):
            return first_error(self.side, session.prefix, case_key(self.recorder.current))
        return None

    def _describe(self, rank: RankContext) -> None:
        environment = worker.describe_all(rank, self.hosts[self.place.index])
        if self.recorder is not None and environment is not None:
            self.recorder.handle(Ready(environment))

    def _finish(self, rank: RankContext) -> int:
        """Finish the launch on rank 0, and the file after the last; return its exit code on all ranks."""
        code = 0
        if self.recorder is not None:
            last = self.recorder.launches_left == 0
            code = self.recorder.finish() if last else self.recorder.exit_code
        code = control.broadcast_numbers(rank, [code])[0]
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
            following = Session.from_text(self.store.get(f"{prefix}/next", ALARM_TIMEOUT_SECONDS))
            return (None, following) if following.pending else (exit_codes.PARTIAL, session)
        recorder = self.recorder
        missing = self._missing(prefix, REGROUP_SECONDS)
        reason = self._cause(session) or LOST
        if missing:
            reason = f"{self._name(missing)} died; the others found their connection closed"
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
        try:
            missing = set(self._missing(f"{session.prefix}/late", REPORT_SECONDS))
            keys = {i: report_key(session.prefix, i) for i in range(self.place.world_size) if i not in missing}
            reports = {index: read_report(self.side.get(key)) for index, key in keys.items()}
        except StoreLost as error:
            self._lose_store(error)
        limit = describe_limit(
            limit_seconds, session.plan.whole_timeout(self.recorder.current), session.plan.timeout_seconds
        )
        held_up = describe_missing(reports, self.place.world_size, limit)
        self._give_up(session, self._cause(session) or held_up, "failed", exit_codes.PARTIAL)

    def _give_up(self, session: Session, reason: str | None, status: EndStatus, code: int) -> None:
        """Save the last records and end the process, from a thread: the main thread may be inside a collective."""
        self._save_end(session.launch, reason, status, code)
        self._vanish(code)

    def _save_end(self, launch: int, reason: str | None, status: EndStatus, code: int) -> None:
        """Save a reason with the case that is under way, end the file and print the last screen, whatever it says."""
        recorder = self.recorder
        assert recorder is not None
        if reason is not None:
            recorder.blame(launch, reason)
        recorder.end(status, code)
        try:
            if recorder.has_header:
                self.job.close(recorder, code)
        except BenchError as error:  # whatever became of the screen: the process ends
            self._complain(str(error))

    def stop(self, number: int) -> None:
        """End this rank after a signal, on the thread that heard it.

        torchrun sends SIGTERM to the ranks that are left when one died. Each says farewell in the store; the rank that
        does not is the one that died.
        """
        code = exit_codes.INTERRUPTED if number == signal.SIGINT else exit_codes.TERMINATED
        if self.session is None:
            self._stop_meeting(code)
            return
        session = self.session
        missing: list[int] = []
        with suppress(RuntimeError):
            self.side.set(f"farewell/{self.place.index}", "here")
            if self.recorder is not None and number == signal.SIGTERM:
                missing = self._missing("farewell", FAREWELL_SECONDS)
        if self.recorder is None:
            os._exit(code)
        if missing:
            phase = last_phase(self.side, session.prefix, missing[0])
            reason = f"{self._name(missing)} died in phase {phase}; its launcher ended the others"
            if not BACKENDS[session.plan.backend].frees_peers:
                # Without a connection to lose, a raised error is not a consequence of the death: it led to it.
                reason = self._cause(session) or reason
            self._give_up(session, reason, "failed", exit_codes.PARTIAL)
        self._give_up(session, None, "interrupted", code)

    def _stop_meeting(self, code: int) -> None:
        """End a rank that is interrupted before all agreed."""
        recorder = self.recorder
        if recorder is not None:
            recorder.end("interrupted", code)
        if self.joined.index == 0:
            with suppress(RuntimeError, AttributeError):
                self._complain(f"interrupted while the ranks met: {self.start.meeting.progress()}")
        self._exit(code)

    def _name(self, ranks: list[int]) -> str:
        return name_ranks(ranks, dict(enumerate(self.hosts)))


def run_attached(joined: LauncherRank, meeting: Meeting, job: JoinedJob, run_again: RunAgain) -> int:
    """See a run through as one of its ranks; returns the exit code.

    Raises BenchError if there is no run: a RefusedError on the ranks that need not say it.
    """
    run = AttachedRun(joined, job, JoinedStart(meeting, joined, job, meeting.say), run_again)
    return run.run()
