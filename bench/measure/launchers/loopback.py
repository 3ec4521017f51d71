"""Sockets of ranks that are all on one host: on its loopback interface alone.

gloo listens on the address of the host's name, and NCCL on the first interface that it finds; neither address is needed
if no rank is elsewhere. NCCL's own traffic between GPUs of one host goes through NVLink, PCIe or shared memory, so only
its bootstrap and, if those are switched off, its socket transport use the interface.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.core.process_environment import unset_defaults
from bench.measure.system.host import loopback_interface


def keep_to_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add so that gloo and NCCL listen on loopback alone; none that the user has set.

    Empty if this host shows no loopback interface that is up.
    """
    name = loopback_interface()
    if name is None:
        return {}
    # Without the equals sign NCCL takes a name for the beginning of one.
    return unset_defaults({"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"}, environ)
