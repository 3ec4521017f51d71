"""Agreement of joined ranks before they work: the same code, plan, options and variables, or one line that says not.

Ranks that differ would not fail at once: they would wait for each other inside a collective, or measure
something else than the user wants. So each posts its facts once it knows the plan, and rank 0 compares them with its
own.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bench.core import clock
from bench.core.values import counted
from bench.errors import BenchError
from bench.measure.joining.roll import name_ranks

if TYPE_CHECKING:
    from bench.measure.engine.store import Store

POLL_SECONDS = 0.05
SETTLE_SECONDS = 2.0
"""Pause between arrivals after which those that are there are compared: the last may never come."""
MAX_SHOWN = 80
"""Characters of a value that an error shows."""
OWN_VARIABLES = ("_DEVICES", "_IFNAME", "_HCA", "_DIR", "_PATH", "_FILE", "_AFFINITY", "_PLACES", "_HOSTID")
"""Ends of variables that differ between hosts or ranks by their nature: devices, interfaces, files, cores."""


class CommonFacts(Struct, frozen=True):
    """Facts of one rank that all ranks must have in common, by kind and name; or the error that it ran into."""

    release: dict[str, str | None] = {}
    """Version of bench."""
    version: dict[str, str | None] = {}
    """Versions of what it depends on."""
    code: dict[str, str | None] = {}
    """Digests of the engine and of the plan's suites."""
    options: dict[str, str] = {}
    device: str = ""
    variables: dict[str, str] = {}
    error: str | None = None


Kind = tuple[str, Callable[[str, str, str], str], str, bool]
"""Field of CommonFacts, its text (rank's name, item, value), its remedy; True if --allow-unlike waives a difference."""

_KINDS: tuple[Kind, ...] = (
    ("release", lambda who, name, value: f"{who} has {name} {value}", "install the same version on every host", False),
    ("version", lambda who, name, value: f"{who} has {name} {value}", "install the same versions on every host", True),
    ("code", lambda who, name, value: f"{who} has other code of {name} (SHA-256 {value:.12})",
     "install the same bench and suites on every host", False),
    ("options", lambda who, name, value: f"{who} was given {name} {value}", "start every rank with the same words",
     False),
    ("variables", lambda who, name, value: f"{who} has {name}={value}", "set it alike on every rank", True),
)  # fmt: skip


def differing(facts: Mapping[int, CommonFacts], hosts: Sequence[str], allow_unlike: bool = False) -> list[str]:
    """The differences of ranks from rank 0, one text per item; `facts` are by rank, `hosts` those of all ranks.

    `allow_unlike` leaves out those that may be waived.
    """
    of_rank = dict(enumerate(hosts))
    texts = []
    for field, text, remedy, may_differ in _KINDS:
        for name, own, others in _items({rank: getattr(each, field) for rank, each in facts.items()}):
            if not (may_differ and allow_unlike):
                there = "; ".join(
                    text(name_ranks(ranks, of_rank), name, _shown(value)) for value, ranks in others.items()
                )
                waiver = ", or say --allow-unlike" if may_differ else ""
                texts.append(f"{there}; {text(name_ranks([0], of_rank), name, _shown(own))}; {remedy}{waiver}")
    other = next((rank for rank, each in facts.items() if each.device != facts[0].device), None)
    if other is not None:
        texts.append(
            f"{name_ranks([other], of_rank)} would measure on {facts[other].device}; {name_ranks([0], of_rank)} on "
            f"{facts[0].device}; give --device, or look at the GPUs there with `bench doctor`"
        )
    return texts


def _items(
    by_rank: Mapping[int, Mapping[str, str | None]],
) -> Iterator[tuple[str, str | None, dict[str | None, list[int]]]]:
    """Each name whose values differ, with rank 0's value, and the other values with their ranks."""
    for name in sorted({name for values in by_rank.values() for name in values}):
        own = by_rank[0].get(name)
        others: dict[str | None, list[int]] = defaultdict(list)
        for rank, values in sorted(by_rank.items()):
            if values.get(name) != own:
                others[values.get(name)].append(rank)
        if others:
            yield name, own, others


def _shown(value: str | None) -> str:
    if value is None:
        return "(not set)"
    return value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}..."


def comparable_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that all ranks should have alike."""
    return {name: value for name, value in variables.items() if not name.endswith(OWN_VARIABLES)}


def post_facts(store: Store, stage: str, rank: int, facts: CommonFacts) -> None:
    """Hand this rank's facts of a stage, or its error, to rank 0."""
    store.set(f"{stage}/{rank}", msgspec.json.encode(facts).decode())
    if facts.error is not None:
        store.set(f"{stage}/error", str(rank))


Check = Callable[[Mapping[int, CommonFacts], Sequence[str]], None]
"""Raises BenchError for facts, by rank, that do not go together; the hosts of all ranks are given too."""


def collect_facts(store: Store, stage: str, hosts: Sequence[str], deadline: float, check: Check) -> None:
    """Wait on rank 0 for the facts of all ranks in a stage, and check them.

    Raises BenchError for the first rank that ran into an error, as soon as it says so; for facts that do not go
    together, soon after they came; and for ranks that stay silent until `deadline`.
    """
    of_rank = dict(enumerate(hosts))
    facts: dict[int, CommonFacts] = {}
    pause, came = threading.Event(), clock.monotonic_seconds()
    while True:
        if store.check([f"{stage}/error"]):
            rank = int(store.get(f"{stage}/error"))
            error = _read(store, stage, rank).error
            raise BenchError(f"{error}" if rank == 0 else f"{name_ranks([rank], of_rank)}: {error}")
        silent = [rank for rank in range(len(hosts)) if rank not in facts]
        new = {rank: _read(store, stage, rank) for rank in silent if store.check([f"{stage}/{rank}"])}
        facts |= new
        now = clock.monotonic_seconds()
        came = now if new else came
        if 0 in facts and (len(facts) == len(hosts) or now - came > SETTLE_SECONDS):
            check(facts, hosts)
        silent = [rank for rank in silent if rank not in new]
        if not silent:
            return
        if now >= deadline:
            raise BenchError(
                f"{name_ranks(silent, of_rank)} came and has said nothing since; look at its output, or give it "
                "longer with --join-timeout"
            )
        pause.wait(POLL_SECONDS)


def _read(store: Store, stage: str, rank: int) -> CommonFacts:
    return msgspec.json.decode(store.get(f"{stage}/{rank}"), type=CommonFacts)


def refuse_differences(allow_unlike: bool, warn: Callable[[str], None]) -> Check:
    """A check that raises BenchError for the first difference, and warns of each one that is waived."""

    def check(facts: Mapping[int, CommonFacts], hosts: Sequence[str]) -> None:
        refused = differing(facts, hosts, allow_unlike)
        if refused:
            more = f" (and {counted(len(refused) - 1, 'more difference')})" if len(refused) > 1 else ""
            raise BenchError(refused[0] + more)
        if len(facts) == len(hosts):
            for waived in differing(facts, hosts):
                warn(waived)

    return check
