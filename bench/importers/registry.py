"""Other tools' files as results: which tool wrote a file, and the result file that its cases become.

The header says where the result came from (`environment.imported_from`: tool, version, format, the file's
name, and the rows that could not be read), and nothing of the input's dumped environment, paths or user. A
case that is one of bench's own has its id, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from bench.core import clock, exit_codes, jsonl
from bench.errors import BenchError
from bench.importers.formats import FORMATS, TOOLS
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, Unread, identity
from bench.records.environments import architecture
from bench.records.file import Writer, new_path
from bench.records.last_result import SUFFIXES
from bench.records.lines import decoding
from bench.records.lines.header import (
    Environment,
    HostFacts,
    ImportedFrom,
    PlannedCase,
    PlanRow,
    RankFacts,
    SuiteFacts,
    UnreadRow,
)
from bench.records.lines.kinds import End, Header, Line, Measurement
from bench.records.lines.parts import VariantSamples
from bench.records.privacy.recorded import without_secrets
from bench.records.reader import SCHEMA
from bench.records.visits import worst_status
from bench.suite import Params, SuiteMetric

MAIN = "full"
"""Name of the variant that is the case itself."""


MAX_TEXT = 2**29
"""Bytes of another tool's file; hours of its measurements have a few MB."""


@dataclass(frozen=True)
class ImportedFile:
    """Outcome of importing a file."""

    source: Path
    path: Path
    tool: str
    num_cases: int
    not_ok: int
    """Cases that failed or are invalid."""
    unread: tuple[Unread, ...]

    @property
    def exit_code(self) -> int:
        return exit_codes.PARTIAL if self.unread or self.not_ok else exit_codes.OK


def import_file(
    source: Path, hints: ImportHints, output: Path, tool: str | None = None, label: str | None = None
) -> ImportedFile:
    """Write the result file of another tool's file; `output` is a folder, or a name ending in .jsonl.

    Raises BenchError for a file that cannot be read, that no known tool wrote, or of which no row can be read.
    """
    text, _ = jsonl.read(source, MAX_TEXT)
    read = _with_device(_read(source, text, hints, tool), hints.device)
    now = clock.utc_now()
    if not read.readings:
        first = f"; {read.unread[0].where}: {read.unread[0].text}" if read.unread else ""
        raise BenchError(f"{str(source)!r}: no row of {read.tool} can be read{first}; is it the right file and --from?")
    label = label or safe_label(source)
    measurements = _measurements(read)
    header = _header(read, source.name, text, label, measurements)
    lines = _checked(source, [header, *measurements, _end(read, measurements)])
    host = next((rank.host for rank in read.ranks if rank.host), "")
    path = output if output.name.endswith(SUFFIXES) else new_path(output, label, host, now)
    with Writer.create(path) as writer:
        for line in lines:
            writer.append(without_secrets(decoding.decode(line)))
    cases = {record.case: record.status for record in measurements}
    not_ok = sum(status in ("failed", "invalid") for status in cases.values())
    return ImportedFile(source, path, read.tool, len(cases), not_ok, read.unread)


def safe_label(source: Path) -> str:
    """The label of an imported file: its name without endings."""
    return source.name.split(".")[0] or "imported"


def _read(source: Path, data: bytes, hints: ImportHints, tool: str | None) -> ImportedText:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BenchError(f"{str(source)!r} is not UTF-8 text (byte {error.start}); name what the tool wrote") from error
    fitting = [row for row in FORMATS if tool in (None, row.tool)]
    candidates = [row for row in fitting if row.looks_like(text)]
    if tool is not None and not candidates:
        candidates = fitting[-1:]  # as the user says; the reader names what it cannot read
    if not candidates:
        raise BenchError(
            f"{str(source)!r} looks like none of {', '.join(TOOLS)}; say --from TOOL, or name what the tool wrote"
        )
    try:
        return candidates[0].read(text, hints)
    except BenchError as error:
        raise BenchError(f"{str(source)!r}: {error}") from error


def _with_device(read: ImportedText, device: str | None) -> ImportedText:
    """Add the user's name of the devices. Raises BenchError if the file has another."""
    stated = {rank.device_name for rank in read.ranks} - {None}
    if device is None:
        return read
    if stated - {device}:
        raise BenchError(f"--device {device}: the file says {', '.join(map(str, stated))}; leave the option out")
    return replace(read, ranks=tuple(msgspec.structs.replace(rank, device_name=device) for rank in read.ranks))


def _checked(source: Path, lines: Sequence[Line]) -> list[bytes]:
    """The lines encoded. Raises BenchError for one that no reader would take, with its case."""
    encoded: list[bytes] = []
    for line in lines:
        try:
            encoded.append(decoding.encode(line))
            decoding.decode(encoded[-1])
        except (decoding.UnreadableLineError, UnicodeError) as error:  # such as half of a pair of UTF-16
            what = line.case if isinstance(line, Measurement) else "its description of the run"
            raise BenchError(f"{str(source)!r}: {what} cannot be kept: {error}; take the original file") from error
    return encoded


