"""The start of a joined run: the ranks meet, agree, and get the session of their first cases from rank 0.

Rank 0 plans and writes the file's header before it waits for other ranks, so that the file says why a run never began.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.core import clock, exit_codes
from bench.core.crash.unforeseen import UnforeseenTold, code_of
from bench.errors import BenchError
from bench.measure.engine.store import Store, StoreLost, StoreTimeout
from bench.measure.joining import agreement
from bench.measure.joining.agreement import CommonFacts
from bench.measure.joining.meeting import Meeting, RefusedError
from bench.measure.joining.roll import name_ranks
from bench.measure.joining.start_guard import StartGuard
from bench.measure.launch.recorder import Recorder
from bench.measure.launch.relaunch import Continuation
from bench.measure.launchers import endpoint
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.plan import Plan
from bench.measure.planning.session import Session

END_RESERVE_SECONDS = 1.0


@dataclass(frozen=True)
class JoinedJob:
    """Parts of `bench run` that a joined run calls, and its limits."""

    open_run: Callable[[Place], Recorder]
    """Rank 0's: a recorder with a plan for the place that it most likely has, on a file with a header. May raise."""
    settle: Callable[[Recorder, Place, Sequence[str], Store], None]
    """Rank 0's, once all are there: makes the plan and the findings fit the hosts. May raise BenchError."""
    look: Callable[[Place, Sequence[str], Store], None]
    """Every rank's: looks at its host, and publishes the work of others there. May raise BenchError."""
    reach: Callable[[Place, Sequence[str], Store], str | None]
    """Every rank's, at once: the complaint about hosts that do not reach each other, the same on all; None: they do."""
    gather_facts: Callable[[Plan], CommonFacts]
    """Every rank's: its facts that have to be alike everywhere. May raise BenchError."""
    close: Callable[[Recorder, int], int]
    """Rank 0's: prints the last screen of a run with an exit code."""
    limit_seconds: float
    """Limit of the meeting, and of the agreement."""
    allow_unlike: bool
    continuation: Continuation
    began: float
    """Start of the job on this host's monotonic clock."""
    process_began: float
    """Start of this process on the same clock."""

    @property
    def refused_code(self) -> int:
        """Exit code if the ranks do not come together: what earlier launches measured is kept."""
        return exit_codes.PARTIAL if self.continuation.number else exit_codes.USAGE


