"""Point to point: latency and bandwidth between each pair of ranks, in disjoint rounds, and of a ring of all at once.

A slow link hides behind every collective, which only shows that all ranks waited. Here each pair exchanges by itself:
the ranks meet in the rounds of a tournament, in which each rank has one partner at a time, and a round is a variant of
its own. So n - 1 rounds (some more if n or the number of hosts is odd) give all n (n - 1) / 2 pairs, while as much
of the machine is busy as in training. The rounds within hosts and across them are apart. Above 64 ranks the pairs are
of hosts: all ranks of two hosts exchange, each with the one of its position.

`one_way`: the first of each pair sends (`there`), then the second (`back`). `both_ways`: both at once. `ping_pong`:
there and back again; half of it is the latency. `ring`: every rank sends to the next and receives from the one before.
The case itself (`full`) is the whole tournament, one round after the other, so that a slow pair shows in its time.
`num_bytes` is what crosses in one direction; a pair's time is that of the slower of its two ranks, and bandwidth is
per direction. A small message pays for being started too: read bandwidth from large ones.

The check runs every round with whole numbers, different on each rank, and compares what arrived exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.suite import (
    ITEM_BYTES,
    Check,
    Machine,
    Params,
    Presets,
    Skip,
    SuiteMetric,
    TimedCheck,
    Work,
    check_choices,
    positive_int,
)
from bench.workloads.comm.exact_check import CHECK_BYTES, Segment, fill, largest_error, poison
from bench.workloads.comm.pairs import MAX_RANKS, Pairs, pair_metrics, pair_tables
from bench.workloads.comm.rounds import Round, rounds_of_hosts, rounds_of_ranks
from bench.workloads.comm.timed_outputs import received_check

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext

KIB, MIB, GIB = 2**10, 2**20, 2**30
DTYPE = "float32"
SEND, RECEIVE = "send", "receive"
Batches = tuple[tuple[str, ...], ...]
"""Messages of a rank in a round, one batch after the other; those of one batch run at once."""


@dataclass(frozen=True)
class Form:
    """One row: a way to exchange."""

    parts: Mapping[str, tuple[Batches, Batches]]
    """Part of a round -> what the first and the second of a pair do; at one of them bytes cross one way, or both."""
    trips: int = 1
    """Number of times that the payload crosses in a call, one after the other."""
    tells: str = "bandwidth"


_SENDS: Batches = ((SEND,),)
_RECEIVES: Batches = ((RECEIVE,),)
_BOTH: Batches = ((SEND, RECEIVE),)

FORMS: Mapping[str, Form] = {
    "one_way": Form({"there": (_SENDS, _RECEIVES), "back": (_RECEIVES, _SENDS)}),
    "both_ways": Form({"both": (_BOTH, _BOTH)}),
    "ping_pong": Form({"both": (((SEND,), (RECEIVE,)), ((RECEIVE,), (SEND,)))}, trips=2, tells="latency"),
}
RING = "ring"

DEFAULTS: Params = {"timing": "aligned"}
CHOICES = {"op": (*FORMS, RING), "timing": ("aligned", "streamed")}
METRICS = {
    "slowest_pair_gb_per_s": SuiteMetric("GB/s", "higher", "Bandwidth in one direction of the slowest pair of ranks."),
    "median_pair_gb_per_s": SuiteMetric("GB/s", "higher", "Bandwidth in one direction of the median pair of ranks."),
    "fastest_pair_gb_per_s": SuiteMetric("GB/s", "higher", "Bandwidth in one direction of the fastest pair of ranks."),
    "pair_latency_seconds": SuiteMetric("s", "lower", "Half of the time there and back, of the median pair."),
    "slowest_pair_latency_seconds": SuiteMetric("s", "lower", "Half of the time there and back, of the slowest pair."),
    "direction_asymmetry": SuiteMetric(
        "x", "lower", "Time of the slower direction over that of the faster, of the pair in which they differ most."
    ),
    "link_ceiling_gb_per_s": SuiteMetric(
        "GB/s",
        "higher",
        "Bandwidth that a ring through all ranks can have: that of the median pair within a host. Across hosts it is "
        "at most the ranks of a host times the median pair.",
    ),
    "slow_links": SuiteMetric(
        "count", "lower", "Number of ranks and pairs that stand out; missing if there are too few for a verdict."
    ),
}


@dataclass(frozen=True)
class PairSizes:
    """Sizes of a preset in bytes; the first of each is the base point."""

    bandwidth: tuple[int, ...]
    latency: tuple[int, ...]
    ops: tuple[str, ...]
    """Measured at the base point, besides ping_pong."""


_LADDER = (8, KIB, 64 * KIB)
_ALL_OPS = ("one_way", "both_ways", RING)
SIZES = Presets(
    cpu={
        "smoke": PairSizes((4 * MIB,), (8,), ("one_way",)),
        "standard": PairSizes((4 * MIB,), (8,), _ALL_OPS),
        "full": PairSizes((4 * MIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB), _LADDER, _ALL_OPS),
    },
    cuda={
        "smoke": PairSizes((64 * MIB,), (8,), ("one_way",)),
        "standard": PairSizes((64 * MIB, 512 * MIB), (8,), _ALL_OPS),
        "full": PairSizes((64 * MIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB), _LADDER, _ALL_OPS),
    },
)


def cases(machine: Machine) -> Iterable[Params]:
    """Bandwidth and latency at the base point, then other forms and sizes; a ring from 3 ranks on."""
    sizes = SIZES.at(machine)
    ops = [op for op in sizes.ops if op != RING or machine.world_size > 2]
    rows = list(_points(sizes, ops))
    return list({tuple(sorted(row.items())): row for row in rows}.values())


def _points(sizes: PairSizes, ops: Sequence[str]) -> Iterator[Params]:
    def latency(num_bytes: int) -> Params:
        return {"op": "ping_pong", "num_bytes": num_bytes, "timing": "streamed"}

    yield {"op": ops[0], "num_bytes": sizes.bandwidth[0]}
    yield latency(sizes.latency[0])
    for num_bytes in sizes.bandwidth:
        for op in ops:
            yield {"op": op, "num_bytes": num_bytes}
    yield from map(latency, sizes.latency)


def memory(params: Params, machine: Machine) -> int:
    """Bytes of what a rank sends and receives, and of the check. Raises BenchError for a bad num_bytes."""
    return 2 * ITEM_BYTES[DTYPE] * _num_elements(params) + CHECK_BYTES


def _num_elements(params: Params) -> int:
    return max(1, positive_int("point_to_point", params, "num_bytes") // ITEM_BYTES[DTYPE])


@dataclass(frozen=True)
class Ends:
    """A rank's own tensors."""

    outgoing: torch.Tensor
    incoming: torch.Tensor


