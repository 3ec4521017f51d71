"""Other tools' files as results: which tool wrote a file, and the result file that its cases become.

The header says where the result came from (`environment.imported_from`: tool, version, format, the file's
name, and the rows that could not be read), and nothing of the input's dumped environment, paths or user. A
case that is one of bench's own has its id, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from bench.core import clock, exit_codes, jsonl
from bench.errors import BenchError
from bench.importers.formats import FORMATS, TOOLS
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, Unread, identity, operation_of
from bench.importers.source.cleaning import CleanText, TakenOff, clean_text
from bench.importers.source.ledger import Ledger
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
from bench.records.reader import SCHEMA
from bench.records.visits import worst_status
from bench.suite import Params, SuiteMetric

MAIN = "full"
"""Name of the variant that is the case itself."""
MAX_UNKNOWN = 50
"""Numbers of unknown lines that the header keeps."""
EXACT_FROM = 1e-6
"""Seconds of a sample from which on whole nanoseconds are kept; below, a rounding would change it by 0.05% or more."""


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
    taken_off: tuple[TakenOff, ...] = ()
    contradictions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def exit_code(self) -> int:
        """3 unless every row was read, no case failed, and the file does not contradict itself."""
        is_partial = self.unread or self.not_ok or self.contradictions
        return exit_codes.PARTIAL if is_partial else exit_codes.OK


def import_file(
    source: Path, hints: ImportHints, output: Path, tool: str | None = None, label: str | None = None
) -> ImportedFile:
    """Write the result file of another tool's file; `output` is a folder, or a name ending in .jsonl.

    Raises BenchError for a file that cannot be read, that no known tool wrote, or of which no row can be read.
    """
    data, _ = jsonl.read(source)
    text = _clean(source, data)
    read = _with_ranks(_with_device(_read(source, text, hints, tool), hints))
    now = clock.utc_now()
    if not read.readings:
        raise BenchError(_nothing_read(source, read))
    label = label or safe_label(source)
    measurements = _measurements(read)
    header = _header(read, _origin(read, source.name, data, text), label, measurements)
    lines = _checked(source, [header, *measurements, _end(read, measurements)])
    host = next((rank.host for rank in read.ranks if rank.host), "")
    path = output if output.name.endswith(SUFFIXES) else new_path(output, label, host, now)
    with Writer.create(path) as writer:
        for line in lines:
            writer.append_encoded(line)
    cases = {record.case: record.status for record in measurements}
    not_ok = sum(status in ("failed", "invalid") for status in cases.values())
    return ImportedFile(
        source,
        path,
        read.tool,
        len(cases),
        not_ok,
        read.unread,
        text.taken_off,
        tuple(row.note() for row in read.contradictions),
        read.remarks,
        read.ledger,
    )


def _nothing_read(source: Path, read: ImportedText) -> str:
    """The error for a file of which no row can be read: its first row, or else its first unknown line."""
    lines = read.ledger.of_kind("unread") or read.ledger.of_kind("unknown")
    first = f"; {lines[0].where}: {lines[0].text}" if lines else ""
    why = f" ({lines[0].why})" if lines and lines[0].why else ""
    return f"{str(source)!r}: no row of {read.tool} can be read{first}{why}; is it the right file and --from?"


def safe_label(source: Path) -> str:
    """The label of an imported file: its name without endings."""
    return source.name.split(".")[0] or "imported"


def _clean(source: Path, data: bytes) -> CleanText:
    try:
        return clean_text(data)
    except BenchError as error:
        raise BenchError(f"{str(source)!r}: {error}") from error


def _read(source: Path, text: CleanText, hints: ImportHints, tool: str | None) -> ImportedText:
    fitting = [row for row in FORMATS if tool in (None, row.tool)]
    candidates = [row for row in fitting if row.looks_like(text.text)]
    if tool is not None and not candidates:
        candidates = fitting[-1:]  # as the user says; the reader names what it cannot read
    if not candidates:
        raise BenchError(
            f"{str(source)!r} looks like none of {', '.join(TOOLS)}; say --from TOOL, or name what the tool wrote"
        )
    try:
        read = candidates[0].read(text.text, replace(hints, op=hints.op and operation_of(hints.op)))
        _check_hints(read, hints)
    except BenchError as error:
        raise BenchError(f"{str(source)!r}: {error}") from error
    return read


def _check_hints(read: ImportedText, hints: ImportHints) -> None:
    """Raises BenchError if the user said an operation or a number of ranks that no case has."""
    if not read.readings:
        return
    operations = {str(reading.params.get("op")) for reading in read.readings}
    if hints.op is not None and operations != {operation_of(hints.op)}:
        raise BenchError(f"--op {hints.op}: the file says {', '.join(sorted(operations))}; leave the option out")
    numbers = sorted({reading.num_ranks for reading in read.readings})
    if hints.num_ranks is not None and hints.num_ranks not in (*numbers, len(read.ranks)):
        raise BenchError(
            f"--ranks {hints.num_ranks}: the file says {', '.join(map(str, numbers))}; leave the option out"
        )


def _with_device(read: ImportedText, hints: ImportHints) -> ImportedText:
    """Add the user's name of the devices. Raises BenchError if the file has another."""
    stated = {rank.device_name for rank in read.ranks} - {None}
    if hints.device is None:
        return read
    if stated - {hints.device}:
        raise BenchError(f"--device {hints.device}: the file says {', '.join(map(str, stated))}; leave the option out")
    most = max((reading.num_ranks for reading in read.readings), default=0)
    ranks = read.ranks or (RankFacts(),) * most
    return replace(read, ranks=tuple(msgspec.structs.replace(rank, device_name=hints.device) for rank in ranks))


