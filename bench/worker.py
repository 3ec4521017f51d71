"""A rank's main: join, load the suites, do the pending cases, and let rank 0 say what came out.

The same loop runs in processes that `bench run` started and in those that torchrun, Slurm or a user started; what
differs (who writes the file, what happens when a generation breaks) is in `bench.supervisor` and `bench.joined`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench import clock, control, environment
from bench.case import CaseRun
from bench.errors import BenchError
from bench.measure import Limits
from bench.rank import Place, RankContext, open_groups
from bench.session import BUDGET_REASON, Emit, Session, case_record
from bench.store import Store, under
from bench.suite import Suite, load_all
from bench.vote import Poll

if TYPE_CHECKING:
    from bench.watchdog import Watchdog

GROUP_TIMEOUT_FACTOR = 3.0
"""The process groups' own time-out must not fire before the watchdog has said which rank is missing."""
MIN_SAMPLING_SECONDS = 0.03
FIRST_OVERHEAD_SECONDS = 0.3
LEARNING_SHARE = 0.3


class Pace:
    """Shares what time is left among the cases that are left; only rank 0's counts.

    What a case takes besides its samples (prepare, check, warm-up, trace) is learnt on the way, suite by suite.
    """

    def __init__(self, seconds_left: float | None, cap_seconds: float, suites: Sequence[str]) -> None:
        self.cap_seconds = cap_seconds
        self.left = list(suites)
        self.overhead_seconds = dict.fromkeys(suites, FIRST_OVERHEAD_SECONDS)
        self._ends = None if seconds_left is None else clock.monotonic_seconds() + seconds_left

    def sampling_seconds(self) -> float | None:
        """Seconds of samples for the next case; None: no time is left for it."""
        if self._ends is None:
            return self.cap_seconds
        left = self._ends - clock.monotonic_seconds()
        if left <= 0:
            return None
        around = sum(self.overhead_seconds[suite] for suite in self.left)
        return max(MIN_SAMPLING_SECONDS, min(self.cap_seconds, (left - around) / len(self.left)))

    def finished(self, case_seconds: float, sampling_seconds: float) -> None:
        """The next case is done; it took so long, of which so much was meant for its samples."""
        suite = self.left.pop(0)
        extra = max(0.0, case_seconds - sampling_seconds)
        self.overhead_seconds[suite] += LEARNING_SHARE * (extra - self.overhead_seconds[suite])


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

    def run(self) -> bool:
        """Do the pending cases; True when all are done, False where this generation must end before that.

        Raises Broken where the ranks cannot meet any more.
        """
        plan, pending = self.session.plan, self.session.pending
        pace = Pace(self.session.seconds_left, plan.case_seconds, [plan.cases[index].suite for index in pending])
        for index in pending:
            self.watchdog.restart()
            self.watchdog.enter("between cases")
            seconds = pace.sampling_seconds()
            # Microseconds, or -1 for no time left: whole numbers travel exactly.
            micro = control.broadcast_numbers(self.rank, [-1 if seconds is None else round(seconds * 1e6)])[0]
            if micro < 0:
                self._say_left_out(index)
                pace.finished(0.0, 0.0)
                continue
            began = clock.monotonic_seconds()
            sound = self._run_case(index, Limits(plan.precision, micro / 1e6))
            pace.finished(clock.monotonic_seconds() - began, micro / 1e6)
            if not sound:
                return False
        return True

    def _run_case(self, index: int, limits: Limits) -> bool:
        plan, case = self.session.plan, self.session.plan.cases[index]
        self._say({"event": "case", "index": index})
        run = CaseRun(
            rank=self.rank,
            plan=plan,
            case=case,
            suite=self.suites[case.suite],
            launch=self.session.launch,
            poll=Poll(self.rank, self.store, self.session.prefix, f"case{index}"),
            watchdog=self.watchdog,
            host=self.host,
        )
        record, sound = run.record(limits)
        self._say({"event": "record", "index": index, "record": record})
        return sound

    def _say_left_out(self, index: int) -> None:
        case = self.session.plan.cases[index]
        record = case_record(self.session.plan, case, self.session.launch, "skipped", BUDGET_REASON, clock.stamp())
        self._say({"event": "record", "index": index, "record": record})

    def _say(self, event: dict[str, Any]) -> None:
        if self.rank.index == 0:
            self.emit(event)


def host_name() -> str:
    return socket.gethostname()


def apply_settings(threads_per_rank: int | None) -> None:
    """Set what changes speed the same way under every launcher; `environment.settings` records it."""
    import torch

    if threads_per_rank is not None:
        torch.set_num_threads(threads_per_rank)
    # float32 means float32: TF32 is a type of its own, not a silent default.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def join(session: Session, place: Place, store: Store) -> RankContext:
    """This rank's process groups and settings."""
    plan = session.plan
    apply_settings(plan.threads_per_rank)
    rank = open_groups(
        place,
        # Memory is asked anew before every case.
        place.machine(plan.device_type, plan.preset, environment.usable_cores(), memory_bytes=0),
        plan.backend,
        under(session.prefix, store),
        plan.timeout_seconds * GROUP_TIMEOUT_FACTOR + 60.0,
        plan.seed,
    )
    # Hosts may have unequal numbers of ranks; suites must see one number, or they would build unlike cases.
    most = control.maxima(rank, [place.local_world_size])[0]
    rank.machine = replace(rank.machine, ranks_per_host=most)
    return rank


def describe_all(rank: RankContext, host: str) -> dict[str, Any] | None:
    """The environment of every rank, on rank 0, for the header.

    Raises BenchError on every rank where two share a GPU.
    """
    own = environment.describe_rank(rank.device, rank.place)
    hosts = environment.describe_host() if rank.local_index == 0 else None
    gathered = control.all_gather_json(rank, {"rank": own, "host_name": host, "host": hosts})
    ranks = [each["rank"] for each in gathered]
    seen: dict[tuple[str, str], int] = {}
    for index, each in enumerate(ranks):
        uuid = each.get("uuid")
        if uuid and seen.setdefault((each["host"], uuid), index) != index:
            raise BenchError(
                f"ranks {seen[(each['host'], uuid)]} and {index} were given one GPU ({uuid}); "
                "start one rank a GPU, each with its own LOCAL_RANK"
            )
    if rank.index != 0:
        return None
    described = {each["host_name"]: each["host"] for each in gathered if each["host"] is not None}
    return environment.collect(ranks, described)


def load_suites(session: Session) -> dict[str, Suite]:
    """The plan's suites in this process. Raises BenchError where their code is not what was planned."""
    suites = {suite.name: suite for suite in load_all(facts.reference for facts in session.plan.suites)}
    for facts in session.plan.suites:
        if suites[facts.name].sha256 != facts.sha256:
            raise BenchError(f"suite {facts.name} changed while the run was going on; start it again")
    return suites
