"""Whether the hosts of a joined run reach each other at the addresses that gloo would use.

The ranks have met in the store by now, at rank 0's address. gloo, which carries the control group of each run, listens
elsewhere: on the interface of GLOO_SOCKET_IFNAME, or on the address of the host's own name. If that is a loopback
address, or one of a network that the hosts do not share, ranks wait for minutes and then show a traceback. So the first
rank of each host listens where gloo would, and connects to the next host and to the first one.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass

from bench.core import clock
from bench.errors import BenchError
from bench.measure.doctor.facts import is_loopback, usable_address
from bench.measure.engine.store import LOOPBACK, Store, StoreTimeout
from bench.measure.launchers.endpoint import spell
from bench.measure.launchers.interfaces import Addresses, host_addresses, nccl_complaint
from bench.measure.launchers.place import Place

_GLOO, _NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
_VERDICT_KEY = "reach/verdict"
_REPORT_STEPS = 7
"""A rank waits for two addresses, then connects to and reads from each; and another may come a limit later."""
_VERDICT_STEPS = _REPORT_STEPS + 1


@dataclass(frozen=True)
class Door:
    """Where the first rank of a host listens."""

    rank: int
    host: str
    address: str
    port: int
    token: str
    """Answer to who connects: at a loopback address each host finds itself."""
    others: str
    """The host's interfaces that another host may reach, such as `eth0 10.0.0.1, ib0 192.168.0.1`."""


def check_reach(
    place: Place,
    hosts: Sequence[str],
    store: Store,
    limit_seconds: float,
    environ: Mapping[str, str],
    backend: str = "gloo",
    wait_seconds: float = 0.0,
) -> str | None:
    """Return the complaint about hosts that do not reach each other, the same on every rank; None: they all do.

    Every rank calls it; `hosts` are those of all ranks. The limit holds for each step; ranks that come to the check
    later than this one have `wait_seconds` more. Raises StoreLost.
    """
    if place.num_hosts == 1:
        return None
    job = _Job(hosts, first_ranks(hosts), store, limit_seconds, wait_seconds, clock.monotonic_seconds())
    with ExitStack() as stack:
        if place.index in job.firsts:
            try:
                door = stack.enter_context(_open_own(place.index, hosts, environ, backend))
            except BenchError as error:
                store.set(f"reach/door/{place.index}", "null")  # nobody has to wait for it
                complaints = [f"rank {place.index} on {hosts[place.index]}: {error}"]
            else:
                store.set(f"reach/door/{place.index}", json.dumps(asdict(door)))
                complaints = job.knock_at(targets(place.index, job.firsts), place.index)
            store.set(f"reach/seen/{place.index}", json.dumps(complaints))
        if place.index == 0:
            store.set(_VERDICT_KEY, summary(job.all_complaints()))
        return job.verdict()


def first_ranks(hosts: Sequence[str]) -> list[int]:
    """The first rank of each host, in order."""
    first: dict[str, int] = {}
    for index, host in enumerate(hosts):
        first.setdefault(host, index)
    return list(first.values())


def targets(rank: int, firsts: Sequence[int]) -> list[int]:
    """The ranks that one of the first ranks connects to: that of the next host, and that of the first host."""
    following = firsts[(firsts.index(rank) + 1) % len(firsts)]
    return [each for each in dict.fromkeys((following, firsts[0])) if each != rank]


def gloo_address(environ: Mapping[str, str], addresses: Addresses) -> str:
    """The address that gloo listens on. Raises BenchError if GLOO_SOCKET_IFNAME names no interface with an address."""
    value = environ.get(_GLOO, "")
    named = [name for name in value.split(",") if name]
    for name in named:
        if not addresses.get(name):
            fault = "that interface has no address" if name in addresses else "there is no such interface"
            raise BenchError(f"{_GLOO}={value}: {fault} ({name}); name one of: {', '.join(sorted(addresses))}")
    return addresses[named[0]][0] if named else usable_address(socket.gethostname()) or LOOPBACK


def refuse_nccl_interface(environ: Mapping[str, str], addresses: Addresses) -> None:
    """Raises BenchError if NCCL_SOCKET_IFNAME leaves NCCL no interface, or only loopback."""
    value = environ.get(_NCCL, "")
    usable = [name for name, found in addresses.items() if found and not is_loopback(found[0])]
    if nccl_complaint(value, usable) is not None:
        there = ", ".join(sorted(usable)) or "none"
        raise BenchError(f"{_NCCL}={value}: no interface of that name reaches another host; there are: {there}")


