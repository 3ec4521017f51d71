"""Checkpoint: a sharded model and its AdamW state, saved and loaded with torch.distributed.checkpoint.

What is measured: a stack of linear layers, sharded over all ranks by FSDP2 (`fully_shard`), with the two moments that
AdamW keeps of each parameter. `num_bytes` is the size of it all, in float32, which every rank writes and reads its
share of. Why: a long run saves every few minutes, and all devices wait for it.

    save        get_state_dict and save: training waits until the last rank has written
    async_save  get_state_dict and async_save: it waits until the state is copied to host memory; a thread
                writes. The time of the case is that until all is written. `stall` is the call alone; `steps` are
                `num_steps` training steps, `steps_and_save` as many that begin right after the call
    load        get_state_dict, load and set_state_dict, from files saved in the same way

`storage_gb_per_s` is the state over the time of the case, all ranks together. `stall_seconds` is how long the call
holds up training, `stall_share` its share of the whole. `steps_slowdown` is (steps_and_save - stall) / steps, the time
that the thread takes from the steps. `lost_seconds` is steps_and_save - steps, the time that a save costs training in
all. It is missing if a save was not done when the steps were. On a CPU the thread takes cores from the steps, on a GPU
it does not. `state_bytes` and `rank_bytes` are the state in all, and the largest share of a rank.

`fsync=true`, torch's default: each file is synced to the storage before the save is over; `fsync=false` measures how
fast the page cache takes it. `cache=uncached` (load): the files are dropped from the page cache before every sample,
untimed. `page_cache_gain` is the time of that over the time with a twin of the files that stays there, and
`cached_share` the part of the files that was in the cache. Folders (`folder=PATH`, which all hosts must share; the
system's temporary folder by default) are new for each save and removed untimed.

The loaded state is compared bit by bit with the saved one: parameters, moments, counts of steps and settings of the
optimizer. All of it was overwritten before; in an asynchronous save right after the call returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isqrt
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.measure.engine import control
from bench.suite import (
    ITEM_BYTES,
    Check,
    Machine,
    Observed,
    Param,
    Params,
    Presets,
    SuiteMetric,
    Work,
    positive_int,
    skip_if,
)
from bench.workloads.comm.timed_outputs import combined_check
from bench.workloads.storage import page_cache, scratch_dir

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.storage.checkpoints import Checkpoints, Seen, Training

MIB, GIB = 2**20, 2**30
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
    "storage_gb_per_s": SuiteMetric(
        "GB/s",
        "higher",
        "Bytes of the whole state over the time of the case; of an asynchronous save until all is written.",
    ),
    "stall_seconds": SuiteMetric("s", "lower", "Time for which the call of a save holds up training."),
    "stall_share": SuiteMetric(
        "share", "lower", "Time for which the call of a save holds up training, over the time until all is written."
    ),
    "steps_slowdown": SuiteMetric(
        "x", "lower", "Time of training steps during an asynchronous save, over their time without one."
    ),
    "lost_seconds": SuiteMetric(
        "s", "lower", "Time that an asynchronous save costs training in all; missing if the save outlasts the steps."
    ),
    "state_bytes": SuiteMetric("B", "neither", "Size of the whole state, of all ranks."),
    "rank_bytes": SuiteMetric("B", "neither", "Largest share of the state that a rank has."),
    "page_cache_gain": SuiteMetric(
        "x", "neither", "Time of reading past the page cache over that of reading a twin of the files that stays in it."
    ),
    "cached_share": SuiteMetric(
        "share", "neither", "Share of the files that was in the page cache when a sample began."
    ),
}
COPIES = 3
"""Numbers in the state for each parameter: itself and AdamW's two moments."""
ITEM = ITEM_BYTES["float32"]
ENDED = 0.9
"""Share of the saves that must be done when the steps are, for what a save costs in all to be known."""
STATE_BYTES = Presets(
    cpu={"smoke": 4 * MIB, "standard": 32 * MIB, "full": GIB},
    cuda={"smoke": GIB, "standard": 16 * GIB, "full": 64 * GIB},
)


def cases(machine: Machine) -> Iterator[Params]:
    """Saving, without and with training going on; loading, past the page cache and from it; then without fsync."""
    num_bytes = STATE_BYTES.at(machine)
    yield {"op": "save", "num_bytes": num_bytes}
    yield {"op": "async_save", "num_bytes": num_bytes}
    yield {"op": "load", "num_bytes": num_bytes, "cache": "uncached"}
    yield {"op": "load", "num_bytes": num_bytes}
    yield {"op": "save", "num_bytes": num_bytes, "fsync": False}
    if machine.preset == "full":
        yield {"op": "async_save", "num_bytes": num_bytes, "fsync": False}
        for op in ("save", "async_save", "load"):
            yield {"op": op, "num_bytes": STATE_BYTES.at(replace(machine, preset="standard"))}


