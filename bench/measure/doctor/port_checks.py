"""RDMA ports against those of the same kind of card on this host, and their counters of errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.core.values import counted
from bench.measure.doctor.facts import Facts
from bench.measure.system.rdma_ports import RdmaPort
from bench.records.lines.parts import Finding

COUNTER_LIMIT = 10
"""Threshold of the example in ibqueryerrors(8) of rdma-core, for symbol errors and link recoveries. Counters have no
time: a few errors come with each start of a link."""
LINK_DOWNED_ABOVE_OTHERS = 3
"""Times that a link went down more than any of its kind: a switch that restarts takes all links down at once."""

_DOWN = "look at the cable, the transceiver and the switch port: ibstat, rdma link"


def check_ports(facts: Facts) -> Iterator[Finding]:
    """Ports that are down or slower than others of their kind, then counters, then one line if all is well."""
    ports = facts.rdma_ports
    findings = [*_links(ports), *_counters(ports)]
    yield from findings
    up = [port for port in ports if port.is_up]
    if up and not findings:
        rates = Counter(f"{port.gbit_per_s or 0:g} Gbit/s {port.link_layer}".strip() for port in up)
        value = ", ".join(f"{number} x {rate}" for rate, number in rates.items())
        idle = len(ports) - len(up)
        yield Finding("ok", "RDMA ports", f"{value} up" + (f"; {idle} more not in use" if idle else ""))


def _alike(port: RdmaPort, ports: Sequence[RdmaPort]) -> list[RdmaPort]:
    """Other ports of the same kind of card that are up."""
    return [other for other in ports if other is not port and other.board == port.board and other.is_up]


def _links(ports: Sequence[RdmaPort]) -> Iterator[Finding]:
    if ports and not any(port.is_up for port in ports):
        value = f"none of {counted(len(ports), 'port')} is up"
        yield Finding("warn", "RDMA ports", value, f"NCCL would take TCP: {_DOWN}", "watch")
        return
    for port in ports:
        alike = _alike(port, ports)
        if not port.is_up:
            yield from _down(port, alike, ports)
        elif port.gbit_per_s is not None:
            yield from _slow(port, alike)


def _down(port: RdmaPort, alike: Sequence[RdmaPort], ports: Sequence[RdmaPort]) -> Iterator[Finding]:
    # The second port of a card often has no cable, and a virtual function may wait for its machine.
    spare = any(other.card == port.card and other.is_up for other in ports if port.card)
    if spare or port.is_virtual_function or not alike:
        return
    down = sum(other.board == port.board and not other.is_up for other in ports)
    state = f"{port.state or 'unknown'} ({port.physical_state or 'unknown'})"
    value = f"{state}, while {counted(len(alike), 'port')} of its kind {'is' if len(alike) == 1 else 'are'} up"
    if len(alike) > down and port.physical_state != "Disabled":
        yield Finding("fail", f"port {port.name}", value, _DOWN, "isolate")
    else:
        yield Finding("warn", f"port {port.name}", value, _DOWN, "watch")


def _slow(port: RdmaPort, alike: Sequence[RdmaPort]) -> Iterator[Finding]:
    rates = Counter(other.gbit_per_s for other in alike if other.gbit_per_s is not None)
    if not rates or port.gbit_per_s is None:
        return
    usual, number = rates.most_common(1)[0]
    if usual is None or port.gbit_per_s >= usual:
        return
    value = f"{port.gbit_per_s:g} Gbit/s; {number} of its kind {'has' if number == 1 else 'have'} {usual:g}"
    if number > sum(other.gbit_per_s == port.gbit_per_s for other in alike) + 1:
        yield Finding("fail", f"port {port.name}", value, _DOWN, "isolate")
    else:
        yield Finding("warn", f"port {port.name}", value, _DOWN, "watch")


def _counters(ports: Sequence[RdmaPort]) -> Iterator[Finding]:
    for port in ports:
        high = [name for name, value in port.counters.items() if port.is_up and _is_high(name, value, port, ports)]
        if high:
            value = ", ".join(f"{name} {port.counters[name]:,}" for name in high)
            remedy = (
                "if they grow during a run, look at the cable and the transceiver; they count since the driver started"
            )
            yield Finding("warn", f"port {port.name} errors", value, remedy, "watch")


def _is_high(name: str, value: int, port: RdmaPort, ports: Sequence[RdmaPort]) -> bool:
    others = [other.counters[name] for other in _alike(port, ports) if name in other.counters]
    if name == "link_downed" and others:
        return value >= max(others) + LINK_DOWNED_ABOVE_OTHERS
    return value >= COUNTER_LIMIT
