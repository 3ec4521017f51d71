"""NUMA nodes of a host: their cores, the distances between them, and which of them a process may use.

Read from the files that Linux keeps (Documentation/ABI/stable/sysfs-devices-node, proc_pid_status(5)). Every function
takes the root of the file system, so that another tree can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.system.cgroup import read_text
from bench.measure.system.host import ROOT, core_list, numa_cores

_NODES = "sys/devices/system/node"


@dataclass(frozen=True)
class Topology:
    """NUMA nodes that have cores and memory; nodes of memory alone, such as that of a GPU, are left out."""

    cores: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Node -> its logical cores, in the order of the nodes."""
    distances: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """(Node, node) -> distance as the firmware states it; 10 is that of a node to itself."""
    allowed: frozenset[int] | None = None
    """Nodes whose memory this process may have; None: the kernel does not say."""

    def with_memory(self) -> tuple[int, ...]:
        """Nodes whose memory this process may have."""
        return tuple(node for node in self.cores if self.allowed is None or node in self.allowed)

    def farthest_from(self, node: int) -> int | None:
        """The farthest node whose memory this process may have; None if there is no other."""
        others = [other for other in self.with_memory() if other != node]
        return max(others, key=lambda other: (self.distances.get((node, other), 0), -other), default=None)

    def of_cores(self, cores: Collection[int]) -> tuple[int, ...]:
        """Nodes that have at least one of the cores."""
        return tuple(node for node, own in self.cores.items() if own.intersection(cores))


def topology(root: Path = ROOT) -> Topology:
    """The nodes of this host; without any if the kernel does not show them."""
    with_memory = {node: cores for node, cores in numa_cores(root).items() if _memory_kib(node, root) != 0}
    order = sorted(
        int(name) for path in (root / _NODES).glob("node[0-9]*") if (name := path.name.removeprefix("node")).isdecimal()
    )
    distances: dict[tuple[int, int], int] = {}
    for node in with_memory:
        row = (read_text(root / _NODES / f"node{node}" / "distance") or "").split()
        if len(row) == len(order) and all(word.isdecimal() for word in row):
            distances |= {(node, other): int(word) for other, word in zip(order, row, strict=True)}
    return Topology(with_memory, distances, _allowed(root))


def _memory_kib(node: int, root: Path) -> int | None:
    """Memory of a node; None if its file does not say."""
    for line in (read_text(root / _NODES / f"node{node}" / "meminfo") or "").splitlines():
        words = line.split()  # Node 0 MemTotal:  16374980 kB
        if len(words) >= 4 and words[2] == "MemTotal:" and words[3].isdecimal():
            return int(words[3])
    return None


def _allowed(root: Path) -> frozenset[int] | None:
    for line in (read_text(root / "proc/self/status") or "").splitlines():
        if line.startswith("Mems_allowed_list:"):
            return core_list(line.partition(":")[2]) or None
    return None
