"""The result file: the only thing that passes from measuring to reading.

JSON Lines, one record a line, appended as each case finishes; `.jsonl.gz` is read and written too. Strict
JSON: an unknown value is null, never NaN or infinity. Every raw sample is kept, statistics are derived on
reading.

Schema 1 (the only one so far; `UPGRADES` brings older ones to the newest when there are any):

    header       {"kind": "header", "schema": 1, "run_id", "label", "started", "architecture", "environment",
                  "plan", "command"}: first line; times are ISO 8601 in UTC. With a preset that ends in a verdict on
                  the machine also "doctor": {"host", "findings": [{"level", "what", "value", "remedy"}, ...]}
    measurement  one visit to a case in one launch:
                 {"kind": "measurement", "launch", "visit", "suite", "case", "params", "status", "reason", "num_ranks",
                  "variants", "check", "work", "derived", "metrics", "stop", "spans", "traced_call_ns",
                  "per_rank", "tables", "notes", "started", "seconds"}
      visit      from 0; a launch takes its samples of a case in `plan["visits"]` visits, spread over the launch, and
                 in as many more where some were disturbed and it had time. `Result.latest()` merges them: see there
      status     "ok" | "invalid" (failed its check) | "skipped" | "failed"; `reason` says why it is not ok
      variants   name -> {"calls": K, "nanoseconds": [[rank 0's samples], [rank 1's], ...]}: a sample is the
                 total of K back-to-back calls, K = 1 for aligned ones; the first variant is the case itself.
                 Above 64 ranks, instead of "nanoseconds": "per_iteration": {"max", "min", "last_rank"} over
                 the ranks (the last to arrive is the one that waits least), and
                 "rank_quantiles": {"q": [0, 0.25, 0.5, 0.75, 1], "nanoseconds": [[rank 0's quantiles], ...]}
      check      {"error", "tolerance", "scope": "full" | "reduced", "error_after"}, or null
      work       {"bytes", "bus_factor", "memory_traffic_bytes", "flops", "flops_dtype", "tokens", "clock"} of
                 one call, or null; flops and tokens summed over the ranks, memory_traffic_bytes of one rank
      derived    the suite's own metrics -> number or null; `metrics` has each one's [unit, direction]
      stop       {"reason": "precision" | "time" | "samples", "half_width", "warmup_calls", "samples"}, or null;
                 `samples` is how many the visit took of each variant
      disturbance  {"hosts": [{"host", "steal_share", "busy_share", "other_load_share", "other_load_noise_share",
                 "thermal_events"}, ...], "ranks": [{"rank", "seconds", "cpu_seconds", "run_delay_share",
                 "involuntary_switches", "quota_throttled_seconds", "frequency_before_hz", "gpu_...", ...}, ...]}
                 around the measure phase, of a GPU also "at_work", the worst of what was read while it worked; what
                 could not be read is left out, and so is all of it in older files
      launch_ns  variant -> [rank 0's, ...]: what the host takes to launch one call; only by a device's clock
      num_late   variant -> [rank 0's, ...]: samples that may hold launches of the host; only by a device's clock
      energy     {"source", "scope", "reason", "calls", "seconds", "joules", "busy_share", "idle_watts", "rank_joules"}:
                 joules of one call, or null with the reason; `busy_share` of the window is calls; left out in older
                 files
      spans      [[rank, call, kind, stage, microbatch, start_ns, duration_ns], ...] from the traced pass, those of
                 communication with axis, sequence, num_bytes, launch_ns behind; `traced_call_ns` is [rank][call]
      per_rank   [rank 0's further facts, ...], as the suite names them; empty if it has none
      tables     name -> {"title", "columns", "rows", "notes"}: what the case shows besides its numbers
      profile    {"folder", "files": [rank 0's, ...], "calls"}: traces by torch's profiler, in a folder beside this
                 file; only if they were asked for
    choices      {"kind": "choices", "case", "nccl", "setup"}: what the library chose for one call, from the separate
                 untimed pass of `bench.measure.engine.passes.nccl_choices`; the later line of a case holds
      nccl       [{"function", "num_bytes", "algorithm", "protocol", "channels"}, ...], empty if it said nothing
      setup      {"version", "network", "coll_channels", "collnet_channels", "nvls_channels", "p2p_channels"}
    resume       {"kind": "resume", "started", "environment", "command"}: the run was taken up again from here
    end          {"kind": "end", "ended", "status": "complete" | "interrupted" | "failed" | "budget",
                  "exit_code"}

Where a visit was made twice in a launch (after a resume), the later record holds. A later visit that is missing is no
error: there was no time for it.

History of schema 1. At first a launch made one visit to a case: such files have no `visit`, no `stop["samples"]` and
no `plan["visits"]`, and are read as one visit each. A program of that time reads a newer file too, but takes the last
visit of a case and launch for the whole. `per_rank` and `tables` came later still: if they are missing there is
none.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bench.core import jsonl
from bench.core.jsonl import cannot_write
from bench.errors import BenchError
from bench.records import visits
from bench.records.schema import REQUIRED, check_record

if TYPE_CHECKING:
    from datetime import datetime

MAX_FULL_RANKS = 64
"""Ranks up to which every sample of every rank is kept; above, what a step's analysis needs."""

