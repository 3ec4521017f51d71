"""Network interfaces of this host, and the address by which other hosts reach it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

import psutil

from bench.errors import BenchError

DOCUMENTATION_ADDRESSES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of no host (RFC 5737, RFC 3849), by which the default route is looked up; nothing is sent."""
Addresses = Mapping[str, Sequence[str]]
"""Interface -> its addresses, IPv4 first."""


def host_addresses() -> dict[str, tuple[str, ...]]:
    """Each interface of this host and its addresses, IPv4 first."""
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: tuple(a.address for family in families for a in addresses if a.family == family)
        for name, addresses in psutil.net_if_addrs().items()
    }


def check_interfaces(environ: Mapping[str, str], present: Sequence[str]) -> None:
    """Raise BenchError if GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names an interface that this host does not have."""
    for name, complaint in (("GLOO_SOCKET_IFNAME", gloo_complaint), ("NCCL_SOCKET_IFNAME", nccl_complaint)):
        reason = complaint(environ.get(name, ""), present)
        if reason is not None:
            raise BenchError(
                f"{name}={environ[name]}: {reason} on {socket.gethostname()}; there are: {', '.join(present)}; "
                "name one of these, or unset it"
            )


def gloo_complaint(text: str, present: Sequence[str]) -> str | None:
    """The names in GLOO_SOCKET_IFNAME that are not interfaces here; None: all are. gloo takes whole names."""
    missing = [name for name in filter(None, text.split(",")) if name not in present]
    return f"no interface named {', '.join(missing)}" if missing else None


def nccl_complaint(text: str, present: Sequence[str]) -> str | None:
    """The fault of NCCL_SOCKET_IFNAME; None: it leaves an interface.

    NCCL's user guide: a list of prefixes with commas; `=` before the list makes them whole names, `^` makes them those
    that are not used.
    """
    excludes = text.startswith("^")
    rest = text.removeprefix("^")
    whole = rest.startswith("=")
    words = [word.partition(":")[0] for word in rest.removeprefix("=").split(",") if word]
    if not words:
        return None

    def fits(name: str, word: str) -> bool:
        return name == word if whole else name.startswith(word)

    chosen = [name for name in present if any(fits(name, word) for word in words) != excludes]
    if chosen:
        return None
    if excludes:
        return "no interface is left"
    kind = "named" if whole else "whose name begins with"
    return f"no interface {kind} {' or '.join(words)}"


def own_address(
    environ: Mapping[str, str],
    addresses: Addresses | None = None,
    routed: Callable[[], Sequence[str]] | None = None,
) -> str | None:
    """An address of this host that others can reach, as far as it can be known here; None: it has loopback alone.

    The first of: the interface that GLOO_SOCKET_IFNAME names, the default route, the host's name, any interface.
    """
    there = host_addresses() if addresses is None else addresses
    named = [a for name in environ.get("GLOO_SOCKET_IFNAME", "").split(",") for a in there.get(name, ())]
    rest = [a for name in sorted(there) for a in there[name]]
    for candidates in (named, (routed or _routed)(), _by_name(rest), rest):
        found = next((a for a in candidates if _is_reachable(a)), None)
        if found is not None:
            return found
    return None


def _is_reachable(address: str) -> bool:
    ip = ip_address(address.partition("%")[0])
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


def _routed() -> list[str]:
    """Source addresses of the default routes."""
    found = []
    for family, elsewhere in DOCUMENTATION_ADDRESSES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found


def _by_name(own: Sequence[str]) -> list[str]:
    """Addresses of the host's own name that are its own."""
    try:
        entries = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in entries if entry[4][0] in own]


def is_own(address: str) -> bool:
    """Return True if an address in figures is one of this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
