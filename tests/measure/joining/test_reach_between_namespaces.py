"""Two real hosts, as far as the network is concerned: namespaces with a cable between them, and torch's store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import ROOT
from tests.support.command import environ

pytestmark = [
    pytest.mark.launchers,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip"),
]
ADDRESSES = ("10.78.0.1", "10.78.0.2")
PORT = 29600  # in namespaces of their own, where nothing else is
RANK = """
import os, socket, sys
from bench.measure.engine.store import connect_store, hosted_store
from bench.measure.joining.reach import check_reach
from bench.measure.launchers.place import Place
index, address, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if index == 0:
    store = hosted_store(socket.create_server((address, port)), 60.0)
else:
    store = connect_store(address, port, 60.0)
place = Place(index, 2, 0, 1, host_index=index, num_hosts=2)
print(check_reach(place, ["node0", "node1"], store, 20.0, os.environ))
store.set(f"done/{index}", "here")
if index == 0:
    store.get("done/1")
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them."""
    names = (f"bench-reach-{os.getpid()}-0", f"bench-reach-{os.getpid()}-1")
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
            _ip("-n", names[0], "link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr}")
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable0")
            _ip("-n", name, "link", "set", "cable0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _verdicts(nodes: tuple[str, str], interfaces: tuple[str, str]) -> list[str]:
    """What each rank is told."""
    ranks = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", RANK, str(index), ADDRESSES[0], str(PORT)],
            stdout=subprocess.PIPE,
            text=True,
            env=environ(GLOO_SOCKET_IFNAME=interface, PYTHONPATH=str(ROOT)),
        )
        for index, (name, interface) in enumerate(zip(nodes, interfaces, strict=True))
    ]
    try:
        return [rank.communicate(timeout=100)[0].strip() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def test_a_shared_interface(nodes: tuple[str, str]) -> None:
    assert _verdicts(nodes, ("cable0", "cable0")) == ["None", "None"]


def test_a_loopback_interface_is_named_on_both(nodes: tuple[str, str]) -> None:
    first, second = _verdicts(nodes, ("lo", "cable0"))
    assert first == second
    assert first.startswith("rank 1 on node1 cannot reach rank 0 on node0 at 127.0.0.1:")
    assert first.endswith(
        "(gloo's address there: loopback; Connection refused): set GLOO_SOCKET_IFNAME to an interface that the hosts "
        f"share (node0 has: cable0 {ADDRESSES[0]})"
    )
