"""Ranks on several hosts with names and addresses of their own: over ssh from a host file, and by torchrun's agents."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.command import BENCH, FAULTY, SUITES, TORCHRUN, saved
from tests.support.namespaces import GATEWAY, Hosts, hosts_or_skip, stop, wait_for, wait_for_records
from tests.support.sshd import start_servers

pytestmark = [pytest.mark.launchers, pytest.mark.ranks, pytest.mark.long]

TINY = str(SUITES / "tiny.py")
NODES = ("node1", "node2", "node3")
QUICK = ("--preset", "smoke", "--budget", "10m")


class Cluster:
    """Three hosts that ssh reaches from a fourth."""

    def __init__(self, hosts: Hosts, ssh: str) -> None:
        self.hosts, self.ssh = hosts, ssh

    def start(self, file: Path, names: str, *words: str) -> subprocess.Popen[str]:
        """scripts/ssh_hosts.py with a host file of these lines."""
        file.write_text(names)
        bench = str(Path(sys.executable).parent / "bench")
        where = ("--ssh", self.ssh, "--bench", bench, "-x", f"PYTHONPATH={ROOT}")
        return self.hosts.start(
            GATEWAY, sys.executable, str(ROOT / "scripts" / "ssh_hosts.py"), str(file), *where, *words
        )

    def call(self, file: Path, names: str, *words: str) -> tuple[int, str, str]:
        process = self.start(file, names, *words)
        out, errors = process.communicate(timeout=120)
        return process.returncode, out, errors

    def bench_runs(self, host: str) -> bool:
        return " run --launcher env" in self.hosts.commands(host)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ssh")
    with hosts_or_skip(NODES, folder, "sshd", "ssh", "ssh-keygen") as hosts:
        yield Cluster(hosts, start_servers(hosts, NODES, folder))


def test_a_host_file_makes_one_file_of_its_hosts(cluster: Cluster, tmp_path: Path) -> None:
    words = (
        "--ranks-per-host",
        "1",
        "--",
        TINY,
        *QUICK,
        "--set",
        "op=first",
        "--label",
        "it's $(id)",
        "-o",
        str(tmp_path),
    )
    code, out, errors = cluster.call(tmp_path / "hosts", "node1 slots=2\nnode2  # the second\n", *words)
    assert code == 0, errors
    assert out.count("saved: ") == 1
    file = saved(tmp_path)
    assert [rank["host"] for rank in file.ranks()] == ["node1", "node2"]
    assert file.header["label"] == "it's $(id)"


def test_a_host_that_does_not_answer_is_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.hosts.cut("node2")
    try:
        code, _, errors = cluster.call(
            tmp_path / "hosts", "node1\nnode2\n", "--ssh", f"{cluster.ssh} -o ConnectTimeout=2"
        )
    finally:
        cluster.hosts.connect("node2")
    assert code == 2
    assert "node2 does not answer: ssh: connect to host node2 port 22:" in errors


def test_an_interrupted_call_ends_all_ranks_and_keeps_what_was_measured(cluster: Cluster, tmp_path: Path) -> None:
    words = ("--", FAULTY, *QUICK, "--set", "op=none,hang_all", "-o", str(tmp_path))
    process = cluster.start(tmp_path / "hosts", "node1\nnode2\n", *words)
    wait_for_records(tmp_path, 1)
    stop(process, signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "saved: " in out
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok"}
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("interrupted", 130)
    wait_for(lambda: not any(map(cluster.bench_runs, NODES)), "no rank is left")


@pytest.mark.seeded
def test_another_host_takes_the_place_of_a_lost_one(cluster: Cluster, tmp_path: Path) -> None:
    words = ("--hosts", "2", "--", TINY, *QUICK, "--launches", "3", "--set", "op=first", "-o", str(tmp_path))
    process = cluster.start(tmp_path / "hosts", "\n".join(NODES), *words)
    wait_for_records(tmp_path, 1)
    cluster.hosts.crash("node2")  # its server too
    _, errors = process.communicate(timeout=120)
    assert "ssh_hosts: lost node2; node1, node3 go on" in errors
    file = saved(tmp_path)
    measured = {m["launch"]: m["status"] for m in file.measurements}
    assert sorted(measured) == [0, 1, 2]
    assert measured[2] == "ok"


def test_torchrun_on_two_hosts_makes_one_file(cluster: Cluster, tmp_path: Path) -> None:
    words = (*TORCHRUN, "--nnodes=2", "--nproc-per-node=2", "--master-addr=node1", "--master-port=29500", "--no-python")
    bench = (*BENCH, "run", TINY, *QUICK, "--launches", "3", "--set", "op=first", "-o", str(tmp_path))
    agents = [
        cluster.hosts.start(f"node{number + 1}", *words[:4], f"--node-rank={number}", *words[4:], *bench)
        for number in (0, 1)
    ]
    outputs = [agent.communicate(timeout=120) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    file = saved(tmp_path)
    assert [rank["host"] for rank in file.ranks()] == ["node1", "node1", "node2", "node2"]
    assert [(m["launch"], m["status"]) for m in file.measurements] == [(0, "ok"), (1, "ok"), (2, "ok")]
