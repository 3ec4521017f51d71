"""Starts and supervises local ranks: a raise, kill or hang ends a generation of processes, and a fresh one goes on."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import click

from bench.core import clock, exit_codes
from bench.errors import BenchError
from bench.measure.engine.consensus import START, case_key, first_error
from bench.measure.engine.passes import nccl_choices
from bench.measure.engine.store import LOOPBACK, HostedStore, hosted_store
from bench.measure.engine.watchdog import (
    OverdueReport,
    describe_limit,
    describe_missing,
    last_phase,
    read_report,
    report_key,
)
from bench.measure.engine.worker import host_name
from bench.measure.launch import bootstrap
from bench.measure.launch.recorder import Recorder
from bench.measure.launchers.loopback import keep_to_loopback
from bench.measure.planning import events
from bench.measure.planning.plan import Plan
from bench.measure.planning.session import Session
from bench.measure.planning.visit_overhead import startup_seconds

MAX_HARD_ENDS = 3
"""Kills and hangs after which a run gives up: the machine itself is then in doubt."""
POLL_SECONDS = 0.05
REPORT_SECONDS = 1.5
"""Time after a time-out for the ranks' watchdogs to report where they are."""
END_RESERVE_SECONDS = 1.5
START_TIMEOUT_SECONDS = 180.0


class RunOutcome(Enum):
    DONE = "all pending cases are done"
    BROKEN = "a case broke the generation"
    HARD = "a rank was killed or hung"


class _EventPipe:
    """Rank 0's JSON lines, read without waiting."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.read_fd, selectors.EVENT_READ)
        self._rest = b""

    def close_write(self) -> None:
        os.close(self.write_fd)

    def close(self) -> None:
        self._selector.close()
        os.close(self.read_fd)

    def read(self, wait_seconds: float) -> list[events.Event]:
        lines: list[bytes] = []
        while self._selector.select(wait_seconds if not lines else 0):
            data = os.read(self.read_fd, 1 << 20)
            if not data:
                self._selector.unregister(self.read_fd)
                break
            *complete, self._rest = (self._rest + data).split(b"\n")
            lines += complete
        return [events.decode(line) for line in lines]


@dataclass
class _Ranks:
    """The processes of one generation."""

    session: Session
    store: HostedStore
    logs: Path
    environ: dict[str, str]
    pipe: _EventPipe = field(default_factory=_EventPipe)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        self.store.set(f"{self.session.prefix}/session", self.session.to_text())
        for index in range(self.session.plan.world_size):
            self.processes.append(self._start_rank(index))
        self.pipe.close_write()

    def _start_rank(self, index: int) -> subprocess.Popen[bytes]:
        events_fd = self.pipe.write_fd if index == 0 else None
        orders = {
            "index": index,
            "world_size": self.session.plan.world_size,
            "port": self.store.port,
            "generation": self.session.generation,
            "events_fd": events_fd,
            "parent": os.getpid(),
        }
        with self.log(index).open("wb") as log:
            return subprocess.Popen(
                bootstrap.command(sys.executable, "bench.measure.launch.rank_process:main", json.dumps(orders)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if events_fd is None else (events_fd,),
                env=self.environ,
                start_new_session=True,  # Ctrl-C goes to the parent alone, which ends the ranks in order
            )

    def log(self, index: int) -> Path:
        return self.logs / f"generation{self.session.generation}-rank{index}.log"

    def last_words(self, index: int) -> str:
        """The last line that a rank wrote, for a process that ended without an error of its own."""
        lines = self.log(index).read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def end(self) -> None:
        """Kill every rank with its process group, so that no process is left behind."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.pipe.close()


