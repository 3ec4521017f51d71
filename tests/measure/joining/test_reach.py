"""Hosts of a joined run that do not reach each other at gloo's addresses: who, whom, where, why, and the remedy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from bench.errors import BenchError
from bench.measure.engine.store import StoreTimeout
from bench.measure.joining import reach
from bench.measure.joining.reach import (
    Door,
    check_reach,
    describe_failure,
    first_ranks,
    gloo_address,
    knock,
    open_door,
    refuse_nccl_interface,
    shown,
    summary,
    targets,
)
from bench.measure.launchers.place import Place

ADDRESSES = {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.1", "fe80::1%eth0"], "ib0": ["192.168.0.1"], "ib1": []}
DOOR = Door(0, "node0", "10.0.0.1", 41234, "token", "eth0 10.0.0.1")


class _SharedStore:
    """The store's calls on a dictionary, for ranks that are threads."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def get(self, key: str, timeout_seconds: float | None = None) -> bytes:
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._values, timeout_seconds):
                raise StoreTimeout(f"wait timeout, keys: {key}")
            return self._values[key].encode()


def _place(index: int, hosts: list[str]) -> Place:
    return Place(index, len(hosts), 0, 1, num_hosts=len(set(hosts)))


def _check_all(
    hosts: list[str], environs: Mapping[int, Mapping[str, str]], present: int | None = None, **extra: Any
) -> list[str | None]:
    """Every rank's verdict; of a job with ranks that do not come, those of the first ones."""
    store: Any = _SharedStore()
    ranks = range(len(hosts) if present is None else present)

    def check(index: int) -> str | None:
        limit = 0.02 if present is not None and index == 0 else 20.0
        environ = {"GLOO_SOCKET_IFNAME": "lo"} | environs.get(index, {})
        return check_reach(_place(index, hosts), hosts, store, limit, environ, **extra)

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(check, ranks))


def test_hosts_that_reach_each_other() -> None:
    hosts = ["a", "a", "b", "b", "c"]
    before = threading.active_count()
    assert _check_all(hosts, {}) == [None] * 5
    assert threading.active_count() == before, "every door is shut"


def test_one_host_asks_nobody() -> None:
    store: Any = None
    assert check_reach(_place(0, ["a", "a"]), ["a", "a"], store, 5.0, {}) is None


def test_an_interface_that_one_host_lacks_is_said_on_every_rank() -> None:
    verdicts = _check_all(["a", "a", "b", "b"], {2: {"GLOO_SOCKET_IFNAME": "none9"}})
    (verdict,) = set(verdicts)
    assert verdict is not None
    assert verdict.startswith("rank 2 on b: GLOO_SOCKET_IFNAME=none9: there is no such interface (none9); name one of:")
    assert verdict.splitlines() == [verdict]