@dataclass(frozen=True)
class Move:
    """Messages of one rank in one part of a round, or none."""

    run: Callable[[], object]
    source: int | None
    """Whose data it has received afterwards."""


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad size or operation, Skip for what has no meaning here."""
    count, op = _num_elements(params), str(params["op"])
    check_choices("point_to_point", params, CHOICES)
    if rank.world_size < 2:
        raise Skip("needs at least 2 ranks: one alone has no other rank to exchange data with")
    if op == RING and rank.world_size == 2:
        raise Skip("2 ranks: a ring of two is the pair both ways, op=both_ways")
    ends = _ends(count, rank)
    return _ring(ends, rank) if op == RING else _tournament(FORMS[op], ends, rank)


def _ends(count: int, rank: RankContext) -> Ends:
    import torch

    outgoing, incoming = (torch.empty(count, dtype=getattr(torch, DTYPE), device=rank.device) for _ in range(2))
    fill(outgoing, rank)
    return Ends(outgoing, incoming)


def _ring(ends: Ends, rank: RankContext) -> Work:
    before, after = (rank.index - 1) % rank.world_size, (rank.index + 1) % rank.world_size
    moves = {"full": Move(_exchange([[(SEND, after), (RECEIVE, before)]], ends, rank), before)}
    return Work(
        variants={"full": moves["full"].run},
        check=partial(_check, moves, ends, rank),
        timed_checks=_timed_checks(moves, ends, rank),
        bytes=ends.outgoing.nbytes,
        bus_factor=1.0,
    )


def _tournament(form: Form, ends: Ends, rank: RankContext) -> Work:
    hosts = _hosts(rank)
    by_host = rank.world_size > MAX_RANKS
    if by_host and len(set(hosts)) < 2:
        raise Skip(f"{rank.world_size} ranks on one host: above {MAX_RANKS} ranks the pairs are of hosts, and needs 2")
    rounds = (rounds_of_hosts if by_host else rounds_of_ranks)(hosts)
    moves = {
        f"round_{number}_{part}" if len(form.parts) > 1 else f"round_{number}": _move(batches, one_round, ends, rank)
        for number, one_round in enumerate(rounds)
        for part, batches in form.parts.items()
    }
    met = sum(move.source is not None for move in moves.values()) * len(form.parts)
    moves = {"full": _in_sequence(list(moves.values()))} | moves
    pairs = Pairs(
        rounds=tuple(rounds),
        directions=tuple(form.parts),
        trips=form.trips,
        num_bytes=ends.outgoing.nbytes,
        hosts=tuple(hosts),
        is_latency=form.tells == "latency",
    )
    has_speed = not pairs.is_latency
    return Work(
        variants={name: move.run for name, move in moves.items()},
        check=partial(_check, moves, ends, rank),
        timed_checks=_timed_checks(moves, ends, rank),
        bytes=met * ends.outgoing.nbytes if has_speed else None,
        bus_factor=1.0 if has_speed else None,
        derive=partial(pair_metrics, pairs),
        tables=partial(pair_tables, pairs),
        notes=pairs.notes,
    )


def _hosts(rank: RankContext) -> list[int]:
    """The host of every rank, on every rank."""
    from bench.measure.engine import control

    return [int(host) for host in control.all_gather_json(rank, rank.place.host_index)]


def _rest() -> None:
    return None


def _move(batches: tuple[Batches, Batches], one_round: Round, ends: Ends, rank: RankContext) -> Move:
    """The rank's part of a round; a rank without a partner returns at once."""
    pair = next((pair for pair in one_round if rank.index in pair), None)
    if pair is None:
        return Move(_rest, None)
    place = pair.index(rank.index)
    peer = pair[1 - place]
    receives = any(RECEIVE in batch for batch in batches[place])
    run = _exchange([[(what, peer) for what in batch] for batch in batches[place]], ends, rank)
    return Move(run, peer if receives else None)


