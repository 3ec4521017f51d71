"""Rank 0's address in messages, and as rank 0 itself dials it."""

from __future__ import annotations

import socket

from bench.measure.doctor.facts import usable_address
from bench.measure.engine.store import LOOPBACK
from bench.measure.launchers import endpoint

_EVERYWHERE = ("::", "0.0.0.0")


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
