"""The key-value store that ranks meet at: torch's, behind the few calls that are used here.

torch's TCPStore listens on every interface, whatever host it is given, and its client waits without end for a peer that
accepts connections and stays silent. Here the host brings a socket that already listens, on the right address, and
a client gives up after its limit. A call that fails says why in one line, without torch's C++ frames.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

_LIMIT_GRACE_SECONDS = 1.0
"""Time past the limit in which torch may still say itself why a client cannot connect."""
LOOPBACK = "127.0.0.1"
Value = TypeVar("Value")


class StoreLost(RuntimeError):  # noqa: N818 - a state of the store, not a fault of ours
    """The store's host is gone, or was not reached; the text is one line."""


class StoreTimeout(RuntimeError):  # noqa: N818 - the store is there, and has no value yet
    """No rank has set the key within the limit; the text is one line."""


class Store:
    """A connection to the store. Any call raises StoreLost if the host is gone."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        """torch's own object, for what takes no other: a process group, a PrefixStore."""

    def set(self, key: str, value: str) -> None:
        with _one_line_errors():
            self.raw.set(key, value)

    def get(self, key: str, timeout_seconds: float | None = None) -> bytes:
        """Wait for a value, up to the connection's own limit if none is given. Raises StoreTimeout."""
        with _one_line_errors():
            if timeout_seconds is None:
                value: bytes = self.raw.get(key)
                return value
            return _within(timeout_seconds, lambda: self._wait(key, timeout_seconds), "the store")

    def _wait(self, key: str, timeout_seconds: float) -> bytes:
        # torch takes 0 for no limit at all.
        self.raw.wait([key], timedelta(milliseconds=max(1, round(timeout_seconds * 1000))))
        value: bytes = self.raw.get(key)
        return value

    def add(self, key: str, amount: int) -> int:
        with _one_line_errors():
            return int(self.raw.add(key, amount))

    def check(self, keys: Sequence[str]) -> bool:
        with _one_line_errors():
            return bool(self.raw.check(list(keys)))


class HostedStore(Store):
    """The store's host, and a connection to it. The store lives as long as this object, or `raw`."""

    def __init__(self, raw: Any, port: int) -> None:
        super().__init__(raw)
        self.port = port


def hosted_store(listener: socket.socket, timeout_seconds: float, num_ranks: int | None = None) -> HostedStore:
    """Host a store on a socket that is bound and listens; from now on the socket is the store's, which closes it.

    Raises StoreLost.
    """
    import torch.distributed as dist

    address, port = _own_address(listener), listener.getsockname()[1]
    own = f"this process's own store at {address}, port {port},"
    # libuv closes what it is given: two owners of one descriptor could close a stranger's.
    descriptor = listener.detach()
    make: Any = vars(dist)["TCPStore"]  # torch exports the class without naming it in __all__
    raw = _connected(
        timeout_seconds,
        own,
        lambda: make(
            address,
            port,
            num_ranks,
            is_master=True,
            timeout=timedelta(seconds=timeout_seconds),
            wait_for_workers=False,
            master_listen_fd=descriptor,
        ),
    )
    return HostedStore(raw, port)


def connect_store(address: str, port: int, timeout_seconds: float) -> Store:
    """Connect to another process's store; the limit holds for this and, as a default, for each `get`.

    Raises StoreLost about a second after the limit at the latest.
    """
    import torch.distributed as dist

    make: Any = vars(dist)["TCPStore"]
    limit = timedelta(seconds=timeout_seconds)
    return Store(
        _connected(
            timeout_seconds,
            f"the store at {address}, port {port},",
            lambda: make(address, port, None, is_master=False, timeout=limit, wait_for_workers=False),
        )
    )


def with_prefix(prefix: str, store: Store) -> Store:
    """Return the store with all keys below a prefix."""
    import torch.distributed as dist

    make: Any = vars(dist)["PrefixStore"]
    return Store(make(prefix, store.raw))


def _own_address(listener: socket.socket) -> str:
    """The address by which this process reaches a listening socket of its own."""
    address: str = listener.getsockname()[0]
    if address == "::":
        return "::1" if listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) else LOOPBACK
    return LOOPBACK if address == "0.0.0.0" else address


def _within(timeout_seconds: float, call: Callable[[], Value], store: str) -> Value:
    """The value of a call that may never return, as torch waits without end for a host that is frozen or cut off.

    A thread is left behind then, and does not hold up the process. Raises StoreLost, or the error of the call.
    """
    made: list[Value] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            made.append(call())
        except (RuntimeError, ValueError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="bench-store-call", daemon=True)
    thread.start()
    thread.join(timeout_seconds + _LIMIT_GRACE_SECONDS)
    if made:
        return made[0]
    if errors:
        raise errors[0]
    raise StoreLost(f"{store} gives no answer within {timeout_seconds:.2g} s")


def _connected(timeout_seconds: float, store: str, make: Callable[[], Any]) -> Any:
    """The value of a constructor of torch. Raises StoreLost."""
    try:
        return _within(timeout_seconds, make, store)
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreLost(_first_line(error)) from None


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        line = _first_line(error)
        # torch has one class for a limit that has passed and for other troubles of a store.
        raise (StoreTimeout if line.startswith("wait timeout after") else StoreLost)(line) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
