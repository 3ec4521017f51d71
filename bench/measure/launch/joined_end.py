"""The ends of a joined rank that is not done: an error, a lost store, a case that hangs, a signal.

Its main thread may wait inside torch for ever, so threads end the process, in this order: what is measured is saved,
rank 0 says what came out, the other ranks hear that it has, and all exit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import click

from bench.core import clock, exit_codes
from bench.core.crash.unforeseen import code_of, describe, final_code
from bench.errors import BenchError
from bench.measure.engine.consensus import FELL, case_key, first_error, post_error
from bench.measure.engine.store import Store, StoreLost
from bench.measure.engine.watchdog import describe_limit, describe_missing, last_phase, read_report, report_key
from bench.measure.joining import pulse
from bench.measure.joining.roll import name_ranks
from bench.measure.launch.alarm import OVER, alarm_key
from bench.measure.launch.joined_start import JoinedJob, JoinedStart
from bench.measure.launch.recorder import Recorder
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.session import Session
from bench.measure.system.backends import BACKENDS
from bench.records.lines.kinds import End, EndStatus
from bench.records.run_file.run_file import NoRoomError, RunFile

REPORT_SECONDS = 1.5
FAREWELL_SECONDS = 0.5
"""Time for a sign of life; Open MPI kills the ranks one second after SIGTERM."""
LINGER_SECONDS = 2.0
SAY_SECONDS = 20.0
"""Time for rank 0 to save its records and to say what came out."""


_CODES: dict[int, int] = {
    signal.SIGHUP: exit_codes.HUNG_UP,
    signal.SIGINT: exit_codes.INTERRUPTED,
    signal.SIGTERM: exit_codes.TERMINATED,
}


def leave_process(code: int) -> NoReturn:
    """End this process at once: threads that are left inside torch would abort an orderly end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


