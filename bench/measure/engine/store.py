"""The key-value store that ranks meet at: torch's, behind the few calls that are used here, with errors of one line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

Value = TypeVar("Value")


class StoreLost(RuntimeError):  # noqa: N818 - an event, as its host ends
    """The store's host is gone, or what answers there is no store."""


class StoreTimeout(RuntimeError):  # noqa: N818 - an event, as nobody set the key
    """Nobody set a key within the time."""


class Store(Protocol):
    """The part of torch's Store that the engine uses. Any call raises StoreLost when the host is gone."""

    @property
    def raw(self) -> Any:
        """Torch's own store, for process groups."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str, timeout_seconds: float | None = None) -> bytes:
        """Wait for a key. Raises StoreTimeout after this time, or after the store's own."""

    def add(self, key: str, amount: int) -> int: ...
    def check(self, keys: Sequence[str]) -> bool: ...


class TorchStore:
    """A connection to torch's store."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def port(self) -> int:
        return int(self.raw.port)

    def set(self, key: str, value: str) -> None:
        with _one_line():
            self.raw.set(key, value)

    def get(self, key: str, timeout_seconds: float | None = None) -> bytes:
        with _one_line():
            if timeout_seconds is not None:
                self.raw.wait([key], timedelta(seconds=timeout_seconds))
            value: bytes = self.raw.get(key)
            return value

    def add(self, key: str, amount: int) -> int:
        with _one_line():
            return int(self.raw.add(key, amount))

    def check(self, keys: Sequence[str]) -> bool:
        with _one_line():
            return bool(self.raw.check(list(keys)))


@contextmanager
def _one_line() -> Iterator[None]:
    """Raise torch's error as StoreTimeout or StoreLost, without the frames of C++."""
    try:
        yield
    except RuntimeError as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        kind = StoreTimeout if "timeout" in text.lower() and "wait" in text.lower() else StoreLost
        raise kind(text) from None


def hosted_store(listener: socket.socket, timeout_seconds: float, num_ranks: int | None = None) -> TorchStore:
    """A store that this process hosts on a socket that is bound and listens; the socket belongs to the store then.

    torch would listen on every address of the host, whichever it is given. Raises StoreLost if it cannot be hosted.
    """
    host, port = listener.getsockname()[:2]
    dial = _dialled(host)
    return TorchStore(
        _make(
            lambda make: make(
                dial,
                port,
                num_ranks,
                is_master=True,
                timeout=timedelta(seconds=timeout_seconds),
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            ),
            timeout_seconds,
        )
    )


def _dialled(host: str) -> str:
    """Address at which the host itself reaches a listener."""
    return {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)


def connect_store(address: str, port: int, timeout_seconds: float) -> TorchStore:
    """A connection to the store at an address. Raises StoreLost if there is none within the time."""
    return TorchStore(
        _make(
            lambda make: make(
                address,
                port,
                None,
                is_master=False,
                timeout=timedelta(seconds=timeout_seconds),
                wait_for_workers=False,
            ),
            timeout_seconds,
        )
    )


def _make(call: Callable[[Any], Any], timeout_seconds: float) -> Any:
    """Make a store, on a thread: torch waits without end for a program that accepts and stays silent."""
    import torch.distributed as dist

    # torch exports the class without naming it in __all__, which mypy takes for private.
    make: Any = vars(dist)["TCPStore"]
    made: list[Any] = []
    failed: list[Exception] = []

    def construct() -> None:
        try:
            made.append(call(make))
        except (RuntimeError, ValueError, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=construct, name="bench-store", daemon=True)
    thread.start()
    thread.join(timeout_seconds + 1.0)
    if made:
        return made[0]
    if failed:
        raise StoreLost((str(failed[0]).splitlines() or [""])[0]) from None
    raise StoreLost("it accepts connections and does not answer as a store does")


def with_prefix(prefix: str, store: Store) -> Store:
    """Return the store with all keys below a prefix."""
    import torch.distributed as dist

    make: Any = vars(dist)["PrefixStore"]
    return TorchStore(make(prefix, store.raw))


def loopback_listener() -> socket.socket:
    """A socket that listens on a free port of 127.0.0.1 alone, for the store of a local run."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(socket.SOMAXCONN)
    return listener
