"""Graph of operations from the spans of one traced call, to be run again by `bench.analysis.explain.what_if`.

Each rank's call becomes a chain of pieces that leave no time out: computation, communication (also within a
computation), input, and what lies in no span (`outside`: the host's own work). Between ranks:

    collectives   the communications of one axis and number (or, if spans have none, the n-th of every rank) meet:
                  each one's own duration is end - the latest start among them, the rest is waiting
    messages      a forward waits for that of the stage before, a backward for that of the stage behind, of the same
                  microbatch: the piece before it is as long as from the later of that one's end and its own start

so that the call, run again with these durations, takes what it took.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bench.analysis.explain.dag import edges
from bench.analysis.explain.what_if import Operations
from bench.suite import COMMUNICATION, Span

OUTSIDE = "outside"
INPUT_KINDS = frozenset({"input", "load", "data"})
COMPUTE, MOVE, FEED, HOST = "compute", "communication", "input", "outside"
SORTS = (COMPUTE, MOVE, FEED, HOST)
GroupOf = Callable[[int, Any], object]


def sort_of(kind: str) -> str:
    """Sort of a kind: computation, communication, input, or none of them."""
    if kind in (COMMUNICATION, "dispatch", "combine"):
        return MOVE
    return FEED if kind in INPUT_KINDS else HOST if kind == OUTSIDE else COMPUTE


@dataclass
class Piece:
    """A stretch of one rank's call in which one thing went on; nanoseconds from the call's start."""

    rank: int
    kind: str
    start: int
    end: int
    stage: int | None = None
    microbatch: int | None = None
    axis: str | None = None
    sequence: int | None = None
    num_bytes: int | None = None
    within: str = ""
    """Kind of the span around it."""

    @property
    def sort(self) -> str:
        return sort_of(self.kind)

    @property
    def like(self) -> str:
        """Key of the pieces with its typical duration: communications of one axis, size and pass."""
        if self.sort != MOVE:
            return self.kind
        return " ".join(str(part) for part in (self.kind, self.axis, self.num_bytes, self.within) if part)


def pieces_of(spans: Sequence[Span], rank: int, call_ns: int) -> list[Piece]:
    """The innermost span of every moment, and `outside` if there is none; in order, without holes."""
    bounds = sorted({0, call_ns, *(s.start_ns for s in spans), *(s.start_ns + s.duration_ns for s in spans)})
    ordered = sorted(spans, key=lambda s: (s.start_ns, -s.duration_ns))
    pieces: list[Piece] = []
    last: Span | None = None
    for start, end in pairwise(bounds):
        inner = [s for s in ordered if s.start_ns <= start and end <= s.start_ns + s.duration_ns]
        span = inner[-1] if inner else None
        if pieces and span is last:
            pieces[-1].end = end
            continue
        last = span
        kind = OUTSIDE if span is None else span.kind
        pieces.append(Piece(rank, kind, start, end))
        if span is not None:
            pieces[-1].stage, pieces[-1].microbatch = span.stage, span.microbatch
            pieces[-1].axis, pieces[-1].sequence = span.axis, span.sequence
            pieces[-1].num_bytes, pieces[-1].within = span.num_bytes, inner[-2].kind if len(inner) > 1 else ""
    return pieces


def one_group(_rank: int, _axis: Any) -> object:
    """All ranks are peers along every axis."""
    return 0


def operations(spans: Sequence[Span], call_ns: Sequence[int], group_of: GroupOf = one_group) -> Operations:
    """One call of all ranks; `call_ns` is [rank]. Places: rank, stage and `sort` (index into SORTS).

    `group_of(rank, axis)` is the same for the ranks that talk to each other along an axis.
    """
    by_rank = [pieces_of([s for s in spans if s.rank == r], r, length) for r, length in enumerate(call_ns)]
    for rank_pieces in by_rank:
        _with_doors(rank_pieces)
    pieces = [piece for rank_pieces in by_rank for piece in rank_pieces]
    index = {id(piece): number for number, piece in enumerate(pieces)}
    waits = [(index[id(a)], index[id(b)]) for rank_pieces in by_rank for a, b in pairwise(rank_pieces)]
    seconds = np.array([[(piece.end - piece.start) / 1e9] for piece in pieces])
    for producer, door in _messages(by_rank, group_of):
        waits.append((index[id(producer)], index[id(door)]))
        seconds[index[id(door)], 0] = max(0, door.end - max(door.start, producer.end)) / 1e9
    group = _meetings(by_rank, index, seconds, group_of)
    kinds = tuple(dict.fromkeys(piece.like for piece in pieces))
    before, after = edges(waits)
    return Operations(
        seconds=seconds,
        kind=np.array([kinds.index(piece.like) for piece in pieces]),
        kinds=kinds,
        communicates=np.array([piece.sort == MOVE for piece in pieces]),
        places={
            "rank": np.array([piece.rank for piece in pieces]),
            "stage": np.array([-1 if piece.stage is None else piece.stage for piece in pieces]),
            "sort": np.array([SORTS.index(piece.sort) for piece in pieces]),
        },
        before=before,
        after=after,
        group=group,
    )


def _with_doors(pieces: list[Piece]) -> None:
    """A piece before every computation that may wait for another rank, if need be of no length."""
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        if piece.microbatch is not None and piece.sort == COMPUTE and (at == 0 or pieces[at - 1].sort == COMPUTE):
            pieces.insert(at, Piece(piece.rank, OUTSIDE, piece.start, piece.start))
            at += 1
        at += 1


def _messages(by_rank: Sequence[list[Piece]], group_of: GroupOf) -> list[tuple[Piece, Piece]]:
    """(computation that sends, the piece before the one that needs it), between ranks."""
    done: dict[tuple[object, str, int, int], Piece] = {}
    for pieces in by_rank:
        for piece in pieces:
            if piece.sort == COMPUTE and piece.stage is not None and piece.microbatch is not None:
                lane = group_of(piece.rank, "pipeline")
                done[lane, _pass(piece.kind), piece.stage, piece.microbatch] = piece  # of one cut up the last piece
    messages: list[tuple[Piece, Piece]] = []
    seen: set[tuple[int, str, int, int]] = set()
    for pieces in by_rank:
        for door, piece in pairwise(pieces):
            if piece.sort != COMPUTE or piece.stage is None or piece.microbatch is None:
                continue
            kind, lane = _pass(piece.kind), group_of(piece.rank, "pipeline")
            producer = done.get((lane, kind, piece.stage + (-1 if kind == "forward" else 1), piece.microbatch))
            key = (piece.rank, kind, piece.stage, piece.microbatch)
            if producer is not None and producer.rank != piece.rank and key not in seen and door.sort != COMPUTE:
                messages.append((producer, door))
            seen.add(key)
    return messages


def _pass(kind: str) -> str:
    return "backward" if kind.startswith("backward") else kind


def _meetings(
    by_rank: Sequence[list[Piece]], index: dict[int, int], seconds: np.ndarray, group_of: GroupOf
) -> np.ndarray:
    """[operation] number of the meeting, -1 for none; sets the own durations of those that meet."""
    group = np.full(len(index), -1, dtype=np.int64)
    for number, members in enumerate(_meeting_pieces(by_rank, group_of)):
        latest = max(piece.start for piece in members)
        for piece in members:
            group[index[id(piece)]] = number
            seconds[index[id(piece)], 0] = max(0, piece.end - latest) / 1e9
    return group


def _meeting_pieces(by_rank: Sequence[list[Piece]], group_of: GroupOf) -> list[list[Piece]]:
    """The communications that meet, if every rank of their group has them once; others are left to themselves."""
    named: defaultdict[tuple[object, ...], list[Piece]] = defaultdict(list)
    for rank_pieces in by_rank:
        for piece in rank_pieces:
            if piece.sort == MOVE and piece.sequence is not None:
                named[piece.axis, piece.sequence, group_of(piece.rank, piece.axis)].append(piece)
    sizes = Counter((axis, group_of(rank, axis)) for axis in {key[0] for key in named} for rank in range(len(by_rank)))
    whole = [
        members
        for (axis, _, group), members in named.items()
        if len({piece.rank for piece in members}) == len(members) == sizes[axis, group]
    ]
    unnamed = [[p for p in rank_pieces if p.sort == MOVE and _is_unnamed(p)] for rank_pieces in by_rank]
    if len({len(rank_pieces) for rank_pieces in unnamed}) == 1:
        whole += [list(members) for members in zip(*unnamed, strict=True)]
    return whole


def _is_unnamed(piece: Piece) -> bool:
    """A collective of all ranks that says no more of itself; messages say an axis or a microbatch."""
    return piece.sequence is None and piece.microbatch is None and piece.axis is None
