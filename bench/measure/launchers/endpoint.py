"""The place where ranks meet: rank 0's address looked up, its port listened at, and tried from elsewhere.

All of it is done before torch, which would try for minutes and say in the end which call failed, and not why.
"""

from __future__ import annotations

import errno
import queue
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import psutil

from bench.core import clock
from bench.errors import BenchError
from bench.measure.launchers.place import LauncherRank
from bench.records.privacy.recorded import mask_command

UNKNOWN_NAME_SECONDS = 5.0
"""Time for which a name that cannot be resolved is asked for again: a resolver may have a bad moment."""
PAUSE_SECONDS = 0.5
BACKLOG = 4096
"""Ranks that may knock before the store takes them up; the kernel lowers it to its own limit (somaxconn)."""
LookUp = Callable[..., Sequence[tuple[Any, ...]]]
"""The signature of `socket.getaddrinfo`."""


def resolve(
    joined: LauncherRank,
    seconds: float,
    environ: Mapping[str, str],
    look_up: LookUp = socket.getaddrinfo,
    now: Callable[[], float] = clock.monotonic_seconds,
    pause: Callable[[float], object] | None = None,
) -> tuple[str, ...]:
    """Addresses of rank 0's host, in the order in which they are to be tried. Raises BenchError.

    A name that is not known is asked for again for 5 s; in a pod of Kubernetes, where a name comes into being with its
    pod, for as long as the ranks may take to meet.
    """
    if is_literal(joined.address):
        return (joined.address,)
    pause = pause or threading.Event().wait
    patience = seconds if "KUBERNETES_SERVICE_HOST" in environ else min(seconds, UNKNOWN_NAME_SECONDS)
    ends = now() + patience
    while True:
        found = _look_up_within(joined.address, max(0.1, ends - now()), look_up)
        if isinstance(found, tuple):
            return found
        if now() + PAUSE_SECONDS >= ends:
            raise BenchError(
                f"{named(joined)}: {socket.gethostname()} cannot resolve the name ({found}, asked for {patience:g} s); "
                "set MASTER_ADDR to an address of rank 0's host, or put the name into /etc/hosts on every node"
            )
        pause(PAUSE_SECONDS)


def spell(address: str, port: int) -> str:
    """`node0:29500`, or `[fd00::1]:29500`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_literal(address: str) -> bool:
    """Return True for an address in figures, with or without a zone."""
    try:
        ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return True if an address, as it was given, can only mean this host: `localhost`, 127.0.0.1, ::1."""
    if is_literal(address):
        return ip_address(address.partition("%")[0]).is_loopback
    return address.rstrip(".").lower() in ("localhost", "localhost.localdomain", "localhost6", "ip6-localhost")


def named(joined: LauncherRank) -> str:
    """Rank 0's address with its source: `MASTER_ADDR=node0`, or `node0 (by SLURM_STEP_NODELIST)`."""
    if joined.address_from == "MASTER_ADDR":
        return f"MASTER_ADDR={joined.address}"
    return f"{joined.address} (rank 0's host by {joined.address_from})"


def _look_up_within(name: str, seconds: float, look_up: LookUp) -> tuple[str, ...] | str:
    """Addresses of a name, or the reason for which there are none. On a thread: a resolver without a server hangs."""
    answers: queue.Queue[tuple[str, ...] | str] = queue.Queue()
    threading.Thread(target=lambda: answers.put(_ask(name, look_up)), name="bench-resolve", daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return "the name service gives no answer"


def _ask(name: str, look_up: LookUp) -> tuple[str, ...] | str:
    try:
        entries = look_up(name, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a part of the name is empty, or longer than 63 characters
        return "the name is not valid"
    except OSError as error:
        return error.strerror or str(error)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in entries)) or "it has no address"


def listen(joined: LauncherRank) -> socket.socket:
    """A listening socket at the meeting's port, for rank 0. Raises BenchError.

    It listens on loopback alone if the address, as it was given, is one of loopback; else on all addresses of both
    families, since the other ranks may come through any.
    """
    families = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
    if is_loopback(joined.address):
        own = joined.address if is_literal(joined.address) else "127.0.0.1"
        families = [(socket.AF_INET6 if ":" in own else socket.AF_INET, own)]
        if not is_literal(joined.address):
            families.append((socket.AF_INET6, "::1"))
    trouble: OSError | None = None
    for family, address in families:
        try:
            return _listen_at(family, address, joined.port)
        except OSError as error:
            trouble = trouble or error
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise BenchError(_why_not(joined, error)) from None
    assert trouble is not None
    raise BenchError(_why_not(joined, trouble)) from None


def _listen_at(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        server.bind((address, port))
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def _why_not(joined: LauncherRank, error: OSError) -> str:
    port = (
        f"MASTER_PORT={joined.port}"
        if joined.port_from == "MASTER_PORT"
        else f"port {joined.port} ({joined.port_from})"
    )
    host = socket.gethostname()
    if error.errno == errno.EADDRINUSE:
        return (
            f"{port} is taken on {host}{holder(joined.port)}; end that process if it is a rest of another run, or set "
            "MASTER_PORT to a free one on all ranks"
        )
    if error.errno == errno.EACCES:
        return f"{port}: ports below 1024 are kept for root on {host}; set MASTER_PORT to one above, on all ranks"
    return f"{port}: rank 0 cannot listen there on {host} ({error.strerror}); set MASTER_ADDR and MASTER_PORT"


def listeners(port: int) -> list[int]:
    """Ids of the processes that listen at a port, as far as this user may see them."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return []
    return [c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid]


def holder(port: int) -> str:
    """The process that listens at a port, as ` by python3 (process 12: python3 train.py)`; empty: not to be seen."""
    ids = listeners(port)
    if not ids:
        return ""
    try:
        process = psutil.Process(ids[0])
        words = " ".join(mask_command(process.cmdline()))
        return f" by {process.name()} (process {ids[0]}: {words[:80]}{'...' if len(words) > 80 else ''})"
    except psutil.Error:
        return f" by process {ids[0]}"


_REASONS: dict[int, str] = {
    errno.ECONNREFUSED: "refused: the host is there, and nothing listens at that port",
    errno.ETIMEDOUT: "no answer: a firewall drops it, or the host is down",
    errno.EHOSTUNREACH: "no route: the host is down, or a firewall rejects it",
    errno.ENETUNREACH: "no route: this host has no network that leads there",
    errno.EADDRNOTAVAIL: "no route: this host has no address of that family",
    errno.EAFNOSUPPORT: "no route: this host has no address of that family",
    errno.EACCES: "not permitted: a firewall on this host rejects it",
    errno.EPERM: "not permitted: a firewall on this host rejects it",
    errno.EINVAL: "no such address: one of this link alone needs its interface, such as fe80::1%eth0",
}


def knock(address: str, port: int, seconds: float) -> str | None:
    """Try to connect once; None: it accepts, else the reason for which it does not, in plain words."""
    try:
        with socket.create_connection((address, port), timeout=seconds):
            return None
    except TimeoutError:
        return _REASONS[errno.ETIMEDOUT]
    except (socket.gaierror, UnicodeError):
        return "no such host: the name cannot be resolved"
    except OSError as error:
        return _REASONS.get(error.errno or 0, f"no connection: {error.strerror or error}")
