"""Rank 0's address and port: what is wrong with them, where rank 0 listens, and whether another rank gets there."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.core import clock
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.measure.launchers.place import LauncherRank

MAX_PORT = 65535
LOOKUP_SECONDS = 5.0
"""Time for which a name is looked up again; elsewhere than in Kubernetes names do not come late."""
_LIST = re.compile(r"[\[\],\s]")
_REASONS: Mapping[int, str] = {
    errno.ECONNREFUSED: "the connection is refused: that host is there, and nothing listens on the port",
    errno.ETIMEDOUT: "no answer: the host is down, or a firewall drops what comes to the port",
    errno.EAGAIN: "no answer: the host is down, or a firewall drops what comes to the port",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "this host has no network that leads there",
    errno.EACCES: "a firewall of this host forbids it",
    errno.EPERM: "a firewall of this host forbids it",
}
"""Number of a failed connection -> its meaning in plain words."""


def check_address(address: str) -> None:
    """Raise BenchError for text that is no name or address of one host."""
    if _is_ip(address):
        return
    if not address.strip():
        raise BenchError("MASTER_ADDR is empty: the name or address of rank 0's host")
    if _LIST.search(address.strip()):
        raise BenchError(
            f"MASTER_ADDR={address}: a list of hosts; name the one host that rank 0 runs on, such as the first of "
            "`scontrol show hostnames`"
        )
    if "/" in address or ":" in address:
        raise BenchError(f"MASTER_ADDR={address}: only the name or address of a host; the port goes into MASTER_PORT")


def check_port(port: int) -> None:
    """Raise BenchError for a number that is no port."""
    if not 1 <= port <= MAX_PORT:
        raise BenchError(f"MASTER_PORT={port}: 1 to {MAX_PORT}; all ranks take the same free port of rank 0's host")


def spell(address: str, port: int) -> str:
    """`node0:29500`, or `[fd00::1]:29500`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_ip(address: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(address.partition("%")[0])
        return True
    return False


def is_loopback_name(address: str) -> bool:
    """True if text means this very host to everyone who reads it."""
    if _is_ip(address):
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    return address == "localhost" or address.endswith(".localhost")


def loopback(address: str) -> str:
    """Address at which rank 0 reaches its own listener."""
    return address if is_loopback_name(address) else "127.0.0.1"


def resolve(address: str, seconds: float) -> list[tuple[Any, ...]]:
    """Socket addresses of a name, as `socket.getaddrinfo` gives them.

    The look-up is tried again for a while and runs on a thread, since resolvers may hang. Raises BenchError.
    """
    ends = clock.monotonic_seconds() + seconds
    pause = threading.Event()
    while True:
        found: list[tuple[Any, ...]] = []
        failed: list[OSError] = []
        thread = threading.Thread(target=_look_up, args=(address, found, failed), daemon=True)
        thread.start()
        thread.join(max(0.5, ends - clock.monotonic_seconds()))
        if found:
            return found
        if clock.monotonic_seconds() + 0.5 >= ends:
            reason = failed[0].strerror if failed else "the resolver does not answer"
            raise BenchError(
                f"MASTER_ADDR={address}: this host cannot resolve the name ({reason}); use rank 0's address, or a name "
                "that every host knows"
            )
        pause.wait(0.5)


def _look_up(address: str, found: list[tuple[Any, ...]], failed: list[OSError]) -> None:
    try:
        found += socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError as error:
        failed.append(error)
    except UnicodeError:
        failed.append(OSError(0, "no name of a host"))


def lookup_seconds(environ: Mapping[str, str], limit_seconds: float) -> float:
    """Time for a name to become known: in Kubernetes those of pods come with the pods."""
    return limit_seconds if "KUBERNETES_SERVICE_HOST" in environ else min(LOOKUP_SECONDS, limit_seconds)


def listen(joined: LauncherRank) -> socket.socket:
    """Rank 0's listening socket: on loopback if the ranks meet there, else on every address of this host.

    A name may stand for other addresses here than elsewhere, so that one of them would not do. Raises BenchError.
    """
    family, host = _listening_address(joined.address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6 and host == "::":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        listener.bind((host, joined.port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise _cannot_listen(joined.port, error) from error
    return listener


def _listening_address(address: str) -> tuple[socket.AddressFamily, str]:
    if is_loopback_name(address):
        return (socket.AF_INET6, "::1") if ":" in address else (socket.AF_INET, "127.0.0.1")
    return (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")


def _cannot_listen(port: int, error: OSError) -> BenchError:
    if error.errno == errno.EADDRINUSE:
        return BenchError(
            f"MASTER_PORT={port}: taken on this host{_holder(port)}; end that program, or give all ranks another port"
        )
    if error.errno == errno.EACCES:
        return BenchError(f"MASTER_PORT={port}: only root may listen on it; give all ranks a port from 1024 on")
    return BenchError(f"MASTER_PORT={port}: this host cannot listen on it ({error.strerror}); try another port")


def _holder(port: int) -> str:
    """` by python (process 123)`, as far as this user may see it."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            taken = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if taken and connection.pid is not None:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def describe_listener(listener: socket.socket) -> str:
    """`127.0.0.1 alone, port 29500`."""
    host, port = listener.getsockname()[:2]
    return f"all its addresses, port {port}" if host in ("::", "0.0.0.0") else f"{host} alone, port {port}"


def is_own(address: str) -> bool | None:
    """True if an address or name is of this host; None: it cannot be resolved."""
    try:
        entries = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return any(_can_bind(entry) for entry in entries)


def _can_bind(entry: tuple[Any, ...]) -> bool:
    family, kind, protocol, _, address = entry
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def knock(addresses: Sequence[tuple[Any, ...]], port: int, seconds: float) -> str | None:
    """Try to connect to one of the addresses that `resolve` gave; None: something accepts, else why not, in words."""
    reason = "no answer"
    for family, kind, protocol, _, where in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(seconds)
            try:
                probe.connect((where[0], port, *where[2:]))
            except TimeoutError:
                reason = _REASONS[errno.ETIMEDOUT]
            except OSError as error:
                reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
            else:
                return None
    return reason
