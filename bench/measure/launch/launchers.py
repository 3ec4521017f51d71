"""The two ways to get ranks: joined (torchrun, srun or a user started them) or local (started from here).

The only file that knows both ways. What a launcher's variables say is read in `bench.measure.launchers.table`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.measure.engine.store import Store, connect_store, hosted_store, with_prefix
from bench.measure.launchers.place import LauncherRank, Place

if TYPE_CHECKING:
    from bench.measure.launch.recorder import Recorder

JOIN_TIMEOUT_SECONDS = 300.0


def connect(joined: LauncherRank) -> Store:
    """The store of a joined run. Raises BenchError if rank 0's host cannot be reached."""
    try:
        store = _tcp_store(joined, hosts=joined.index == 0 and not joined.agent_hosts_store)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchError(
            f"cannot meet the other ranks at {joined.address}:{joined.port} ({reason}); "
            "check MASTER_ADDR and MASTER_PORT, and that every rank was started"
        ) from error
    return with_prefix(f"bench/{joined.attempt}", store)


def connect_again(joined: LauncherRank, timeout_seconds: float = JOIN_TIMEOUT_SECONDS) -> Store:
    """A further connection to the same store, for a thread that must not wait behind the others."""
    return with_prefix(f"bench/{joined.attempt}", _tcp_store(joined, hosts=False, timeout_seconds=timeout_seconds))


def _tcp_store(joined: LauncherRank, hosts: bool, timeout_seconds: float = JOIN_TIMEOUT_SECONDS) -> Store:
    if not hosts:
        return connect_store(joined.address, joined.port, timeout_seconds)
    # Every interface, by IPv6 too where there is one: which of them the others will use is not known here.
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    listener = socket.create_server(("", joined.port), family=family, dualstack_ipv6=both)
    return hosted_store(listener, timeout_seconds, joined.world_size)


def find_place(joined: LauncherRank, host: str, store: Store) -> tuple[Place, list[str]]:
    """Return this rank's place, found from every rank's host name, and the host of every rank."""
    store.set(f"host/{joined.index}", host)
    hosts = [store.get(f"host/{index}").decode() for index in range(joined.world_size)]
    siblings = [index for index, name in enumerate(hosts) if name == host]
    different = list(dict.fromkeys(hosts))
    place = Place(
        index=joined.index,
        world_size=joined.world_size,
        local_index=siblings.index(joined.index),
        local_world_size=len(siblings),
        host_index=different.index(host),
        num_hosts=len(different),
        device_index=joined.local_index,
    )
    return place, hosts


def check_gpus(place: Place, num_visible: int, num_nodes_hint: str) -> None:
    """Raises BenchError if a node has more GPUs than ranks: half a node's figures would pass for the node's."""
    if num_visible > 1 and place.local_world_size < num_visible:
        raise BenchError(
            f"{place.local_world_size} rank(s) on {num_nodes_hint}, which has {num_visible} GPUs; start one per GPU: "
            f"torchrun --nproc-per-node={num_visible} --no-python bench run, or "
            f"srun --ntasks-per-node={num_visible} bench run (or hide the others with CUDA_VISIBLE_DEVICES)"
        )


def run_local(
    recorder: Recorder, began: float, only_launch: int | None = None, launch_seconds: float | None = None
) -> int:
    """Start local ranks and see the recorder's plan through, or one launch of it; returns the exit code."""
    from bench.measure.launch.supervisor import Supervisor

    return Supervisor(recorder, began, only_launch=only_launch, launch_seconds=launch_seconds).run()