@dataclass
class Supervisor:
    """Sees a plan through with local ranks."""

    recorder: Recorder
    began: float
    """Start of the run on the monotonic clock, for its budget."""
    startup_seconds: float = 0.0
    """Time of the last start of the ranks, or a guess before; 0: the guess for the plan's devices."""
    only_launch: int | None = None
    """Do just this launch of the plan, and take its share of the budget; None: all that is left. The number of launches
    itself: none of them, only the pass of `bench.measure.engine.passes.nccl_choices`."""
    launch_seconds: float | None = None
    """Time for `only_launch`, its start included, in place of its share."""
    generation: int = 0
    hard_ends: int = 0
    logged_backends: frozenset[str] = nccl_choices.LOGGED_BACKENDS
    """Backends of which it is asked, in the end, what they chose."""

    _limit_seconds: float = field(init=False, default=0.0)
    """Time after which the case that is under way counts as hung."""

    def __post_init__(self) -> None:
        self.startup_seconds = self.startup_seconds or startup_seconds(self.plan.device_type)

    @property
    def plan(self) -> Plan:
        return self.recorder.plan

    def run(self) -> int:
        """Returns the exit code. Raises BenchError if the ranks cannot start."""
        store = hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=60.0)
        threads = {"OMP_NUM_THREADS": str(self.plan.threads_per_rank or 1)}
        environ = os.environ | threads | keep_to_loopback(os.environ)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for launch in self._launches():
                if not self._see_through(launch, store, Path(folder), environ):
                    self.recorder.end("failed", exit_codes.PARTIAL)
                    return exit_codes.PARTIAL
                if launch == 0 and self.only_launch is None and self.plan.launches > 1:
                    self.recorder.show_rough()
            warning = self._read_choices(store, Path(folder), environ)
        code = self.recorder.finish()
        if warning:
            click.echo(f"warning: {warning}", err=True)
        return code

    def _see_through(self, launch: int, store: HostedStore, folder: Path, environ: dict[str, str]) -> bool:
        """Run all generations of a launch; False if the machine itself is in doubt, or the ranks make no headway."""
        recorder = self.recorder
        recorder.launches_left = self.plan.launches - launch - 1 if self.only_launch is None else 0
        recorder.budget_left = self._budget_left
        while pending := recorder.pending(launch):
            recorder.startup_seconds = self.startup_seconds
            seconds = self._seconds_left(launch)
            if recorder.has_header and seconds is not None and seconds <= self.startup_seconds:
                # Starting the ranks would take all of it, and the run would end late.
                recorder.handle(events.TurnsLeftOut(launch, pending))
                return True
            session = Session(
                self.plan,
                self.generation,
                launch,
                pending,
                seconds,
                recorder.calls(launch),
                known=recorder.known,
                profile=recorder.profile,
                asked_at_seconds=clock.monotonic_seconds(),
            )
            outcome = self._supervise(_Ranks(session, store, folder, environ))
            self.generation += 1
            # A generation that brought nothing is as bad as a hang: without a count it would go on for ever.
            self.hard_ends += outcome is RunOutcome.HARD or recorder.pending(launch) == pending
            if self.hard_ends >= MAX_HARD_ENDS:
                return False
        return True

    def _launches(self) -> Sequence[int]:
        if self.only_launch is None:
            return range(self.plan.launches)
        return [self.only_launch] if self.only_launch < self.plan.launches else []

    def _seconds_left(self, launch: int) -> float | None:
        """An equal share for every launch that is left, its start included."""
        left = self._budget_left()
        if left is None:
            return None
        reserve = self.startup_seconds + nccl_choices.PASS_SECONDS if self._reads_choices else 0.0
        launches = self.plan.launches - launch if self.only_launch is None else 1
        return (left - reserve) / launches

    def _budget_left(self) -> float | None:
        """Seconds until this has to come to its end; None: it may take as long as it needs."""
        whole = self.launch_seconds
        if whole is None and self.plan.budget_seconds is not None:
            whole = self.plan.budget_seconds / (1 if self.only_launch is None else self.plan.launches)
        return None if whole is None else whole - END_RESERVE_SECONDS - (clock.monotonic_seconds() - self.began)

    @property
    def _reads_choices(self) -> bool:
        is_last = self.only_launch is None or self.only_launch >= self.plan.launches - 1
        return is_last and nccl_choices.has_choices(self.plan, self.logged_backends)

    def _read_choices(self, store: HostedStore, folder: Path, environ: Mapping[str, str]) -> str | None:
        """The untimed pass that asks NCCL for its choices: returns a warning, if there is one; it never fails a run."""
        recorder = self.recorder
        pending = tuple((index, 0) for index, case in enumerate(self.plan.cases) if case.id in recorder.unknown_choices)
        if not self._launches():
            # Nothing is measured: the file is not taken up again, and the pass has settings of its own.
            recorder.has_header = True
        if not self._reads_choices or not pending or not recorder.has_header:
            return None
        left = self._budget_left()
        if left is not None and left <= self.startup_seconds:
            return self._warn_unknown("no time was left to ask; give more with --budget")
        recorder.progress.begin("the backend's choices (not timed)")
        seconds = None if left is None else left - self.startup_seconds
        session = Session(self.plan, self.generation, self.plan.launches - 1, pending, seconds, untimed=True)
        self.generation += 1
        try:
            outcome = self._supervise(_Ranks(session, store, folder, {**environ, **nccl_choices.debug_environ(folder)}))
        except BenchError as error:
            return self._warn_unknown(str(error))
        return self._warn_unknown("it was not called" if outcome is RunOutcome.DONE else outcome.value)

    def _warn_unknown(self, reason: str) -> str | None:
        missing = sorted(self.recorder.unknown_choices)
        if not missing:
            return None
        return f"the backend's choices are not known for {len(missing)} case(s), such as {missing[0]}: {reason}"

    def _supervise(self, ranks: _Ranks) -> RunOutcome:
        started = clock.monotonic_seconds()
        self._limit_seconds = self.plan.whole_timeout(None)
        deadline = started + max(START_TIMEOUT_SECONDS, self._limit_seconds)
        try:
            ranks.start()
            while True:
                for event in ranks.pipe.read(POLL_SECONDS):
                    if isinstance(event, events.Ready):
                        self.startup_seconds = clock.monotonic_seconds() - started
                        self.recorder.startup_seconds = self.startup_seconds
                    self.recorder.handle(event)
                    whole = self.plan.whole_timeout(self.recorder.current)
                    self._limit_seconds = event.timeout_seconds if isinstance(event, events.CaseBegun) else whole
                    deadline = clock.monotonic_seconds() + self._limit_seconds
                codes = [process.poll() for process in ranks.processes]
                if all(code == 0 for code in codes):
                    self._take(ranks)
                    return RunOutcome.DONE
                if any(code for code in codes):
                    self._take(ranks)
                    return self._ended(ranks)
                if clock.monotonic_seconds() > deadline:
                    return self._hung(ranks)
        finally:
            ranks.end()

    def _take(self, ranks: _Ranks) -> None:
        """Whatever rank 0 still had to say before it ended."""
        for event in ranks.pipe.read(POLL_SECONDS):
            self.recorder.handle(event)

    def _ended(self, ranks: _Ranks) -> RunOutcome:
        """Find the first of the ranks that ended with an error, and save the case as failed."""
        prefix = ranks.session.prefix
        codes = [process.poll() for process in ranks.processes]
        refusal = first_error(ranks.store, prefix, START) if exit_codes.USAGE in codes else None
        if refusal is not None:
            raise BenchError(refusal)
        orderly = (None, exit_codes.OK, exit_codes.BROKEN_GENERATION)
        killed = [index for index, code in enumerate(codes) if code not in orderly]
        # Ranks that lost each other while one had left as if its work was done: it left too early.
        killed = killed or [index for index, code in enumerate(codes) if code == exit_codes.OK]
        if killed:
            self._blame(ranks, self._death(ranks, killed[0]))
            return RunOutcome.HARD
        error = first_error(ranks.store, prefix, case_key(self.recorder.current))
        self._blame(ranks, error or self._lost_words(ranks))
        return RunOutcome.BROKEN

    def _lost_words(self, ranks: _Ranks) -> str:
        """Reason why ranks lost each other that none of them posted: the last line that one wrote, if any did."""
        words = next((words for index in range(len(ranks.processes)) if (words := ranks.last_words(index))), "")
        return f"the ranks lost each other without an error of their own{f': {words}' if words else ''}"

    def _death(self, ranks: _Ranks, index: int) -> str:
        code = ranks.processes[index].returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        words = ranks.last_words(index)
        phase = last_phase(ranks.store, ranks.session.prefix, index)
        return f"rank {index} on {host_name()} {how} in phase {phase}" + (f": {words}" if words else "")

    def _hung(self, ranks: _Ranks) -> RunOutcome:
        whole = self.plan.whole_timeout(self.recorder.current)
        limit = describe_limit(self._limit_seconds, whole, self.plan.timeout_seconds)
        reason = describe_missing(self._reports(ranks), self.plan.world_size, limit)
        current = self.recorder.current
        if current is not None and self._limit_seconds != whole:
            # Not that it hangs is known, only that it had no more time.
            self.recorder.cut_off(current, ranks.session.launch, reason)
        else:
            self._blame(ranks, reason)
        return RunOutcome.HARD

    def _reports(self, ranks: _Ranks) -> dict[int, OverdueReport]:
        """Collect the reports of the ranks' watchdogs for a moment after the time-out."""
        ends = clock.monotonic_seconds() + REPORT_SECONDS
        reports: dict[int, OverdueReport] = {}
        while len(reports) < self.plan.world_size and clock.monotonic_seconds() < ends:
            for index in set(range(self.plan.world_size)) - set(reports):
                key = report_key(ranks.session.prefix, index)
                if ranks.store.check([key]):
                    reports[index] = read_report(ranks.store.get(key))
            for event in ranks.pipe.read(POLL_SECONDS):
                self.recorder.handle(event)  # nothing measured is lost, even now
        return reports

    def _blame(self, ranks: _Ranks, reason: str) -> None:
        """Raises BenchError if no case had begun: the ranks cannot even start, so going on has no sense."""
        if self.recorder.current is None and not self.recorder.has_header:
            raise BenchError(f"the ranks did not start: {reason}; try `bench doctor`")
        self.recorder.blame(ranks.session.launch, reason)


def run_local(
    recorder: Recorder, began: float, only_launch: int | None = None, launch_seconds: float | None = None
) -> int:
    """Start local ranks and see the recorder's plan through, or one launch of it; returns the exit code."""
    return Supervisor(recorder, began, only_launch=only_launch, launch_seconds=launch_seconds).run()