_positive = partial(positive_int, "checkpoint")


def _hidden(params: Params, world_size: int) -> int:
    """Width of the layers, of which each rank holds equally many rows, so that the state is about `num_bytes` large."""
    weights = _positive(params, "num_bytes") // (COPIES * ITEM * _positive(params, "num_layers"))
    return max(1, round(isqrt(weights) / world_size)) * world_size


def _state_bytes(params: Params, world_size: int) -> int:
    return COPIES * ITEM * _positive(params, "num_layers") * _hidden(params, world_size) ** 2


def _misfit(params: Params) -> str | None:
    """Reason why these parameters do not fit together; None if they do."""
    op = params["op"]
    if op != "load" and params["cache"] != DEFAULTS["cache"]:
        return f"cache={params['cache']} has no meaning for {op}"
    if op == "load" and params["fsync"] != DEFAULTS["fsync"]:
        return "fsync has no meaning for load: its files are always synced"
    changed = [name for name in ("num_steps", "batch_size") if params[name] != DEFAULTS[name]]
    return f"{changed[0]} has no meaning for {op}" if changed and op != "async_save" else None


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank: its share of the state, gradients, a copy to compare with and one of what is written or read.

    On a GPU the copies are in the host's memory, except for the one to compare with.
    """
    share = -(-_state_bytes(params, machine.world_size) // machine.world_size)
    layer = ITEM * _hidden(params, machine.world_size) ** 2
    activations = ITEM * 3 * _positive(params, "num_layers") * _positive(params, "batch_size")
    return 4 * share + 3 * layer + activations * _hidden(params, machine.world_size)


@dataclass(frozen=True)
class CheckpointOperation:
    """One row of the table: what is timed, and how its result is read back."""

    variants: Callable[[Operands], dict[str, Callable[[], object]]]
    save: Callable[[Operands], object]
    """Writes what the check loads, as the case does; nothing if the files are there."""
    folder: Callable[[Operands], Path]
    """Folder that the check loads from."""
    looks: Mapping[str, tuple[str, ...]]
    """Variant -> what its timed calls are looked at for: files `saved`, the state `loaded`, the count of `steps`."""


@dataclass(frozen=True)
class Operands:
    """Model and files that an operation works with."""

    checkpoints: Checkpoints
    num_steps: int
    data: Path
    """Files to load."""
    twin: Path | None
    """Files read again, which stay in the page cache."""
    cached_shares: list[float | None] = field(default_factory=list)
    """Share of `data` in the page cache before each load."""

    def drop(self) -> None:
        """Takes the files to load out of the page cache."""
        page_cache.drop_from_cache(_files(self.data))
        self.cached_shares.append(page_cache.cached_share(_files(self.data)))


def _load_variants(operands: Operands) -> dict[str, Callable[[], object]]:
    load, twin = operands.checkpoints.load, operands.twin
    variants: dict[str, Callable[[], object]] = {"full": lambda: load(operands.data)}
    return variants if twin is None else variants | {"from_cache": lambda: load(twin)}


OPERATIONS: Mapping[str, CheckpointOperation] = {
    "save": CheckpointOperation(
        variants=lambda operands: {"full": operands.checkpoints.save},
        save=lambda operands: operands.checkpoints.save(),
        folder=lambda operands: operands.checkpoints.current,
        looks={"full": ("saved",)},
    ),
    "async_save": CheckpointOperation(
        variants=lambda operands: {
            "full": operands.checkpoints.save_meanwhile,
            "stall": operands.checkpoints.begin_save,
            "steps": lambda: operands.checkpoints.steps(operands.num_steps),
            "steps_and_save": lambda: operands.checkpoints.steps_and_save(operands.num_steps),
        },
        save=lambda operands: operands.checkpoints.begin_save(),
        folder=lambda operands: operands.checkpoints.current,
        looks={
            "full": ("saved",),
            "stall": ("saved",),
            "steps": ("steps",),
            "steps_and_save": ("saved", "steps"),
        },
    ),
    "load": CheckpointOperation(
        variants=_load_variants,
        save=lambda operands: None,
        folder=lambda operands: operands.data,
        looks={"full": ("loaded",), "from_cache": ("loaded",)},
    ),
}


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad value or folder, Skip without room, and if uncached reads are not possible."""
    skip_if(_misfit(params))
    import torch.distributed as dist

    from bench.workloads.storage.checkpoint_looks import LoadLooks, SaveLooks, StepCountLooks
    from bench.workloads.storage.checkpoints import Checkpoints, make_training

    op, uncached, folder = str(params["op"]), params["cache"] == "uncached", str(params["folder"])
    scratch_dir.require_room(rank, folder, 2 * _state_bytes(params, rank.world_size))
    sizes = _hidden(params, rank.world_size), _positive(params, "num_layers"), _positive(params, "batch_size")
    training = make_training(*sizes, rank)
    group = dist.new_group(backend="gloo")
    root, held = scratch_dir.new_scratch(rank, folder, "checkpoint", per_host=False)
    checkpoints = Checkpoints(training, root, bool(params["fsync"]), group, removes=rank.index == 0)
    twin = root / "twin" if uncached else None
    operands = Operands(checkpoints, _positive(params, "num_steps"), root / "data", twin)
    _write_files(op, operands, rank)

    variants, files, state = OPERATIONS[op].variants(operands), SaveLooks(checkpoints, rank.index), LoadLooks(training)
    looks = {
        "saved": files.timed_check,
        "loaded": state.timed_check,
        "steps": StepCountLooks(training, operands.num_steps).timed_check,
    }

    def close() -> None:
        checkpoints.finish()
        control.maxima(rank, [0])  # nobody reads or writes any more
        dist.destroy_process_group(group)
        if held is not None:
            held.close()

    return Work(
        variants=variants,
        check=partial(_check, OPERATIONS[op], operands, (state if op == "load" else files).learn),
        timed_checks={name: combined_check(*(looks[what] for what in OPERATIONS[op].looks[name])) for name in variants},
        clock="host",
        reset=operands.drop if uncached else checkpoints.renew if op != "load" else None,
        close=close,
        per_rank=partial(_facts, training, operands),
        derive=partial(derive, op=op),
        notes=_notes(params, root, rank),
    )


