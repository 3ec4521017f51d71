"""Ranks on several hosts that cannot reach each other: who is missing, and why, in one line and in time."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import BENCH, SUITES, saved
from tests.support.namespaces import Hosts, hosts_or_skip, stop, wait_for

pytestmark = [pytest.mark.launchers, pytest.mark.ranks, pytest.mark.long]
RUN = (*BENCH, "run", str(SUITES / "tiny.py"), "--preset", "smoke", "--set", "op=first")
PORT = "29600"  # on hosts where nothing else is


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts, whose network a test may change."""
    with hosts_or_skip(("alpha", "beta"), tmp_path_factory.mktemp("hosts")) as nodes:
        yield nodes


def start(
    nodes: Hosts, folder: Path, host: str, rank: int, size: int = 2, limit: str = "8s", **more: str
) -> subprocess.Popen[str]:
    """Start a rank; `limit` is short for ranks that are not to meet."""
    variables = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "alpha", "MASTER_PORT": PORT, **more}
    return nodes.start(host, *RUN, "--join-timeout", limit, "-o", str(folder), **variables)


def complaint(process: subprocess.Popen[str], code: int = 2) -> str:
    """The error of a rank, which ends with this exit code."""
    _, errors = process.communicate(timeout=90)
    assert process.returncode == code, errors
    lines = [line.removeprefix("bench: error: ") for line in errors.splitlines() if line.startswith("bench: error: ")]
    assert len(lines) <= 1, errors
    assert "Traceback" not in errors
    return lines[0] if lines else ""


def pair(nodes: Hosts, folder: Path, limit: str = "8s", **more: str) -> list[subprocess.Popen[str]]:
    return [start(nodes, folder, host, rank, limit=limit, **more) for rank, host in enumerate(("alpha", "beta"))]


def test_a_host_that_never_comes_is_missing_with_its_ranks(nodes: Hosts, tmp_path: Path) -> None:
    local = [{"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in (0, 1)]
    first, second = [start(nodes, tmp_path, "alpha", rank, 4, **local[rank]) for rank in (0, 1)]
    assert complaint(first).startswith("2 of 4 ranks came within 8 s; missing: rank 2, 3;")
    assert complaint(second) == ""


def test_a_rank_that_is_missing_beside_a_sibling_has_that_host(nodes: Hosts, tmp_path: Path) -> None:
    local = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    processes = [start(nodes, tmp_path, host, rank, 4, **local) for host, rank in (("alpha", 0), ("beta", 2))]
    texts = [complaint(process) for process in processes]
    assert "missing: alpha: rank 1; beta: rank 3;" in texts[0]
    assert texts[1] == f"rank 2: {texts[0]}"  # its user may look at that host alone


def test_a_port_that_a_firewall_drops_is_no_answer(nodes: Hosts, tmp_path: Path) -> None:
    nodes.check("alpha", "ip", "route", "add", "blackhole", nodes.addresses["beta"])
    texts = [complaint(process) for process in pair(nodes, tmp_path)]
    assert "missing: rank 1; start every rank, and see that the other hosts reach alpha:29600" in texts[0]
    assert texts[1].startswith("rank 1: rank 0 did not come within 8 s: alpha:29600: no answer: a firewall drops it")


def test_loopback_as_the_address_of_several_hosts(nodes: Hosts, tmp_path: Path) -> None:
    texts = [complaint(process) for process in pair(nodes, tmp_path, MASTER_ADDR="127.0.0.1")]
    assert "missing: rank 1; start every rank, and see that the other hosts reach 127.0.0.1:29600" in texts[0]
    assert "127.0.0.1:29600: refused" in texts[1]


def test_an_address_that_is_another_host_s_is_warned_of(nodes: Hosts, tmp_path: Path) -> None:
    first, second = pair(nodes, tmp_path, MASTER_ADDR="beta")
    _, errors = first.communicate(timeout=90)
    assert "warning: MASTER_ADDR=beta is not an address of alpha, where rank 0 runs" in errors
    assert "beta:29600: refused" in complaint(second)


@pytest.mark.parametrize("name", ["lo", "eth9"])
def test_an_interface_that_does_not_reach_the_others(nodes: Hosts, tmp_path: Path, name: str) -> None:
    processes = [
        start(nodes, tmp_path, "alpha", 0),
        start(nodes, tmp_path, "beta", 1, GLOO_SOCKET_IFNAME=name),
    ]
    texts = [complaint(process) for process in processes]
    assert "GLOO_SOCKET_IFNAME" in texts[0]
    assert "beta" in texts[0]
    assert "eth0" in texts[0]  # an interface that would do
    assert texts[1].endswith(texts[0])


def test_hosts_that_have_ipv6_alone_meet(nodes: Hosts, tmp_path: Path) -> None:
    for number, host in enumerate(("alpha", "beta"), 1):
        nodes.check(host, "ip", "-6", "addr", "add", f"fd00:78::{number}/64", "dev", "eth0", "nodad")
        nodes.check(host, "ip", "-4", "addr", "flush", "dev", "eth0")
    for process in pair(nodes, tmp_path, "60s", MASTER_ADDR="fd00:78::1", GLOO_SOCKET_IFNAME="eth0"):
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
    assert [rank["host"] for rank in saved(tmp_path).ranks()] == ["alpha", "beta"]


def test_a_host_that_falls_silent_while_it_measures_ends_the_run(nodes: Hosts, tmp_path: Path) -> None:
    first, second = pair(nodes, tmp_path, "60s")
    wait_for(lambda: any('"ranks"' in file.read_text() for file in tmp_path.glob("*.jsonl")), "the ranks' line", 60)
    nodes.cut("beta")
    _, errors = first.communicate(timeout=90)
    assert first.returncode == 3, errors
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)
    stop(second, signal.SIGKILL)
    second.communicate(timeout=30)


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_a_short_cut_of_the_network_is_outlived(nodes: Hosts, tmp_path: Path, seconds: float) -> None:
    processes = pair(nodes, tmp_path, "60s")
    wait_for(lambda: any('"ranks"' in file.read_text() for file in tmp_path.glob("*.jsonl")), "the ranks' line", 60)
    nodes.cut("beta")
    threading.Event().wait(seconds)  # the cut itself
    nodes.connect("beta")
    for process in processes:
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
    assert saved(tmp_path).statuses() == {"first": "ok"}


def test_a_cut_while_the_ranks_meet_is_outlived(nodes: Hosts, tmp_path: Path) -> None:
    nodes.cut("beta")
    processes = pair(nodes, tmp_path, "60s")
    wait_for(lambda: any(tmp_path.glob("*.jsonl")), "the result file", 60)
    nodes.connect("beta")
    for process in processes:
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
