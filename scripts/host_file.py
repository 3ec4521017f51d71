"""Host files as mpirun and pdsh read them: a host per line, with the number of its ranks if it is not 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.measure.launchers.host_lists import expand

HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")
"""Nothing that ssh could take for an option, and nothing that a shell would read as more than a word."""
NAME_AND_SLOTS = re.compile(r"([^:]+):(\d+)")
"""MPICH's form. A name with more colons is an IPv6 address."""


class HostsError(Exception):
    """What is wrong and what to do, in one line."""


def read_hosts(text: str, name: str) -> dict[str, int]:
    """Hosts of a file, in its order, and the number of ranks on each. Raises HostsError."""
    hosts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            slots = _slots(words)
            for host in expand(NAME_AND_SLOTS.sub(r"\1", words[0])):
                if not HOST.fullmatch(host):
                    raise ValueError(
                        "the name of a host has letters, digits and `._:-`, and begins with a letter or digit"
                    )
                hosts[host] = hosts.get(host, 0) + slots
        except ValueError as error:
            raise HostsError(f"{name}, line {number}: {line.strip()!r}: {error}") from None
    if not hosts:
        raise HostsError(f"{name}: names no host; write one per line, such as `node1` or `node1 slots=8`")
    return hosts


def _slots(words: Sequence[str]) -> int:
    of_name = NAME_AND_SLOTS.fullmatch(words[0])
    slots = int(of_name[2]) if of_name else 1
    for word in words[1:]:
        key, _, value = word.replace("-", "_").partition("=")
        if key not in ("slots", "max_slots") or not value.isdecimal():
            raise ValueError(f"{word!r} is not understood; write `slots=8`")
        slots = int(value) if key == "slots" else slots
    if slots < 1:
        raise ValueError("at least one rank per host")
    return slots
