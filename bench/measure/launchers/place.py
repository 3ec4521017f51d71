"""A rank that another program started, as its launcher describes it, and its place among all ranks."""

from __future__ import annotations

from dataclasses import dataclass

from bench.suite import Machine


@dataclass(frozen=True)
class LauncherRank:
    """A launcher's description of this process."""

    how: str
    """Launcher, by its row in `bench.measure.launchers.table`."""
    index: int
    world_size: int
    local_index: int | None
    """Position among the ranks of its host; None: the launcher does not say."""
    address: str
    """Name or address of rank 0's host; empty: the variables do not say, and `rank_zero.locate` finds it."""
    port: int
    """Port of the meeting; 0: the variables do not say, and `rank_zero.locate` finds it."""
    agent_hosts_store: bool
    attempt: str
    """Text by which the store tells apart several attempts of one launcher."""
    local_world_size: int | None = None
    """Number of ranks on this host; None: the launcher does not say."""
    address_from: str = "MASTER_ADDR"
    """Source of the address, for messages."""
    port_from: str = "MASTER_PORT"
    """Source of the port, for messages."""

    @property
    def on_one_host(self) -> bool:
        """True if the launcher says that all ranks are on this host."""
        return self.local_world_size == self.world_size


@dataclass(frozen=True)
class Place:
    """A rank's place, as its launcher gave it."""

    index: int
    world_size: int
    local_index: int
    """Position among the ranks of its host."""
    local_world_size: int
    host_index: int = 0
    num_hosts: int = 1
    device_index: int | None = None
    """The device that its launcher named (LOCAL_RANK); None: the one at `local_index`."""

    def machine(self, device_type: str, preset: str, num_cores: int, memory_bytes: int) -> Machine:
        """Describe for suites the machine that this rank is part of."""
        return Machine(
            world_size=self.world_size,
            device_type=device_type,
            preset=preset,
            memory_bytes=memory_bytes,
            num_cores=num_cores,
            ranks_per_host=self.local_world_size,
        )