@dataclass
class JoinedEnding:
    """One rank of a joined run, and the ways in which it can end early."""

    joined: LauncherRank
    job: JoinedJob
    start: JoinedStart
    ending: threading.Lock = field(default_factory=threading.Lock)
    """Lock taken, for good, by the thread that ends a run whose ranks cannot be set free."""
    _ender: int = 0
    """Identity of that thread."""
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

    def take_end(self) -> bool:
        """Take the ending of this rank upon the calling thread; False if another thread is at it."""
        if not self.ending.acquire(blocking=False):
            return False
        self._ender = threading.get_ident()
        return True

    def stay_out(self) -> None:
        """Wait for good if another thread ends this rank, and the process with it."""
        while self.ending.locked() and self._ender != threading.get_ident():
            threading.Event().wait(1.0)

    def fail_start(self, reason: str | None) -> None:
        """End this rank, on the guard's thread, since the ranks cannot begin."""
        if not self.take_end():
            return
        if reason is None:
            reason = (
                f"the ranks met, but torch did not connect them within {self.job.limit_seconds:g} s; set "
                "GLOO_SOCKET_IFNAME (NCCL: NCCL_SOCKET_IFNAME) to the interface that the hosts share"
            )
        code = code_of(reason, self.code_lost)
        if self.recorder is None:
            if self.start.speaks:
                self.complain(f"{self.name([self.place.index])}: {reason}")
            self.start.meeting.leave(self.side)
        else:
            self.recorder.trouble = reason
            self.recorder.end("failed", code)
            self.complain(reason)
        self.vanish(code)

    def fall(self, error: BaseException) -> NoReturn:
        """End this rank after an unforeseen error, once its traceback is kept and the others can hear why."""
        if not self.take_end():
            self.stay_out()
        assert self.session is not None
        reason = f"{self.name([self.place.index])}: {describe(error)}"
        self.complain(reason)
        try:
            with suppress(RuntimeError):
                post_error(self.side, self.session.prefix, FELL, reason)
                self.side.set(alarm_key(self.session.prefix), OVER)
                if self.recorder is not None:
                    pulse.ask(self.side)
            if self.recorder is not None:
                self._save_end(self.session.launch, reason, "failed", exit_codes.UNFORESEEN)
        finally:
            self.vanish(exit_codes.UNFORESEEN)

    def lose_store(self, error: StoreLost) -> NoReturn:
        """End this rank after the host of the store died: ranks cannot hear each other any more."""
        if not self.take_end():
            self.stay_out()
        try:
            if self.recorder is not None:
                launch = 0 if self.session is None else self.session.launch
                self._save_end(launch, self._loss(error), "failed", self.code_lost)
            self._complain_of_loss(error)
        finally:
            self.vanish(self.code_lost)

    def _loss(self, error: StoreLost) -> str:
        holder = "its agent of torchrun" if self.joined.agent_hosts_store else "rank 0"
        cause = str(error).partition(". ")[0]
        return f"the store at {self.start.meeting.where} is gone: {holder} died there, or its host ({cause})"

    def _complain_of_loss(self, error: StoreLost) -> None:
        """Say on one rank per host that the store is gone; rank 0 may be dead, and the next one on its host says it."""
        if self.place.local_index == 0 or (self.place.host_index, self.place.local_index) == (0, 1):
            self.complain(f"{self.name([self.place.index])}: {self._loss(error)}")

    @staticmethod
    def exit(code: int) -> NoReturn:
        leave_process(final_code(code))

    def vanish(self, code: int) -> NoReturn:
        """End this process, from a thread, once the others know; the host of the store is the last to go."""
        with suppress(RuntimeError):
            self.side.set(f"left/{self.place.index}", "here")
            if self.recorder is not None:
                self.side.set("said", "all")
                pulse.end_all(self.side, code)
                if not self.joined.agent_hosts_store:
                    self.missing("left", LINGER_SECONDS)
        self.exit(code)

    @staticmethod
    def complain(reason: str) -> None:
        click.echo(f"bench: error: {reason}", err=True)

    def cause(self, session: Session) -> str | None:
        """The first error of the case under way, if any rank raised."""
        assert self.recorder is not None
        with suppress(StoreLost):
            fell = first_error(self.side, session.prefix, FELL)
            return fell or first_error(self.side, session.prefix, case_key(self.recorder.current))
        return None

    def wait_for_rank_0(self) -> None:
        """Wait until rank 0 has saved its records: after a rank's error the launcher ends the others.

        Raises StoreLost if it died before.
        """
        ends = clock.monotonic_seconds() + SAY_SECONDS
        pause = threading.Event()
        while not self.side.check(["said"]) and clock.monotonic_seconds() < ends:
            pause.wait(0.05)

    def follow_rank_0(self) -> NoReturn:
        """End another rank than 0, on a thread, once rank 0 has said why."""
        if not self.take_end():
            self.stay_out()
        heard, lost = threading.Event(), list[StoreLost]()

        def wait() -> None:
            try:
                self.wait_for_rank_0()
            except StoreLost as error:
                lost.append(error)
            heard.set()

        # On a thread: a store whose host is frozen or cut off answers nothing, and torch has no limit for that.
        threading.Thread(target=wait, name="bench-farewell", daemon=True).start()
        if not heard.wait(SAY_SECONDS + FAREWELL_SECONDS):
            lost.append(StoreLost("it gives no answer"))
        if lost:
            self._complain_of_loss(lost[0])
            self.exit(exit_codes.PARTIAL)
        self.vanish(exit_codes.PARTIAL)

    def missing(self, prefix: str, seconds: float) -> list[int]:
        """Ranks that did not set their key within a time; asked over the side connection."""
        ends = clock.monotonic_seconds() + seconds
        absent = set(range(self.place.world_size))
        pause = threading.Event()
        while absent and clock.monotonic_seconds() < ends:
            absent -= {index for index in absent if self.side.check([f"{prefix}/{index}"])}
            if absent:
                pause.wait(0.05)
        return sorted(absent)

    def end_overdue(self, session: Session, limit_seconds: float) -> None:
        """End the run, on the watchdog's thread after its report, if a case took too long: no rank can be replaced."""
        if self.recorder is None:
            self.follow_rank_0()
        if not self.take_end():
            self.stay_out()
        try:
            missing = set(self.missing(f"{session.prefix}/late", REPORT_SECONDS))
            keys = {i: report_key(session.prefix, i) for i in range(self.place.world_size) if i not in missing}
            reports = {index: read_report(self.side.get(key)) for index, key in keys.items()}
        except StoreLost as error:
            self.lose_store(error)
        limit = describe_limit(
            limit_seconds, session.plan.whole_timeout(self.recorder.current), session.plan.timeout_seconds
        )
        held_up = describe_missing(reports, self.place.world_size, limit)
        self.give_up(session, self.cause(session) or held_up, "failed", exit_codes.PARTIAL)

    def give_up(self, session: Session, reason: str | None, status: EndStatus, code: int) -> None:
        """Save the last records and end the process, from a thread: the main thread may be inside a collective."""
        try:
            self._save_end(session.launch, reason, status, code)
        finally:
            self.vanish(code)

    def _save_end(self, launch: int, reason: str | None, status: EndStatus, code: int) -> None:
        """Save a reason with the case that is under way, end the file and print the last screen, whatever it says."""
        recorder = self.recorder
        assert recorder is not None
        try:
            try:
                if reason is not None:
                    recorder.blame(launch, reason)
            finally:
                recorder.end(status, code)
            if recorder.has_header:
                self.job.close(recorder, code)
        except BenchError as error:  # whatever became of the file and the screen: the process ends
            self.complain(str(error))

    def lose_file(self, error: NoRoomError) -> NoReturn:
        """End the run since no file takes what rank 0 has to save."""
        if not self.take_end():
            self.stay_out()
        recorder = self.recorder
        assert recorder is not None
        code = exit_codes.PARTIAL if recorder.writer.is_saved else exit_codes.USAGE
        try:
            recorder.trouble = str(error)
            recorder.end("failed", code)
            self.complain(str(error))
            pulse.ask(self.side)
        finally:
            self.vanish(code)

    def stop(self, number: int) -> None:
        """End this rank after a signal, on the thread that heard it.

        A launcher sends SIGTERM to the ranks that are left when one died. All but that one give a sign of life.
        """
        code = _CODES[number]
        if not self.take_end():
            return
        if self.session is None:
            self._stop_meeting(code)
            return
        session = self.session
        missing: list[int] = []
        phase = "unknown"
        with suppress(RuntimeError):
            self.side.set(f"{pulse.ANSWER_KEY}/{self.place.index}", "here")
            if self.recorder is not None:
                pulse.ask(self.side)
                missing = self.missing(pulse.ANSWER_KEY, FAREWELL_SECONDS) if number == signal.SIGTERM else []
                phase = last_phase(self.side, session.prefix, missing[0]) if missing else phase
        if self.recorder is None:
            self.exit(code)
        if missing:
            reason = f"{self.name(missing)} died in phase {phase}; its launcher ended the others"
            if not BACKENDS[session.plan.backend].frees_peers:
                # Without a connection to lose, a raised error is not a consequence of the death: it led to it.
                reason = self.cause(session) or reason
            self.give_up(session, reason, "failed", exit_codes.PARTIAL)
        self.give_up(session, None, "interrupted", code)

    def _stop_meeting(self, code: int) -> None:
        """End a rank that is interrupted before all agreed."""
        if self.recorder is not None:
            self.recorder.end("interrupted", code)
        elif self.job.continuation.held is not None:  # a later launch, whose file is not open yet
            with suppress(BenchError):
                file = RunFile.inherit(self.job.continuation.held, self.complain)
                file.end(End(ended=clock.stamp(), status="interrupted", exit_code=code))
        if self.joined.index == 0:
            self.complain(f"interrupted while the ranks met: {self._met()}")
        self.exit(code)

    def _met(self) -> str:
        try:
            return self.start.meeting.progress()
        except (RuntimeError, AttributeError):  # there is no store yet
            return "they had not begun to"

    def name(self, ranks: list[int]) -> str:
        return name_ranks(ranks, dict(enumerate(self.hosts)))
