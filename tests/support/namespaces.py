"""Several hosts on this machine for tests: each with a network and a name of its own, and nothing left of them.

One process keeps them, as the first of a PID namespace: with it all ends that runs on the hosts, also if the tests are
killed. `/run` and `/etc/hosts` are the hosts' own too. Needs root and namespaces.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command import environ

GATEWAY = "gateway"
"""Host that the bridge belongs to; it reaches all others."""
SUBNET = "10.78.0"
KEEPER = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/netns
mount --bind "$1" /etc/hosts
shift
hostname gateway
ip link set lo up
ip link add switch type bridge
ip addr add 10.78.0.254/24 dev switch
ip link set switch up
number=0
for host in "$@"; do
  number=$((number + 1))
  ip netns add "$host"
  ip link add "port$number" type veth peer name eth0 netns "$host"
  ip link set "port$number" master switch up
  ip -n "$host" addr add "10.78.0.$number/24" dev eth0
  ip -n "$host" link set eth0 up
  ip -n "$host" link set lo up
done
echo ready
read -r _ || true  # until the tests close the pipe, or are gone
"""
"""A shell as the first process, since it takes in the processes whose parents are gone."""

REMOTE_SHELL = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1
shift
exec nsenter --net="/run/netns/$host" unshare --uts bash -c "hostname $host; $*"
"""
"""Called as ssh is, by a launcher that runs on one of the hosts: options, the host, words for the shell there."""


class Hosts:
    """Hosts with an address and a name each, on one bridge; a context manager."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, 1)}
        self.addresses[GATEWAY] = f"{SUBNET}.254"
        self.remote_shell = folder / "remote_shell"
        self.remote_shell.write_text(REMOTE_SHELL)
        self.remote_shell.chmod(0o755)
        known = folder / "hosts"
        lines = [f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **self.addresses}.items()]
        known.write_text("".join(lines))
        self._keeper = subprocess.Popen(
            [
                "unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc",
                "bash", "-c", KEEPER, "bash", str(known), *names,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            _, errors = self._keeper.communicate()
            raise OSError(errors.strip())
        (first,) = psutil.Process(self._keeper.pid).children()
        self._first = first.pid

    def command(self, host: str, *words: str) -> list[str]:
        """The words of a command line that runs a command on a host, in this process's folder."""
        enter = ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", "--uts"]
        there = [*enter, "env", f"--chdir={Path.cwd()}"]
        if host == GATEWAY:
            return [*there, *words]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        # Not `ip netns exec`, which puts a new /sys in the place of the one with control groups.
        return [*there, "nsenter", f"--net=/run/netns/{host}", *named, *words]

    def call(
        self, host: str, *words: str, timeout_seconds: float = 100.0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end."""
        process = self.start(host, *words, **variables)
        try:
            out, errors = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            stop(process, signal.SIGKILL)
            process.kill()
            out, errors = process.communicate()
            raise AssertionError(f"{words} took over {timeout_seconds:g} s: {out}{errors}") from None
        return subprocess.CompletedProcess(words, process.returncode, out, errors)

    def start(self, host: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A command on a host, in a session of its own; its output is read later."""
        return subprocess.Popen(
            self.command(host, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(**variables),
            start_new_session=True,
        )

    def cut(self, host: str) -> None:
        """Take a host from the network: its processes live on, and nobody hears of them."""
        self.check(GATEWAY, "ip", "link", "set", self._port(host), "down")

    def connect(self, host: str) -> None:
        """Put a host that was cut off back on the network."""
        self.check(GATEWAY, "ip", "link", "set", self._port(host), "up")

    def crash(self, host: str) -> None:
        """End all processes of a host at once."""
        self.check(GATEWAY, "sh", "-c", 'ip netns pids "$0" | xargs --no-run-if-empty kill -KILL', host)

    def commands(self, host: str) -> str:
        """Command lines of all processes of a host."""
        return self.call(GATEWAY, "sh", "-c", 'ps -o args= -p "$(ip netns pids "$0" | paste -sd,)"', host).stdout

    def _port(self, host: str) -> str:
        return f"port{list(self.addresses).index(host) + 1}"

    def check(self, host: str, *words: str) -> None:
        """Run a command on a host, which must end well."""
        done = self.call(host, *words)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """End all that runs on the hosts, and them."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        for stream in (self._keeper.stdout, self._keeper.stderr):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a command that `Hosts.start` gave, not to what entered the namespaces."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            child.send_signal(number)


def hosts_or_skip(names: Sequence[str], folder: Path, *tools: str) -> Hosts:
    """Hosts; skips the test if root, a tool or the kernel's part is missing."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    missing = [tool for tool in ("ip", "unshare", "nsenter", *tools) if find_tool(tool) is None]
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    try:
        return Hosts(names, folder)
    except OSError as error:
        pytest.skip(f"no namespaces here: {error}")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until programs that others started have come so far."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def wait_for_records(folder: Path, number: int) -> None:
    """Wait until the only result file of a folder has so many measurements."""
    what = '"kind":"measurement"'
    wait_for(
        lambda: sum(file.read_text().count(what) for file in folder.glob("*.jsonl")) >= number,
        f"{number} measurement(s) in {folder}",
        60,
    )


def find_tool(name: str) -> str | None:
    """Path of a program, also of one that is not for every user."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
