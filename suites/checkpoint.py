"""Checkpoint: a sharded model and its AdamW state, saved and loaded with torch.distributed.checkpoint.

What is measured: a stack of linear layers, sharded over all ranks by FSDP2 (`fully_shard`), with the two moments that
AdamW keeps of each parameter; `num_bytes` is the size of it all, in float32, which every rank writes and reads its
share of. Why: a long run saves every few minutes, and all devices stand still for it.

    save        get_state_dict and save: training stands still until the last rank has written
    async_save  get_state_dict and async_save: it stands still until the state is copied to host memory; a thread
                writes. The time of the case is that until all is written. `stall` is the call alone; `steps` are
                `num_steps` training steps, `steps_and_save` as many that begin right after the call
    load        get_state_dict, load and set_state_dict, from files saved in the same way

storage_gb_per_s is the state over the time of the case, all ranks together. stall_seconds is how long the call holds up
training, stall_share that over the whole. steps_slowdown is (steps_and_save - stall) / steps: what the thread
takes from the steps. lost_seconds is steps_and_save - steps, all that a save costs training; it is missing where a save
was not yet done when the steps were, since it was then still to cost something. On a CPU the thread takes cores
from the steps, on a GPU it does not. state_bytes and rank_bytes are the state in all, and the largest share of a rank.

`fsync=true`, torch's default: each file is synced to the storage before the save is over; `fsync=false` measures how
fast the page cache takes it. `cache=uncached` (load): the files are dropped from the page cache before every
sample, untimed; page_cache_gain is the time of that over the time with a twin of the files that stays there, and
cached_share what part of the files was in the cache. Folders (`folder=PATH`, which all hosts must share; the system's
temporary folder by default) are new for each save and removed untimed.

What was loaded is compared bit by bit with what was saved, parameters, moments, counts of steps and settings of the
optimizer, after all of it was overwritten; in an asynchronous save right after the call returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.measure.engine import control
from bench.suite import Check, Machine, Observed, Param, Params, Skip, Work
from bench.workloads.storage import page_cache, scratch_dir

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.storage.checkpoints import Checkpoints

MIB, GIB = 2**20, 2**30
MACHINERY = (
    "bench.workloads.storage.checkpoints",
    "bench.workloads.storage.page_cache",
    "bench.workloads.storage.scratch_dir",
)
DEFAULTS: Params = {
    "num_layers": 4,
    "fsync": True,
    "cache": "warm",
    "num_steps": 2,
    "batch_size": 256,
    "folder": scratch_dir.TEMPORARY,
}
CHOICES: dict[str, tuple[Param, ...]] = {
    "op": ("save", "async_save", "load"),
    "fsync": (True, False),
    "cache": page_cache.CACHE_STATES,
}
METRICS = {
    "storage_gb_per_s": ("GB/s", "higher"),
    "stall_seconds": ("s", "lower"),
    "stall_share": ("share", "lower"),
    "steps_slowdown": ("x", "lower"),
    "lost_seconds": ("s", "lower"),
    "state_bytes": ("B", "neither"),
    "rank_bytes": ("B", "neither"),
    "page_cache_gain": ("x", "neither"),
    "cached_share": ("share", "neither"),
}
COPIES = 3
"""Of each parameter in the state: itself and AdamW's two moments."""
ITEM_BYTES = 4
ENDED = 0.9
"""Share of the saves that must be done when the steps are, for what a save costs in all to be known."""
BASE = {
    "cpu": {"smoke": 4 * MIB, "standard": 32 * MIB, "full": GIB},
    "cuda": {"smoke": GIB, "standard": 16 * GIB, "full": 64 * GIB},
}
"""Device type -> preset -> bytes of the state."""


def cases(machine: Machine) -> Iterator[Params]:
    """Saving, without and with training going on; loading, past the page cache and from it; then without fsync."""
    sizes = BASE[machine.device_type]
    num_bytes = sizes[machine.preset]
    yield {"op": "save", "num_bytes": num_bytes}
    yield {"op": "async_save", "num_bytes": num_bytes}
    yield {"op": "load", "num_bytes": num_bytes, "cache": "uncached"}
    yield {"op": "load", "num_bytes": num_bytes}
    yield {"op": "save", "num_bytes": num_bytes, "fsync": False}
    if machine.preset == "full":
        yield {"op": "async_save", "num_bytes": num_bytes, "fsync": False}
        for op in ("save", "async_save", "load"):
            yield {"op": op, "num_bytes": sizes["standard"]}


