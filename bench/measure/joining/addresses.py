"""Rank 0's address in messages, and as rank 0 itself dials it."""

from __future__ import annotations

import socket

from bench.measure.doctor.facts import usable_address
from bench.measure.launchers import endpoint

LOOPBACK = "127.0.0.1"
_EVERYWHERE = ("::", "0.0.0.0")


def spell(address: str, port: int) -> str:
    """`node0:29500`, or `[fd00::1]:29500`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def dialled_by_host(address: str) -> str:
    """Address at which rank 0 reaches its own listener, which another host may reach under another one."""
    return address if endpoint.is_loopback(address) else LOOPBACK


def describe_listener(listener: socket.socket) -> str:
    """`127.0.0.1 alone, port 29500`."""
    host, port = listener.getsockname()[:2]
    return f"all its addresses, port {port}" if host in _EVERYWHERE else f"{host} alone, port {port}"


def is_own(address: str) -> bool:
    """Return True if an address or name is of this host."""
    return usable_address(address) is not None
