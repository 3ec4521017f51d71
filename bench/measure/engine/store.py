"""The key-value store that ranks meet at: torch's, behind the few calls that are used here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, cast


class Store(Protocol):
    """The part of torch's Store that the engine uses. Any call raises RuntimeError when the host is gone."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def add(self, key: str, amount: int) -> int: ...
    def check(self, keys: Sequence[str]) -> bool: ...


class HostedStore(Store, Protocol):
    port: int


def tcp_store(
    address: str, port: int, hosts: bool, timeout_seconds: float, num_ranks: int | None = None
) -> HostedStore:
    """A connection to a store, which this process hosts if `hosts` (port 0: any free one).

    Raises RuntimeError or ValueError if the address cannot be reached or bound.
    """
    import torch.distributed as dist

    # torch exports the class without naming it in __all__, which mypy takes for private.
    make: Any = vars(dist)["TCPStore"]
    store = make(
        address,
        port,
        num_ranks,
        is_master=hosts,
        timeout=timedelta(seconds=timeout_seconds),
        wait_for_workers=False,
    )
    return cast("HostedStore", store)


def with_prefix(prefix: str, store: Store) -> Store:
    """Return the store with all keys below a prefix."""
    import torch.distributed as dist

    make: Any = vars(dist)["PrefixStore"]
    return cast("Store", make(prefix, store))