def _whole(params: Params, name: str) -> int:
    value = params[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BenchError(f"checkpoint: {name}={value!r}; give a whole number of at least 1")
    return value


def _hidden(params: Params, world_size: int) -> int:
    """Width of the layers, of which each rank holds equally many rows, so that the state is about `num_bytes` large."""
    weights = _whole(params, "num_bytes") // (COPIES * ITEM_BYTES * _whole(params, "num_layers"))
    return max(1, round(isqrt(weights) / world_size)) * world_size


def _state_bytes(params: Params, world_size: int) -> int:
    return COPIES * ITEM_BYTES * _whole(params, "num_layers") * _hidden(params, world_size) ** 2


def _misfit(params: Params) -> str | None:
    """Why these parameters do not fit together; None where they do."""
    op = params["op"]
    if op != "load" and params["cache"] != DEFAULTS["cache"]:
        return f"cache={params['cache']} has no meaning for {op}"
    if op == "load" and params["fsync"] != DEFAULTS["fsync"]:
        return "fsync has no meaning for load: its files are always synced"
    changed = [name for name in ("num_steps", "batch_size") if params[name] != DEFAULTS[name]]
    return f"{changed[0]} has no meaning for {op}" if changed and op != "async_save" else None


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank: its share of the state, gradients, a copy to compare with and one of what is written or read.

    On a GPU the copies are in the host's memory, but for the one to compare with.
    """
    share = -(-_state_bytes(params, machine.world_size) // machine.world_size)
    layer = ITEM_BYTES * _hidden(params, machine.world_size) ** 2
    activations = ITEM_BYTES * 3 * _whole(params, "num_layers") * _whole(params, "batch_size")
    return 4 * share + 3 * layer + activations * _hidden(params, machine.world_size)


@dataclass(frozen=True)
class CheckpointOperation:
    """One row of the table: what is timed, and how its result is had back."""

    variants: Callable[[Operands], dict[str, Callable[[], object]]]
    save: Callable[[Operands], object]
    """Writes what the check loads, as the case does; nothing where the files are there."""
    folder: Callable[[Operands], Path]
    """Where the check loads from."""


@dataclass(frozen=True)
class Operands:
    """What an operation works with."""

    checkpoints: Checkpoints
    num_steps: int
    data: Path
    """Files to load."""
    twin: Path | None
    """The same again, which stay in the page cache."""


def _load_variants(own: Operands) -> dict[str, Callable[[], object]]:
    load, twin = own.checkpoints.load, own.twin
    found: dict[str, Callable[[], object]] = {"full": lambda: load(own.data)}
    return found if twin is None else found | {"from_cache": lambda: load(twin)}


OPERATIONS: Mapping[str, CheckpointOperation] = {
    "save": CheckpointOperation(
        variants=lambda own: {"full": own.checkpoints.save},
        save=lambda own: own.checkpoints.save(),
        folder=lambda own: own.checkpoints.current,
    ),
    "async_save": CheckpointOperation(
        variants=lambda own: {
            "full": own.checkpoints.save_meanwhile,
            "stall": own.checkpoints.begin_save,
            "steps": lambda: own.checkpoints.steps(own.num_steps),
            "steps_and_save": lambda: own.checkpoints.steps_and_save(own.num_steps),
        },
        save=lambda own: own.checkpoints.begin_save(),
        folder=lambda own: own.checkpoints.current,
    ),
    "load": CheckpointOperation(variants=_load_variants, save=lambda own: None, folder=lambda own: own.data),
}


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad value or folder, Skip without room, and where uncached reads cannot be had."""
    misfit = _misfit(params)
    if misfit:
        raise Skip(misfit)
    import torch.distributed as dist

    from bench.workloads.storage.checkpoints import Checkpoints, make_training

    uncached, folder = params["cache"] == "uncached", str(params["folder"])
    num_bytes = _state_bytes(params, rank.world_size)
    scratch_dir.require_room(rank, folder, 2 * num_bytes)
    hidden, num_layers = _hidden(params, rank.world_size), _whole(params, "num_layers")
    training = make_training(hidden, num_layers, _whole(params, "batch_size"), rank)
    group = dist.new_group(backend="gloo")
    root, held = scratch_dir.new_scratch(rank, folder, "checkpoint", per_host=False)
    checkpoints = Checkpoints(training, root, bool(params["fsync"]), group, removes=rank.index == 0)
    own = Operands(checkpoints, _whole(params, "num_steps"), root / "data", root / "twin" if uncached else None)
    operation = OPERATIONS[str(params["op"])]
    shares: list[float | None] = []
    if params["op"] == "load":
        for path in filter(None, (own.data, own.twin)):
            checkpoints.save(path)
    if uncached:
        page_cache.require_uncached(rank, _files(own.data))

    def drop() -> None:
        page_cache.drop_from_cache(_files(own.data))
        shares.append(page_cache.cached_share(_files(own.data)))

    def check() -> Check:
        load = checkpoints.load
        return Check(float(checkpoints.errors(lambda: operation.save(own), lambda: load(operation.folder(own)))), 0.0)

    def facts() -> dict[str, Any]:
        return {
            "rank_bytes": sum(tensor.nbytes for tensor in training.leaves()[0]),
            "ended_within_steps": checkpoints.ended,
            "cached_share": _cached(shares, own.data),
        }

    def close() -> None:
        checkpoints.finish()
        control.maxima(rank, [0])  # nobody reads or writes any more
        dist.destroy_process_group(group)
        if held is not None:
            held.close()

    return Work(
        variants=operation.variants(own),
        check=check,
        clock="host",
        reset=drop if uncached else checkpoints.renew if params["op"] != "load" else None,
        close=close,
        per_rank=facts,
        derive=lambda observed: derive(observed, str(params["op"])),
        notes=_notes(params, root, rank),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _cached(shares: list[float | None], folder: Path) -> float | None:
    """Median share of the files in the page cache when a load began; of a warm one, as it is now."""
    known = [share for share in shares if share is not None]
    if known:
        return median(known)
    return page_cache.cached_share(_files(folder)) if folder.is_dir() else None


def derive(observed: Observed, op: str) -> Mapping[str, float | None]:
    """Rates and shares from the times of the variants; see the top of the file."""
    seconds, rows = observed.seconds, observed.per_rank
    full, stall = seconds["full"], seconds.get("stall")
    state_bytes = sum(row["rank_bytes"] for row in rows)
    found: dict[str, float | None] = {
        "storage_gb_per_s": state_bytes / full / 1e9,
        "state_bytes": float(state_bytes),
        "rank_bytes": float(max(row["rank_bytes"] for row in rows)),
    }
    if op == "save":
        found["stall_seconds"] = full
    if stall is not None:
        meanwhile, steps = seconds["steps_and_save"], seconds["steps"]
        ended = [done for row in rows for done in row["ended_within_steps"]]
        found |= {
            "stall_seconds": stall,
            "stall_share": stall / full,
            "steps_slowdown": (meanwhile - stall) / steps,
            "lost_seconds": meanwhile - steps if sum(ended) >= ENDED * len(ended) else None,
        }
    if op == "load":
        shares = [row["cached_share"] for row in rows if row["cached_share"] is not None]
        from_cache = seconds.get("from_cache")
        found["cached_share"] = max(shares) if len(shares) == len(rows) else None
        found["page_cache_gain"] = full / from_cache if from_cache else None
    return found


def _notes(params: Params, root: Path, rank: RankContext) -> tuple[str, ...]:
    found = list(page_cache.notes(root))
    if params["op"] != "load" and not params["fsync"]:
        found.append("no fsync: the save is over when the page cache has it; a crash would lose it")
    if params["op"] == "async_save" and rank.device.type == "cpu":
        found.append("the thread that writes takes cores from the steps, as it would not from a GPU")
    return tuple(found)
