"""Takes what rank 0 says and keeps it: lines of the result file, and a display of how far the run is.

One recorder per run, in the process that owns the file: the parent of local ranks, or rank 0 of a joined run.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import clock, exit_code
from bench.environment import differences
from bench.errors import BenchError
from bench.session import BUDGET_REASON, case_record

if TYPE_CHECKING:
    from bench.plan import Plan
    from bench.progress import Progress
    from bench.result import Result, Writer
    from bench.session import Event


@dataclass
class Recorder:
    """Keeps the events of a run; safe to call from a signal's thread as well."""

    plan: Plan
    writer: Writer
    path: Path
    progress: Progress
    command: list[str]
    run_id: str
    resumed: Result | None = None
    allow_unlike: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    current: int | None = None
    done: set[tuple[int, int]] = field(default_factory=set)
    has_header: bool = False
    _ended: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def handle(self, event: Event) -> None:
        """Raises BenchError where the file cannot be written, or a resumed run finds itself on another machine."""
        with self._lock:
            {"ready": self._ready, "case": self._case, "record": self._record}[event["event"]](event)

    def _ready(self, event: Event) -> None:
        self.progress.ready(event["environment"])
        if self.has_header:
            return
        environment = event["environment"]
        if self.resumed is None:
            self.writer.append(self._header(environment))
            self._leave_out()
        else:
            self._refuse_unlike(self.resumed, environment)
            self.writer.append(
                {"kind": "resume", "started": clock.stamp(), "environment": environment, "command": self.command}
            )
        self.has_header = True

    def _header(self, environment: dict[str, Any]) -> dict[str, Any]:
        from bench.result import SCHEMA

        return {
            "kind": "header",
            "schema": SCHEMA,
            "run_id": self.run_id,
            "label": self.plan.label,
            "started": clock.stamp(),
            "architecture": environment["architecture"],
            "environment": environment,
            "plan": self.plan.to_json(),
            "command": self.command,
        }

    def _leave_out(self) -> None:
        for case in self.plan.left_out:
            self.writer.append(case_record(self.plan, case, 0, "skipped", BUDGET_REASON, clock.stamp()))
            self.counts["skipped"] += 1

    def _refuse_unlike(self, resumed: Result, environment: dict[str, Any]) -> None:
        unlike = differences(resumed.header["environment"], environment)
        if unlike and not self.allow_unlike:
            name, before, now = unlike[0]
            raise BenchError(
                f"{self.path.name} was measured on another machine or set-up: {name} was {before!r}, is {now!r}; "
                "resume it where it began, or say --allow-unlike"
            )

    def _case(self, event: Event) -> None:
        self.current = event["index"]
        self.progress.begin(self.plan.cases[event["index"]].id)

    def _record(self, event: Event) -> None:
        record = event["record"]
        self.writer.append(record)
        self.current = None
        self.done.add((record["launch"], event["index"]))
        self.counts[record["status"]] += 1
        self.progress.done(record)

    def fail_case(self, index: int, launch: int, reason: str) -> None:
        """Save a case as failed, for ranks that can no longer say so themselves."""
        with self._lock:
            record = case_record(self.plan, self.plan.cases[index], launch, "failed", reason, clock.stamp())
            self._record({"event": "record", "index": index, "record": record})

    def pending(self, launch: int) -> tuple[int, ...]:
        """Indices of the cases that a launch still has to do, in its order."""
        return tuple(index for index in self.plan.order(launch) if (launch, index) not in self.done)

    @property
    def exit_code(self) -> int:
        """What the cases alone make of it: 3 where any in the file failed or is invalid."""
        before = () if self.resumed is None else self.resumed.latest()
        statuses = {*(record["status"] for record in before), *self.counts.elements()}
        return exit_code.PARTIAL if statuses & {"failed", "invalid"} else exit_code.OK

    def end(self, status: str, exit_code: int) -> None:
        """Write the end line, once, and take the display away."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.progress.close()
            if self.has_header:
                self.writer.append({"kind": "end", "ended": clock.stamp(), "status": status, "exit_code": exit_code})
            self.writer.close()
            if not self.has_header and self.resumed is None:
                self.path.unlink(missing_ok=True)  # nothing was measured: leave no empty file behind
