"""The result file: the only thing that passes from measuring to reading.

JSON Lines, one record per line, appended as each case finishes; `.jsonl.gz` is read and written too. Strict JSON: an
unknown value is null, never NaN or infinity. Every raw sample is kept, statistics are derived on reading. Up to 64
ranks every sample of every rank is kept; above, the extremes over the ranks and quantiles of each rank.

A launch takes its samples of a case in `plan.visits` visits, spread over the launch, and in as many more if some were
disturbed and it had time. If a visit was made twice in a launch (after a resume), the later record holds. A later visit
that is missing is not an error: there was no time for it. Lines and fields that a newer program wrote are left out with
a warning.

A run holds its file: another one that wants to write it is refused. If the file is lost during the run, or takes no
more lines, all lines are rescued into another file. The `end` line of either has the reason.

History of schema 1. At first a launch made one visit to a case: such files have no `visit`, no `stop.samples` and no
`plan.visits`, and are read as one visit each. `per_rank` and `tables` came later, `disturbance` and `energy` later
still. With version 0.2.0 `digest` of a suite took the place of `sha256`, which counts as unknown. An optional field
that is unknown, empty or at its default is left out since, `visit` 0 and one of `plan.visits` among them.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from bench.core import jsonl
from bench.core.jsonl import cannot_write
from bench.errors import BenchError
from bench.records import visits
from bench.records.last_result import named_file, real_path, result_files
from bench.records.lines import decoding
from bench.records.lines.kinds import Choices, End, Header, Joined, Measurement, Resume
from bench.records.reader import read_lines

if TYPE_CHECKING:
    from datetime import datetime

    from bench.records.lines.header import Environment, PlanRow
    from bench.records.lines.kinds import Line

MAX_FULL_RANKS = 64
"""Ranks up to which every sample of every rank is kept; above, what a step's analysis needs."""


@dataclass(frozen=True, eq=False)
class Result:
    """A loaded result file; equal to itself alone."""

    path: Path
    header: Header
    measurements: tuple[Measurement, ...]
    """Every visit, in the order written."""
    environment: Environment
    """That of the header, with the facts of ranks that met later."""
    resumes: tuple[Resume, ...] = ()
    end: End | None = None
    """Last `end` record; None if the run died, or still goes on."""
    warnings: tuple[str, ...] = ()
    choices: tuple[Choices, ...] = ()
    """Choices of the communication library, a record per case; files of a gloo run have none."""
    unknown: tuple[str, ...] = ()
    """Lines and fields that a newer program wrote, and this one left out: `header.plan.colour`."""
    lines: tuple[Line, ...] = ()
    """All records in the order written."""

    @property
    def label(self) -> str:
        return self.header.label

    @property
    def architecture(self) -> str:
        return self.header.architecture or "ranks that did not meet"

    @property
    def plan(self) -> PlanRow:
        return self.header.plan

    def hosts(self) -> list[str]:
        """Names of the hosts, in the order of their first rank."""
        of_ranks = dict.fromkeys(rank.host for rank in self.environment.ranks if rank.host)
        return list(of_ranks or self.environment.hosts)

    def planned_cases(self) -> list[str]:
        """Ids of the cases that the run set out to measure."""
        return [case.id for case in self.plan.cases]

    def latest(self) -> list[Measurement]:
        """The measurements that hold, one per case and launch: in the plan's order, else in the order first written.

        The visits of a launch are merged. Samples (also `per_iteration`) one visit after the other, of `rank_quantiles`
        and `derived` the median over the visits. The merged one has the worst status with its reason, the largest
        errors of the checks, spans of the first visit, `seconds`, warm-up calls and samples are summed. Of visits with
        different calls per sample only those like the first count, and a note says so. Of the disturbances of the
        visits the worst is kept.
        """
        return list(self._merged)

    @cached_property
    def _merged(self) -> tuple[Measurement, ...]:
        planned = (*self.plan.cases, *self.plan.left_out)
        order = {case.id: number for number, case in enumerate(planned)}
        merged = visits.merge_launches(self.measurements)
        return tuple(sorted(merged, key=lambda record: order.get(record.case, len(order))))


