"""This process as a rank of the launcher that started it, by the table of known launchers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from bench.errors import BenchError
from bench.measure.launchers import variables
from bench.measure.launchers.host_lists import first_host, tasks_on_node
from bench.measure.launchers.known import LAUNCHERS, Environ, Launcher
from bench.measure.launchers.place import LauncherRank

DEFAULT_PORT = 29500
FIRST_PORT, NUM_PORTS = 15000, 17000
"""Ports from which a job's is taken: above those of services, below those that Linux gives to clients."""


class RefusedLauncherError(BenchError):
    """The line for ranks of a launcher that is recognised and not joined; each of them raises it."""

    def __init__(self, text: str, index: int | None) -> None:
        super().__init__(text)
        self.index = index
        """Rank that this process is; None: unknown."""


def detect(launcher: str, environ: Environ) -> LauncherRank | None:
    """Read the launcher's variables; None if the ranks are to be started here.

    `launcher` is a value of --launcher. Raises BenchError if the named launcher left no trace, if the values do not
    fit together, and for a launcher that is recognised and not joined (RefusedLauncherError).
    """
    if launcher == "local":
        return None
    row = recognise(environ, launcher)
    if row is None:
        _refuse_incomplete(launcher, environ)
        return None
    if row.refusal:
        raise RefusedLauncherError(_refusal(row, environ), _rank_if_known(row, environ))
    return _read(row, environ)


def recognise(environ: Environ, launcher: str = "auto") -> Launcher | None:
    """The row of the launcher that started this process; None: there is none, or it started one rank alone."""
    rows: Iterable[Launcher] = LAUNCHERS
    if launcher == "slurm":
        rows = (row for row in LAUNCHERS if row.option == "slurm" or row.hides_slurm)
    elif launcher != "auto":
        rows = (row for row in LAUNCHERS if row.option == launcher)
    for row in rows:
        if not row.is_here(environ):
            continue
        if launcher not in ("auto", row.option):
            raise BenchError(
                f"--launcher {launcher}: {row.name} started this process, and SLURM_* may be its daemons'; "
                "leave --launcher out"
            )
        if launcher == "env" or not _is_alone(row, environ):
            return row
        if row.name not in ("env", "slurm"):  # these two may be left over from a shell, the others are innermost
            return None
    return None


def _is_alone(row: Launcher, environ: Environ) -> bool:
    """Return True if a row's launcher started one rank: there is no other to join."""
    return row.world_size is not None and variables.number(environ, row.world_size, 0) == 1


def _refuse_incomplete(launcher: str, environ: Environ) -> None:
    """Raise BenchError if --launcher insists on what is not there, or if a plain environment lacks one variable."""
    plain = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
    missing = [name for name in plain if name not in environ]
    if launcher == "auto":
        # Of WORLD_SIZE and MASTER_ADDR alone, or RANK and MASTER_ADDR, all ranks but this one are known to exist.
        if len(missing) == 1 and environ.get("WORLD_SIZE") != "1":
            given = " and ".join(f"{name}={environ[name]}" for name in plain if name in environ)
            raise BenchError(
                f"{given} without {missing[0]}; set {missing[0]} to join the other ranks, or take --launcher local to "
                "start ranks here"
            )
        return
    there = None if launcher == "auto" else recognise(environ)
    hint = "" if there is None else f" ({there.name} started this process: leave --launcher out)"
    if launcher == "env":
        raise BenchError(
            f"--launcher env: {', '.join(missing)} not set; start with torchrun --no-python bench run{hint}"
        )
    if launcher == "slurm":
        raise BenchError(
            "--launcher slurm: this process is not in an srun step of more than one task; "
            f"start with srun --ntasks-per-node=GPUS bench run{hint}"
        )
    raise BenchError(
        "--launcher mpi: this process is not one of several ranks of Open MPI or Hydra; "
        f"start with mpirun -n RANKS bench run{hint}"
    )


def _refusal(row: Launcher, environ: Environ) -> str:
    return (
        f"ranks of {row.program} are not joined as they are ({row.rank}={environ.get(row.rank, 'not set')}); "
        f"type: {row.refusal}"
    )