def _end(read: ImportedText, measurements: Sequence[Measurement]) -> End:
    is_whole = not read.unread and all(record.status in ("ok", "skipped") for record in measurements)
    code = exit_codes.OK if is_whole else exit_codes.PARTIAL
    return End(ended=clock.stamp(), status="complete", exit_code=code)


def _header(read: ImportedText, name: str, data: bytes, label: str, measurements: Sequence[Measurement]) -> Header:
    environment = _environment(read, name, data)
    return Header(
        schema=SCHEMA,
        run_id=secrets.token_hex(8),
        label=label,
        started=read.started,
        architecture=environment.architecture or "",
        environment=environment,
        plan=_plan(read, label, measurements),
        command=["import"],
    )


def _environment(read: ImportedText, name: str, data: bytes) -> Environment:
    ranks = [msgspec.structs.replace(rank, rank=index) for index, rank in enumerate(read.ranks)]
    hosts = {rank.host: HostFacts(hostname=rank.host) for rank in ranks if rank.host}
    return Environment(
        imported_from=ImportedFrom(
            tool=read.tool,
            version=read.version,
            format=read.format,
            file=name,
            sha256=hashlib.sha256(data).hexdigest(),
            unread=[UnreadRow(where=row.where, text=row.text) for row in read.unread],
        ),
        architecture=read.architecture or _architecture(ranks, hosts),
        hosts=hosts,
        ranks=ranks,
        versions=dict(read.versions),
    )


def _architecture(ranks: Sequence[RankFacts], hosts: Mapping[str, HostFacts]) -> str:
    if ranks and all(rank.device_name for rank in ranks):
        return architecture(ranks, hosts)
    return f"{len(ranks) or 'unknown number'} x unknown device"


def _plan(read: ImportedText, label: str, measurements: Sequence[Measurement]) -> PlanRow:
    summary = f"Imported from {read.tool}"
    suites: dict[str, dict[str, SuiteMetric]] = {}
    for reading in read.readings:
        suites.setdefault(reading.suite, {}).update(reading.metrics)
    cases = {
        record.case: PlannedCase(record.suite, record.case, {k: v for k, v in record.params.items() if v is not None})
        for record in measurements
    }
    types = {rank.device_type for rank in read.ranks}
    return PlanRow(
        suites=[SuiteFacts(name, read.tool, summary, own) for name, own in suites.items()],
        cases=list(cases.values()),
        world_size=len(read.ranks) or None,
        device_type=types.pop() if len(types) == 1 else None,
        backend=read.backend,
        launches=1 + max((record.launch for record in measurements), default=0),
        label=label,
        options=dict(read.settings),
    )


def _measurements(read: ImportedText) -> list[Measurement]:
    """A line of each case and launch; rows of one case in one run are its samples, later runs its launches."""
    grouped: dict[str, dict[int, list[ImportedCase]]] = {}
    params: dict[str, Params] = {}
    for reading in read.readings:
        case, full = identity(reading.suite, reading.params)
        case = reading.case or case
        params[case] = reading.params if reading.case else full
        grouped.setdefault(case, {}).setdefault(reading.launch, []).append(reading)
    return [
        _measurement(case, params[case], launch, rows)
        for case, runs in grouped.items()
        for launch, rows in enumerate(runs.values())
    ]


def _measurement(case: str, params: Params, launch: int, rows: Sequence[ImportedCase]) -> Measurement:
    status = worst_status(row.status for row in rows)
    lead = next(row for row in rows if row.status == status)
    kept = [row for row in rows if row.status == "ok"] if status == "ok" else []
    variants: dict[str, VariantSamples] = {}
    if kept:
        samples = [seconds for row in kept for seconds in row.seconds]
        variants[MAIN] = _samples(case, [samples], lead.calls)
        for name, matrix in lead.variants.items():
            variants[name] = _samples(case, matrix)
    return Measurement(
        launch=launch,
        suite=lead.suite,
        case=case,
        params=dict(params),
        status=lead.status,
        reason=lead.reason,
        num_ranks=lead.num_ranks,
        started=lead.started,
        variants=variants,
        check=lead.check,
        work=lead.work if kept else None,
        derived=dict(lead.derived) if kept else {},
        metrics={name: (row.unit, row.better) for name, row in lead.metrics.items()},
        stop=None,
        notes=list(dict.fromkeys(note for row in rows for note in row.notes)),
    )


def _samples(case: str, seconds: Sequence[Sequence[float]], calls: int = 1) -> VariantSamples:
    """Samples of seconds[row][sample], each a mean of `calls`.

    Raises BenchError for rows of different lengths, and for impossible times.
    """
    try:
        nanoseconds = [[round(second * calls * 1e9) for second in row] for row in seconds]
        return VariantSamples(calls=calls, nanoseconds=np.array(nanoseconds, dtype=np.int64))
    except (ValueError, OverflowError) as error:
        raise BenchError(f"{case}: its times cannot be kept ({error}); take the original file") from error