def new_path(folder: Path, label: str, host: str, now: datetime) -> Path:
    """`<label>-<host>-<UTC time>-<4 hex>.jsonl` in `folder`; `now` is in UTC. The digits tell runs apart."""
    parts = [_safe(label), _safe(host), now.strftime("%Y%m%dT%H%M%SZ"), secrets.token_hex(2)]
    return folder / ("-".join(filter(None, parts)) + ".jsonl")


def _safe(text: str) -> str:
    """Characters that every file system and shell takes as they are, at most 60."""
    return re.sub(r"[^A-Za-z0-9._+]+", "_", text).strip("._")[:60]


class Writer:
    """Writes a result file in one go, each record whole or not at all; `bench.records.run_file` is for a run's own.

    `create` refuses a file that exists. Every line of a `.gz` file is a gzip member of its own.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._pack = gzip.compress if path.suffix == ".gz" else bytes

    @classmethod
    def create(cls, path: Path) -> Writer:
        """A new file; folders on the way are made. Raises BenchError if it exists or cannot be written."""
        if jsonl.exists(path.parent) and not path.parent.is_dir():
            raise BenchError(f"{str(path.parent)!r} is a file, not a folder; choose a folder with -o")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(path, path.open("xb", buffering=0))
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, record: Line) -> None:
        """Write one line. Raises BenchError if it cannot."""
        self.append_encoded(decoding.encode(record))

    def append_encoded(self, line: bytes) -> None:
        """Write a line that `bench.records.lines.decoding` takes. Raises BenchError if it cannot."""
        data = memoryview(self._pack(line + b"\n"))
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
    """Read a result file of any schema ever written; `last` is the newest one of the results folder.

    A torn last line is left out, with a warning.

    Raises BenchError (what, the file, what to do) for one that is missing, a folder, unreadable, empty, binary, not a
    result, damaged before its last line, or of a schema newer than this program.
    """
    path = named_file(Path(path))
    reading = read_lines(path)
    lines = reading.lines
    header = lines[0]
    assert isinstance(header, Header)
    header = _whole_header(header, [line for line in lines if isinstance(line, Joined)])
    return Result(
        path=path,
        header=header,
        environment=header.environment,
        measurements=tuple(line for line in lines if isinstance(line, Measurement)),
        resumes=tuple(line for line in lines if isinstance(line, Resume)),
        end=_last_end(lines),
        warnings=tuple(reading.warnings),
        choices=tuple({line.case: line for line in lines if isinstance(line, Choices)}.values()),
        unknown=tuple(reading.unknown),
        lines=tuple(lines),
    )


def _last_end(lines: Sequence[Line]) -> End | None:
    """The last end; None if there is none, or if the run was taken up again after it."""
    ends = [line for line in lines if isinstance(line, End | Resume)]
    return ends[-1] if ends and isinstance(ends[-1], End) else None


def _whole_header(header: Header, meetings: Iterable[Joined]) -> Header:
    """The header with the facts that were known only after the ranks had met."""
    for meeting in meetings:
        known = {name: value for name, value in msgspec.structs.asdict(meeting.environment).items() if value}
        header = msgspec.structs.replace(
            header,
            environment=msgspec.structs.replace(header.environment, **known),
            architecture=meeting.environment.architecture or header.architecture,
            plan=meeting.plan or header.plan,
            doctor=meeting.doctor or header.doctor,
        )
    return header


def load_many(paths: Iterable[Path | str] | Path | str) -> list[Result]:
    """Results of files, folders (their .jsonl and .jsonl.gz), globs and `last`, each file once, in the order given.

    Raises BenchError as `load` does, and for a folder or glob without a result.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: dict[str, Path] = {}
    for name in given:
        for file in _expand(named_file(Path(name))):
            files.setdefault(real_path(file), file)
    return [load(file) for file in files.values()]


def _expand(path: Path) -> list[Path]:
    if os.path.isdir(path):  # noqa: PTH112 - `Path.is_dir` raises for a name that no file system takes
        files = result_files(path)
        if not files:
            raise BenchError(f"folder {str(path)!r} has no result (*.jsonl, *.jsonl.gz); name one that has")
        return files
    if glob.has_magic(str(path)) and not jsonl.exists(path):
        files = sorted(Path(name) for name in glob.glob(str(path)) if not Path(name).is_dir())  # noqa: PTH207
        if not files:
            raise BenchError(f"no file matches {str(path)!r}; mind the quotes, or name the files")
        return files
    return [path]