def _write_files(op: str, operands: Operands, rank: RankContext) -> None:
    """Writes what a case loads. Raises Skip if it is to be read uncached and cannot be."""
    if op == "load":
        for path in filter(None, (operands.data, operands.twin)):
            operands.checkpoints.save(path)
    if operands.twin is not None:
        page_cache.require_uncached(rank, _files(operands.data))


def _check(operation: CheckpointOperation, operands: Operands, seen: Seen) -> Check:
    load = operands.checkpoints.load
    errors = operands.checkpoints.errors(
        lambda: operation.save(operands), lambda: load(operation.folder(operands)), seen
    )
    return Check(float(errors), 0.0)


def _facts(training: Training, operands: Operands) -> dict[str, Any]:
    return {
        "rank_bytes": sum(tensor.nbytes for tensor in training.leaves()[0]),
        "ended_within_steps": operands.checkpoints.ended,
        "cached_share": _cached(operands.cached_shares, operands.data),
    }


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
    figures: dict[str, float | None] = {
        "storage_gb_per_s": state_bytes / full / 1e9,
        "state_bytes": float(state_bytes),
        "rank_bytes": float(max(row["rank_bytes"] for row in rows)),
    }
    if op == "save":
        figures["stall_seconds"] = full
    if stall is not None:
        meanwhile, steps = seconds["steps_and_save"], seconds["steps"]
        ended = [done for row in rows for done in row["ended_within_steps"]]
        figures |= {
            "stall_seconds": stall,
            "stall_share": stall / full,
            "steps_slowdown": (meanwhile - stall) / steps,
            "lost_seconds": meanwhile - steps if sum(ended) >= ENDED * len(ended) else None,
        }
    if op == "load":
        shares = [row["cached_share"] for row in rows if row["cached_share"] is not None]
        from_cache = seconds.get("from_cache")
        figures["cached_share"] = max(shares) if len(shares) == len(rows) else None
        figures["page_cache_gain"] = full / from_cache if from_cache else None
    return figures


def _notes(params: Params, root: Path, rank: RankContext) -> tuple[str, ...]:
    notes = list(page_cache.notes(root))
    if params["op"] != "load" and not params["fsync"]:
        notes.append("no fsync: the save is over when the page cache has it; a crash would lose it")
    if params["op"] == "async_save" and rank.device.type == "cpu":
        notes.append("the thread that writes takes cores from the steps, as it would not from a GPU")
    return tuple(notes)