def describe_failure(rank: int, host: str, door: Door, reason: str) -> str:
    """One line: who cannot reach whom, where, why, and what to do."""
    where = spell(door.address, door.port)
    kind = "loopback; " if is_loopback(door.address) else ""
    return (
        f"rank {rank} on {host} cannot reach rank {door.rank} on {door.host} at {where} (gloo's address there: "
        f"{kind}{reason}): set {_GLOO} to an interface that the hosts share ({door.host} has: {door.others or 'none'})"
    )


def summary(complaints: Sequence[str]) -> str:
    """The first complaint, and the number of others; empty if there is none."""
    if len(complaints) < 2:
        return "".join(complaints)
    return f"{complaints[0]}; and {len(complaints) - 1} more of this kind"


@dataclass(frozen=True)
class _Job:
    """What each step of one check needs."""

    hosts: Sequence[str]
    firsts: Sequence[int]
    store: Store
    limit_seconds: float
    wait_seconds: float
    began: float
    """Start of the check on this rank's monotonic clock."""

    def knock_at(self, ranks: Sequence[int], own: int) -> list[str]:
        """The complaints of one rank about the others' doors."""
        complaints = []
        for rank in ranks:
            try:
                found = json.loads(self.store.get(f"reach/door/{rank}", self._left(1)))
            except StoreTimeout:
                complaints.append(self._silent(rank, 1, "where it listens"))
                continue
            reason = None if found is None else knock(Door(**found), self.limit_seconds)
            if reason is not None:
                complaints.append(describe_failure(own, self.hosts[own], Door(**found), reason))
        return complaints

    def all_complaints(self) -> list[str]:
        """Complaints of every host's first rank, each once."""
        complaints: list[str] = []
        for first in self.firsts:
            try:
                complaints += json.loads(self.store.get(f"reach/seen/{first}", self._left(_REPORT_STEPS)))
            except StoreTimeout:
                complaints.append(self._silent(first, _REPORT_STEPS, "whom it reaches"))
        return list(dict.fromkeys(complaints))

    def verdict(self) -> str | None:
        try:
            return self.store.get(_VERDICT_KEY, self._left(_VERDICT_STEPS)).decode() or None
        except StoreTimeout:
            return self._silent(0, _VERDICT_STEPS, "whether all hosts reach each other")

    def _left(self, steps: int) -> float:
        return max(0.0, self.began + self._allowed(steps) - clock.monotonic_seconds())

    def _allowed(self, steps: int) -> float:
        return self.wait_seconds + steps * self.limit_seconds

    def _silent(self, rank: int, steps: int, what: str) -> str:
        seconds = self._allowed(steps)
        return f"rank {rank} on {self.hosts[rank]} does not say within {seconds:g} s {what}"


def _open_own(
    rank: int, hosts: Sequence[str], environ: Mapping[str, str], backend: str
) -> AbstractContextManager[Door]:
    addresses = host_addresses()
    if backend == "nccl":
        refuse_nccl_interface(environ, addresses)
    return open_door(rank, hosts[rank], gloo_address(environ, addresses), shown(addresses))


def shown(addresses: Addresses) -> str:
    """The first address of each interface that another host may reach."""
    firsts = {name: found[0] for name, found in addresses.items() if found}
    return ", ".join(f"{name} {address}" for name, address in sorted(firsts.items()) if not is_loopback(address))


class _Doorkeeper(socketserver.TCPServer):
    """Tells whoever connects its token, and hangs up."""

    request_queue_size = 1024  # all hosts of a large job connect to the first one at a time

    def __init__(self, address: str, token: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.token = token
        super().__init__((address, 0), _Greeting)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a peer that hangs up has its own complaint."""


class _Greeting(socketserver.BaseRequestHandler):
    server: _Doorkeeper

    def handle(self) -> None:
        self.request.sendall(self.server.token.encode())


@contextmanager
def open_door(rank: int, host: str, address: str, others: str) -> Iterator[Door]:
    """Listen at an address until the block ends. Raises BenchError if that cannot be."""
    token = uuid.uuid4().hex
    try:
        server = _Doorkeeper(address, token)
    except OSError as error:
        raise BenchError(f"gloo cannot listen on {address} ({error.strerror or error}); set {_GLOO}") from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="bench-reach", daemon=True
    )
    thread.start()
    try:
        yield Door(rank, host, address, server.server_address[1], token, others)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def knock(door: Door, limit_seconds: float) -> str | None:
    """Connect to a door; return why that fails, None if it does not."""
    try:
        with socket.create_connection((door.address, door.port), timeout=limit_seconds) as connection:
            answer = connection.makefile("rb").read(len(door.token))
    except TimeoutError:
        return f"no answer within {limit_seconds:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return None if answer == door.token.encode() else "another program answers"
