"""Hosts made of network and host-name namespaces, for launchers that start ranks on several.

All of it is in namespaces of its own (mount, network, process, host name), which end with the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.support.command import start

NAMES = ("alpha", "beta", "gamma")
"""The command runs on the first; their addresses are 10.77.0.1, 10.77.0.2, 10.77.0.3."""
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")

_SET_UP = """
set -e
folder=$1; shift
mount --make-rprivate /
mount -t tmpfs tmpfs /run
printf '127.0.0.1 localhost\\n10.77.0.1 alpha\\n10.77.0.2 beta\\n10.77.0.3 gamma\\n' >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
hostname alpha
ip link set lo up
ip link add br0 type bridge
ip addr add 10.77.0.1/24 dev br0
ip link set br0 up
number=2
for host in beta gamma; do
    ip netns add "$host"
    ip link add "veth$number" type veth peer name eth0 netns "$host"
    ip link set "veth$number" master br0 up
    ip -n "$host" addr add "10.77.0.$number/24" dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$host" link set lo up
    number=$((number + 1))
done
exec "$@"
"""
# As ssh is called: options, the host, the words of a command for the shell there.
_REMOTE_SHELL = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1; shift
if [ "$host" = alpha ]; then exec bash -c "$*"; fi
exec ip netns exec "$host" unshare --uts bash -c "hostname $host; $*"
"""


def missing(*programs: str) -> str | None:
    """The reason for which there can be no such hosts here, or a program is missing; None: all is there."""
    absent = [name for name in (*programs, "ip", "unshare") if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    return None if _namespaces_work() else "this kernel or container has no namespaces, bridge or veth"


@cache
def _namespaces_work() -> bool:
    probe = "ip link add br0 type bridge && ip link add veth0 type veth peer name veth1"
    return subprocess.run([*NAMESPACES, "sh", "-c", probe], capture_output=True).returncode == 0


def remote_shell(folder: Path) -> Path:
    """A program to be called as ssh is, that reaches the hosts."""
    path = folder / "remote_shell"
    path.write_text(_REMOTE_SHELL)
    path.chmod(0o755)
    return path


def on_hosts(command: list[str], folder: Path, timeout_seconds: float = 100.0) -> subprocess.CompletedProcess[str]:
    """Run a command on alpha, from which it reaches the other hosts."""
    process = start([*NAMESPACES, "bash", "-c", _SET_UP, "hosts", str(folder), *command], launcher=True)
    out, errors = process.communicate(timeout=timeout_seconds)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)
