"""The meeting of a joined run: every rank reports to rank 0 through the store, within a limit of its own.

Each rank adds its arrival to a list, so that unexpected ranks are seen too: the same rank twice, or one beyond the
world size. Rank 0 reads the list, says who is missing, and gives every rank the same word in the end.
"""

from __future__ import annotations

import math
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bench.core import clock
from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.engine.store import Store, StoreLost, StoreTimeout, connect_store, hosted_store, with_prefix
from bench.measure.joining import addresses, roll
from bench.measure.joining.roll import Arrival
from bench.measure.launchers import endpoint

if TYPE_CHECKING:
    from bench.measure.launchers.place import LauncherRank

POLL_SECONDS = 0.05
KNOCK_SECONDS = 2.0
TWIN_SECONDS = 5.0
"""Time for another rank 0, which may have started at the same moment, to open its store."""
QUIET_SECONDS = 3.0
"""Ranks of one job start within seconds; rank 0 reports on a meeting that takes longer."""
REPEAT_SECONDS = 15.0
LATE_SECONDS = 8.0
"""Time for ranks that start later than rank 0 to hear that there is no run."""
LEAST_SECONDS = 1.5
"""Time that rank 0 waits with its store open, however long it took to start. It is shorter than FAREWELL_SECONDS, by
which the others wait longer than it."""
FAREWELL_SECONDS = 2.0
"""Time after a failed meeting for the ranks that are there to fetch its report."""
Say = Callable[[str], None]


class Word(Struct, frozen=True):
    """Rank 0's word to all ranks: where everyone is, or why there is no run."""

    hosts: list[str]
    """Host of every rank; of a run that is refused, of rank 0."""
    error: str | None = None
    is_mistake: bool = False
    """True for rank 0's own mistake, which every rank most likely makes: one message per host is enough."""


