"""A display and records for tests of the recorder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from bench.measure.launch.recorder import Recorder
from bench.measure.planning.events import CaseBegun, Ready, Recorded, TimeLeft
from bench.measure.planning.plan import Plan
from bench.measure.planning.session import case_record
from bench.records.file import Result
from bench.records.lines import decoding
from bench.records.lines.header import Environment
from bench.records.lines.kinds import Measurement
from bench.records.lines.parts import Status, VariantSamples
from tests.support.results import header_line

ENVIRONMENT = header_line().environment
READY = Ready(ENVIRONMENT)
STARTED = "2026-01-31T12:00:00.000+00:00"


@dataclass
class Heard:
    """A display that keeps what it is told."""

    calls: list[tuple[str, ...]] = field(default_factory=list)

    def ready(self, environment: Environment) -> None:
        self.calls.append(("ready", str(environment.architecture)))

    def begin(self, case: str, expected_seconds: float | None = None, is_repeat: bool = False) -> None:
        self.calls.append(("begin", case, *(["repeat"] if is_repeat else [])))

    def done(self, record: Measurement, is_repeat: bool = False) -> None:
        self.calls.append(("done", record.case, record.status, *(["repeat"] if is_repeat else [])))

    def drop(self, count: int) -> None:
        if count:
            self.calls.append(("drop", str(count)))

    def expect(self, seconds: float, limit_seconds: float | None = None) -> None:
        limit = () if limit_seconds is None else (f"{limit_seconds:g}",)
        self.calls.append(("expect", f"{seconds:g}", *limit))

    def say(self, line: str) -> None:
        self.calls.append(("say", line))

    def close(self) -> None:
        self.calls.append(("close",))


class Recorders(Protocol):
    def __call__(self, plan: Plan | None = None, resumed: Result | None = None, **changes: Any) -> Recorder: ...


def begun(index: int, visit: int = 0, time_left: TimeLeft | None = None) -> CaseBegun:
    return CaseBegun(index, visit, 60.0, time_left)


def record(
    plan: Plan, index: int, status: Status = "ok", launch: int = 0, visit: int = 0, calls: int = 1, **fields: Any
) -> Recorded:
    reason = None if status == "ok" else "why"
    line = case_record(plan, plan.cases[index], launch, "failed", reason, STARTED, visit)
    samples = VariantSamples(calls=calls, nanoseconds=np.array([[1, 2], [3, 4]]))
    fields = {"variants": {"full": samples} if status == "ok" else {}, "status": status} | fields
    return Recorded(index, msgspec.Raw(decoding.encode(msgspec.structs.replace(line, **fields))))


def saved(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kinds(path: Path) -> list[str]:
    return [line["kind"] for line in saved(path)]
