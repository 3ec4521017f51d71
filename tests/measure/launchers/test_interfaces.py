"""Interfaces that variables name, and the address that other hosts reach."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.errors import BenchError
from bench.measure.launchers import interfaces
from bench.measure.launchers.interfaces import check_interfaces, gloo_complaint, nccl_complaint, own_address

PRESENT = ("docker0", "eth0", "ib0", "ib1", "lo")
ADDRESSES = {
    "lo": ("127.0.0.1", "::1"),
    "docker0": ("172.17.0.1",),
    "eth0": ("10.0.0.7", "fe80::7%eth0"),
    "ib0": ("fe80::8%ib0", "fd00::8"),
}


@pytest.mark.parametrize("text", ["", "eth0", "eth0,ib1"])
def test_gloo_takes_whole_names(text: str) -> None:
    assert gloo_complaint(text, PRESENT) is None


@pytest.mark.parametrize(("text", "missing"), [("eth", "eth"), ("eth0,ib7,ib8", "ib7, ib8"), ("=eth0", "=eth0")])
def test_gloo_names_those_that_are_not_there(text: str, missing: str) -> None:
    assert gloo_complaint(text, PRESENT) == f"no interface named {missing}"


@pytest.mark.parametrize(
    "text", ["", "eth", "eth0", "=eth0", "=ib7,ib0", "bond,ib", "^docker", "^=docker0", "^docker,lo", "eth0:1234", "^"]
)
def test_nccl_takes_prefixes_whole_names_and_exclusions(text: str) -> None:
    assert nccl_complaint(text, PRESENT) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bond", "no interface whose name begins with bond"),
        ("bond,wlan", "no interface whose name begins with bond or wlan"),
        ("=eth", "no interface named eth"),
        ("^docker,eth,ib,lo", "no interface is left"),
    ],
)
def test_nccl_is_left_with_an_interface(text: str, reason: str) -> None:
    assert nccl_complaint(text, PRESENT) == reason


def test_an_interface_that_is_not_there_is_one_line_with_those_that_are() -> None:
    check_interfaces({}, PRESENT)
    check_interfaces({"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "ib"}, PRESENT)
    with pytest.raises(BenchError, match=r"^GLOO_SOCKET_IFNAME=eth7: no interface named eth7 on .*; there are: d"):
        check_interfaces({"GLOO_SOCKET_IFNAME": "eth7"}, PRESENT)
    with pytest.raises(BenchError, match="NCCL_SOCKET_IFNAME=bond: no interface whose name begins with bond on "):
        check_interfaces({"NCCL_SOCKET_IFNAME": "bond"}, PRESENT)


@pytest.mark.parametrize(
    ("gloo", "routed", "address"),
    [
        ("ib0", ["10.0.0.7"], "fd00::8"),
        ("eth0", ["172.17.0.1"], "10.0.0.7"),
        ("", ["10.0.0.7", "fd00::8"], "10.0.0.7"),
        ("", ["fd00::8"], "fd00::8"),
        ("lo", ["10.0.0.7"], "10.0.0.7"),  # loopback is reached by nobody
    ],
)
def test_the_address_for_other_hosts(
    gloo: str, routed: Sequence[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interfaces, "_by_name", lambda own: [])
    assert own_address({"GLOO_SOCKET_IFNAME": gloo}, ADDRESSES, lambda: routed) == address


def test_without_a_route_the_host_s_name_and_then_any_interface_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_by_name", lambda own: ["127.0.1.1", "fd00::8"])
    assert own_address({}, ADDRESSES, list) == "fd00::8"
    monkeypatch.setattr(interfaces, "_by_name", lambda own: ["127.0.1.1"])
    assert own_address({}, ADDRESSES, list) == "172.17.0.1"
    assert own_address({}, {"lo": ("127.0.0.1", "::1")}, list) is None


def test_this_host_s_addresses_are_its_own() -> None:
    there = interfaces.host_addresses()
    assert "127.0.0.1" in there["lo"]
    assert interfaces.is_own("127.0.0.1")
    assert not interfaces.is_own("203.0.113.7")  # for documentation only
