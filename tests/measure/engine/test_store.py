"""Where the store listens, who closes its socket, and how a call says that the store is lost or has no value yet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.measure.engine.store import (
    LOOPBACK,
    HostedStore,
    StoreLost,
    StoreTimeout,
    connect_store,
    hosted_store,
    with_prefix,
)


@pytest.fixture
def hosted() -> HostedStore:
    return hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=20.0)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of something that accepts connections and never answers."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield int(listener.getsockname()[1])


def _listening() -> set[tuple[str, int]]:
    found = psutil.Process().net_connections("tcp")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


def _descriptors() -> set[tuple[str, str]]:
    """Number and file of each open descriptor of this process."""
    found: set[tuple[str, str]] = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.add((each.name, str(each.readlink())))
    return found


def test_it_listens_where_its_socket_does() -> None:
    before = _listening()
    store = hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=20.0)
    assert _listening() - before == {(LOOPBACK, store.port)}


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::1"])
def test_the_host_reaches_itself_wherever_it_listens(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    store = hosted_store(listener, timeout_seconds=20.0)
    store.set("key", "value")
    assert store.get("key") == b"value"


def test_a_dual_stack_host_reaches_itself() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no dual-stack sockets here")
    listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    store = hosted_store(listener, timeout_seconds=20.0)
    connect_store(LOOPBACK, store.port, timeout_seconds=20.0).set("key", "value")
    assert store.get("key") == b"value"


def test_its_descriptors_are_closed_once() -> None:
    """The store's socket is neither left open nor closed by two owners, which could close a stranger's descriptor."""
    hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=20.0)  # what torch makes once and keeps
    before = _descriptors()
    listener = socket.create_server((LOOPBACK, 0))
    number = listener.fileno()
    store = hosted_store(listener, timeout_seconds=20.0)
    assert str(number) in {name for name, _ in _descriptors()}
    assert listener.fileno() == -1, "the Python socket still owns the descriptor"
    del store
    assert _descriptors() == before
    with open(os.devnull) as stranger:  # noqa: PTH123 - takes the freed number
        del listener
        assert os.fstat(stranger.fileno())


def test_ranks_meet_in_it(hosted: HostedStore) -> None:
    other = connect_store(LOOPBACK, hosted.port, timeout_seconds=20.0)
    other.set("name", "value")
    assert hosted.get("name") == b"value"
    assert [hosted.add("count", 1), other.add("count", 2)] == [1, 3]
    assert other.check(["name", "count"])
    assert not other.check(["name", "absent"])


def test_a_prefix_sets_keys_apart(hosted: HostedStore) -> None:
    inner = with_prefix("inner", with_prefix("outer", hosted))
    inner.set("key", "value")
    assert not hosted.check(["key"])
    assert hosted.get("outer/inner/key") == inner.get("key", timeout_seconds=20.0) == b"value"


def test_a_missing_value_is_no_lost_store(hosted: HostedStore) -> None:
    for store in (hosted, with_prefix("below", hosted)):
        with pytest.raises(StoreTimeout, match=r"^wait timeout after 10ms, keys: .*absent$"):
            store.get("absent", timeout_seconds=0.01)
    assert not issubclass(StoreTimeout, StoreLost)
    hosted.set("absent", "now there")
    assert hosted.get("absent", timeout_seconds=0.01) == b"now there"


def test_the_default_limit_of_get_is_the_connection_s(hosted: HostedStore) -> None:
    with pytest.raises(StoreTimeout):
        connect_store(LOOPBACK, hosted.port, timeout_seconds=0.5).get("absent")


def test_every_call_to_a_lost_store_says_so_in_one_line() -> None:
    host = hosted_store(socket.create_server((LOOPBACK, 0)), timeout_seconds=20.0)
    client = connect_store(LOOPBACK, host.port, timeout_seconds=20.0)
    below = with_prefix("below", client)
    del host
    for call in (
        lambda: client.get("key"),
        lambda: client.get("key", timeout_seconds=1.0),
        lambda: client.set("key", "value"),
        lambda: client.add("count", 1),
        lambda: client.check(["key"]),
        lambda: below.get("key"),
    ):
        with pytest.raises(StoreLost) as lost:
            call()
        assert str(lost.value).strip()
        assert "\n" not in str(lost.value)
        assert lost.value.__suppress_context__, "a traceback would show torch's frames"


def test_a_client_gives_up_on_a_silent_peer(silent: int) -> None:
    began = time.monotonic()
    with pytest.raises(StoreLost, match=rf"^the store at 127.0.0.1, port {silent}, gives no answer within 0\.2 s$"):
        connect_store(LOOPBACK, silent, timeout_seconds=0.2)
    assert time.monotonic() - began < 30.0, "torch alone waits for minutes"


def test_a_client_gives_up_on_a_closed_port(silent: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreLost) as lost:
        connect_store(LOOPBACK, port, timeout_seconds=0.5)
    assert str(port) in str(lost.value)
    assert "\n" not in str(lost.value)


LOSE_HOST = """
import os, socket, sys
from bench.core.process_environment import quiet_torch
quiet_torch()
from bench.measure.engine.store import LOOPBACK, StoreLost, connect_store, hosted_store
host = hosted_store(socket.create_server((LOOPBACK, 0)), 20.0)
client = connect_store(LOOPBACK, host.port, 20.0)
del host
for _ in range(3):
    try:
        client.set("key", "value")
        client.get("key")
    except StoreLost as error:
        print(error)
"""


@pytest.mark.parametrize(("level", "is_quiet"), [({}, True), ({"TORCH_CPP_LOG_LEVEL": "WARNING"}, False)])
def test_stack_frames_of_torch_stay_off_stderr_unless_the_user_asks(level: dict[str, str], is_quiet: bool) -> None:
    command = [sys.executable, "-P", "-c", LOSE_HOST]
    done = subprocess.run(command, env=os.environ | level, capture_output=True, text=True, timeout=100, check=True)
    assert len(done.stdout.splitlines()) == 3, "each loss is one line"
    assert ("frame #" not in done.stderr) == is_quiet
