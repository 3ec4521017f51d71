"""One generation of ranks: the cases that it has to do, and the events that it emits.

A *launch* measures all cases in fresh processes, in one or more *visits* to each, spread over the launch. Where
processes end early (a raise, a kill, a hang), another *generation* of them goes on with what is left of the launch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.core import clock
from bench.measure.planning.plan import Plan, Turn
from bench.measure.planning.visit_overhead import VisitCost
from bench.records.saved_plan import PlannedCase

Event = dict[str, Any]
Emit = Callable[[Event], None]
"""Takes what rank 0 has to say: `ready` (environment), `case` (turn begun), `record` (its measurement line), `put_off`
(the turn has to wait), `left_out` (turns for which no time is left), `choices` (a line of
`bench.measure.engine.passes.nccl_choices`)."""


@dataclass(frozen=True)
class Session:
    """Plain data that every rank of a generation receives."""

    plan: Plan
    generation: int
    launch: int
    pending: tuple[Turn, ...]
    """(index of the plan's case, visit), in the order to do them."""
    seconds_left: float | None
    """Time for all that is pending, from `asked_at_seconds` on, or from now; None: there is no limit."""
    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    """Case id -> variant -> calls in a sample, where an earlier visit of this launch chose them: all keep to that."""

    profile: str | None = None
    """Folder for the traces of `bench.measure.engine.passes.torch_profile`; None: none is asked for."""
    untimed: bool = False
    """True: the cases are only called, for `bench.measure.engine.passes.nccl_choices`, and not measured."""
    asked_at_seconds: float | None = None
    """Time at which `seconds_left` was counted, on the monotonic clock of rank 0's host: ranks start slowly."""
    known: dict[int, VisitCost] = field(default_factory=dict)
    """Index of a case -> cost in earlier launches."""

    def remaining_seconds(self) -> float | None:
        """Return the rest of `seconds_left` on rank 0; only its answer counts."""
        if self.seconds_left is None or self.asked_at_seconds is None:
            return self.seconds_left
        return self.seconds_left - (clock.monotonic_seconds() - self.asked_at_seconds)

    @property
    def prefix(self) -> str:
        """Prefix of this generation's keys in the store."""
        return f"bench/generation{self.generation}"

    def to_text(self) -> str:
        fields = dict(self.__dict__)
        known = {index: asdict(cost) for index, cost in self.known.items()}
        return json.dumps(fields | {"plan": self.plan.to_json(), "known": known})

    @staticmethod
    def from_text(text: str | bytes) -> Session:
        fields = json.loads(text)
        fields["plan"] = Plan.from_json(fields["plan"])
        fields["pending"] = tuple((index, visit) for index, visit in fields["pending"])
        fields["known"] = {int(index): VisitCost(**cost) for index, cost in fields["known"].items()}
        return Session(**fields)


def case_record(
    plan: Plan,
    case: PlannedCase,
    launch: int,
    status: str,
    reason: str | None,
    started: str,
    visit: int = 0,
    **fields: Any,
) -> dict[str, Any]:
    """A measurement line of the result file; see `bench.records.file` for its schema. What is not given is null."""
    facts = next(s for s in plan.suites if s.name == case.suite)
    empty: Mapping[str, Any] = {
        "variants": {},
        "check": None,
        "work": None,
        "derived": {},
        "metrics": {name: [row.unit, row.better] for name, row in facts.metrics.items()},
        "stop": None,
        "spans": [],
        "traced_call_ns": [],
        "per_rank": [],
        "tables": {},
        "notes": [],
        "seconds": None,
    }
    return {
        "kind": "measurement",
        "launch": launch,
        "visit": visit,
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
