"""A rank's main: join, load the suites, do the pending cases, and let rank 0 say what came out.

The same loop runs in processes that `bench run` started and in those that torchrun, Slurm or a user started; what
differs (who writes the file, what happens when a generation breaks) is in `bench.measure.launch.supervisor` and
`bench.measure.launch.attached`.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.core import clock
from bench.errors import BenchError
from bench.measure.engine import control, emulation, gpu_claims
from bench.measure.engine.case_run import CaseRun
from bench.measure.engine.consensus import Poll, case_key
from bench.measure.engine.passes import nccl_choices, torch_profile
from bench.measure.engine.rank import RankContext, device_is_busy, open_groups, take_device
from bench.measure.engine.store import Store, with_prefix
from bench.measure.engine.timing.calibration import Calibration, calibrate
from bench.measure.engine.timing.case_cost import UNLIMITED, Allowance, Postponement
from bench.measure.engine.timing.stop_rule import MIN_ROUNDS, MIN_VISIT_ROUNDS, Limits
from bench.measure.launchers.place import Place
from bench.measure.planning.events import (
    CaseBegun,
    ChoicesSeen,
    Emit,
    Recorded,
    TimeLeft,
    TurnPutOff,
    TurnsLeftOut,
)
from bench.measure.planning.plan import Plan, Turn
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.session import Session, case_record
from bench.measure.planning.suite_loader import Suite, load_all
from bench.measure.planning.time_budget import NextTurn, TimeBudget
from bench.measure.planning.visit_overhead import CLOSING_SECONDS, VisitCost
from bench.measure.system import devices, energy, environment
from bench.measure.system.host import describe_host, usable_cores
from bench.records.lines import decoding
from bench.records.lines.header import HostFacts, RankFacts
from bench.records.visits import is_disturbed

if TYPE_CHECKING:
    from bench.measure.engine.watchdog import Watchdog
    from bench.records.lines.header import Environment
    from bench.records.lines.kinds import Measurement

LEAST_TIMEOUT_SECONDS = 5.0
"""A case that was begun has this much in any case: what it takes is only guessed, and the machine may be busy."""
GROUP_TIMEOUT_FACTOR = 3.0
"""The process groups' own time-out must not fire before the watchdog has said which rank is missing."""


