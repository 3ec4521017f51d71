"""The roll of a joined run: which ranks came, what is wrong with them, and which are missing. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

MAX_SHOWN_HOSTS = 4


class Arrival(Struct, frozen=True):
    """A rank's report of itself to rank 0."""

    rank: int
    world_size: int
    host: str
    process_id: int
    local_rank: int | None = None
    local_world_size: int | None = None
    token: str = ""
    """Random text of the process: in containers hosts may share a name and process ids."""

    def text(self) -> str:
        return f"rank {self.rank} on {self.host}"


def objection(arrivals: Sequence[Arrival]) -> str | None:
    """Reason why these ranks make no group; None: there is none so far. The first arrival is rank 0's own."""
    first = arrivals[0]
    by_rank: dict[int, Arrival] = {}
    for arrival in arrivals:
        if arrival.world_size != first.world_size:
            return (
                f"{first.text()} has a world size of {first.world_size}, {arrival.text()} one of {arrival.world_size}; "
                "start all ranks with the same"
            )
        twin = by_rank.setdefault(arrival.rank, arrival)
        if twin != arrival:  # not one process that had to report again
            return (
                f"two processes are rank {arrival.rank}: process {twin.process_id} on {twin.host} and "
                f"process {arrival.process_id} on {arrival.host}; give every process a RANK of its own"
            )
    return None


def absent_ranks(arrivals: Sequence[Arrival], world_size: int) -> list[int]:
    """Ranks that did not come."""
    return sorted(set(range(world_size)) - {arrival.rank for arrival in arrivals})


def guess_hosts(arrivals: Sequence[Arrival], known: Mapping[int, str]) -> dict[int, str]:
    """Hosts of ranks, as known beforehand, from their arrivals, and from siblings if ranks fill host by host.

    By default every launcher that is joined fills one host after the other. So if all ranks that came
    confirm that rank / ranks per host is the host, it is that of the others too.
    """
    hosts = {**known, **{arrival.rank: arrival.host for arrival in arrivals}}
    sizes = {arrival.local_world_size for arrival in arrivals}
    size = sizes.pop() if len(sizes) == 1 else None
    if not size:
        return hosts
    blocks: dict[int, set[str]] = defaultdict(set)
    for arrival in arrivals:
        blocks[arrival.rank // size].add(arrival.host)
    names = [name for block in blocks.values() for name in block]
    if len(names) != len(set(names)) or any(len(block) > 1 for block in blocks.values()):
        return hosts
    of_block = {block: next(iter(names)) for block, names in blocks.items()}
    world_size = arrivals[0].world_size
    return {rank: of_block[rank // size] for rank in range(world_size) if rank // size in of_block} | hosts


def list_by_host(ranks: Iterable[int], hosts: Mapping[int, str]) -> str:
    """`node3: rank 6, 7; rank 9`: ranks by host, those of unknown hosts last."""
    return _by_host(ranks, hosts, "{host}: rank {ranks}")


def name_ranks(ranks: Iterable[int], hosts: Mapping[int, str]) -> str:
    """`rank 6, 7 on node3; rank 9`: ranks by host, those of unknown hosts last."""
    return _by_host(ranks, hosts, "rank {ranks} on {host}")


def _by_host(ranks: Iterable[int], hosts: Mapping[int, str], form: str) -> str:
    by_host: dict[str, list[int]] = defaultdict(list)
    for rank in ranks:
        by_host[hosts.get(rank, "")].append(rank)
    unknown = by_host.pop("", [])
    parts = [form.format(host=host, ranks=_spans(members)) for host, members in by_host.items()]
    if len(parts) > MAX_SHOWN_HOSTS:
        parts = [*parts[:MAX_SHOWN_HOSTS], f"the ranks of {len(parts) - MAX_SHOWN_HOSTS} more hosts"]
    return "; ".join([*parts, *([f"rank {_spans(unknown)}"] if unknown else [])])


def _spans(ranks: Sequence[int]) -> str:
    """Runs of three ranks and more by their ends: `0, 1, 8 to 15`."""
    spans: list[list[int]] = [[ranks[0]]]
    for before, rank in pairwise(ranks):
        if rank == before + 1:
            spans[-1].append(rank)
        else:
            spans.append([rank])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)


def show_progress(arrivals: Sequence[Arrival], world_size: int, known: Mapping[int, str]) -> str:
    """`6 of 8 ranks; waiting for node3: rank 6, 7`."""
    absent = absent_ranks(arrivals, world_size)
    if not absent:
        return f"all {world_size} ranks are there"
    waiting = list_by_host(absent, guess_hosts(arrivals, known))
    return f"{world_size - len(absent)} of {world_size} ranks; waiting for {waiting}"


def describe_absent(
    arrivals: Sequence[Arrival], world_size: int, known: Mapping[int, str], where: str, limit_seconds: float
) -> str:
    """Report of a meeting that failed: how many came, who is missing, and what to look at. `where` is rank 0's port."""
    absent = absent_ranks(arrivals, world_size)
    missing = list_by_host(absent, guess_hosts(arrivals, known))
    came = world_size - len(absent)
    if came == 1:
        remedy = f"start every rank, and see that the other hosts reach {where}"
    else:
        remedy = "look at what the launcher says of them"
    return (
        f"{came} of {world_size} ranks came within {limit_seconds:g} s; missing: {missing}; {remedy}, "
        "or give them longer with --join-timeout"
    )
