"""Rank 0's address and the meeting's port, if the launcher's variables do not say them.

On one host it is loopback. On several, sources are tried in one order, the same on all ranks: ask the launcher, or
guess by what it or the scheduler says of hosts. Rank 0 alone can see if a guess is right, and stops the run if not.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchError
from bench.measure.launchers import endpoint, pmi
from bench.measure.launchers.host_lists import first_host, first_host_of_file
from bench.measure.launchers.interfaces import is_own, own_address
from bench.measure.launchers.known import LAUNCHERS
from bench.measure.launchers.place import LauncherRank
from bench.measure.launchers.table import DEFAULT_PORT, job_port

Environ = Mapping[str, str]
LIMIT_SECONDS = 60.0
"""Time that the ranks may take to ask their launcher for rank 0's address."""
LOOPBACK = "127.0.0.1"
ADDRESS_KEY = "bench-rank-0"
_EXCHANGE = """
import json, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
address = world.bcast(sys.argv[1] if world.Get_rank() == 0 else None)
print(json.dumps([world.Get_size(), world.Get_rank(), address]))
"""


@dataclass(frozen=True)
class AddressSource:
    """A way to learn rank 0's host."""

    name: str
    is_here: Callable[[LauncherRank, Environ], bool]
    ask: Callable[[LauncherRank, Environ, float], str | None]
    """The address; None: the source does not know it. Raises BenchError."""
    guesses: bool = True
    """True if it names a host on which rank 0 should be; False: rank 0 itself said it."""


def locate(
    joined: LauncherRank, environ: Environ, seconds: float = LIMIT_SECONDS, exchanges: bool = True
) -> LauncherRank:
    """Return the rank with address and port filled in. Raises BenchError.

    MASTER_ADDR and MASTER_PORT are used as they are. All ranks call this together: some sources are exchanges between
    them. With `exchanges` false those are only named, and the address stays empty or the port 0.
    """
    if joined.address and joined.address_from == "MASTER_ADDR":
        return _with_port(joined, environ, seconds, exchanges)
    if joined.on_one_host:
        on_loopback = replace(joined, address=LOOPBACK, address_from="one host")
        return _with_port(on_loopback, environ, seconds, exchanges)
    if joined.address:  # Slurm's node list
        return joined
    if joined.how == "Hydra" and pmi.is_here(environ):
        return _exchange_by_pmi(joined, environ, seconds) if exchanges else replace(joined, address_from="PMI")
    for source in SOURCES:
        if not source.is_here(joined, environ):
            continue
        if not source.guesses and not exchanges:
            return replace(joined, address_from=source.name)
        address = source.ask(joined, environ, seconds)
        if address is None:
            continue
        if source.guesses and joined.index == 0 and not _is_here(address, seconds):
            raise BenchError(f"{address} by {source.name} is not the host of rank 0; {_remedy(joined, environ)}")
        found = replace(joined, address=address, address_from=source.name)
        return found if found.port else replace(found, port=DEFAULT_PORT, port_from="the default")
    raise BenchError(f"{joined.how} does not say on which host rank 0 is; {_remedy(joined, environ)}")


def _with_port(joined: LauncherRank, environ: Environ, seconds: float, exchanges: bool) -> LauncherRank:
    """Fill in the port of a job that the variables do not identify: Hydra knows the job's name."""
    if joined.port:
        return joined
    if not pmi.is_here(environ):
        return replace(joined, port=DEFAULT_PORT, port_from="the default")
    if not exchanges:
        return joined
    client = pmi.PmiClient.connect(environ, seconds)
    client.close()
    return replace(joined, port=job_port(client.job), port_from="the job's id", attempt=client.job)