class JoinedStart:
    """One rank's way from its first contact to its session; `on_trouble` ends the rank, on a thread."""

    def __init__(
        self, meeting: Meeting, joined: LauncherRank, job: JoinedJob, on_trouble: Callable[[str | None], None]
    ) -> None:
        self.meeting = meeting
        self.joined = joined
        self.job = job
        self.say = meeting.say
        self._on_trouble = on_trouble
        self.recorder: Recorder | None = None
        self.place: Place | None = None
        self.hosts: list[str] = []

    def run(self) -> Session:
        """The session; raises BenchError: a RefusedError if rank 0 says it to the user, another if this rank must."""
        try:
            self.meeting.open()
        except StoreLost as error:
            raise BenchError(f"the ranks cannot meet at {self.meeting.where}: {error}; start them again") from error
        try:
            return self._lead() if self.joined.index == 0 else self._follow()
        except (StoreLost, StoreTimeout) as error:
            reason = self._silence(error)
            self._end(reason)
            raise BenchError(reason) from error

    def _silence(self, error: StoreLost | StoreTimeout) -> str:
        """Report of a rank that waits for another one in vain before all have agreed."""
        if isinstance(error, StoreLost):
            return (
                f"the store at {self.meeting.where} went away before the ranks had agreed ({error}); look at the "
                "output of rank 0 and of the launcher"
            )
        named = re.search(r"/(\d+)\W*$", str(error))  # the key that nobody set ends in the rank that should
        who = name_ranks([int(named[1]) if named else 0], dict(enumerate(self.hosts)))
        return f"{who} came and has said nothing since; look at its output, or give it longer with --join-timeout"

    def _lead(self) -> Session:
        try:
            with UnforeseenTold(StoreLost, StoreTimeout):
                self.recorder = self.job.open_run(expected_place(self.joined))
                self.hosts = self.meeting.call_roll()
        except BenchError as error:
            self._end(str(error))
            self._complain(error)
            self.meeting.refuse(str(error), is_mistake=self.recorder is None)
            raise RefusedError(str(error)) from error
        self.meeting.give_word(self.hosts)
        with self._guard() as guard:
            try:
                with UnforeseenTold(StoreLost, StoreTimeout):
                    session = self._settle(self.recorder)
            except BenchError as error:
                guard.close()
                self._end(str(error))
                self._complain(error)
                guard.fail(str(error))
                self.meeting.linger()
                raise RefusedError(str(error)) from error
            guard.ready()
            return session

    def _guard(self) -> StartGuard:
        """The guard of the agreement, in which rank 0 ends its own waiting first."""
        limit = self.job.limit_seconds
        return StartGuard(self.meeting.store, self.meeting.again(limit), 2 * limit, "agreement", self._on_trouble)

    def _settle(self, recorder: Recorder) -> Session:
        """Look at all hosts, fix the plan, and see that all ranks agree on it."""
        store, deadline = self.meeting.store, clock.monotonic_seconds() + self.job.limit_seconds
        place = self._take_place()
        self._post("look", self._look)
        agreement.collect_facts(store, "look", self.hosts, deadline, check=lambda facts, hosts: None)
        complaint = self.job.reach(place, self.hosts, store)
        if complaint is not None:
            raise BenchError(complaint)
        self.job.settle(recorder, place, self.hosts, store)
        session = self._session(recorder)
        store.set("session", session.to_text())
        self._post("facts", lambda: self.job.gather_facts(session.plan))
        check = agreement.refuse_differences(self.job.allow_unlike, lambda text: self.say(f"warning: {text}"))
        agreement.collect_facts(store, "facts", self.hosts, deadline, check)
        return session

    def _session(self, recorder: Recorder) -> Session:
        """The session of the first launch of which anything is pending."""
        plan, seconds = recorder.plan, clock.monotonic_seconds() - self.job.began
        launch = next((n for n in range(plan.launches) if recorder.pending(n)), plan.launches - 1)
        left = None if plan.budget_seconds is None else plan.budget_seconds - END_RESERVE_SECONDS - seconds
        recorder.launches_left = plan.launches - launch - 1
        recorder.startup_seconds = clock.monotonic_seconds() - self.job.process_began
        return Session(
            plan=plan,
            generation=0,
            launch=launch,
            pending=recorder.pending(launch),
            seconds_left=None if left is None else left / (plan.launches - launch),
            calls=recorder.calls(launch),
            profile=recorder.profile,
            known=recorder.known,
        )

    def _follow(self) -> Session:
        self.hosts = self.meeting.wait_for_word()
        place = self._take_place()
        store, limit = self.meeting.store, 2 * self.job.limit_seconds
        with self._guard() as guard:
            self._post("look", self._look)
            self.job.reach(place, self.hosts, store)  # rank 0 says it
            session = Session.from_text(store.get("session", limit))
            self._post("facts", lambda: self.job.gather_facts(session.plan))
            guard.wait()
        return session

    def _take_place(self) -> Place:
        self.place = find_place(self.joined, self.hosts)
        return self.place

    def _look(self) -> CommonFacts:
        assert self.place is not None
        self.job.look(self.place, self.hosts, self.meeting.store)
        return CommonFacts()

    def _post(self, stage: str, gather: Callable[[], CommonFacts]) -> None:
        """Hand the facts of a stage, or the error of this rank, to rank 0, which ends the run for all then."""
        try:
            with UnforeseenTold(StoreLost, StoreTimeout):
                facts = gather()
        except BenchError as error:
            facts = CommonFacts(error=str(error))
        agreement.post_facts(self.meeting.store, stage, self.joined.index, facts)

    @property
    def speaks(self) -> bool:
        """True for the first rank of another host than rank 0's: its user may look there alone."""
        return self.place is not None and self.place.local_index == 0 and self.place.host_index > 0

    def _complain(self, error: BenchError) -> None:
        """Say the reason for all ranks, before they are waited for."""
        self.say(f"bench: error: {error}")

    def _end(self, reason: str) -> None:
        """End the file, if it was begun."""
        if self.recorder is not None:
            self.recorder.trouble = reason
            self.recorder.end("failed", code_of(reason, self.job.refused_code))


def expected_place(joined: LauncherRank) -> Place:
    """Rank 0's place by what its launcher says, before the hosts of the others are known.

    Without a word on the ranks of a host: all of them if they meet on loopback, else one.
    """
    size = joined.local_world_size or (joined.world_size if endpoint.is_loopback(joined.address) else 1)
    return Place(
        index=joined.index,
        world_size=joined.world_size,
        local_index=joined.local_index or 0,
        local_world_size=size,
        num_hosts=-(-joined.world_size // size),
        device_index=joined.local_index,
    )


def find_place(joined: LauncherRank, hosts: Sequence[str]) -> Place:
    """This rank's place, from the host of every rank."""
    host = hosts[joined.index]
    siblings = [index for index, name in enumerate(hosts) if name == host]
    different = list(dict.fromkeys(hosts))
    return Place(
        index=joined.index,
        world_size=joined.world_size,
        local_index=siblings.index(joined.index),
        local_world_size=len(siblings),
        host_index=different.index(host),
        num_hosts=len(different),
        device_index=joined.local_index,
    )


def check_gpus(place: Place, num_visible: int, num_nodes_hint: str) -> None:
    """Raises BenchError if a node has more GPUs than ranks: half a node's figures would pass for the node's."""
    if num_visible > 1 and place.local_world_size < num_visible:
        raise BenchError(
            f"{place.local_world_size} rank(s) on {num_nodes_hint}, which has {num_visible} GPUs; start one per GPU: "
            f"torchrun --nproc-per-node={num_visible} --no-python bench run, or "
            f"srun --ntasks-per-node={num_visible} bench run (or hide the others with CUDA_VISIBLE_DEVICES)"
        )
