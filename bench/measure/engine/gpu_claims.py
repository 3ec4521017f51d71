"""One GPU a rank: each rank says in the store which GPU is its own, before any process group is opened.

NCCL refuses two ranks on one GPU itself, though with a traceback, from inside `init_process_group` and on some ranks
only; the others then wait for them. Here every rank learns of it, in words.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure.engine.store import Store
    from bench.measure.launchers.place import Place

_CONFLICT_KEY = "gpus/verdict"


def refuse_shared(store: Store, place: Place, host: str, uuid: str | None) -> None:
    """Meet the other ranks in the store; `uuid` is of this rank's GPU, None if it is not known.

    Raises BenchError on every rank if two share a GPU, or one does not come within the store's own time limit.
    """
    store.set(f"gpus/{place.index}", json.dumps([host, uuid]))
    if place.index == 0:
        verdict = _find_conflict(store, place.world_size)
        store.set(_CONFLICT_KEY, verdict)
    else:
        verdict = _read_conflict(store)
    if verdict:
        raise BenchError(verdict)


def _find_conflict(store: Store, world_size: int) -> str:
    """Return the complaint for all ranks; empty if every rank came with a GPU of its own."""
    claims: list[tuple[str, str | None]] = []
    for index in range(world_size):
        try:
            host, uuid = json.loads(store.get(f"gpus/{index}"))
        except RuntimeError:
            return f"rank {index} does not say which GPU is its own: it did not start, or was ended"
        claims.append((host, uuid))
    shared = _shared_gpu(claims)
    if shared is None:
        return ""
    return (
        f"ranks {shared[0]} and {shared[1]} were given one GPU ({claims[shared[1]][1]}); "
        "start one rank a GPU, each with its own LOCAL_RANK"
    )


def _shared_gpu(claims: Sequence[tuple[str, str | None]]) -> tuple[int, int] | None:
    """The first two ranks with one GPU."""
    seen: dict[tuple[str, str | None], int] = {}
    for index, claim in enumerate(claims):
        if claim[1] is not None and seen.setdefault(claim, index) != index:
            return seen[claim], index
    return None


def _read_conflict(store: Store) -> str:
    """Rank 0's verdict."""
    try:
        return store.get(_CONFLICT_KEY).decode()
    except RuntimeError:
        return "rank 0 does not say whether every rank has a GPU of its own: it did not start, or was ended"