@dataclass
class Meeting:
    """One rank's part in the meeting number `number` of a job; later ones are for later launches."""

    joined: LauncherRank
    host: str
    number: int
    limit_seconds: float
    began: float
    """Time at which this rank began to run, on the monotonic clock."""
    say: Say
    known_hosts: Mapping[int, str] = field(default_factory=dict)
    """Rank -> host, as far as it is known before."""
    store: Store = field(init=False)
    side: Store = field(init=False)
    """A connection of its own for further threads: a client's calls queue up."""
    _opened: float = field(init=False, default=-math.inf)
    """Time at which this rank, as rank 0, opened its store."""
    _token: str = field(init=False, default_factory=lambda: uuid.uuid4().hex)
    _came: dict[int, Arrival] = field(init=False, default_factory=dict)
    """Number -> report, as far as they are read."""

    @property
    def where(self) -> str:
        """Rank 0's address as the user gave it."""
        return endpoint.spell(self.joined.address, self.joined.port)

    @property
    def deadline(self) -> float:
        return max(self.began + self.limit_seconds, self._opened + LEAST_SECONDS)

    @property
    def is_host(self) -> bool:
        return self.joined.index == 0 and not self.joined.agent_hosts_store

    def open(self) -> None:
        """Reach the store and report there; as rank 0 host it, unless the launcher does. Raises BenchError."""
        if self.is_host:
            self._host_store()
        else:
            self.store = self._reach()
            if self.joined.index == 0 and not self.number:
                self.say(f"ranks meet at {self.where}, in the store of {self.joined.how}'s agent")
        self._arrive()

    def again(self, timeout_seconds: float) -> Store:
        """A further connection to the store. Raises StoreLost if it is gone."""
        store = connect_store(self._own_address(), self.joined.port, timeout_seconds)
        return with_prefix(self._prefix, store)

    def _own_address(self) -> str:
        # The name of rank 0's host may lead to another of its addresses than the one it listens on.
        return addresses.dialled_by_host(self.joined.address) if self.is_host else self.joined.address

    @property
    def _prefix(self) -> str:
        return f"bench/{self.joined.attempt}/{self.number}"

    def _host_store(self) -> None:
        import torch.distributed  # noqa: F401 - before a port is open: others would take a slow import for a stuck rank

        self._resolve()  # a name that rank 0 does not know is not one for the others either
        try:
            listener = endpoint.listen(self.joined)
        except BenchError as error:
            raise self._second_rank_0(error) from error
        if not self.number:
            self.say(f"ranks meet at {self.where}; this host listens on {addresses.describe_listener(listener)}")
        if not addresses.is_own(self.joined.address):
            self.say(
                f"warning: {endpoint.named(self.joined)} is not an address of {self.host}, where rank 0 runs; unless "
                "it is forwarded to this host, the other ranks cannot come"
            )
        self.store = with_prefix(self._prefix, hosted_store(listener, self.limit_seconds, self.joined.world_size))
        self._opened = clock.monotonic_seconds()

    def _second_rank_0(self, error: BenchError) -> BenchError:
        """The error of a port that is taken: another rank 0 may hold it, which hears of this one."""
        address, ends = addresses.dialled_by_host(self.joined.address), clock.monotonic_seconds() + TWIN_SECONDS
        while clock.monotonic_seconds() < ends:
            with suppress(StoreLost, StoreTimeout):
                self.store = with_prefix(self._prefix, connect_store(address, self.joined.port, KNOCK_SECONDS))
                first = msgspec.json.decode(self.store.get("arrival/1", KNOCK_SECONDS), type=Arrival)
                self._arrive()
                return BenchError(roll.objection([first, self._arrival()]) or str(error))
        return error

    def _reach(self) -> Store:
        """Knock until rank 0's store answers. Raises BenchError that says why it does not."""
        pause, has_said = threading.Event(), False
        while True:
            reason = self._knock()
            if reason is None:
                try:
                    return with_prefix(
                        self._prefix, connect_store(self.joined.address, self.joined.port, self._left(KNOCK_SECONDS))
                    )
                except (StoreLost, StoreTimeout) as error:
                    reason = (
                        f"it accepts connections, and no store answers ({error}): rank 0 is starting or stuck, or "
                        "another program holds the port"
                    )
            if clock.monotonic_seconds() >= self.deadline:
                raise BenchError(self._no_rank_0(reason))
            if not has_said and clock.monotonic_seconds() - self.began > QUIET_SECONDS and not self.joined.local_index:
                self.say(f"rank {self.joined.index} on {self.host} waits for rank 0 at {self.where}: {reason}")
                has_said = True
            pause.wait(self._left(0.2))

    def _resolve(self) -> tuple[str, ...]:
        return endpoint.resolve(self.joined, self._left(self.limit_seconds), environment_variables())

    def _knock(self) -> str | None:
        """Knock at every address of rank 0; None: one accepts, else why the last one does not."""
        reason: str | None = None
        for address in self._resolve():
            reason = endpoint.knock(address, self.joined.port, KNOCK_SECONDS)
            if reason is None:
                return None
        return reason

    def _no_rank_0(self, reason: str) -> str:
        return (
            f"rank 0 did not come within {self.limit_seconds:g} s: {self.where}: {reason}; see that rank 0 was started "
            "there (MASTER_ADDR, MASTER_PORT) and that this host may reach it, or give it longer with --join-timeout"
        )

    def _left(self, most: float) -> float:
        return max(0.1, min(most, self.deadline - clock.monotonic_seconds()))

    def _arrival(self) -> Arrival:
        joined = self.joined
        return Arrival(
            rank=joined.index,
            world_size=joined.world_size,
            host=self.host,
            process_id=os.getpid(),
            token=self._token,
            local_rank=joined.local_index,
            local_world_size=joined.local_world_size,
        )

    def _arrive(self) -> None:
        self.store.set(f"arrival/{self.store.add('arrivals', 1)}", msgspec.json.encode(self._arrival()).decode())

    def wait_for_word(self) -> list[str]:
        """Wait, on another rank than 0, for its word; returns every rank's host. Raises BenchError."""
        while True:
            try:
                # Rank 0 ends its own waiting first, and says who did not come.
                seconds = self._left(self.limit_seconds) + FAREWELL_SECONDS
                word = msgspec.json.decode(self.store.get("word", seconds), type=Word)
            except StoreTimeout:
                raise BenchError(self._silence()) from None
            except StoreLost as error:
                # An earlier job's store, or that of the launch before, which rank 0 has just left.
                if clock.monotonic_seconds() >= self.deadline:
                    raise BenchError(self._no_rank_0(str(error))) from error
                self.store = self._reach()
                with suppress(StoreLost):
                    self._arrive()
                continue
            if word.error is not None:
                self.leave()
                alone = self.joined.local_index in (None, 0)  # as far as it is known, the first rank of its host
                raise RefusedError(word.error, alone and not (word.is_mistake and word.hosts == [self.host]))
            self.side = self.again(self.limit_seconds)
            return word.hosts

    def _silence(self) -> str:
        """Report of a rank that reached the store, and heard nothing from rank 0."""
        arrivals = self._arrivals()
        if all(arrival.rank for arrival in arrivals):
            return roll.describe_absent(
                arrivals, self.joined.world_size, self.known_hosts, self.where, self.limit_seconds
            )
        return f"rank 0 at {self.where} came and said nothing within {self.limit_seconds:g} s; look at its output"

    def call_roll(self) -> list[str]:
        """Wait on rank 0 until every rank came; returns every rank's host. Raises BenchError if they cannot meet."""
        pause, world_size = threading.Event(), self.joined.world_size
        next_word = self.began + QUIET_SECONDS
        while True:
            arrivals = self._arrivals()
            wrong = self._objection(arrivals)
            if wrong is not None:
                raise BenchError(wrong)
            if not roll.absent_ranks(arrivals, world_size):
                hosts = {arrival.rank: arrival.host for arrival in arrivals}
                return [hosts[rank] for rank in range(world_size)]
            now = clock.monotonic_seconds()
            if now >= self.deadline:
                raise BenchError(
                    roll.describe_absent(arrivals, world_size, self.known_hosts, self.where, self.limit_seconds)
                )
            if now >= next_word:
                self.say(roll.show_progress(arrivals, world_size, self.known_hosts))
                next_word = now + REPEAT_SECONDS
            pause.wait(POLL_SECONDS)

    def progress(self) -> str:
        """Who is there so far, for rank 0 that is interrupted."""
        return roll.show_progress(self._arrivals(), self.joined.world_size, self.known_hosts)

    def _objection(self, arrivals: Sequence[Arrival]) -> str | None:
        """What is wrong with these ranks, in rank 0's eyes: its own report is the first, whoever came before it."""
        own = self._arrival()
        others = [arrival for arrival in arrivals if arrival != own]
        return roll.objection([own, *others])

    def _arrivals(self) -> list[Arrival]:
        """All reports so far; one that is counted may not be there yet, or never, if its rank died in between."""
        for number in range(1, self.store.add("arrivals", 0) + 1):
            key = f"arrival/{number}"
            if number not in self._came and self.store.check([key]):
                self._came[number] = msgspec.json.decode(self.store.get(key), type=Arrival)
        return [self._came[number] for number in sorted(self._came)]

    def give_word(self, hosts: Sequence[str]) -> None:
        """Tell every rank that all are there."""
        self.side = self.again(self.limit_seconds)
        self.store.set("word", msgspec.json.encode(Word(list(hosts))).decode())

    def refuse(self, error: str, is_mistake: bool) -> None:
        """Tell every rank that there is no run, and stay until those that are there have heard it."""
        with suppress(StoreLost, StoreTimeout):
            self.store.set("word", msgspec.json.encode(Word([self.host], error, is_mistake)).decode())
        # Before the limit others may still be on their way, and would wait all of it for a rank 0 that is gone.
        self.linger(LATE_SECONDS if clock.monotonic_seconds() < self.deadline else FAREWELL_SECONDS)

    def linger(self, seconds: float = FAREWELL_SECONDS) -> None:
        """Stay until all ranks have heard the last word, or this time has passed."""
        with suppress(StoreLost, StoreTimeout):
            ends = clock.monotonic_seconds() + seconds
            pause = threading.Event()
            while self.store.add("left", 0) < self.joined.world_size - 1 and clock.monotonic_seconds() < ends:
                pause.wait(POLL_SECONDS)

    def leave(self, store: Store | None = None) -> None:
        """Tell rank 0 that this rank has heard its last word; from a thread, by a connection of its own."""
        with suppress(StoreLost):
            (store or self.store).add("left", 1)


class RefusedError(BenchError):
    """Rank 0 knows why there is no run, and says it to the user; `is_said` if this rank says it on its host too."""

    def __init__(self, reason: str, is_said: bool = False) -> None:
        super().__init__(reason)
        self.is_said = is_said
