"""Results in other formats, by the ending of the name: tables and plain rows, and what other tools read.

    .csv .parquet              the plain rows of `rows.case_rows`, all columns
    .json                      the same rows, and what was found in them
    .md                        the tables of `bench show`
    .pytest-benchmark.json     pytest-benchmark's JSON, for its `compare` and whatever else reads it; every sample
                               (the maximum over the ranks), so that `bench import` gives back the same medians
    .continuous.json           github-action-benchmark, tool `customSmallerIsBetter`: medians in us
    .bmf.json                  Bencher Metric Format: `latency` in ns

The last three have no place for a case without a speed: those are left out, and `write` says which. Sources:
pytest-benchmark, plugin.py and stats.py; benchmark-action/github-action-benchmark, README; bencher.dev,
reference of the Bencher Metric Format.
"""

from __future__ import annotations

import io
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.core.jsonl import cannot_write, exists
from bench.core.table import csv_text, json_text
from bench.core.values import show_seconds
from bench.errors import BenchError
from bench.importers.pytest_benchmark import OWN
from bench.records import rows
from bench.records.file import Result
from bench.records.lines.header import HostFacts, RankFacts
from bench.records.metrics import TIME, TIME_HIGH, TIME_LOW
from bench.records.rows import CaseGroup, Row
from bench.report.result_tables import json_object, tables

Results = Sequence[Result]

PYTEST_BENCHMARK_VERSION = "5.0.0"
"""The version of pytest-benchmark in whose form its JSON is written."""


def write(results: Results, path: Path) -> tuple[str, ...]:
    """Save results in the format that the name ends in; returns the cases that the format has no place for.

    Raises BenchError for another ending, for a file that exists, and for what cannot be written.
    """
    ending = next((ending for ending in WRITERS if path.name.endswith(ending)), None)
    if ending is None:
        raise BenchError(f"-o {path}: the name has to end in {', '.join(WRITERS)}")
    if exists(path):
        raise BenchError(f"{str(path)!r} exists; saving never overwrites: give another name")
    data = WRITERS[ending](results)
    try:
        with path.open("xb") as stream:
            stream.write(data)
    except OSError as error:
        raise cannot_write(path, error) from error
    return tuple(without_speed(results)) if ending in SPEEDS_ONLY else ()


def without_speed(results: Results) -> Iterator[str]:
    """Cases that have no time."""
    yield from (name for name, _, group in _cases(results) if group.view.seconds is None)


def _cases(results: Results) -> Iterator[tuple[str, Result, CaseGroup]]:
    """A unique name, the result and the measurements of every case."""
    labels = [result.label for result in results]
    are_unique = all(labels) and len(set(labels)) == len(labels)
    for result in results:
        side = "" if len(results) == 1 else f"{result.label if are_unique else result.path.name}: "
        for case, group in rows.case_groups([result]).items():
            yield f"{side}{case}", result, group


def _timed(results: Results) -> Iterator[tuple[str, Result, CaseGroup, Row]]:
    for name, result, group in _cases(results):
        if group.view.seconds is not None:
            yield name, result, group, rows.group_row(group)


def _as_csv(results: Results) -> bytes:
    return csv_text(rows.case_rows(results)).encode()


def _as_json(results: Results) -> bytes:
    return json_object(results).encode()


def _as_markdown(results: Results) -> bytes:
    return tables(results, "markdown").encode()


def _as_parquet(results: Results) -> bytes:
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401
    except ImportError as error:
        raise BenchError("parquet needs a package that is not installed; pip install pyarrow, or use .csv") from error
    from bench.records.dataframes import tidy

    table = tidy(rows.case_rows(results))
    for name in table.select_dtypes("object").columns:
        # A parameter that is a number in one suite and a word in another has no type of its own in parquet.
        table[name] = table[name].astype("string")
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _as_continuous(results: Results) -> bytes:
    entries = []
    for name, result, _, row in _timed(results):
        entry = {"name": name, "unit": "us", "value": row[TIME] * 1e6, "extra": _extra(result, row)}
        if row[TIME_LOW] is not None and row[TIME_HIGH] is not None:
            farther = max(row[TIME_HIGH] - row[TIME], row[TIME] - row[TIME_LOW])
            entry["range"] = f"± {farther * 1e6:.6g}"
        entries.append(entry)
    return json_text(entries).encode()


def _extra(result: Result, row: Row) -> str:
    lines = [
        f"{result.architecture}, {row['num_ranks']} ranks",
        f"median of {row['num_samples']} samples in {row['num_launches']} launches",
    ]
    if row[TIME_LOW] is not None and row[TIME_HIGH] is not None:
        ends = f"{show_seconds(row[TIME_LOW])} to {show_seconds(row[TIME_HIGH])}"
        lines.append(f"95% interval {ends} ({str(row['interval']).replace('_', ' ')})")
    return "\n".join([*lines, *row["notes"]])


