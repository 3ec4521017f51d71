"""Launchers that are joined: their variables for this process."""

from __future__ import annotations

from collections.abc import Mapping

from bench.errors import BenchError
from bench.measure.launchers import endpoint
from bench.measure.launchers.host_lists import first_host
from bench.measure.launchers.place import LauncherRank


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
    endpoint.check_port(joined.port)
    endpoint.check_address(joined.address)
    return joined
