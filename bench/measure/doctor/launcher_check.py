"""What `bench run` would join here: the launcher by its table, rank 0's address looked up, and its port tried."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.errors import BenchError
from bench.measure.launchers import endpoint
from bench.measure.launchers.known import Launcher
from bench.measure.launchers.place import LauncherRank
from bench.measure.launchers.rank_zero import locate
from bench.measure.launchers.table import detect, recognise
from bench.records.lines.parts import Finding

RESOLVE_SECONDS = 5.0
KNOCK_SECONDS = 3.0


@dataclass(frozen=True)
class Joining:
    """What the launcher's variables say, and how far rank 0's place is usable from here."""

    rank: LauncherRank | None = None
    """None: the ranks are started here, or `refusal` says why not."""
    program: str = ""
    """The launcher, as a sentence names it; empty: there is none."""
    refusal: str | None = None
    """The line with which `bench run` would stop before it looks for the other ranks."""
    refused_rank: str = ""
    """The rank that stops, as `rank 0 of 2`; empty: its variables do not say."""
    trouble: str | None = None
    """Fault of rank 0's address or port."""
    port: str = ""
    """State of the port, if this host should know it: `free`, or who holds it rightly."""


def look(environ: Mapping[str, str]) -> Joining:
    """Look at the launcher, the address and the port, without a word to the other ranks."""
    row: Launcher | None = None
    try:
        row = recognise(environ)
        rank = detect("auto", environ)
        rank = None if rank is None else locate(rank, environ, exchanges=False)
    except BenchError as error:
        named = "" if row is None or row.refusal else _named_rank(row, environ)
        return Joining(program="" if row is None else row.program, refusal=str(error), refused_rank=named)
    if rank is None or row is None:
        return Joining()
    try:
        return Joining(rank, row.program, port=_try_port(rank, environ))
    except BenchError as error:
        return Joining(rank, row.program, trouble=str(error))


def _named_rank(row: Launcher, environ: Mapping[str, str]) -> str:
    """`rank 0 of 2` by a launcher's variables; empty if they say no numbers."""
    texts = [environ.get(row.rank, ""), environ.get(row.world_size or "", "")]
    return f"rank {texts[0]} of {texts[1]}" if all(text.isdecimal() for text in texts) else ""


def _try_port(rank: LauncherRank, environ: Mapping[str, str]) -> str:
    """State of the meeting's port in words. Raises BenchError if the ranks could not meet there."""
    if not rank.address:
        return ""
    addresses = endpoint.resolve(rank, RESOLVE_SECONDS, environ)
    if not rank.port:
        return ""
    if rank.agent_hosts_store:
        reasons = [endpoint.knock(address, rank.port, KNOCK_SECONDS) for address in addresses]
        if None not in reasons:
            raise BenchError(
                f"torchrun's agent does not answer at {rank.address}:{rank.port} ({reasons[0]}); start torchrun again "
                "with a --master-addr that every node reaches"
            )
        return "held by torchrun's agent"
    if rank.index != 0:
        return ""
    if os.getpid() in endpoint.listeners(rank.port):
        return "held by this run"
    endpoint.listen(rank).close()
    return "free"


def check_launcher(joining: Joining) -> Iterator[Finding]:
    """Say which launcher's ranks would be joined, and where they would meet."""
    what = "launcher"
    if joining.refusal is not None:
        value, _, remedy = joining.refusal.partition("; ")
        who = f"would join {joining.refused_rank}, started by {joining.program}, and stops"
        value = f"{who if joining.refused_rank else 'bench run stops'}: {value}"
        yield Finding("fail", what, value, remedy or "start all ranks with one launcher")
        return
    if joining.rank is None:
        yield Finding("ok", what, "none: bench run starts its own ranks")
        return
    value = _sentence(joining)
    if joining.trouble is not None:
        reason, _, remedy = joining.trouble.partition("; ")
        yield Finding("fail", what, f"{value}: {reason}", remedy or "set MASTER_ADDR and MASTER_PORT on all ranks")
    else:
        yield Finding("ok", what, f"{value}, port {joining.port}" if joining.port else value)
    if joining.rank.how == "torchrun":
        yield Finding(
            "ok",
            "torchrun's own wait",
            "its agents wait for each other before any rank exists, outside --join-timeout: "
            "torchrun --rdzv-conf timeout=SECONDS, or join_timeout=SECONDS with --rdzv-backend c10d",
        )


def _sentence(joining: Joining) -> str:
    rank = joining.rank
    assert rank is not None
    host = f"[{rank.address}]" if ":" in rank.address else rank.address
    if not host:
        where = f"at an address that the ranks learn through {rank.address_from}"
    else:
        where = f"at {host}:{rank.port}" if rank.port else f"at {host}, port by the job's id"
    return f"would join rank {rank.index} of {rank.world_size}, started by {joining.program}, {where}"
