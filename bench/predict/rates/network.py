"""Collectives by latency and bandwidth of the levels that a group spans.

A group's ranks stand `stride` devices apart. Of its n ranks r share a scale-up domain; if r < n it crosses domains.
A ring then moves data at the slower of its link inside and the r NICs that it has across. NCCL opens a ring per NIC, so
that ranks of one domain share theirs. This is the rule behind nccl-tests' bus bandwidth, doc/PERFORMANCE.md. Latency: a
hop for each of a ring's n - 1 steps, of which one across domains is the slowest if there is any; an all-reduce across
domains takes a tree's 2 log2 (NCCL's double binary trees), which all-gather and reduce-scatter have not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.errors import BenchError
from bench.predict.rates.constants import Common
from bench.predict.rates.device import Device


@dataclass(frozen=True)
class NetworkGroup:
    """A process group as its transfers see it."""

    size: int
    per_domain: int

    @property
    def domains(self) -> int:
        return math.ceil(self.size / self.per_domain)


class Network:
    """Times transfers between devices of one kind. Bytes are payloads: full buffers."""

    def __init__(self, device: Device, common: Common) -> None:
        self.device = device
        self.domain_size = device.domain_size
        inside, across = device.inside, device.across
        self.inside_bytes_per_s = None if inside is None else inside.bytes_per_s * common.inside_share
        self.across_bytes_per_s = None if across is None else across.bytes_per_s * common.across_share
        self.start_seconds = common.start_seconds
        self.inside_hop = 0.0 if inside is None else inside.latency_seconds or common.inside_latency_seconds
        self.across_hop = 0.0 if across is None else across.latency_seconds or common.across_latency_seconds

    def group(self, size: int, stride: int = 1) -> NetworkGroup:
        """Ranks `stride` apart, of which a domain has so many as fit."""
        return NetworkGroup(size, max(1, min(size, self.domain_size // stride)))

    def bus_bytes_per_s(self, group: NetworkGroup) -> float:
        """Raises BenchError if the catalogue has no rate of a link that the group needs."""
        if group.domains == 1:
            return self._inside()
        across = self._across() * group.per_domain
        return across if group.per_domain == 1 or self.inside_bytes_per_s is None else min(across, self._inside())

    def all_reduce_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        if group.size == 1:
            return 0.0
        steps = 2.0 * (group.size - 1) / group.size
        hops = 2.0 * (group.per_domain - 1) * self.inside_hop
        if group.domains > 1:
            hops += 2.0 * math.log2(group.domains) * self.across_hop
        return self.start_seconds + hops + steps * num_bytes / self.bus_bytes_per_s(group)

    def gather_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        """All-gather or reduce-scatter; `num_bytes` is the full buffer."""
        if group.size == 1:
            return 0.0
        hop = self.inside_hop if group.domains == 1 else max(self.inside_hop, self.across_hop)
        a_step = hop + num_bytes / group.size / self.bus_bytes_per_s(group)
        return self.start_seconds + (group.size - 1) * a_step

    def all_to_all_seconds(self, num_bytes: float, group: NetworkGroup) -> float:
        """`num_bytes` is what one rank sends in all; the share that leaves its domain goes through its own NIC."""
        if group.size == 1:
            return 0.0
        leaving = 1.0 - group.per_domain / group.size
        staying = max(0.0, (group.per_domain - 1) / group.size)
        inside = staying * num_bytes / self._inside() if staying else 0.0
        across = leaving * num_bytes / self._across() if leaving > 0 else 0.0
        hop = self.across_hop if leaving > 0 else self.inside_hop
        return self.start_seconds + hop + max(inside, across)

    def send_seconds(self, num_bytes: float, crosses: bool) -> float:
        if crosses:
            return self.start_seconds + self.across_hop + num_bytes / self._across()
        return self.start_seconds + self.inside_hop + num_bytes / self._inside()

    def _inside(self) -> float:
        if self.inside_bytes_per_s is None:
            raise BenchError(
                f"{self.device.name}: the catalogue has no rate of its scale-up links; give --link-gb-per-s"
            )
        return self.inside_bytes_per_s

    def _across(self) -> float:
        if self.across_bytes_per_s is None:
            raise BenchError(
                f"{self.device.name}: the catalogue has no rate of its NIC; give --nic-gbit, in Gbit/s per device"
            )
        return self.across_bytes_per_s