def _exchange(batches: Sequence[Sequence[tuple[str, int]]], ends: Ends, rank: RankContext) -> Callable[[], object]:
    """Batches of (send or receive, peer) as one call, bound beforehand.

    With NCCL batch_isend_irecv stays on the group's own communicator, whereas send and recv open one for each pair.
    """
    import torch.distributed as dist

    kinds: dict[str, tuple[Any, Any]] = {SEND: (dist.isend, ends.outgoing), RECEIVE: (dist.irecv, ends.incoming)}
    bound = [[dist.P2POp(*kinds[what], peer, group=rank.group) for what, peer in batch] for batch in batches]
    start = dist.batch_isend_irecv

    def exchange() -> None:
        for batch in bound:
            for work in start(batch):
                work.wait()

    return exchange


def _in_sequence(moves: Sequence[Move]) -> Move:
    """All of a rank's moves, one after the other; the rounds have one order on all ranks, so that no ranks wait in
    a circle."""
    busy = [move for move in moves if move.run is not _rest]
    runs = [move.run for move in busy]

    def every_round() -> None:
        for run in runs:
            run()

    return Move(every_round, next((move.source for move in reversed(busy) if move.source is not None), None))


def _timed_checks(moves: Mapping[str, Move], ends: Ends, rank: RankContext) -> dict[str, TimedCheck]:
    """A look at what this rank has received last, for each variant in which it receives anything."""
    return {
        name: received_check(ends.incoming, move.source, rank.world_size)
        for name, move in moves.items()
        if move.source is not None
    }


def _check(moves: Mapping[str, Move], ends: Ends, rank: RankContext) -> Check:
    """The largest error of what any of the moves has received; NaN if one is."""
    worst = 0.0
    for move in moves.values():
        poison(ends.incoming)
        fill(ends.outgoing, rank)
        move.run()
        if move.source is not None:
            expected = [Segment((move.source,), 0, len(ends.incoming))]
            error = largest_error(ends.incoming, expected, rank)
            worst = worst if error <= worst else error
    return Check(worst, 0.0)
