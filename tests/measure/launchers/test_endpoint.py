"""Rank 0's endpoint: looked up, listened at, and tried, on this host's loopback and against made-up resolvers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from bench.errors import BenchError
from bench.measure.launchers import endpoint
from bench.measure.launchers.place import LauncherRank

RANK_0 = LauncherRank("env", 0, 2, 0, "127.0.0.1", 29500, agent_hosts_store=False, attempt="0")
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


class Resolver:
    """A name service that knows a name from its nth question on, and a clock that the pauses advance."""

    def __init__(self, known_from: int | None, error: Exception | None = None) -> None:
        self.known_from, self.asked, self.seconds = known_from, 0, 0.0
        self.error = error or socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def __call__(self, name: str, port: None, type: int) -> list[tuple[Any, ...]]:
        self.asked += 1
        if self.known_from is None or self.asked < self.known_from:
            raise self.error
        return [(socket.AF_INET6, type, 6, "", ("fd00::7", 0, 0, 0)), (socket.AF_INET, type, 6, "", ("10.0.0.7", 0))]

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def resolve(self, address: str, limit: float = 120.0, environ: dict[str, str] | None = None) -> tuple[str, ...]:
        joined = replace(RANK_0, address=address)
        return endpoint.resolve(joined, limit, environ or {}, self, now=lambda: self.seconds, pause=self.pause)


def test_a_name_has_all_its_addresses_in_their_order() -> None:
    assert Resolver(known_from=1).resolve("node0") == ("fd00::7", "10.0.0.7")


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "fe80::1%eth0"])
def test_an_address_in_figures_is_not_looked_up(address: str) -> None:
    resolver = Resolver(known_from=None)
    assert resolver.resolve(address) == (address,)
    assert resolver.asked == 0


def test_a_name_may_be_late_by_some_seconds() -> None:
    assert Resolver(known_from=5).resolve("node0") == ("fd00::7", "10.0.0.7")


def test_an_unknown_name_is_said_after_five_seconds() -> None:
    resolver = Resolver(known_from=None)
    with pytest.raises(BenchError) as caught:
        resolver.resolve("node77")
    text = str(caught.value)
    assert text.startswith(
        f"MASTER_ADDR=node77: {socket.gethostname()} cannot resolve the name (Name or service not known"
    )
    assert "asked for 5 s); set MASTER_ADDR to an address of rank 0's host" in text
    assert 4 <= resolver.seconds <= 5


def test_the_name_of_a_pod_is_waited_for_as_long_as_the_ranks_are() -> None:
    assert Resolver(known_from=100).resolve("trainer-0", environ=POD) == ("fd00::7", "10.0.0.7")
    with pytest.raises(BenchError, match="asked for 120 s"):
        Resolver(known_from=None).resolve("trainer-0", environ=POD)


def test_the_source_of_a_name_is_said() -> None:
    joined = replace(RANK_0, address="node1", address_from="SLURM_STEP_NODELIST")
    with pytest.raises(BenchError, match=r"^node1 \(rank 0's host by SLURM_STEP_NODELIST\): "):
        endpoint.resolve(joined, 0.0, {}, Resolver(known_from=None))


def test_a_name_that_cannot_be_one_is_said() -> None:
    with pytest.raises(BenchError, match="the name is not valid"):
        endpoint.resolve(replace(RANK_0, address="a..b"), 0.0, {})


def test_a_resolver_that_hangs_is_left() -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[tuple[Any, ...]]:
        released.wait()
        return []

    try:
        with pytest.raises(BenchError, match="the name service gives no answer"):
            endpoint.resolve(replace(RANK_0, address="node0"), 0.0, {}, hang)
    finally:
        released.set()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.1.1", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("10.0.0.1", False),
        ("node0", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_known_by_the_address_as_it_was_given(address: str, loopback: bool) -> None:
    assert endpoint.is_loopback(address) is loopback


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_loopback_alone_is_listened_at_if_it_was_given(address: str, port: int) -> None:
    with closing(endpoint.listen(replace(RANK_0, address=address, port=port))) as server:
        assert server.getsockname()[:2] == ("127.0.0.1", port)
        assert endpoint.knock("127.0.0.1", port, 5.0) is None
        assert "refused" in str(endpoint.knock("127.0.0.2", port, 5.0))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_loopback_of_ipv6_is_listened_at(port: int) -> None:
    with closing(endpoint.listen(replace(RANK_0, address="::1", port=port))) as server:
        assert server.getsockname()[:2] == ("::1", port)
        assert endpoint.knock("::1", port, 5.0) is None
        assert "refused" in str(endpoint.knock("127.0.0.1", port, 5.0))


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_all_addresses_of_both_families_are_listened_at_for_other_hosts(port: int) -> None:
    with closing(endpoint.listen(replace(RANK_0, address="node0", port=port))):
        assert [endpoint.knock(address, port, 5.0) for address in ("127.0.0.1", "127.0.0.2", "::1")] == [None] * 3


def test_a_host_without_ipv6_is_listened_at_by_ipv4(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int = socket.AF_INET, *arguments: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments, **more)

    monkeypatch.setattr(endpoint.socket, "socket", no_ipv6)
    with closing(endpoint.listen(replace(RANK_0, address="node0", port=port))) as server:
        assert server.getsockname() == ("0.0.0.0", port)


def test_a_taken_port_names_its_holder(taken: int) -> None:
    with pytest.raises(BenchError) as caught:
        endpoint.listen(replace(RANK_0, port=taken))
    text = str(caught.value)
    assert text.startswith(f"MASTER_PORT={taken} is taken on {socket.gethostname()} by ")
    assert "(process " in text
    assert "set MASTER_PORT to a free one on all ranks" in text
    with pytest.raises(BenchError, match=rf"^port {taken} \(the job's id\) is taken on"):
        endpoint.listen(replace(RANK_0, port=taken, port_from="the job's id"))


def test_an_address_of_no_interface_is_said(port: int) -> None:
    """Loopback addresses of IPv6 are one; the others are nowhere."""
    text = endpoint._why_not(replace(RANK_0, port=port), OSError(99, "Cannot assign requested address"))
    assert text.startswith(f"MASTER_PORT={port}: rank 0 cannot listen there on ")


def test_a_privileged_port_is_said() -> None:
    text = endpoint._why_not(replace(RANK_0, port=80), PermissionError(13, "Permission denied"))
    assert text.startswith("MASTER_PORT=80: ports below 1024 are kept for root on ")


def test_a_knock_says_why_it_fails(port: int) -> None:
    assert str(endpoint.knock("127.0.0.1", port, 5.0)).startswith("refused: ")
    assert str(endpoint.knock("a..b", port, 5.0)).startswith("no such host: ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "no answer: "),
        (OSError(110, "Connection timed out"), "no answer: "),
        (OSError(113, "No route to host"), "no route: the host is down"),
        (OSError(101, "Network is unreachable"), "no route: this host"),
        (OSError(5, "Input/output error"), "no connection: Input/output error"),
    ],
)
def test_reasons_of_the_kernel_are_said_in_words(
    error: OSError, reason: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> socket.socket:
        raise error

    monkeypatch.setattr(endpoint.socket, "create_connection", fail)
    assert str(endpoint.knock("10.0.0.7", port, 5.0)).startswith(reason)
