"""Copies of results that are fit to be published: what names a machine, a person or a place is taken out.

Hosts are numbered; UUIDs, PCI and network addresses, names of network interfaces and paths go. Values of
variables are published only where they look harmless, since a list of what may be shown fails on the safe
side.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from bench.records.environments import REMOVED

# Variables whose values name interfaces, network devices, addresses, peers or files.
_NAMING = re.compile(
    r"IFNAME|IFACE|INTERFACE|_HCA|NET_DEVICE|NET_PLUGIN|COMM_ID|ADDR|HOST|DOMAIN|FILE|PATH|HOME|_DIR|_ROOT"
    r"|PRELOAD"
)
_HARMLESS_VALUE = re.compile(r"[\w.,:+=%^*@-]*")
_UUID = re.compile(r"\b(?:(?:GPU|MIG)-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I)
_PCI = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b", re.I)
_MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.I)
# Wider than an address: `ipaddress` decides what of it is one.
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:])", re.I
)
# Begins a word, so that `GB/s` and `collective/all_reduce` are no paths.
_FILE_PATH = re.compile(r"(?<![\w./~-])(?:~|\.{1,2})?(?:/[\w.@+~-]+)+/?|\b[A-Z]:\\[\w.\\-]+")


def share(environment: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an environment (`bench.measure.system.environment.collect`) without what names its machines."""
    names = numbered(environment)
    hosts = {
        names[name]: scrub({**host, "hostname": REMOVED}, names) for name, host in environment.get("hosts", {}).items()
    }
    ranks = [
        scrub({**rank, "uuid": None, "pci_bus_id": None, "host": names.get(str(rank.get("host")))}, names)
        for rank in environment.get("ranks", [])
    ]
    variables = {
        name: value if _harmless(name, value, names) else REMOVED
        for name, value in environment.get("variables", {}).items()
    }
    return {**environment, "hosts": hosts, "ranks": ranks, "variables": variables}


def numbered(environment: Mapping[str, Any]) -> dict[str, str]:
    """Host name -> `host0`, `host1`, ... in the order in which the environment has them."""
    listed = [*environment.get("hosts", {}), *(rank.get("host") for rank in environment.get("ranks", []))]
    return {name: f"host{index}" for index, name in enumerate(dict.fromkeys(filter(None, listed)))}


def scrub(value: Any, hosts: Mapping[str, str]) -> Any:
    """A copy of plain JSON data with hosts numbered, and paths, UUIDs and addresses taken out of its strings.

    For texts such as error messages; `hosts` is what `numbered` gives. Keys of objects are left as they are.
    """
    if isinstance(value, str):
        return scrub_text(value, hosts)
    if isinstance(value, Mapping):
        return {key: scrub(each, hosts) for key, each in value.items()}
    return [scrub(each, hosts) for each in value] if isinstance(value, list | tuple) else value


def scrub_text(text: str, hosts: Mapping[str, str]) -> str:
    """One string, scrubbed."""
    for pattern in (_UUID, _PCI, _MAC, _FILE_PATH):
        text = pattern.sub(REMOVED, text)
    text = _ADDRESS.sub(lambda match: REMOVED if _is_address(match[0]) else match[0], text)
    # The longest first: `node1` may be the beginning of `node1.cluster`.
    for name in sorted(hosts, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", hosts[name], text)
    return text


def _harmless(name: str, value: Any, hosts: Mapping[str, str]) -> bool:
    text = str(value)
    return (
        not _NAMING.search(name.upper())
        and _HARMLESS_VALUE.fullmatch(text) is not None
        and scrub_text(text, hosts) == text
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
