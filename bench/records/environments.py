"""Facts of a saved environment: the architecture's name, and the fields in which two environments differ.

Pure functions of the records; nothing here asks the machine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.core.masking import placeholders
from bench.records.lines.header import Environment, HostFacts, RankFacts
from bench.records.privacy.variables import kept_variables

Difference = tuple[str, Any, Any]

REMOVED = placeholders.REMOVED
"""Stands for a value that was taken out of a published file: known once, and equal to nothing."""

# Fields of a host and of a rank that change speed. Not among them: what changes from minute to minute (load,
# available memory, current frequency) and what only names a thing (UUID, PCI address).
HOST_FIELDS = (
    "hostname",
    "cpu_model",
    "cpu_architecture",
    "logical_cores",
    "physical_cores",
    "sockets",
    "numa_nodes",
    "usable_cores",
    "cpu_quota_cores",
    "cpu_governor",
    "cpu_max_frequency_hz",
    "memory_bytes",
    "memory_limit_bytes",
    "shm_bytes",
    "os",
    "kernel",
    "virtualised",
    "present_gpus",
    "gpu_driver",
)
RANK_FIELDS = (
    "device_type",
    "device_name",
    "memory_bytes",
    "driver",
    "mig",
    "numa_node",
    "visible_devices",
    "num_threads",
    "num_interop_threads",
    "omp_num_threads",
    "cpu_affinity",
    "emulated_speed",
    "emulated_link_speed",
)
# Variables that say where things lie, not how fast they go.
_PLACES = re.compile(r"(_HOME|_PATH|_DIR|_FILE|_ROOT)$")
# Of one clock from boot to boot, and of one kernel from boot to boot, these differ by a little.
_RELATIVE_TOLERANCE = {"memory_bytes": 0.01, "shm_bytes": 0.01}


def architecture(ranks: Sequence[RankFacts], hosts: Mapping[str, HostFacts]) -> str:
    """The architecture's name, from its ranks and their hosts.

    `8 x NVIDIA H100 80GB HBM3`; `2 x A100 + 6 x H100 (mixed)`, in alphabetical order; for ranks on CPUs the
    cores that they can keep busy, `2 x AMD EPYC core`, with the ranks before it if their number is
    another: `4 ranks on 2 x AMD EPYC core`. Emulated facts are named: `... (emulated: rank 1 computes at 0.5)`.
    """
    on_cpu = [rank for rank in ranks if rank.device_type == "cpu"]
    devices = Counter(_device_name(rank) for rank in ranks if rank.device_type != "cpu")
    cores = _cores(on_cpu, hosts)
    parts = [f"{number} x {name}" for name, number in _model_counts(devices)]
    parts += [f"{number} x {name} core" for name, number in sorted(cores.items())]
    mixed = " (mixed)" if len(parts) > 1 else ""
    before = f"{len(on_cpu)} ranks on " if on_cpu and len(on_cpu) != sum(cores.values()) else ""
    return before + " + ".join(parts) + mixed + emulation_label(ranks)


def differences(first: Environment, second: Environment) -> list[Difference]:
    """(field, value in the first, value in the second) of all that changes speed and is not the same.

    Fields of ranks and hosts are one value if all agree, and the list of all if they do not. What was
    taken out of a published environment differs from nothing.
    """
    pairs: list[Difference] = [
        ("architecture", first.architecture, second.architecture),
        ("ranks", len(first.ranks), len(second.ranks)),
        ("hosts", len(first.hosts), len(second.hosts)),
    ]
    one_hosts, two_hosts = _named_hosts(first), _named_hosts(second)
    pairs += [(f"host.{f}", _any_order(one_hosts, f), _any_order(two_hosts, f)) for f in HOST_FIELDS]
    pairs += [(f"rank.{f}", _common(first.ranks, f), _common(second.ranks, f)) for f in RANK_FIELDS]
    sections: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("versions", first.versions, second.versions),
        ("settings", first.settings, second.settings),
        ("variables", _kept(first), _kept(second)),
    )
    for section, one, two in sections:
        names = [name for name in sorted({*one, *two}) if section != "variables" or not _PLACES.search(name)]
        pairs += [(f"{section}.{name}", one.get(name), two.get(name)) for name in names]
    pairs.append(("commit", first.commit, second.commit))
    return [pair for pair in pairs if not _alike(*pair)]


def _kept(environment: Environment) -> dict[str, str]:
    """Variables as a file keeps them today: older files have values that are not kept any more."""
    return kept_variables({name: str(value) for name, value in environment.variables.items()})


def _alike(field: str, one: Any, two: Any) -> bool:
    if one == two or REMOVED in (one, two):
        return True
    tolerance = _RELATIVE_TOLERANCE.get(field.rpartition(".")[2])
    if tolerance is None or not isinstance(one, int) or not isinstance(two, int):
        return False
    return abs(one - two) <= tolerance * max(abs(one), abs(two))


def _named_hosts(environment: Environment) -> list[HostFacts]:
    """Hosts in the order of their names, which replace a host name that is not known."""
    return [
        host if host.hostname is not None else msgspec.structs.replace(host, hostname=name)
        for name, host in sorted(environment.hosts.items())
    ]


def _common(facts: Sequence[RankFacts] | Sequence[HostFacts], field: str) -> Any:
    """The value of a field if all ranks or hosts have the same, else the list of all values."""
    values = [getattr(one, field) for one in facts]
    if not values or all(value == values[0] for value in values):
        return values[0] if values else None
    return values


def _any_order(hosts: Sequence[HostFacts], field: str) -> Any:
    """Value of a field that all hosts share, else all values, sorted: the order of hosts means nothing."""
    value = _common(hosts, field)
    return sorted(value, key=repr) if isinstance(value, list) else value


def _device_name(rank: RankFacts) -> str:
    return rank.device_name or f"unknown {rank.device_type} device"


def _model_counts(devices: Counter[str]) -> list[tuple[str, int]]:
    """(name, number) in alphabetical order; of several models the short names, if these stay distinct."""
    short = {name: _short(name) for name in devices}
    distinct = len(devices) > 1 and len(set(short.values())) == len(devices)
    return sorted((short[name] if distinct else name, number) for name, number in devices.items())


def _short(device_name: str) -> str:
    """`A100` of `NVIDIA A100-SXM4-80GB`, `MI300X` of `AMD Instinct MI300X`."""
    model = re.sub(r"^(NVIDIA|AMD|Intel|Instinct|GeForce|Tesla|\s)+", "", device_name)
    return re.split(r"[-\s]", model)[0] or device_name


def _cores(ranks: Sequence[RankFacts], hosts: Mapping[str, HostFacts]) -> Counter[str]:
    """Processor -> cores that the ranks can keep busy: ranks x threads, at most what each host has."""
    cores: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    models: dict[str, str] = {}
    for rank in ranks:
        host = str(rank.host)
        threads[host] += rank.num_threads or 1
        models[host] = tidy_cpu_model(_device_name(rank))
    for host, number in threads.items():
        usable = hosts[host].usable_cores if host in hosts else None
        cores[models[host]] += number if usable is None else min(number, usable)
    return cores


def emulation_label(ranks: Sequence[RankFacts]) -> str:
    """Emulation in the architecture's name: ` (emulated: rank 1 computes at 0.5)`; empty without emulation."""
    parts = []
    emulated = (
        ("computes", [(rank.rank, rank.emulated_speed) for rank in ranks]),
        ("communicates", [(rank.rank, rank.emulated_link_speed) for rank in ranks]),
    )
    for what, speeds in emulated:
        by_speed: dict[float, list[str]] = {}
        for rank, speed in speeds:
            if speed is not None:
                by_speed.setdefault(float(speed), []).append(str(rank))
        parts += [
            f"rank{'s' if len(who) > 1 else ''} {', '.join(who)} {what if len(who) == 1 else what[:-1]} at {speed:g}"
            for speed, who in by_speed.items()
        ]
    return f" (emulated: {'; '.join(parts)})" if parts else ""


def tidy_cpu_model(model: str) -> str:
    """A processor's name without marks, frequency and core count: `AMD EPYC 7B13`, `Intel Xeon Processor`."""
    tidy = re.sub(r"\((R|TM)\)|@.*$|\bCPU\b|\b\d+-Core Processor\b", " ", model, flags=re.I)
    return " ".join(tidy.split()) or model
