"""The Plan: frozen plain data that every rank receives; presets, `--set` and `--case` become cases here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from bench.errors import BenchError
from bench.measure.planning.visit_overhead import guess_overhead
from bench.records.lines.header import PlannedCase, PlanRow, SuiteFacts

Turn = tuple[int, int]
"""A case's index in the plan, and the number of the visit to it within a launch, from 0."""


@dataclass(frozen=True)
class Plan:
    """The frozen decisions on what is measured and how. Equal plans give equal cases."""

    preset: str
    suites: tuple[SuiteFacts, ...]
    cases: tuple[PlannedCase, ...]
    """The most informative first."""
    left_out: tuple[PlannedCase, ...]
    """Cases that did not fit the budget."""
    world_size: int
    device_type: str
    backend: str
    launches: int
    case_seconds: float
    budget_seconds: float | None
    timeout_seconds: float
    precision: float
    seed: int
    threads_per_rank: int | None
    """Threads of each rank's CPU kernels; None: as torch chooses."""
    label: str
    visits: int = 1
    """Visits of a launch to a case, each for an equal share of its samples; 1 in files older than visits."""
    slow: tuple[tuple[int, float], ...] = ()
    """(rank, share of its speed): emulated, see `bench.measure.engine.emulation`."""
    slow_links: tuple[tuple[int, float], ...] = ()
    """(rank, share of its communication's speed), emulated likewise."""
    options: dict[str, Any] = field(default_factory=dict)
    """The command's options as given, for the record and for `--like`."""

    def row(self) -> PlanRow:
        """The plan as a header has it."""
        return msgspec.convert(self, PlanRow, from_attributes=True)

    @staticmethod
    def from_row(row: PlanRow) -> Plan:
        """Raises BenchError for a row that lacks something, as those of other tools' files and of other versions do."""
        try:
            plan = msgspec.convert(row, Plan, from_attributes=True)
        except msgspec.ValidationError as error:
            raise BenchError(f"the file's plan cannot be read ({error}); it was written by another version") from error
        # The digest of files before version 0.2.0 was of other files of the suite.
        return replace(plan, suites=tuple(msgspec.structs.replace(suite, sha256=None) for suite in plan.suites))

    def order(self, launch: int) -> list[Turn]:
        """The turns of a launch: every case once, then once more, ...

        The first launch begins with one case of each suite, cheap ones first, and goes on in the order of what they
        tell: a user who waits has an answer early. Further rounds are shuffled by the recorded seed, since foreign load
        comes in spells of seconds. Cases that are to last are visited once, at the end: they heat the machine.
        """
        turns: list[Turn] = []
        for visit in range(self.visits):
            indices = self._spread() if not launch and not visit else list(range(len(self.cases)))
            if launch or visit:
                random.Random(f"{self.seed}/{launch}/{visit}").shuffle(indices)
            turns += [(index, visit) for index in indices if not visit or not self.cases[index].min_seconds]
        return sorted(turns, key=lambda turn: self.min_turn_seconds(turn) > 0)

    def _spread(self) -> list[int]:
        """Indices of the cases: the first of each suite, by what it is guessed to take, then the rest as planned."""
        suites = [case.suite for case in self.cases]
        first = sorted(
            (suites.index(suite) for suite in dict.fromkeys(suites)), key=lambda i: guess_overhead(suites[i])
        )
        return first + [index for index in range(len(suites)) if index not in first]

    @property
    def max_extra_seconds(self) -> float:
        """Longest time that any case asks for, for which time-outs leave room."""
        return max((case.min_seconds + case.prepare_seconds for case in self.cases), default=0.0)

    def extra_turn_seconds(self, turn: Turn) -> float:
        """Return the time that one turn asks for."""
        return self.min_turn_seconds(turn) + self.cases[turn[0]].prepare_seconds

    def whole_timeout(self, turn: Turn | None) -> float:
        """The time-out with what a turn asks for besides; None: with the most that any asks for."""
        return self.timeout_seconds + (self.max_extra_seconds if turn is None else self.extra_turn_seconds(turn))

    def min_turn_seconds(self, turn: Turn) -> float:
        """Seconds for which a turn is sampled at least, whatever the preset says."""
        index, visit = turn
        return 0.0 if visit else self.cases[index].min_seconds
