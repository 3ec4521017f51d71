"""One generation of ranks: the cases that it has to do, and the form of what it measures.

A *launch* measures all cases in fresh processes, in one or more *visits* to each, spread over the launch. Where
processes end early (a raise, a kill, a hang), another *generation* of them goes on with what is left of the launch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from bench.core import clock
from bench.measure.planning.plan import Plan, Turn
from bench.measure.planning.visit_overhead import VisitCost
from bench.records.lines.header import PlannedCase
from bench.records.lines.kinds import Measurement
from bench.records.lines.parts import Status


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
    """Case id -> variant -> calls in a sample, if an earlier visit of this launch chose them: all keep to that."""

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
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_text(text: str | bytes) -> Session:
        return msgspec.json.decode(text, type=Session)


def case_record(
    plan: Plan,
    case: PlannedCase,
    launch: int,
    status: Status,
    reason: str | None,
    started: str,
    visit: int = 0,
) -> Measurement:
    """A measurement line of the result file that knows nothing of samples yet."""
    facts = next(s for s in plan.suites if s.name == case.suite)
    return Measurement(
        launch=launch,
        visit=visit,
        suite=case.suite,
        case=case.id,
        params=dict(case.params),
        status=status,
        reason=reason,
        num_ranks=plan.world_size,
        started=started,
        variants={},
        check=None,
        work=None,
        stop=None,
        derived={},
        metrics={name: (row.unit, row.better) for name, row in facts.metrics.items()},
        notes=[],
    )


BUDGET_REASON = "budget: no time was left for it; give more with --budget"
