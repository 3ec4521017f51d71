"""Votes of the ranks after each phase of a case: one failure, skip or refusal holds everywhere.

Before ranks meet on the control group they announce themselves in the store. A rank whose code raised can so see
whether its peers will come: if they do not (they wait for it inside a collective), the generation is over. The rank
then leaves its groups, by ending or by `bench.measure.engine.rank.leave_groups`, which sets the others free.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bench.core.clock import monotonic_seconds
from bench.measure.engine import control

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.measure.engine.store import Store
    from bench.measure.planning.plan import Turn

GRACE_SECONDS = 2.0
"""Time for which a rank whose code raised waits for its peers before it treats them as stuck."""


class PhaseOutcome(IntEnum):
    """A rank's vote on a phase; the highest holds for all."""

    OK = 0
    SKIP = 1
    INVALID = 2
    RAISED = 3
    CONTRACT = 4
    """A function of the suite returned something else than its contract says; so it will in its other cases."""


@dataclass(frozen=True)
class Agreement:
    """The result of a vote, equal on all ranks."""

    verdict: PhaseOutcome
    reason: str | None
    sound: bool
    """False if only some ranks raised: messages may be left over, so this generation of processes must end."""


class Broken(Exception):  # noqa: N818 - not an error of ours: the generation of processes is over
    """The ranks cannot meet any more; the first error in the store says why."""


class Poll:
    """Votes of one rank during one case; `again`: the second time that it is taken up."""

    def __init__(self, rank: RankContext, store: Store, prefix: str, case: str, again: bool = False) -> None:
        self.rank = rank
        self.store = store
        self.prefix = prefix
        self.case = case
        self._round = f"{case}.again" if again else case  # who came the first time is not there yet

    def agree(self, phase: str, verdict: PhaseOutcome, reason: str | None = None) -> Agreement:
        """The ranks' common verdict on a phase. Raises Broken if they cannot meet."""
        if self.rank.world_size == 1:
            return Agreement(verdict, reason, sound=True)
        key = f"{self.prefix}/{self._round}/{phase}"
        self.store.add(key, 1)
        if verdict >= PhaseOutcome.RAISED:
            post_error(self.store, self.prefix, self.case, reason or "")
            if not self._all_arrive(key):
                raise Broken(reason)
        try:
            if control.maxima(self.rank, [int(verdict)])[0] == PhaseOutcome.OK:
                return Agreement(PhaseOutcome.OK, None, sound=True)
            votes = control.all_gather_json(self.rank, [int(verdict), reason])
        except RuntimeError as error:
            raise Broken(str(error)) from error
        worst = PhaseOutcome(max(vote[0] for vote in votes))
        reasons = [vote[1] for vote in votes if vote[0] == worst and vote[1]]
        raised = sum(vote[0] == PhaseOutcome.RAISED for vote in votes)
        return Agreement(worst, reasons[0] if reasons else None, sound=raised in (0, len(votes)))

    def _all_arrive(self, key: str) -> bool:
        deadline = monotonic_seconds() + GRACE_SECONDS
        while monotonic_seconds() < deadline:
            if self.store.add(key, 0) >= self.rank.world_size:
                return True
            time.sleep(0.05)
        return False


START = "start"
"""Stands for a case if none has begun."""
FELL = "fell"
"""Stands for a case if a rank was ended by an unforeseen error, whatever it was at."""


def case_key(turn: Turn | None) -> str:
    """A turn's name in the store; None: no case has begun."""
    return START if turn is None else f"case{turn[0]}.{turn[1]}"


def post_error(store: Store, prefix: str, case: str, reason: str) -> None:
    """Keep an error in the order in which errors came: the first is the cause, later ones are its consequences.

    Each case has its own: what all ranks raised alike breaks no generation, and is not a cause of what breaks it later.
    """
    number = store.add(f"{prefix}/{case}/errors", 1)
    store.set(f"{prefix}/{case}/errors/{number}", json.dumps(reason))


def first_error(store: Store, prefix: str, case: str) -> str | None:
    """The error that came first in a case of a generation, if there was one."""
    if store.add(f"{prefix}/{case}/errors", 0) < 1:
        return None
    text: str = json.loads(store.get(f"{prefix}/{case}/errors/1"))
    return text
