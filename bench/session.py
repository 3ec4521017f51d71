"""One generation of ranks: which cases it has to do, and what it says on the way.

A *launch* is one pass over all cases in fresh processes. Where processes end early (a raise, a kill, a hang), another
*generation* of processes goes on with the cases that are left of the launch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.plan import Plan, PlannedCase

Event = dict[str, Any]
Emit = Callable[[Event], None]
"""Takes what rank 0 has to say: `ready` (environment), `case` (index begun), `record` (a measurement line)."""


@dataclass(frozen=True)
class Session:
    """Plain data that every rank of a generation receives."""

    plan: Plan
    generation: int
    launch: int
    pending: tuple[int, ...]
    """Indices of the plan's cases, in the order to do them."""
    seconds_left: float | None
    """For all pending cases, from now; None: as long as it needs."""

    @property
    def prefix(self) -> str:
        """Of this generation's keys in the store."""
        return f"bench/generation{self.generation}"

    def to_text(self) -> str:
        fields = dict(self.__dict__)
        return json.dumps(fields | {"plan": self.plan.to_json()})

    @staticmethod
    def from_text(text: str | bytes) -> Session:
        fields = json.loads(text)
        fields["plan"] = Plan.from_json(fields["plan"])
        fields["pending"] = tuple(fields["pending"])
        return Session(**fields)


def case_record(
    plan: Plan, case: PlannedCase, launch: int, status: str, reason: str | None, started: str, **fields: Any
) -> dict[str, Any]:
    """A measurement line of the result file; see `bench.result` for its schema. What is not given is null."""
    facts = next(s for s in plan.suites if s.name == case.suite)
    empty: Mapping[str, Any] = {
        "variants": {},
        "check": None,
        "work": None,
        "derived": {},
        "metrics": {name: list(row) for name, row in facts.metrics.items()},
        "stop": None,
        "spans": [],
        "traced_call_ns": [],
        "notes": [],
        "seconds": None,
    }
    return {
        "kind": "measurement",
        "launch": launch,
        "suite": case.suite,
        "case": case.id,
        "params": dict(case.params),
        "status": status,
        "reason": reason,
        "num_ranks": plan.world_size,
        "started": started,
        **empty,
        **fields,
    }


BUDGET_REASON = "budget: no time was left for it; give more with --budget"


def was_left_out(record: Mapping[str, Any]) -> bool:
    """Whether a measurement line says that a case had no time, in the words of any version."""
    return record["status"] == "skipped" and str(record["reason"]).startswith("budget")