def _as_bmf(results: Results) -> bytes:
    ends = {"value": TIME, "lower_value": TIME_LOW, "upper_value": TIME_HIGH}
    cases = {
        name: {"latency": {end: row[column] * 1e9 for end, column in ends.items() if row[column] is not None}}
        for name, _, _, row in _timed(results)
    }
    return json_text(cases).encode()


def _as_pytest_benchmark(results: Results) -> bytes:
    first = results[0]
    return json_text(
        {
            "machine_info": _machine(first),
            "commit_info": {"id": first.environment.commit, "time": None, "dirty": None, "branch": None},
            "benchmarks": [_benchmark(name, group, row) for name, _, group, row in _timed(results)],
            "datetime": first.header.started,
            "version": PYTEST_BENCHMARK_VERSION,
        }
    ).encode()


def _machine(result: Result) -> dict[str, Any]:
    environment = result.environment
    host = next(iter(environment.hosts.values()), HostFacts())
    rank = next(iter(environment.ranks), RankFacts())
    return {
        "node": ", ".join(result.hosts()) or None,
        "processor": host.cpu_model,
        "machine": host.cpu_architecture,
        "python_version": environment.versions.get("python"),
        "system": host.os,
        "release": host.kernel,
        "cpu": {"brand_raw": host.cpu_model},
        OWN: {
            "architecture": result.architecture,
            "device_type": rank.device_type,
            "device_name": rank.device_name,
            "versions": environment.versions,
        },
    }


def _benchmark(name: str, group: CaseGroup, row: Row) -> dict[str, Any]:
    launches = [launch.slowest[group.view.main] for launch in group.view.launches]
    measured = [record.variants[group.view.main] for record in group.records if record.status == "ok"]
    calls = {variant.calls for variant in measured}
    return {
        "group": row["suite"],
        "name": name,
        "fullname": name,
        "params": row["params"],
        "param": None,
        "extra_info": {
            OWN: {
                "suite": row["suite"],
                "case": row["case"],
                "params": group.leader.params,
                "num_ranks": row["num_ranks"],
                "launches": [int(times.size) for times in launches],
                "work": msgspec.to_builtins(group.leader.work),
                "notes": group.notes,
            }
        },
        "options": {"timer": "perf_counter"},
        "stats": rounds_statistics([float(seconds) for times in launches for seconds in times])
        | {"iterations": calls.pop() if len(calls) == 1 else 1},
    }


def rounds_statistics(data: Sequence[float]) -> dict[str, Any]:
    """Statistics of pytest-benchmark from the seconds of at least one round (its stats.py), and the rounds.

    Its quartiles are method 3 of an odd number of rounds and method 2 of an even one (Wikipedia, "Quartile").
    """
    rising, mean = sorted(data), statistics.mean(data)
    stddev = statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _lower_quartile(rising), -_lower_quartile([-value for value in reversed(rising)])
    fences = (q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))
    beyond_stddev = sum(abs(value - mean) > stddev for value in data)
    beyond_fences = sum(value < fences[0] or value > fences[1] for value in data)
    return {
        "min": rising[0],
        "max": rising[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_fences}",
        "ld15iqr": rising[bisect_left(rising, fences[0])],
        "hd15iqr": rising[bisect_right(rising, fences[1]) - 1],
        "ops": len(data) / sum(data) if sum(data) else 0.0,
        "total": sum(data),
        "data": list(data),
    }


def _lower_quartile(rising: Sequence[float]) -> float:
    quarter, rest = divmod(len(rising), 4)
    if len(rising) == 1:
        return rising[0]
    if rest % 2 == 0:
        return statistics.median(rising[: len(rising) // 2])
    below = quarter - 1 if rest == 1 else quarter
    share = 0.75 if rest == 1 else 0.25
    return (1 - share) * rising[below] + share * rising[below + 1]


SPEEDS_ONLY: Mapping[str, Callable[[Results], bytes]] = {
    ".pytest-benchmark.json": _as_pytest_benchmark,
    ".continuous.json": _as_continuous,
    ".bmf.json": _as_bmf,
}
"""Formats with no place for a case without a speed."""
WRITERS: Mapping[str, Callable[[Results], bytes]] = {
    **SPEEDS_ONLY,  # before `.json`, which they end in
    ".csv": _as_csv,
    ".md": _as_markdown,
    ".json": _as_json,
    ".parquet": _as_parquet,
}