Record = dict[str, Any]

SCHEMA = 1
UPGRADES: dict[int, Callable[[Record], Record]] = {}
"""Version v -> what makes a record of v + 1 of a record of v; a new schema adds one row."""

SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Result:
    """A loaded result file."""

    path: Path
    header: Record
    measurements: tuple[Record, ...]
    resumes: tuple[Record, ...]
    end: Record | None
    """Last `end` record; None if the run died, or still goes on."""
    warnings: tuple[str, ...]
    choices: tuple[Record, ...] = ()
    """Choices of the communication library, a record per case; files of a gloo run have none."""

    @property
    def label(self) -> str:
        return str(self.header["label"])

    @property
    def architecture(self) -> str:
        return str(self.header["architecture"])

    @property
    def environment(self) -> Record:
        return dict(self.header["environment"])

    @property
    def plan(self) -> Record:
        return dict(self.header["plan"])

    def hosts(self) -> list[str]:
        """Names of the hosts, in the order of their first rank."""
        return list(dict.fromkeys(host for host, _, _ in self.rank_devices() if host))

    def rank_devices(self) -> list[tuple[str | None, str | None, int | None]]:
        """Host, device name as its driver gives it, and bytes of the device, of every rank."""
        return [(r.get("host"), r.get("device_name"), r.get("memory_bytes")) for r in self.environment.get("ranks", [])]

    def slow_types(self) -> frozenset[str]:
        """Types that the devices have no instructions for; empty in files that do not say."""
        settings = self.environment.get("settings")
        return frozenset(settings.get("slow_types") or ()) if isinstance(settings, dict) else frozenset()

    def planned_cases(self) -> list[str]:
        """Ids of the cases that the run set out to measure."""
        return [str(case["id"]) for case in self.plan.get("cases", [])]

    def latest(self) -> list[Record]:
        """The measurements that hold, one per case and launch: in the plan's order, else in the order first written.

        The visits of a launch are merged: samples (also `per_iteration`) one visit after the other, of `rank_quantiles`
        and `derived` the median over the visits, the worst status with its reason, the largest errors of the checks,
        spans of the first visit, `seconds`, warm-up calls and samples summed. In place of `visit` there is
        `visit_samples`: the number of samples of each visit. Of visits with unlike calls in a sample only those like
        the first count, and a note says so. What disturbed the visits is kept at its worst.
        """
        return list(self._merged)

    @cached_property
    def _merged(self) -> tuple[Record, ...]:
        planned = [*self.planned_cases(), *(str(case["id"]) for case in self.plan.get("left_out", []))]
        order = {case: number for number, case in enumerate(planned)}
        merged = visits.merge_launches(self.measurements)
        return tuple(sorted(merged, key=lambda record: order.get(record["case"], len(order))))


def new_path(folder: Path, label: str, host: str, now: datetime) -> Path:
    """`<label>-<host>-<UTC time>-<4 hex>.jsonl` in `folder`; `now` is in UTC. The digits tell runs apart."""
    parts = [_safe(label), _safe(host), now.strftime("%Y%m%dT%H%M%SZ"), secrets.token_hex(2)]
    return folder / ("-".join(filter(None, parts)) + ".jsonl")


def _safe(text: str) -> str:
    """Characters that every file system and shell takes as they are, at most 60."""
    return re.sub(r"[^A-Za-z0-9._+]+", "_", text).strip("._")[:60]