@dataclass
class Generation:
    """One rank's part in one generation of processes."""

    session: Session
    rank: RankContext
    suites: dict[str, Suite]
    store: Store
    watchdog: Watchdog
    host: str
    emit: Emit
    idle: energy.Idle = field(default_factory=energy.Idle)
    calibration: Calibration | None = None
    """The harness's own kernels; None: no case is timed, or none was so far."""
    calls: dict[str, dict[str, int]] = field(init=False)
    """Case id -> variant -> calls in a sample, as chosen at the first visit."""
    broken_suites: dict[str, str] = field(default_factory=dict)
    """Suite that breaks its contract -> how; its further cases are not tried. Agreed by all ranks."""

    def run(self) -> bool:
        """Do what is pending; True when all is done, False if this generation must end before that.

        Raises Broken if the ranks cannot meet any more.
        """
        plan, session = self.session.plan, self.session
        self.calls = dict(session.calls)
        # Of the device alone: what holds the rank would hold its groups, which a broken case has to let go of.
        self.watchdog.watch_device(partial(device_is_busy, self.rank.device))
        if session.untimed:
            return self._run_untimed()
        self.watchdog.restart(plan.timeout_seconds)
        self.watchdog.enter("calibration")
        self.calibration = calibrate(self.rank)
        suites = [case.suite for case in plan.cases]
        cap = plan.case_seconds / plan.visits
        left = session.remaining_seconds()
        budget = TimeBudget(
            left, cap, session.pending, suites, plan.visits, lasts=plan.min_turn_seconds, known=session.known
        )
        while (agreement := self._agree_on_turn(budget)) is not None:
            choice, timeout_seconds = agreement
            outcome, sound = self._run_turn(choice, timeout_seconds, budget)
            self._account(budget, choice, outcome)
            if not sound:
                return False
        self._emit_left_out(budget.undone_turns())
        return True

    def _agree_on_turn(self, budget: TimeBudget) -> tuple[NextTurn, float] | None:
        """Return rank 0's next turn and its time-out on all ranks; only rank 0's `budget` is kept up."""
        self.watchdog.restart(self.session.plan.timeout_seconds)
        self.watchdog.enter("between cases")
        choice = budget.choose() if self.rank.index == 0 else None
        # Microseconds, or -1 for the end and for no limit: whole numbers travel exactly.
        numbers = [0, 0, -1, 0, 0, -1, -1]
        if choice is not None:
            limit = timeout_seconds(self.session.plan, budget.seconds_left(), choice)
            numbers = [*choice.turn, _micro(choice.seconds), int(choice.is_dear), _micro(limit)]
            numbers += [_micro(choice.most_seconds), _micro(choice.aim_seconds)]
        index, visit, seconds, is_dear, limit, most, aim = control.broadcast_numbers(self.rank, numbers)
        if seconds < 0:
            return None
        return NextTurn((index, visit), seconds / 1e6, _seconds(most), _seconds(aim), bool(is_dear)), limit / 1e6

    def _run_turn(
        self, choice: NextTurn, timeout_seconds: float, budget: TimeBudget
    ) -> tuple[Measurement | Postponement, bool]:
        """The measurement line of one visit to a case, whole on rank 0, and whether this generation can go on."""
        plan, (index, visit) = self.session.plan, choice.turn
        case = plan.cases[index]
        if case.suite in self.broken_suites:
            reason = self.broken_suites[case.suite]
            return case_record(plan, case, self.session.launch, "failed", reason, clock.stamp(), visit), True
        self.watchdog.restart(min(plan.timeout_seconds, timeout_seconds), timeout_seconds)
        if self.rank.index == 0:
            expected_seconds = budget.turn_seconds(choice)
            self.emit(CaseBegun(index, visit, timeout_seconds, _time_left(budget), expected_seconds))
        run = self._case_run(choice.turn, Allowance(choice.most_seconds, choice.aim_seconds, choice.is_dear))
        least = max(MIN_VISIT_ROUNDS, -(-MIN_ROUNDS // plan.visits))
        outcome, sound = run.record(Limits(plan.precision, choice.seconds, min_rounds=least))
        if run.calls is not None:
            self.calls[case.id] = run.calls
        if run.breaks_contract and not isinstance(outcome, Postponement):
            self.broken_suites[case.suite] = outcome.reason or ""
        return outcome, sound

    def _account(self, budget: TimeBudget, choice: NextTurn, outcome: Measurement | Postponement) -> None:
        """Report a turn's outcome from rank 0, to the file and to the time budget of the turns left."""
        if self.rank.index != 0:
            return
        index, visit = choice.turn
        if isinstance(outcome, Postponement):
            dropped = budget.put_off(choice.turn, outcome.dear_seconds)
            self.emit(TurnPutOff(index, visit, _time_left(budget)))
            self._emit_left_out(dropped)
            return
        measured, seconds = outcome.status == "ok", outcome.seconds or 0.0
        around = budget.finish(choice.turn, seconds, choice.seconds, is_disturbed(outcome), measured)
        dropped = budget.give_up(index) if choice.is_dear or not measured else []
        cost = VisitCost(around, seconds if choice.is_dear else None)
        self.emit(Recorded(index, msgspec.Raw(decoding.encode(outcome)), cost, _time_left(budget)))
        if measured:
            self._emit_left_out(dropped)

    def _case_run(self, turn: Turn, allowance: Allowance = UNLIMITED) -> CaseRun:
        plan, (index, visit) = self.session.plan, turn
        case = plan.cases[index]
        return CaseRun(
            rank=self.rank,
            plan=plan,
            case=case,
            suite=self.suites[case.suite],
            launch=self.session.launch,
            visit=visit,
            poll=Poll(self.rank, self.store, self.session.prefix, case_key(turn), again=allowance.is_dear),
            watchdog=self.watchdog,
            host=self.host,
            calls=self.calls.get(case.id),
            idle=self.idle,
            calibration=self.calibration,
            allowance=allowance,
            trace_path=self._trace_path(turn),
        )

    def _trace_path(self, turn: Turn) -> Path | None:
        """Return the file for this rank's trace of a turn; one per case is enough."""
        session, (index, visit) = self.session, turn
        if session.profile is None or session.launch or visit:
            return None
        return Path(session.profile) / torch_profile.trace_name(index, session.plan.cases[index].id, self.rank.index)

    def _run_untimed(self) -> bool:
        """The pass that asks NCCL for its choices; True also if its time was up before the last case."""
        file = nccl_choices.DebugFile.of_process(os.environ, os.getpid())
        left = self.session.remaining_seconds()
        ends = None if left is None else clock.monotonic_seconds() + left
        for turn in self.session.pending:
            self.watchdog.restart(self.session.plan.timeout_seconds)
            self.watchdog.enter("between cases")
            late = ends is not None and clock.monotonic_seconds() > ends
            if control.broadcast_numbers(self.rank, [int(late)])[0]:
                break
            texts, sound = self._case_run(turn).call_untimed(file.new)
            if texts is not None and self.rank.index == 0:
                case = self.session.plan.cases[turn[0]]
                self.emit(ChoicesSeen(nccl_choices.choices_record(case.id, *texts, file.whole())))
            if not sound:
                return False
        return True

    def _emit_left_out(self, turns: list[Turn]) -> None:
        if turns and self.rank.index == 0:
            self.emit(TurnsLeftOut(self.session.launch, tuple(turns)))


def _time_left(budget: TimeBudget) -> TimeLeft:
    """Estimate on rank 0 the time left of this launch, of a whole launch, and of the end of the run."""
    closing = CLOSING_SECONDS * max(1.0, budget.overheads.machine_factor())
    return TimeLeft(budget.expected_seconds(), budget.whole_launch_seconds(), closing)


def timeout_seconds(plan: Plan, seconds_left: float | None, choice: NextTurn) -> float:
    """Time after which a turn counts as hung: the plan's time-out and the turn's own request.

    Never above the time left of the run; all of it for an expensive case, of which it is known that it takes long.
    """
    whole = plan.whole_timeout(choice.turn)
    left = whole if seconds_left is None else max(LEAST_TIMEOUT_SECONDS, seconds_left)
    return left if choice.is_dear else min(whole, left)


def _micro(seconds: float | None) -> int:
    return -1 if seconds is None else max(0, round(seconds * 1e6))


def _seconds(micro: int) -> float | None:
    return None if micro < 0 else micro / 1e6


def host_name() -> str:
    return socket.gethostname()


def apply_settings(threads_per_rank: int | None) -> None:
    """Set the switches that change speed alike under every launcher; `environment.settings` records them."""
    import torch

    if threads_per_rank is not None:
        torch.set_num_threads(threads_per_rank)
    # float32 means float32: TF32 is a type of its own, not a silent default.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def join(session: Session, place: Place, store: Store) -> RankContext:
    """This rank's process groups and settings. Raises BenchError on every rank if two share a GPU."""
    plan = session.plan
    apply_settings(plan.threads_per_rank)
    device = take_device(place, plan.device_type)
    if device.type != "cpu":
        uuid, _ = devices.gpu_addresses(device)
        gpu_claims.refuse_shared(with_prefix(session.prefix, store), place, host_name(), uuid)
    rank = open_groups(
        place,
        # Memory is asked again before every case.
        place.machine(plan.device_type, PRESETS[plan.preset].of_suites, usable_cores(), memory_bytes=0),
        plan.backend,
        with_prefix(session.prefix, store),
        plan.timeout_seconds * GROUP_TIMEOUT_FACTOR + 60.0 + plan.max_extra_seconds,
        plan.seed,
    )
    # Hosts may have unequal numbers of ranks; suites must see one number, or they would build unlike cases.
    most = control.maxima(rank, [place.local_world_size])[0]
    rank.machine = replace(rank.machine, ranks_per_host=most)
    rank.pace = emulation.planned_rank_speed(plan, rank.index, rank.device)
    return rank


@dataclass(frozen=True)
class _Described:
    """Description of one rank, and of its host by the first rank there."""

    rank: RankFacts
    host_name: str
    host: HostFacts | None


def describe_all(rank: RankContext, host: str) -> Environment | None:
    """The environment of every rank, on rank 0, for the header."""
    facts = environment.describe_rank(rank.device, rank.place)
    facts = msgspec.structs.replace(facts, **emulation.rank_speeds(rank.pace)._asdict())
    own = _Described(facts, host, describe_host() if rank.local_index == 0 else None)
    gathered = control.all_gather(rank, own, _Described)
    if rank.index != 0:
        return None
    hosts = {each.host_name: each.host for each in gathered if each.host is not None}
    return environment.collect([each.rank for each in gathered], hosts)


def load_suites(session: Session) -> dict[str, Suite]:
    """The plan's suites in this process. Raises BenchError if their code is not what was planned."""
    suites = {suite.name: suite for suite in load_all(facts.reference for facts in session.plan.suites)}
    for facts in session.plan.suites:
        if suites[facts.name].digest != facts.digest:
            raise BenchError(f"suite {facts.name} changed while the run was going on; start it again")
    return suites
