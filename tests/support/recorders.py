"""A display and records for tests of the recorder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.measure.launch.recorder import Recorder
from bench.measure.planning.plan import Plan
from bench.measure.planning.session import case_record
from bench.records.file import Result
from tests.support.results import header

ENVIRONMENT = header()["environment"]
READY = {"event": "ready", "environment": ENVIRONMENT}
STARTED = "2026-01-31T12:00:00.000+00:00"


@dataclass
class Heard:
    """A display that keeps what it is told."""

    calls: list[tuple[str, ...]] = field(default_factory=list)

    def ready(self, environment: dict[str, Any]) -> None:
        self.calls.append(("ready", environment["architecture"]))

    def begin(self, case: str) -> None:
        self.calls.append(("begin", case))

    def done(self, record: dict[str, Any]) -> None:
        self.calls.append(("done", record["case"], record["status"]))

    def drop(self, count: int) -> None:
        if count:
            self.calls.append(("drop", str(count)))

    def expect(self, seconds: float) -> None:
        self.calls.append(("expect", f"{seconds:g}"))

    def say(self, line: str) -> None:
        self.calls.append(("say", line))

    def close(self) -> None:
        self.calls.append(("close",))


class Recorders(Protocol):
    def __call__(self, plan: Plan | None = None, resumed: Result | None = None, **changes: Any) -> Recorder: ...


def record(
    plan: Plan, index: int, status: str = "ok", launch: int = 0, visit: int = 0, calls: int = 1, **fields: Any
) -> dict[str, Any]:
    reason = None if status == "ok" else "why"
    variants = {"full": {"calls": calls, "nanoseconds": [[1, 2], [3, 4]]}} if status == "ok" else {}
    line = case_record(plan, plan.cases[index], launch, status, reason, STARTED, visit, variants=variants, **fields)
    return {"event": "record", "index": index, "record": line}


def saved(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kinds(path: Path) -> list[str]:
    return [line["kind"] for line in saved(path)]
