"""Traces in the form of the artifact of "Understanding Stragglers in Large Model Training Using What-if Analysis".

A Parquet file has one row per operation of one worker (a data-parallel rank and a pipeline stage) in one step. Columns:
`dp_rank`, `stage`, `rank`, `step`, `optype`, `start_ts`, `duration` (seconds, with waiting), `seq_id` (its number among
those of its type on its worker in the step), `mc` (model chunk, -1: none), `gmc` (the same, counted over all stages).
The file does not say which operation waits for which; `bench.analysis.explain.straggler_graph` rebuilds that from one
step of one data- parallel rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.explain.dag import edges
from bench.analysis.explain.straggler_graph import (
    ACROSS_REPLICAS,
    CLIP,
    COMMUNICATION,
    KINDS,
    OperationKey,
    Template,
    rebuild,
)
from bench.analysis.explain.what_if import Operations
from bench.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Seconds = NDArray[np.float64]

COLUMNS = ("dp_rank", "stage", "rank", "step", "optype", "start_ts", "duration", "seq_id", "mc", "gmc")
MAX_NEGATIVE_SECONDS = 1e-2
"""A transfer that ended longer before its peer began is one of clocks gone wrong, and counts as none at all."""


@dataclass(frozen=True)
class Trace:
    """Steps of a trace file."""

    operations: Operations
    steps: tuple[int, ...]
    """Numbers of the steps, in the order of the lanes."""
    steps_left_out: tuple[int, ...]
    """Whose operations are not those of the first step."""
    recorded_seconds: tuple[float, ...]
    """Seconds of each step: from the first start to the last end, with the gaps that no operation explains."""


def load(path: Path) -> Trace:
    """All steps of a trace. Raises BenchError if it cannot be read, is none of this form, or has no whole step."""
    frame = _read(path)
    first = frame[(frame["dp_rank"] == frame["dp_rank"].min()) & (frame["step"] == frame["step"].min())]
    return _build_trace(path, frame, rebuild(path, first.to_dict("records")))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise BenchError(f"{path}: reading Parquet needs pyarrow; install the extra `parquet`") from error
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise BenchError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise BenchError(f"{path}: no column {', '.join(missing)}; a trace has {', '.join(COLUMNS)}")
    if frame.empty:
        raise BenchError(f"{path}: the trace has no operation")
    unknown = sorted(set(frame["optype"].astype(str)) - set(KINDS))
    if unknown:
        raise BenchError(f"{path}: unknown optype {unknown[0]!r}; there are {', '.join(KINDS)}")
    frame = frame.assign(optype=frame["optype"].astype(str))
    for name in ("start_ts", "duration"):
        frame[name] = frame[name].to_numpy(dtype=np.float64)
        if not np.isfinite(frame[name]).all():
            raise BenchError(f"{path}: {name} has a value that is not a number; a trace gives seconds")
    identity = ["dp_rank", "stage", "step", "optype", "seq_id"]
    twice = frame[frame.duplicated(identity)]
    if len(twice):
        what = ", ".join(f"{name} {value}" for name, value in twice.iloc[0][identity].items())
        raise BenchError(f"{path}: two rows are one operation ({what}); keep one of the ranks that work as one")
    return frame


def _build_trace(path: Path, frame: pd.DataFrame, template: Template) -> Trace:
    """The template laid over every data-parallel rank, with a lane a step."""
    keys = list(dict.fromkeys([*template.keys()]))
    replicas = sorted({int(number) for number in frame["dp_rank"]})
    steps = sorted({int(number) for number in frame["step"]})
    starts, durations, ranks, is_like = _cubes(frame, keys, replicas, steps)
    whole = np.isfinite(starts).all(axis=(0, 1)) & is_like
    if not whole.any():
        raise BenchError(f"{path}: no step has, on every data-parallel rank, the operations of the first one")
    size = len(keys) * len(replicas)
    starts, durations = starts[:, :, whole].reshape(size, -1), durations[:, :, whole].reshape(size, -1)
    return Trace(
        operations=_operations(keys, template, replicas, ranks, starts, durations),
        steps=tuple(step for step, is_whole in zip(steps, whole, strict=True) if is_whole),
        steps_left_out=tuple(step for step, is_whole in zip(steps, whole, strict=True) if not is_whole),
        recorded_seconds=tuple(((starts + durations).max(axis=0) - starts.min(axis=0)).tolist()),
    )


def _operations(
    keys: list[OperationKey],
    template: Template,
    replicas: list[int],
    ranks: Numbers,
    starts: Seconds,
    durations: Seconds,
) -> Operations:
    num_keys, num_replicas = len(keys), len(replicas)
    index = {key: number for number, key in enumerate(keys)}
    group = _groups(template, index, num_replicas)
    kinds = tuple(kind for kind in KINDS if any(key.kind == kind for key in keys))
    before, after = edges((index[a], index[b]) for a, b in dict.fromkeys(template.waits))
    spread = np.arange(num_replicas)

    def per_operation(values: list[Any]) -> NDArray[Any]:
        return np.repeat(np.asarray(values), num_replicas)

    return Operations(
        seconds=_own_seconds(starts, durations, group),
        kind=per_operation([kinds.index(key.kind) for key in keys]),
        kinds=kinds,
        communicates=per_operation([key.kind in COMMUNICATION for key in keys]),
        places={
            "rank": ranks.reshape(-1),
            "dp_rank": np.tile(np.asarray(replicas, dtype=np.int64), num_keys),
            "stage": per_operation([key.stage for key in keys]),
        },
        before=(before[:, None] * num_replicas + spread).reshape(-1),
        after=(after[:, None] * num_replicas + spread).reshape(-1),
        group=group,
    )


def _cubes(
    frame: pd.DataFrame, keys: list[OperationKey], replicas: list[int], steps: list[int]
) -> tuple[Seconds, Seconds, Numbers, NDArray[np.bool_]]:
    """Starts and durations [key, replica, step], NaN if there is no such row; ranks [key, replica]; and [step]
    whether it has no operation that the keys lack."""
    import pandas as pd

    row_of = pd.Series(range(len(keys)), index=pd.MultiIndex.from_tuples(keys), dtype="int64")
    at = row_of.reindex(pd.MultiIndex.from_frame(frame[["optype", "seq_id", "stage"]])).to_numpy(dtype=np.float64)
    is_known = ~np.isnan(at)
    step_of = np.searchsorted(steps, frame["step"].to_numpy())
    is_like = np.ones(len(steps), dtype=np.bool_)
    is_like[step_of[~is_known]] = False
    position = (
        at[is_known].astype(np.int64),
        np.searchsorted(replicas, frame["dp_rank"].to_numpy()[is_known]),
        step_of[is_known],
    )
    shape = (len(keys), len(replicas), len(steps))
    starts, durations = np.full(shape, np.nan), np.full(shape, np.nan)
    starts[position] = frame["start_ts"].to_numpy()[is_known]
    durations[position] = frame["duration"].to_numpy()[is_known]
    ranks = np.full(shape[:2], -1, dtype=np.int64)
    ranks[position[:2]] = frame["rank"].to_numpy()[is_known]
    return starts, durations, ranks, is_like


def _groups(template: Template, index: dict[OperationKey, int], num_replicas: int) -> Numbers:
    """[key x replica]: number of its meeting: one across replicas, else one per replica."""
    group = np.full((len(index), num_replicas), -1, dtype=np.int64)
    number = 0
    for meeting in template.meetings:
        members = [index[key] for key in meeting]
        if meeting[0].kind in (*ACROSS_REPLICAS, CLIP):
            group[members] = number
            number += 1
        else:
            group[members] = number + np.arange(num_replicas)
            number += num_replicas
    return group.reshape(-1)


def _own_seconds(starts: Seconds, durations: Seconds, group: Numbers) -> Seconds:
    """[operation, step]: durations; of those that meet, end - the latest start of all that they meet."""
    meets = np.flatnonzero(group >= 0)
    latest = np.full((int(group.max(initial=-1)) + 1, starts.shape[1]), -np.inf)
    np.maximum.at(latest, group[meets], starts[meets])
    seconds = durations.copy()
    transfer = starts[meets] + durations[meets] - latest[group[meets]]
    seconds[meets] = np.where(transfer <= -MAX_NEGATIVE_SECONDS, 0.0, transfer)
    return seconds