def _rank_if_known(row: Launcher, environ: Environ) -> int | None:
    text = environ.get(row.rank, "")
    return int(text) if text.isdecimal() else None


def _read(row: Launcher, environ: Environ) -> LauncherRank:
    """This process's rank by a row's variables. Raises BenchError."""
    assert row.world_size is not None
    index, world_size = variables.number(environ, row.rank), variables.number(environ, row.world_size)
    local = _local_rank(row, environ)
    local_size = _local_world_size(row, environ)
    _check_range(row.rank, index, row.world_size, world_size)
    if local is not None and local_size is not None:
        _check_range(row.local_rank, local, row.local_world_size or "tasks on this node", local_size)
    address, address_from = _address(row, environ)
    port, port_from = _port(row, environ)
    return LauncherRank(
        how=row.name,
        index=index,
        world_size=world_size,
        local_index=local,
        address=address,
        port=port,
        agent_hosts_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and row.name == "torchrun",
        attempt=_attempt(row, environ),
        local_world_size=local_size,
        address_from=address_from,
        port_from=port_from,
    )


def _local_rank(row: Launcher, environ: Environ) -> int | None:
    if row.option == "env":  # LOCAL_RANK is optional there
        return variables.optional_number(environ, row.local_rank)
    return variables.number(environ, row.local_rank)


def _local_world_size(row: Launcher, environ: Environ) -> int | None:
    if row.name == "slurm":
        node = variables.optional_number(environ, "SLURM_NODEID")
        return None if node is None else tasks_on_node(environ.get("SLURM_STEP_TASKS_PER_NODE", ""), node)
    return None if row.local_world_size is None else variables.optional_number(environ, row.local_world_size)


def _check_range(name: str, value: int, size_name: str, size: int) -> None:
    if not 0 <= value < size:
        raise BenchError(
            f"{name}={value} with {size_name}={size}: the launcher's variables do not fit together; "
            + (f"ranks count from 0 to {size - 1}" if size > 0 else f"{size_name} is at least 1")
        )


def _address(row: Launcher, environ: Environ) -> tuple[str, str]:
    """(address of rank 0's host or an empty text, its source)."""
    given = variables.address(environ)
    if given or row.name != "slurm":
        if not given and row.option == "env":
            raise BenchError(
                "MASTER_ADDR is not set in the environment, though its launcher sets it; set it to rank 0's host"
            )
        return given, "MASTER_ADDR" if given else ""
    source = "SLURM_STEP_NODELIST" if environ.get("SLURM_STEP_NODELIST") else "SLURM_JOB_NODELIST"
    address = first_host(environ.get(source, ""))
    if not address:
        raise BenchError("SLURM_STEP_NODELIST is not set, so rank 0's host is unknown; set MASTER_ADDR")
    return address, source


def _port(row: Launcher, environ: Environ) -> tuple[int, str]:
    """(port of the meeting or 0, its source). Jobs on one node, and steps of a job, must not meet at one port."""
    if "MASTER_PORT" in environ or row.option == "env":
        return variables.port(environ, DEFAULT_PORT), "MASTER_PORT"
    if row.name == "slurm":
        job, step = (variables.number(environ, name, 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return FIRST_PORT + (job * 7 + step) % NUM_PORTS, "the job's id"
    text = _job(row, environ)
    return (job_port(text), "the job's id") if text else (0, "")


def job_port(job: str) -> int:
    """A port that follows from the id of a job, so that all its ranks find the same."""
    return FIRST_PORT + zlib.crc32(job.encode()) % NUM_PORTS


def _job(row: Launcher, environ: Environ) -> str:
    return next((environ[name] for name in row.job if environ.get(name)), "")


def _attempt(row: Launcher, environ: Environ) -> str:
    if row.name == "slurm":
        return f"{environ.get('SLURM_JOB_ID', '0')}.{environ.get('SLURM_STEP_ID', '0')}"
    if row.option == "mpi":
        return _job(row, environ) or "0"
    return environ.get("TORCHELASTIC_RESTART_COUNT", "0")
