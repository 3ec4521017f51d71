"""Where the processes of a real local run listen: on loopback alone."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import psutil

from bench.measure.system.host import loopback_interface
from tests.sample_suites.waiting import SOCKET_VARIABLE
from tests.support.command import BENCH, SUITES, saved, start

LIMIT_SECONDS = 100.0


def _listening(of: psutil.Process) -> set[str]:
    """The addresses that a process listens on."""
    found = of.net_connections("inet")
    return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}


def test_a_local_run_listens_on_loopback_alone(tmp_path: Path) -> None:
    name = f"bench-test-{os.getpid()}"
    with ExitStack() as stack:
        meeting = stack.enter_context(socket.socket(socket.AF_UNIX))
        meeting.bind("\0" + name)
        meeting.listen()
        meeting.settimeout(LIMIT_SECONDS)
        words = ("run", str(SUITES / "waiting.py"), "--preset", "smoke", "--device", "cpu", "--ranks", "2")
        run = stack.enter_context(start((*BENCH, *words, "-o", str(tmp_path)), **{SOCKET_VARIABLE: name}))
        with ExitStack() as held:
            stack.callback(run.kill)  # before its output is waited for
            for _ in range(2):
                held.enter_context(meeting.accept()[0])
            parent = psutil.Process(run.pid)
            ranks = parent.children(recursive=True)
            addresses = {each.pid: _listening(each) for each in (parent, *ranks)}
            chosen = {each.environ().get("GLOO_SOCKET_IFNAME") for each in ranks}
            meeting.close()
        _, errors = run.communicate(timeout=LIMIT_SECONDS)
    assert run.returncode == 0, errors
    assert addresses[parent.pid] == {"127.0.0.1"}, "the store"
    assert sum(map(bool, addresses.values())) == 3, "the ranks' gloo groups listen, too"
    assert all(ip_address(each).is_loopback for each in set().union(*addresses.values()))
    assert chosen == {loopback_interface()}, "by chance: the name of this host has a loopback address"
    variables = saved(tmp_path).header["environment"]["variables"]
    assert not {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TORCH_CPP_LOG_LEVEL"} & set(variables)