class Writer:
    """Appends records to a result file, each whole or not at all.

    `create` refuses a file that exists; `reopen` cuts off a torn last line first. Every line of a `.gz` file
    is a gzip member of its own, so that a run which dies loses at most the line it was writing.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._pack = gzip.compress if path.suffix == ".gz" else bytes

    @classmethod
    def create(cls, path: Path) -> Writer:
        """A new file; folders on the way are made. Raises BenchError if it exists or cannot be written."""
        if path.parent.exists() and not path.parent.is_dir():
            raise BenchError(f"{str(path.parent)!r} is a file, not a folder; choose a folder with -o")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(path, path.open("xb", buffering=0))
        except OSError as error:
            raise cannot_write(path, error) from error

    @classmethod
    def reopen(cls, path: Path) -> Writer:
        """An existing result file, at its end. Raises BenchError if it is none, or cannot be written."""
        load(path)
        try:
            jsonl.repair_end(path)
            return cls(path, path.open("ab", buffering=0))
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, record: Record) -> None:
        """Write one line. Raises BenchError if it cannot, ValueError for a NaN or an infinity."""
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
        data = memoryview(self._pack(text.encode() + b"\n"))
        before = self._stream.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line would spoil the lines after it
                self._stream.truncate(before)
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        try:
            self._stream.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: Path | str) -> Result:
    """Read a result file of any schema ever written; a torn last line is left out, with a warning.

    Raises BenchError (what, the file, what to do) for one that is missing, a folder, unreadable, empty,
    binary, not a result, torn before its last line, or of a schema newer than this program.
    """
    path = Path(path)
    text, whole = jsonl.unpack(jsonl.read(path))
    if not text.strip():
        raise BenchError(f"{str(path)!r} is empty; measure again with `bench run`")
    records, warnings = _records(path, text, whole)
    return _assemble(path, records, warnings)


def load_many(paths: Iterable[Path | str] | Path | str) -> list[Result]:
    """Results of files, folders (their .jsonl and .jsonl.gz) and globs, each file once, in the order given.

    Raises BenchError as `load` does, and for a folder or glob without a result.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: dict[Path, Path] = {}
    for name in given:
        for file in _expand(Path(name)):
            files.setdefault(file.resolve(), file)
    return [load(file) for file in files.values()]


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(
            file for file in path.iterdir() if file.name.endswith(SUFFIXES) and not file.name.startswith(".")
        )
        if not files:
            raise BenchError(f"folder {str(path)!r} has no result (*.jsonl, *.jsonl.gz); name one that has")
        return files
    if glob.has_magic(str(path)) and not path.exists():
        files = sorted(Path(name) for name in glob.glob(str(path)) if not Path(name).is_dir())  # noqa: PTH207
        if not files:
            raise BenchError(f"no file matches {str(path)!r}; mind the quotes, or name the files")
        return files
    return [path]


def _records(path: Path, text: bytes, whole: bool) -> tuple[list[Record], list[str]]:
    lines = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    records: list[Record] = []
    warnings: list[str] = []
    for position, (number, line) in enumerate(lines):
        record = jsonl.parse(line)
        if position == 0:
            _check_header(path, line, record)
        if isinstance(record, dict):
            records.append(record)
        elif position == len(lines) - 1:
            warnings.append(f"{path}: the last line ({number}) is torn and left out; the run ended as it was written")
        else:
            raise BenchError(
                f"{str(path)!r} is damaged at line {number} of {lines[-1][0]}; take the original, or remove that line"
            )
    if not whole and not warnings:
        warnings.append(f"{path}: the compressed file breaks off after its last whole line")
    return records, warnings


def _check_header(path: Path, line: bytes, header: Any) -> None:
    if header is None and line.startswith(b'{"kind":"header"'):
        raise BenchError(f"{str(path)!r} breaks off within its first line and holds no case; delete it, measure again")
    if header is None and not _is_text(line):
        raise BenchError(f"{str(path)!r} is a binary file, not a bench result; name a .jsonl that `bench run` wrote")
    if not isinstance(header, dict) or header.get("kind") != "header":
        raise BenchError(
            f"{str(path)!r} is not a bench result (its first line is no header); name a .jsonl that `bench run` wrote"
        )
    schema = header.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BenchError(f"{str(path)!r} is not a bench result (schema {schema!r}); name a .jsonl `bench run` wrote")
    if schema > SCHEMA:
        raise BenchError(f"{str(path)!r} has schema {schema}, this bench reads up to {SCHEMA}; update bench to read it")


def _is_text(line: bytes) -> bool:
    try:
        return all(char.isprintable() or char in "\t\r\ufeff" for char in line.decode())
    except UnicodeDecodeError:
        return False


def _assemble(path: Path, records: list[Record], warnings: list[str]) -> Result:
    for version in range(records[0]["schema"], SCHEMA):
        records = [UPGRADES[version](record) for record in records]
    kinds: dict[str, list[Record]] = {kind: [] for kind in REQUIRED}
    for number, record in enumerate(records, 1):
        kind = record.get("kind")
        if not isinstance(kind, str) or kind not in kinds or (kind == "header" and number > 1):
            raise BenchError(f"{str(path)!r}: record {number} is of no known kind ({kind!r}); take the original file")
        check_record(path, number, kind, record)
        kinds[kind].append(record)
    end = kinds["end"][-1] if kinds["end"] else None
    if end is not None and kinds["resume"] and records[-1] is not end:
        end = None  # taken up again after that end, and not ended since
    chosen = {record["case"]: record for record in kinds["choices"]}
    return Result(
        path=path,
        header=kinds["header"][0],
        measurements=tuple(kinds["measurement"]),
        resumes=tuple(kinds["resume"]),
        end=end,
        warnings=tuple(warnings),
        choices=tuple(chosen.values()),
    )
