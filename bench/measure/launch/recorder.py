"""Takes what rank 0 says and keeps it: lines of the result file, and a display of how far the run is.

One recorder per run, in the process that owns the file: the parent of local ranks, or rank 0 of a joined run.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bench.core import clock, exit_codes
from bench.errors import BenchError
from bench.measure.planning.events import (
    CaseBegun,
    ChoicesSeen,
    Event,
    Ready,
    Recorded,
    TimeLeft,
    TurnPutOff,
    TurnsLeftOut,
)
from bench.measure.planning.session import BUDGET_REASON, case_record
from bench.records.environments import differences
from bench.records.lines import decoding
from bench.records.lines.kinds import End, EndStatus, Header, Joined, Measurement, Resume
from bench.records.privacy.recorded import without_secrets
from bench.records.reader import SCHEMA
from bench.records.visits import was_left_out

if TYPE_CHECKING:
    from bench.measure.launch.progress import Progress
    from bench.measure.planning.plan import Plan, Turn
    from bench.measure.planning.visit_overhead import VisitCost
    from bench.records.file import Result
    from bench.records.lines.header import Environment
    from bench.records.lines.kinds import Line
    from bench.records.lines.parts import DoctorReport
    from bench.records.run_file.run_file import RunFile


@dataclass
class Recorder:
    """Keeps the events of a run; safe to call from a signal's thread as well."""

    plan: Plan
    writer: RunFile
    progress: Progress
    command: list[str]
    run_id: str
    resumed: Result | None = None
    allow_unlike: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    current: Turn | None = None
    done: set[tuple[int, int, int]] = field(default_factory=set)
    """(launch, index of the case, visit) of what is measured, and of what is not to be measured any more."""
    has_header: bool = False
    """True once a line was written that begins this run, or takes it up again."""
    continues: bool = False
    """True for a later launch of a job that is under way: the file gets its end, even if the ranks do not meet."""
    doctor: DoctorReport | None = None
    """The doctor's findings before the run, for the header; None: it did not look."""
    profile: str | None = None
    """Folder for traces; None: none was asked for."""
    judge: Callable[[Path], int] | None = None
    """Exit code of a whole run by its file, if its preset promises a verdict."""
    known: dict[int, VisitCost] = field(default_factory=dict)
    """Index of a case -> what its visits have shown of its cost, for later launches."""
    launches_left: int = 0
    """Launches after the one that is under way."""
    startup_seconds: float = 0.0
    """Time of a launch before its first case, as far as it is known."""
    budget_left: Callable[[], float | None] = lambda: None
    """Seconds of the run's budget that are left for launches; None: there is no limit."""
    trouble: str = ""
    """Reason of the last error that belongs to no case; it is in the end line of a run that fails."""
    unknown_choices: set[str] = field(default_factory=set)
    """Ids of measured cases that move data between ranks, and of which the file has no line of NCCL's choices."""
    _calls: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    _ended: bool = False
    _begun: Header | None = None
    """Header that was written before the ranks met, until they have."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.writer.say = lambda text: self.progress.say(text)
        for record in () if self.resumed is None else self.resumed.measurements:
            self._remember_calls(record)
            self._note_collective(record)
        for choices in () if self.resumed is None else self.resumed.choices:
            self.unknown_choices.discard(choices.case)

    @property
    def path(self) -> Path:
        """The file that has all lines; another one than at first if that was lost."""
        return self.writer.path

    def handle(self, event: Event) -> None:
        """Raises NoRoomError if no file takes a line, or a resumed run finds itself on another machine."""
        with self._lock:
            if not self._ended:  # a signal may have ended the file while the ranks still measure
                _HANDLERS[type(event)](self, event)

    def begin(self, environment: Environment) -> None:
        """Write the header of a new run before its ranks meet, with the facts that rank 0 knows by itself."""
        with self._lock:
            self._begun = self._header(environment)
            self._append(self._begun)
            self.has_header = True

    def _append(self, line: Line) -> None:
        self.writer.append(without_secrets(line))

    def change_plan(self, plan: Plan, doctor: DoctorReport | None) -> None:
        """Take the plan and the findings that hold once the ranks have met."""
        with self._lock:
            self.plan, self.doctor = plan, doctor

    def _ready(self, event: Ready) -> None:
        environment = event.environment
        self.progress.ready(environment)
        if self._begun is not None:
            self._append(self._joined(self._begun, environment))
            self._begun = None
            self._leave_out()
            return
        if self.has_header:
            return
        if self.resumed is None:
            self._append(self._header(environment))
            self._leave_out()
        else:
            if self.resumed.environment.ranks:
                self._refuse_unlike(self.resumed, environment)
            else:  # the ranks had not met before
                self._append(Joined(environment=environment, started=clock.stamp()))
            self._append(Resume(started=clock.stamp(), environment=environment, command=self.command))
        self.has_header = True

    def _joined(self, header: Header, environment: Environment) -> Joined:
        plan = self.plan.row()
        return Joined(
            environment=environment,
            started=clock.stamp(),
            plan=None if plan == header.plan else plan,
            doctor=None if self.doctor == header.doctor else self.doctor,
        )

    def _header(self, environment: Environment) -> Header:
        return Header(
            schema=SCHEMA,
            run_id=self.run_id,
            label=self.plan.label,
            started=clock.stamp(),
            architecture=environment.architecture or "",
            environment=environment,
            plan=self.plan.row(),
            command=self.command,
            doctor=self.doctor,
        )

    def _leave_out(self) -> None:
        for case in self.plan.left_out:
            self._append(case_record(self.plan, case, 0, "skipped", BUDGET_REASON, clock.stamp()))
            self.counts["skipped"] += 1

    def _refuse_unlike(self, resumed: Result, environment: Environment) -> None:
        unlike = differences(resumed.header.environment, environment)
        if unlike and not self.allow_unlike:
            name, before, now = unlike[0]
            raise BenchError(
                f"{self.path.name} was measured on another machine or set-up: {name} was {before!r}, is {now!r}; "
                "resume it where it began, or say --allow-unlike"
            )

    def _case(self, event: CaseBegun) -> None:
        self.current = event.index, event.visit
        self._expect(event.time_left)
        self.progress.begin(self.plan.cases[event.index].id, event.expected_seconds, self._is_repeat(event.visit))

    def _put_off(self, event: TurnPutOff) -> None:
        """The case is not under way any more, and comes again in the end."""
        self.current = None
        self._expect(event.time_left)

    def _expect(self, time_left: TimeLeft | None) -> None:
        """Tell the display how long the whole run still takes, by what rank 0 knows of its launch."""
        if time_left is not None:
            later = self.launches_left * (self.startup_seconds + time_left.launch_seconds)
            seconds, left = time_left.seconds_left + later, self.budget_left()
            closing = time_left.closing_seconds
            if left is None:
                self.progress.expect(seconds + closing)
            else:
                left = max(0.0, left)
                self.progress.expect(min(seconds, left) + closing, left + closing)

    def _is_repeat(self, visit: int) -> bool:
        """True for a visit beyond the planned ones: another was disturbed."""
        return visit >= self.plan.visits

    def _record(self, event: Recorded) -> None:
        record, line = self._readable(event)
        self._expect(event.time_left)
        if event.known is not None and record.status == "ok":
            self.known[event.index] = event.known
        self.writer.append_encoded(line)
        self.current = None
        self.done.add((record.launch, event.index, record.visit))
        self.counts[record.status] += 1
        self._remember_calls(record)
        self._note_collective(record)
        self.progress.done(record, self._is_repeat(record.visit))
        if record.status != "ok":
            self._drop(later_visits(self.plan, record.launch, event.index, record.visit))

    def _remember_calls(self, record: Measurement) -> None:
        if record.variants:
            calls = {name: variant.calls for name, variant in record.variants.items()}
            self._calls.setdefault((record.launch, record.case), calls)

    def _drop(self, turns: set[tuple[int, int, int]]) -> None:
        self.progress.drop(len(turns - self.done))
        self.done |= turns

    def _left_out(self, event: TurnsLeftOut) -> None:
        """Drop turns for which no time is left; a case without any visit is saved as skipped."""
        launch = event.launch
        for index, visit in sorted(event.turns, key=lambda turn: turn[1]):
            if (launch, index, 0) not in self.done:
                self._save_without_speed((index, visit), launch, "skipped", BUDGET_REASON)
            self._drop({(launch, index, visit)})

    def cut_off(self, turn: Turn, launch: int, reason: str) -> None:
        """Save a case as skipped, for which the time of the run did not suffice once it was begun."""
        with self._lock:
            self._save_without_speed(turn, launch, "skipped", f"budget: {reason}; give more with --budget")

    def show_rough(self) -> None:
        """Show the rough figures of the first of several launches."""
        from bench.measure.launch.progress import rough_lines
        from bench.records.file import load

        with self._lock:
            self.writer.check()
            for line in rough_lines(load(self.path)):
                self.progress.say(line)

    def blame(self, launch: int, reason: str) -> None:
        """Save the case that is under way as failed; between cases keep the reason for the end line."""
        with self._lock:
            if self.current is not None:
                self.fail_case(self.current, launch, reason)
            else:
                self.trouble = reason

    def fail_case(self, turn: Turn, launch: int, reason: str) -> None:
        """Save a case as failed, for ranks that can no longer say so themselves."""
        with self._lock:
            self._save_without_speed(turn, launch, "failed", reason)

    def _readable(self, event: Recorded) -> tuple[Measurement, bytes]:
        """The event's record and its line, or a failed one in place of one that no reader would take.

        Such a one would spoil the whole file.
        """
        line = bytes(event.line)
        try:
            record = decoding.decode(line)
        except decoding.UnreadableLineError as error:
            case, reason = self.plan.cases[event.index], f"its record cannot be saved: {error}"
            launch, visit = decoding.field_of(line, "launch"), decoding.field_of(line, "visit") or 0
            record = case_record(self.plan, case, launch, "failed", reason, clock.stamp(), visit)
            line = decoding.encode(record)
        assert isinstance(record, Measurement)
        masked = without_secrets(record)
        return masked, line if masked is record else decoding.encode(masked)

    def _save_without_speed(self, turn: Turn, launch: int, status: Literal["skipped", "failed"], reason: str) -> None:
        index, visit = turn
        record = case_record(self.plan, self.plan.cases[index], launch, status, reason, clock.stamp(), visit)
        self._record(Recorded(index, msgspec.Raw(decoding.encode(record))))

    def _choices(self, event: ChoicesSeen) -> None:
        self._append(event.choices)
        self.unknown_choices.discard(event.choices.case)

    def _note_collective(self, record: Measurement) -> None:
        if record.status == "ok" and record.work is not None and record.work.bus_factor is not None:
            self.unknown_choices.add(record.case)

    def pending(self, launch: int) -> tuple[Turn, ...]:
        """Return the turns that a launch still has to do, in its order."""
        return tuple(turn for turn in self.plan.order(launch) if (launch, *turn) not in self.done)

    def calls(self, launch: int) -> dict[str, dict[str, int]]:
        """Case id -> variant -> calls in a sample, of the cases that a launch has visited."""
        return {case: calls for (of_launch, case), calls in self._calls.items() if of_launch == launch}

    @property
    def exit_code(self) -> int:
        """Exit code by the cases and their file: 3 if any failed or is invalid, or the first file was lost."""
        before = () if self.resumed is None else self.resumed.latest()
        statuses = {*(record.status for record in before), *self.counts.elements()}
        return exit_codes.PARTIAL if statuses & {"failed", "invalid"} or self.writer.moves else exit_codes.OK

    def finish(self) -> int:
        """End a run whose cases are all done; returns its exit code, in which the preset's verdict has its say.

        Raises NoRoomError if no file takes what was measured.
        """
        with self._lock:
            self.writer.check()
        code = self.exit_code
        if code == exit_codes.OK and self.judge is not None:
            code = self.judge(self.path)
        self.end("failed" if code == exit_codes.PARTIAL else "complete", code)
        return code

    @property
    def has_ended(self) -> bool:
        return self._ended

    def end(self, status: EndStatus, exit_code: int) -> None:
        """Write the end line, once, let the file go, and take the display away."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.progress.close()
            if self.has_header or self.continues:
                self.writer.end(self._end_line(status, exit_code))
            else:
                self.writer.close()  # nothing was measured: an empty file is taken away

    def _end_line(self, status: EndStatus, exit_code: int) -> End:
        """The end line, with the cause if the run is not complete."""
        reasons = [self.trouble] if status == "failed" and self.trouble else []
        reason = "; ".join([*reasons, *self.writer.moves])
        return without_secrets(End(ended=clock.stamp(), status=status, exit_code=exit_code, reason=reason))

    def confirm(self, exit_code: int) -> int:
        """See that the file of a run that has ended has all its lines still, or rescue them.

        Returns the exit code that holds then. Raises NoRoomError.
        """
        with self._lock:
            num_moves = len(self.writer.moves)
            self.writer.check()
            if len(self.writer.moves) == num_moves:
                return exit_code
            code = exit_code or exit_codes.PARTIAL
            self.writer.end(self._end_line("failed", code))
            return code


_HANDLERS: dict[type[Event], Callable[[Recorder, Any], None]] = {
    Ready: Recorder._ready,
    CaseBegun: Recorder._case,
    Recorded: Recorder._record,
    TurnPutOff: Recorder._put_off,
    TurnsLeftOut: Recorder._left_out,
    ChoicesSeen: Recorder._choices,
}


def done_turns(plan: Plan, resumed: Result | None) -> set[tuple[int, int, int]]:
    """(launch, index of the case, visit) that a file has already; visits left out for the budget are tried again."""
    done: set[tuple[int, int, int]] = set()
    index = {case.id: number for number, case in enumerate(plan.cases)}
    for record in () if resumed is None else resumed.measurements:
        if record.case in index and not was_left_out(record):
            launch, number, visit = record.launch, index[record.case], record.visit
            done.add((launch, number, visit))
            if record.status != "ok":
                done |= later_visits(plan, launch, number, visit)
    return done


def later_visits(plan: Plan, launch: int, index: int, visit: int) -> set[tuple[int, int, int]]:
    """Later visits of the launch to a case that came out of this one without a speed: they could not fix that."""
    return {(launch, index, later) for later in range(visit + 1, plan.visits)}
