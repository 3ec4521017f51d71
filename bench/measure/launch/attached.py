"""A run whose ranks another program started: torchrun, srun, mpirun, or a user's own environment.

The processes of a launch cannot be replaced here. If a case raises on one rank only, gloo ranks leave their groups and
meet again in new ones; if a rank is gone, or hangs, the run ends with everything measured kept. Ranks that wait inside
NCCL cannot be set free: they hear in the store that the generation is over (`bench.measure.launch.alarm`), rank 0 saves
the error that began it, and all processes end. For the next launch every process replaces itself
(`bench.measure.launch.relaunch`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace

from bench.core import clock, exit_codes
from bench.core.crash.unforeseen import code_of, describe, is_of_machine
from bench.errors import BenchError
from bench.measure.engine import control, worker
from bench.measure.engine.consensus import FELL, Broken, first_error
from bench.measure.engine.rank import RankContext, abort_groups, close_groups, leave_groups
from bench.measure.engine.store import StoreLost
from bench.measure.engine.watchdog import (
    Watchdog,
)
from bench.measure.joining.meeting import Meeting
from bench.measure.joining.pulse import Pulse
from bench.measure.joining.start_guard import StartGuard
from bench.measure.launch.alarm import ALARM_TIMEOUT_SECONDS, Alarm
from bench.measure.launch.joined_end import SAY_SECONDS, JoinedEnding
from bench.measure.launch.joined_start import END_RESERVE_SECONDS, JoinedJob, JoinedStart
from bench.measure.launch.recorder import Recorder
from bench.measure.launch.signals import SignalWatch
from bench.measure.launchers.place import LauncherRank
from bench.measure.planning.events import Emit, Ready, TurnsLeftOut
from bench.measure.planning.session import Session
from bench.measure.planning.suite_loader import Suite
from bench.measure.system.backends import BACKENDS
from bench.records.run_file.run_file import NoRoomError

REGROUP_SECONDS = 5.0
LOST = "the ranks lost each other"
RunAgain = Callable[[Recorder | None], None]
"""Replaces this process with one that makes the next launch; does not return."""


class AttachedRun(JoinedEnding):
    """One rank of a joined run: its generations of process groups."""

    def __init__(self, joined: LauncherRank, meeting: Meeting, job: JoinedJob, run_again: RunAgain) -> None:
        super().__init__(joined, job, JoinedStart(meeting, joined, job, self.fail_start))
        self.run_again = run_again

    def run(self) -> int:
        """Returns the exit code, the same on every rank, unless another launch follows. Raises BenchError."""
        watch = SignalWatch(self.stop)
        try:
            session, finished = self._start(), None
            Pulse(self.start.meeting.again(self.job.limit_seconds), self.place.index, self._end_with_rank_0)
            try:
                while finished is None:
                    finished, session = self._generation(session)
                return self._part(finished)
            except StoreLost as error:
                self.lose_store(error)
            except NoRoomError as error:
                self.lose_file(error)
            except BenchError:
                raise
            except BaseException as error:  # noqa: BLE001 - the other ranks are to hear of it, and the file to have an end
                self.fall(error)
        finally:
            watch.close()

    def _start(self) -> Session:
        """Meet and agree. Raises BenchError if there is no run and no thread is at the end of it."""
        try:
            return self.start.run()
        except BenchError:
            self.stay_out()
            raise

    def _generation(self, session: Session) -> tuple[int | None, Session]:
        """One generation of process groups: the exit code when all is done, or the session of the next one."""
        watchdog = Watchdog(
            self.place.index,
            self.hosts[self.place.index],
            self.store,
            self.side,
            session.prefix,
            session.plan.timeout_seconds,
            expired=lambda: self.end_overdue(session, watchdog.limit_seconds),
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
        guard = StartGuard(self.store, connection, limit, f"start/{session.generation}", self.fail_start)
        with guard:
            try:
                suites = worker.load_suites(session)
                rank = worker.join(session, self.place, self.store)
                self._describe(rank)
            except Exception as error:
                reason = (str(error).splitlines() or [""])[0]
                if not isinstance(error, BenchError):
                    reason = f"{type(error).__name__}: {reason}" if is_of_machine(error) else describe(error)
                guard.fail(f"{self.name([self.place.index])}: {reason}")
                guard.wait()
                raise
            if self.place.index == 0:
                guard.ready()
        self.session = session
        return suites, rank

    def _end_with_rank_0(self, code: int) -> None:
        """End another rank than 0, on the thread of its pulse, after rank 0 has ended the run."""
        if self.recorder is None and self.take_end():
            self.vanish(code)

    def _measure(self, session: Session, rank: RankContext, suites: dict[str, Suite], watchdog: Watchdog) -> bool:
        """Measure; return True if all is done. It keeps nothing of the case, so that its groups can be left."""
        host = self.hosts[self.place.index]
        try:
            return worker.Generation(session, rank, suites, self.store, watchdog, host, self._emit()).run()
        except Broken:
            return False  # why is said in the store already
        except StoreLost:
            raise
        except RuntimeError as error:
            if not is_of_machine(error):
                raise
            return False  # a message between cases found its connection closed: a peer is gone, and torch says so

    def _alarm(self, session: Session) -> AbstractContextManager[Alarm | None]:
        """Open the alarm of a backend whose ranks cannot set each other free; for others a null context."""
        if BACKENDS[session.plan.backend].frees_peers:
            return nullcontext()
        connection = self.start.meeting.again(self.job.limit_seconds)
        return Alarm(self.store, connection, session.prefix, lambda: self._ended_elsewhere(session), self.lose_store)

    def _end(self, session: Session, alarm: Alarm) -> tuple[int, Session]:
        """End a run whose ranks may be inside NCCL: it waits for no rank, and the groups are not left in order."""
        if not self.take_end():
            self.stay_out()
        alarm.ring()
        if self.recorder is not None:
            self.recorder.blame(session.launch, self.cause(session) or LOST)
            self.recorder.end("failed", exit_codes.PARTIAL)
        abort_groups()
        return exit_codes.PARTIAL, session

    def _ended_elsewhere(self, session: Session) -> None:
        """End this rank, on the alarm's thread, after another rank ended the generation."""
        if self.recorder is None:
            self.follow_rank_0()
        if self.take_end():
            reason = self.cause(session) or LOST
            self.give_up(session, reason, "failed", code_of(reason, exit_codes.PARTIAL))

    def _part(self, code: int) -> int:
        """End this rank's part in good order, after rank 0 said what came out; go on with a launch that is left."""
        self.stay_out()
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
            code = self._close(recorder, code)
        self.store.set("said", "again" if again else "all")
        self.store.set("left/0", "here")
        if not self.joined.agent_hosts_store:
            self.missing("left", REGROUP_SECONDS)  # the process that hosts the store is the last to go
        if again:
            if self.session is not None and not self.session.launch:
                recorder.show_rough()
            recorder.progress.close()
            self.run_again(recorder)
        return self._leave(code)

    def _close(self, recorder: Recorder, code: int) -> int:
        """Print the last screen on rank 0, while the others wait; returns the exit code that holds then."""
        try:
            return self.job.close(recorder, code)
        except BenchError as error:
            self.complain(str(error))
            return code or exit_codes.PARTIAL

    def _goes_on(self, code: int) -> bool:
        """True on rank 0 if this launch came to its end and another one is left."""
        assert self.recorder is not None
        return self.recorder.launches_left > 0 and not self.recorder.has_ended and not self.ending.locked()

    def _leave(self, code: int) -> int:
        """Returns the exit code, or ends the process with it: threads of a broken generation would abort it."""
        if self.ending.locked():
            self.exit(code)
        return code

    def _describe(self, rank: RankContext) -> None:
        environment = worker.describe_all(rank, self.hosts[self.place.index])
        if self.recorder is not None and environment is not None:
            self.recorder.handle(Ready(environment))

    def _finish(self, rank: RankContext) -> int:
        """Finish the launch on rank 0, and the file after the last; return its exit code on all ranks."""
        code = 0
        if self.recorder is not None:
            self._leave_out_late(self.recorder)
            last = self.recorder.launches_left == 0
            code = self.recorder.finish() if last else self.recorder.exit_code
        code = control.broadcast_numbers(rank, [code])[0]
        close_groups()
        return code

    def _leave_out_late(self, recorder: Recorder) -> None:
        """Leave out the later launches if the budget would end before their ranks have met."""
        plan, session = recorder.plan, self.session
        if plan.budget_seconds is None or session is None:
            return
        used = clock.monotonic_seconds() - self.job.began
        if plan.budget_seconds - END_RESERVE_SECONDS - used <= recorder.startup_seconds:
            for launch in range(session.launch + 1, plan.launches):
                recorder.handle(TurnsLeftOut(launch, recorder.pending(launch)))
            recorder.launches_left = 0

    def _emit(self) -> Emit:
        recorder = self.recorder
        return (lambda event: None) if recorder is None else recorder.handle

    def _regroup(self, session: Session, seconds: float) -> tuple[int | None, Session]:
        """Meet again in new groups, or end the run if a rank does not come."""
        prefix = f"{session.prefix}/regroup"
        self.store.set(f"{prefix}/{self.place.index}", "here")
        if self.recorder is None:
            following = Session.from_text(self.store.get(f"{prefix}/next", ALARM_TIMEOUT_SECONDS))
            fell = first_error(self.side, session.prefix, FELL)
            return (None, following) if following.pending else (code_of(fell, exit_codes.PARTIAL), session)
        recorder = self.recorder
        missing = self.missing(prefix, REGROUP_SECONDS)
        reason = self.cause(session) or LOST
        code = code_of(reason, exit_codes.PARTIAL)
        if missing and code == exit_codes.PARTIAL:
            reason = f"{self.name(missing)} died; the others found their connection closed"
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
        recorder.end("failed", code)
        return code, session


def run_attached(joined: LauncherRank, meeting: Meeting, job: JoinedJob, run_again: RunAgain) -> int:
    """See a run through as one of its ranks; returns the exit code.

    Raises BenchError if there is no run: a RefusedError on the ranks that need not say it.
    """
    return AttachedRun(joined, meeting, job, run_again).run()