def _with_ranks(read: ImportedText) -> ImportedText:
    """Cases of several numbers of ranks apart: those of one id get the number as a parameter."""
    numbers: dict[str, set[int]] = {}
    for reading in read.readings:
        numbers.setdefault(_case_of(reading), set()).add(reading.num_ranks)
    if all(len(found) == 1 for found in numbers.values()):
        return read
    return replace(
        read,
        readings=tuple(
            replace(reading, params={**reading.params, "ranks": reading.num_ranks})
            if reading.case is None and len(numbers[_case_of(reading)]) > 1
            else reading
            for reading in read.readings
        ),
    )


def _case_of(reading: ImportedCase) -> str:
    return reading.case or identity(reading.suite, reading.params)[0]


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
    is_whole = (
        not read.unread
        and not read.contradictions
        and all(record.status in ("ok", "skipped") for record in measurements)
    )
    code = exit_codes.OK if is_whole else exit_codes.PARTIAL
    return End(ended=clock.stamp(), status="complete", exit_code=code)


def _header(read: ImportedText, origin: ImportedFrom, label: str, measurements: Sequence[Measurement]) -> Header:
    environment = _environment(read, origin)
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


def _origin(read: ImportedText, name: str, data: bytes, text: CleanText) -> ImportedFrom:
    unknown = [line.where.removeprefix("line ") for line in read.ledger.of_kind("unknown")]
    return ImportedFrom(
        tool=read.tool,
        version=read.version,
        format=read.format,
        file=name,
        sha256=hashlib.sha256(data).hexdigest(),
        unread=[UnreadRow(where=row.where, text=row.text) for row in read.unread],
        taken_off=[row.note(with_example=False) for row in text.taken_off],
        contradictions=[row.note() for row in read.contradictions],
        remarks=list(read.remarks),
        unknown_lines=[int(number) for number in unknown if number.isdecimal()][:MAX_UNKNOWN],
    )


def _environment(read: ImportedText, origin: ImportedFrom) -> Environment:
    ranks = [msgspec.structs.replace(rank, rank=index) for index, rank in enumerate(read.ranks)]
    hosts = {rank.host: HostFacts(hostname=rank.host) for rank in ranks if rank.host}
    return Environment(
        imported_from=origin,
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
        exact = [[second * calls * 1e9 for second in row] for row in seconds]
        whole = [[round(value) for value in row] for row in exact]
        is_exact = all(second * calls >= EXACT_FROM for row in seconds for second in row)
        is_whole = is_exact or all(map(_are_close, whole, exact))
        numbers = np.array(whole, dtype=np.int64) if is_whole else np.array(exact, dtype=float)
        return VariantSamples(calls=calls, nanoseconds=numbers)
    except (ValueError, OverflowError) as error:
        raise BenchError(f"{case}: its times cannot be kept ({error}); take the original file") from error


def _are_close(whole: Sequence[int], exact: Sequence[float]) -> bool:
    return all(abs(number - value) <= 1e-6 * abs(value) for number, value in zip(whole, exact, strict=True))