def _exchange_by_pmi(joined: LauncherRank, environ: Environ, seconds: float) -> LauncherRank:
    client = pmi.PmiClient.connect(environ, seconds)
    try:
        if joined.index == 0:
            client.put(ADDRESS_KEY, _own_or_raise(joined, environ))
        client.wait_for_all()
        address = client.get(ADDRESS_KEY)
    finally:
        client.close()
    if joined.port:
        return replace(joined, address=address, address_from="PMI")
    port = job_port(client.job)
    return replace(joined, address=address, address_from="PMI", port=port, port_from="the job's id", attempt=client.job)


def _own_or_raise(joined: LauncherRank, environ: Environ) -> str:
    own = own_address(environ)
    if own is None:
        raise BenchError(f"rank 0's host has no address that other hosts can reach; {_remedy(joined, environ)}")
    return own


def _exchange_by_mpi(joined: LauncherRank, environ: Environ, seconds: float) -> str | None:
    """Rank 0's address by MPI's own broadcast, in a process of its own: MPI must not stay in one that is timed."""
    own = _own_or_raise(joined, environ) if joined.index == 0 else ""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _EXCHANGE, own],
            capture_output=True,
            text=True,
            timeout=seconds,
            env=dict(environ),
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"mpi4py did not connect the ranks of {joined.how} within {seconds:g} s; {_remedy(joined, environ)}"
        ) from None
    try:
        size, index, address = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None
    # An mpi4py of another MPI than the launcher's is alone in a world of its own.
    return str(address) if (size, index) == (joined.world_size, joined.index) else None


def _is_here(address: str, seconds: float) -> bool:
    """Return True if a name or an address is one of this host's."""
    if endpoint.is_literal(address):
        return is_own(address)
    probe = LauncherRank("", 0, 1, 0, address, 1, False, "", address_from="a guess")
    try:
        return any(is_own(each) for each in endpoint.resolve(probe, min(seconds, endpoint.UNKNOWN_NAME_SECONDS), {}))
    except BenchError:
        return False


def _remedy(joined: LauncherRank, environ: Environ) -> str:
    """The command to type, with rank 0's address as far as it is known: rank 0 is the one that says it."""
    (row,) = (row for row in LAUNCHERS if row.name == joined.how)
    own = own_address(environ) if joined.index == 0 else None
    return f"type: {row.address_option.format(own or 'HOST')} ... bench run" + (
        "" if own else ", with the name of rank 0's host for HOST"
    )


def _host_file(name: str) -> AddressSource:
    return AddressSource(
        name,
        lambda joined, environ: first_host_of_file(Path(environ.get(name) or "/nonexistent")) is not None,
        lambda joined, environ, seconds: first_host_of_file(Path(environ[name])),
    )


def _mpirun_host(joined: LauncherRank, environ: Environ, seconds: float) -> str | None:
    """The host of mpirun, which has rank 0 if mpirun was started on the first host of the job.

    Open MPI 4: `OMPI_MCA_orte_hnp_uri=1813905408.0;tcp://10.9.9.1,10.8.8.1:42127;tcp6://[fd00::2]:47933`.
    """
    addresses = environ["OMPI_MCA_orte_hnp_uri"].partition("://")[2].partition(";")[0].rpartition(":")[0]
    return addresses.split(",")[0].strip("[]") or None


SOURCES: tuple[AddressSource, ...] = (
    AddressSource(
        "mpi4py",
        lambda joined, environ: importlib.util.find_spec("mpi4py") is not None,
        _exchange_by_mpi,
        guesses=False,
    ),
    _host_file("PBS_NODEFILE"),
    _host_file("LSB_DJOB_HOSTFILE"),
    _host_file("OMPI_MCA_orte_default_hostfile"),
    AddressSource(
        "SLURM_JOB_NODELIST",
        lambda joined, environ: bool(environ.get("SLURM_JOB_NODELIST")),
        lambda joined, environ, seconds: first_host(environ["SLURM_JOB_NODELIST"]),
    ),
    AddressSource("mpirun's address", lambda joined, environ: bool(environ.get("OMPI_MCA_orte_hnp_uri")), _mpirun_host),
)
"""Sources besides PMI, in the order in which they are tried."""
