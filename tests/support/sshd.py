"""Servers of ssh for tests, on hosts of `tests.support.namespaces`, with keys of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.namespaces import GATEWAY, Hosts, find_tool, wait_for

SERVER = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
CLIENT = """
IdentityFile {folder}/user_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
"""


def start_servers(hosts: Hosts, names: Sequence[str], folder: Path) -> str:
    """Start a server on each of the hosts; returns ssh's command line for clients."""
    for key in ("host_key", "user_key"):
        hosts.check(GATEWAY, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"{name} {public}" for name in names))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    hosts.check(GATEWAY, "mkdir", "-p", "/run/sshd")
    program = find_tool("sshd")
    assert program is not None
    for name in names:
        configuration = folder / f"{name}.sshd"
        configuration.write_text(SERVER.format(folder=folder, address=hosts.addresses[name]))
        hosts.check(name, program, "-f", str(configuration), "-E", str(folder / f"{name}.log"))
    command = f"ssh -F {folder}/client"
    for name in names:
        wait_for(
            lambda: hosts.call(GATEWAY, *command.split(), "-o", "BatchMode=yes", name, "true").returncode == 0,  # noqa: B023
            f"{name} lets us in",
        )
    return command
