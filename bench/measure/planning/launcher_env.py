"""Variables of torchrun, Slurm or a user for this process, its place among the ranks, and its number of threads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import BenchError
from bench.suite import Machine


@dataclass(frozen=True)
class LauncherRank:
    """A launcher's variables for this process; None: not set."""

    how: str
    index: int
    world_size: int
    local_index: int | None
    address: str
    port: int
    agent_hosts_store: bool
    attempt: str


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


def detect(launcher: str, environ: Mapping[str, str]) -> LauncherRank | None:
    """Read the launcher's variables; None if the ranks are to be started here.

    `launcher` is auto, local, env or slurm. Raises BenchError if the named launcher left no trace.
    """
    if launcher == "local":
        return None
    if launcher in ("auto", "env") and _is_env(environ):
        return _from_env(environ)
    if launcher in ("auto", "slurm") and _is_slurm_step(environ):
        return _from_slurm(environ)
    if launcher == "env":
        missing = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if n not in environ]
        raise BenchError(f"--launcher env: {', '.join(missing)} not set; start with torchrun --no-python bench run")
    if launcher == "slurm":
        raise BenchError(
            "--launcher slurm: this process is not in an srun step of more than one task; "
            "start with srun --ntasks-per-node=GPUS bench run"
        )
    return None


def _is_env(environ: Mapping[str, str]) -> bool:
    return "TORCHELASTIC_RUN_ID" in environ or all(n in environ for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def _is_slurm_step(environ: Mapping[str, str]) -> bool:
    # A batch shell has SLURM_PROCID=0 and SLURM_NTASKS too; only a step of several tasks has ranks to join.
    return _number(environ, "SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in environ


def _number(environ: Mapping[str, str], name: str, missing: int | None = None) -> int:
    text = environ.get(name)
    if text is None:
        if missing is not None:
            return missing
        raise BenchError(f"{name} is not set in the environment, though its launcher sets it; start all ranks with it")
    try:
        return int(text)
    except ValueError:
        raise BenchError(f"{name}={text!r} in the environment: a whole number; it comes from the launcher") from None


def _from_env(environ: Mapping[str, str]) -> LauncherRank:
    local = _number(environ, "LOCAL_RANK") if "LOCAL_RANK" in environ else None
    return _check_rank(
        LauncherRank(
            how="torchrun" if "TORCHELASTIC_RUN_ID" in environ else "env",
            index=_number(environ, "RANK"),
            world_size=_number(environ, "WORLD_SIZE"),
            local_index=local,
            address=environ.get("MASTER_ADDR", "localhost"),
            port=_number(environ, "MASTER_PORT", 29500),
            agent_hosts_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
    )


def _from_slurm(environ: Mapping[str, str]) -> LauncherRank:
    """Slurm's own variables of a step (srun(1), OUTPUT ENVIRONMENT VARIABLES)."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    address = environ.get("MASTER_ADDR") or first_host(nodes)
    if not address:
        raise BenchError("SLURM_STEP_NODELIST is not set, so rank 0's host is unknown; set MASTER_ADDR")
    # Two steps of one job, or two jobs on a node, must not meet at one port.
    job, step = _number(environ, "SLURM_JOB_ID", 0), _number(environ, "SLURM_STEP_ID", 0)
    return _check_rank(
        LauncherRank(
            how="slurm",
            index=_number(environ, "SLURM_PROCID"),
            world_size=_number(environ, "SLURM_STEP_NUM_TASKS"),
            local_index=_number(environ, "SLURM_LOCALID"),
            address=address,
            port=_number(environ, "MASTER_PORT", 15000 + (job * 7 + step) % 17000),
            agent_hosts_store=False,
            attempt=f"{job}.{step}",
        )
    )


def _check_rank(joined: LauncherRank) -> LauncherRank:
    if not 0 <= joined.index < joined.world_size:
        raise BenchError(f"rank {joined.index} of {joined.world_size}: the launcher's variables do not fit together")
    return joined


def first_host(nodes: str) -> str:
    """The first host of a Slurm host list: `gpu[003-007,9],login1` gives `gpu003`."""
    first = re.match(r"(\[[^\]]*\]|[^\[,])*", nodes.strip())
    assert first is not None
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group())


def threads_per_rank(environ: Mapping[str, str], joined: LauncherRank | None, num_cores: int, local_ranks: int) -> int:
    """Threads of a rank's CPU kernels: OMP_NUM_THREADS if the user set it, else the host's cores shared out.

    torchrun sets OMP_NUM_THREADS=1 when no one did, other launchers nothing: taken as it comes, one machine would be
    measured with different thread counts. So torchrun's 1 counts as not set.
    """
    # A list has one number for each level of nesting (OpenMP 5.2, section 21.1.2); ranks do not nest.
    text = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    of_torchrun = joined is not None and joined.how == "torchrun" and text == "1"
    if text.isdecimal() and int(text) > 0 and not of_torchrun:
        return int(text)
    return max(1, num_cores // local_ranks)
