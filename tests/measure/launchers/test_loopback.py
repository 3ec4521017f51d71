"""Which variables keep the sockets of ranks on one host to loopback."""

from __future__ import annotations

import socket

import pytest

from bench.core.process_environment import own_names
from bench.measure.launchers import loopback
from bench.measure.launchers.loopback import keep_to_loopback
from bench.measure.system.host import loopback_interface


def test_the_loopback_interface_is_the_kernel_s() -> None:
    assert loopback_interface() in {name for _, name in socket.if_nameindex()}


def test_an_interface_is_found_by_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "loopback_interface", lambda: "lo7")
    added = keep_to_loopback({"HOME": "/root"})
    assert (added["GLOO_SOCKET_IFNAME"], added["NCCL_SOCKET_IFNAME"]) == ("lo7", "=lo7")
    assert own_names(added) == {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"}


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "loopback_interface", lambda: "lo")
    added = keep_to_loopback({"GLOO_SOCKET_IFNAME": "eth0"})
    assert "GLOO_SOCKET_IFNAME" not in added
    assert added["NCCL_SOCKET_IFNAME"] == "=lo"
    assert keep_to_loopback({"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": ""}) == {}


def test_without_a_loopback_interface_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "loopback_interface", lambda: None)
    assert keep_to_loopback({}) == {}