def test_hosts_that_find_another_program_do_not_reach_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a loopback address each host finds itself: what answers there has to say who it is."""
    with open_door(9, "elsewhere", "127.0.0.1", "") as stranger:
        monkeypatch.setattr(reach, "open_door", _Misleading(stranger))
        verdict, other = _check_all(["a", "b"], {})
    assert verdict == other
    assert verdict is not None
    assert "rank 0 on a cannot reach rank 1 on b at 127.0.0.1:" in verdict
    assert "loopback; another program answers" in verdict
    assert verdict.endswith("; and 1 more of this kind")


class _Misleading:
    """Opens doors that say the port of a stranger."""

    def __init__(self, stranger: Door) -> None:
        self.stranger = stranger

    def __call__(self, rank: int, host: str, address: str, others: str) -> Any:
        return nullcontext(Door(rank, host, self.stranger.address, self.stranger.port, "another token", others))


def test_ranks_that_do_not_come_are_named() -> None:
    verdicts = _check_all(["a", "a", "b", "c"], {}, present=2)
    assert verdicts[0] == verdicts[1] is not None
    assert "rank 2 on b does not say within 0.02 s where it listens" in str(verdicts[0])
    assert "; and 2 more of this kind" in str(verdicts[0]), "neither b nor c says whom it reaches"


def test_without_rank_0_the_others_go_on_to_say_so() -> None:
    hosts, store = ["a", "b"], _SharedStore()
    shared: Any = store
    verdict = check_reach(_place(1, hosts), hosts, shared, 0.02, {"GLOO_SOCKET_IFNAME": "lo"})
    assert verdict == "rank 0 on a does not say within 0.16 s whether all hosts reach each other"


def test_the_ring_and_the_first_host_are_asked() -> None:
    firsts = first_ranks(["a", "a", "b", "c", "b", "c"])
    assert firsts == [0, 2, 3]
    assert [targets(rank, firsts) for rank in firsts] == [[2], [3, 0], [0]]
    assert [targets(rank, [0, 4]) for rank in (0, 4)] == [[4], [0]]


@pytest.mark.parametrize(
    ("value", "address"),
    [("eth0", "10.0.0.1"), ("ib0,eth0", "192.168.0.1"), ("lo", "127.0.0.1"), (",ib0", "192.168.0.1")],
)
def test_gloo_s_address_is_the_first_of_its_first_interface(value: str, address: str) -> None:
    assert gloo_address({"GLOO_SOCKET_IFNAME": value}, ADDRESSES) == address


@pytest.mark.parametrize(
    ("value", "fault"),
    [("eth7", r"there is no such interface \(eth7\)"), ("eth0,ib1", r"that interface has no address \(ib1\)")],
)
def test_an_interface_without_an_address_is_refused(value: str, fault: str) -> None:
    with pytest.raises(BenchError, match=rf"^GLOO_SOCKET_IFNAME={value}: {fault}; name one of: eth0, ib0, ib1, lo$"):
        gloo_address({"GLOO_SOCKET_IFNAME": value}, ADDRESSES)


def test_without_a_name_gloo_takes_the_address_of_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "usable_address", lambda name: "10.0.0.9")
    assert gloo_address({"GLOO_SOCKET_IFNAME": ""}, ADDRESSES) == "10.0.0.9"
    monkeypatch.setattr(reach, "usable_address", lambda name: None)
    assert gloo_address({}, ADDRESSES) == "127.0.0.1"


@pytest.mark.parametrize("value", ["", "eth", "=eth0", "=lo,ib0", "^docker", "^=eth0,lo", "eth0:22", "lo,eth"])
def test_nccl_finds_an_interface(value: str) -> None:
    refuse_nccl_interface({"NCCL_SOCKET_IFNAME": value}, ADDRESSES)


@pytest.mark.parametrize("value", ["enp", "=eth", "lo", "=lo", "^eth,ib", "^=eth0,ib0", "ib1"])
def test_nccl_finds_none(value: str) -> None:
    with pytest.raises(BenchError) as refused:
        refuse_nccl_interface({"NCCL_SOCKET_IFNAME": value}, ADDRESSES)
    assert str(refused.value) == (
        f"NCCL_SOCKET_IFNAME={value}: no interface of that name reaches another host; there are: eth0, ib0"
    )


def test_nccl_is_asked_about_only_if_it_is_used() -> None:
    environs = {1: {"NCCL_SOCKET_IFNAME": "none9"}}
    assert _check_all(["a", "b"], environs) == [None, None]
    verdict, _ = _check_all(["a", "b"], environs, backend="nccl")
    assert str(verdict).startswith("rank 1 on b: NCCL_SOCKET_IFNAME=none9: no interface")


def test_a_complaint_says_who_whom_where_why_and_the_remedy() -> None:
    door = Door(0, "node0", "127.0.0.1", 41234, "token", shown(ADDRESSES))
    assert describe_failure(4, "node1", door, "Connection refused") == (
        "rank 4 on node1 cannot reach rank 0 on node0 at 127.0.0.1:41234 (gloo's address there: loopback; Connection "
        "refused): set GLOO_SOCKET_IFNAME to an interface that the hosts share (node0 has: eth0 10.0.0.1, "
        "ib0 192.168.0.1)"
    )
    six = describe_failure(4, "node1", Door(0, "node0", "fd00::2", 41234, "token", ""), "no answer within 5 s")
    assert "at [fd00::2]:41234 (gloo's address there: no answer within 5 s)" in six
    assert "(node0 has: none)" in six


def test_complaints_are_summed_up() -> None:
    assert summary([]) == ""
    assert summary(["one"]) == "one"
    assert summary(["one", "two", "three"]) == "one; and 2 more of this kind"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_door_opens_and_shuts(address: str) -> None:
    try:
        with open_door(0, "a", address, "") as door:
            assert knock(door, 20.0) is None
    except BenchError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert knock(door, 20.0) == "Connection refused"


def test_an_address_of_another_host_cannot_be_listened_on() -> None:
    with pytest.raises(BenchError, match=r"^gloo cannot listen on 203\.0\.113\.7 \(.+\); set GLOO_SOCKET_IFNAME$"):
        open_door(0, "a", "203.0.113.7", "").__enter__()  # 203.0.113.0/24 is for documentation only


def test_a_silent_program_is_waited_for_no_longer_than_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Door(0, "a", "127.0.0.1", silent.getsockname()[1], "token", "")
        assert knock(door, 0.05) == "no answer within 0.05 s"
