"""The pandas side of `bench.records.rows`: one builder for each level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from bench.core.table import flat_row
from bench.errors import BenchError
from bench.records import interference, metrics
from bench.records.case_names import name_cases
from bench.records.file import load_many
from bench.records.rows import TEXT_COLUMNS, case_rows, group_row, launch_groups, origin
from bench.records.samples import is_over_ranks, rank_times, sample_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.records.file import Result
    from bench.records.lines.kinds import Measurement
    from bench.records.lines.parts import VariantSamples
    from bench.records.rows import Row

Level = Literal["case", "launch", "rank", "sample"]
Columns = Literal["all", "main"]
_MAIN_IDENTITY = (
    "case", "name", "suite", "op", "param_num_bytes", "param_dtype", "param_timing", "param_async_op",
)  # fmt: skip
_MAIN_TIMES = ("seconds_median", "seconds_low", "seconds_high", "rate", "rate_unit", "status")
_MAIN_MEASURED: Mapping[Level, tuple[str, ...]] = {
    "case": ("num_ranks", *_MAIN_TIMES),
    "launch": ("launch", "num_ranks", *_MAIN_TIMES),
    "rank": ("launch", "variant", "rank", "device", "num_samples", "seconds_median"),
    "sample": ("launch", "variant", "rank", "sample", "seconds"),
}
_WHOLE = ("num_ranks", "num_samples", "num_launches", "launch", "rank", "sample", "modes")
_FLAGS = ("throttled",)
_ORIGIN = ("host", "architecture", "label", "file")
_TEXT = ("suite", "case", "op", "status", "reason", "variant", "device", *_ORIGIN, *TEXT_COLUMNS)
_SECONDS = ("seconds_median", "seconds_min", "seconds_max")


def build(results: Sequence[Result], level: Level) -> pd.DataFrame:
    """The frame of a level; its columns are there even if no row is."""
    return _BUILDERS[level](results)


def _cases(results: Sequence[Result]) -> pd.DataFrame:
    return tidy([_flat(row) for row in case_rows(results)])


def _launches(results: Sequence[Result]) -> pd.DataFrame:
    rows = [
        _flat(group_row(group) | interference.columns(group) | origin(result), launch=group.leader.launch)
        for result in results
        for group in launch_groups(result)
    ]
    return tidy(rows, ("launch",))


def _ranks(results: Sequence[Result]) -> pd.DataFrame:
    rows = []
    for result, record, name, variant in _ok_variants(results):
        if is_over_ranks(record, variant):
            continue
        devices = result.environment.ranks
        first = _flat(_identity(result, record), launch=record.launch, variant=name)
        for rank, (count, times) in enumerate(rank_times(variant)):
            known = rank < len(devices)
            host, device = (devices[rank].host, devices[rank].device_name) if known else (first["host"], None)
            columns = {"host": host, "rank": rank, "device": device, "num_samples": count}
            rows.append(first | columns | dict(zip(_SECONDS, times, strict=True)))
    return tidy(rows, ("launch", "variant", "rank", "device", "num_samples", *_SECONDS))


def _samples(results: Sequence[Result]) -> pd.DataFrame:
    rows, sizes = [], []
    ranks: list[NDArray[Any]] = []
    samples: list[NDArray[Any]] = []
    seconds: list[NDArray[Any]] = []
    for result, record, name, variant in _ok_variants(results):
        matrix = sample_matrix(variant) / (1e9 * variant.calls)
        num_ranks, num_samples = matrix.shape
        has_ranks = variant.nanoseconds is not None and not is_over_ranks(record, variant)
        rank_numbers = np.arange(num_ranks) if has_ranks else np.full(num_ranks, -1)
        rows.append(_flat(_identity(result, record), launch=record.launch, variant=name))
        sizes.append(matrix.size)
        ranks.append(np.repeat(rank_numbers, num_samples))
        samples.append(np.tile(np.arange(num_samples), num_ranks))
        seconds.append(matrix.ravel())
    # The identity columns are made once a variant and repeated: a million samples then take about a second.
    table = tidy(rows, ("launch", "variant"))
    table = table.loc[table.index.repeat(sizes)].reset_index(drop=True)
    number = np.concatenate(ranks) if ranks else np.empty(0, dtype=int)
    return table.assign(
        rank=pd.arrays.IntegerArray(number.astype(np.int64), number < 0),
        sample=np.concatenate(samples) if samples else np.empty(0, dtype=int),
        seconds=np.concatenate(seconds) if seconds else np.empty(0),
    )


def _ok_variants(results: Sequence[Result]) -> Iterator[tuple[Result, Measurement, str, VariantSamples]]:
    """Every variant of the measurements that are ok: an invalid case has no speed at any level."""
    for result in results:
        for record in result.latest():
            if record.status == "ok":
                for name, variant in record.variants.items():
                    yield result, record, name, variant


def _identity(result: Result, record: Measurement) -> Row:
    return {"suite": record.suite, "case": record.case, "params": record.params} | origin(result)


def _flat(row: Row, **more: Any) -> Row:
    return flat_row(row) | more


def tidy(rows: Sequence[Row], measured: Sequence[str] = ()) -> pd.DataFrame:
    """Rows as a frame with fitting types: identity first, then parameters, then origin, then the rest."""
    rows = [flat_row(row) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    params = [name for name in names if name.startswith("param_")]
    order = dict.fromkeys(["suite", "case", "op", *params, *_ORIGIN, *measured, *names])
    table = pd.DataFrame(rows, columns=list(order))
    for name in order:
        if name in _WHOLE:
            table[name] = table[name].astype("Int64" if table[name].isna().any() else "int64")
        elif name in _FLAGS:
            table[name] = table[name].astype("boolean")
        elif name in params:
            table[name] = table[name].convert_dtypes()
        elif name in _TEXT:
            table[name] = table[name].astype("object").where(table[name].notna(), None)
        else:
            table[name] = pd.to_numeric(table[name]).astype("float64")
    return table


_BUILDERS: dict[Level, Callable[[Sequence[Result]], pd.DataFrame]] = {
    "case": _cases,
    "launch": _launches,
    "rank": _ranks,
    "sample": _samples,
}


def load(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]], level: Level = "case", columns: Columns = "all"
) -> pd.DataFrame:
    """Saved results (files, folders, globs) as a tidy frame, one row per case, launch, rank or sample.

    Times are in seconds. `columns="main"` keeps those that most questions need: the case with its short name, its most
    common parameters, ranks, the median time with its interval, the main rate with its unit, status and file. A case's
    parameters are columns `param_...`; choose by them, since one operation is measured in several ways:

        frame = bench.load("results/reference", columns="main")
        plain = "param_timing == 'aligned' and param_dtype == 'float32' and not param_async_op"
        sizes = frame.query(f"op == 'all_reduce' and {plain}").sort_values("param_num_bytes")
        sizes.plot(x="param_num_bytes", y="rate", logx=True)

    Raises BenchError for what cannot be read, and for a level or columns that there are not. Does not import torch.
    """
    if level not in get_args(Level):
        raise BenchError(f"level {level!r}: there are {', '.join(get_args(Level))}")
    if columns not in get_args(Columns):
        raise BenchError(f"columns {columns!r}: there are {', '.join(get_args(Columns))}")
    frame = build(load_many(paths), level)  # type: ignore[arg-type]
    return frame if columns == "all" else _main_columns(frame, level)


def _main_columns(frame: pd.DataFrame, level: Level) -> pd.DataFrame:
    """The main columns of a level's frame; they are there even if no row has a value."""
    names = name_cases(frame["case"])
    frame = frame.assign(name=[names.across(case) for case in frame["case"]], **_main_rate(frame))
    return frame.reindex(columns=[*_MAIN_IDENTITY, *_MAIN_MEASURED[level], "file"])


def _main_rate(frame: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """The rate that each row is judged by besides its time, and its unit; none on levels without metrics."""
    rate = pd.Series(np.nan, index=frame.index)
    unit = pd.Series(None, index=frame.index, dtype="object")
    for metric in metrics.headline_metrics():
        if metric.name in frame:
            found = rate.isna() & frame[metric.name].notna()
            rate, unit = rate.where(~found, frame[metric.name]), unit.where(~found, metric.unit)
    return {"rate": rate, "rate_unit": unit}
