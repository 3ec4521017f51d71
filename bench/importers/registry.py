"""Other tools' files as results: which tool wrote a file, and the result file that its cases become.

A case that is one of bench's own has its id, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from bench.core import clock, exit_codes, jsonl
from bench.errors import BenchError
from bench.importers import plugins, result_lines
from bench.importers.formats import FORMATS, TOOLS, Format
from bench.importers.other_forms import describe_other_form
from bench.importers.plugins import PluginFormat
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, Unread, identity, operation_of
from bench.importers.source.cleaning import CleanText, TakenOff, clean_text
from bench.importers.source.ledger import Ledger
from bench.records.file import Writer, new_path
from bench.records.last_result import SUFFIXES
from bench.records.lines import decoding
from bench.records.lines.header import RankFacts
from bench.records.lines.kinds import Line, Measurement
from bench.records.privacy.recorded import without_secrets

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
    taken_off: tuple[TakenOff, ...] = ()
    contradictions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def exit_code(self) -> int:
        """3 unless every row was read, no case failed, and the file does not contradict itself."""
        is_partial = self.unread or self.not_ok or self.contradictions
        return exit_codes.PARTIAL if is_partial else exit_codes.OK


@dataclass(frozen=True)
class PreparedFile:
    """A file that was read whole, with its result, which is not written yet."""

    source: Path
    text: CleanText
    read: ImportedText
    label: str
    measurements: tuple[Measurement, ...]
    lines: tuple[bytes, ...]
    sha256: str

    def save(self, output: Path) -> ImportedFile:
        """Write the result; `output` is a folder, or a name ending in .jsonl."""
        host = next((rank.host for rank in self.read.ranks if rank.host), "")
        path = output if output.name.endswith(SUFFIXES) else new_path(output, self.label, host, clock.utc_now())
        with Writer.create(path) as writer:
            for line in self.lines:
                writer.append(without_secrets(decoding.decode(line)))
        cases = {record.case: record.status for record in self.measurements}
        return ImportedFile(
            self.source,
            path,
            self.read.tool,
            len(cases),
            sum(status in ("failed", "invalid") for status in cases.values()),
            self.read.unread,
            self.text.taken_off,
            tuple(row.note() for row in self.read.contradictions),
            self.read.remarks,
            self.read.ledger,
        )


def import_files(
    sources: Sequence[Path], hints: ImportHints, output: Path, tool: str | None = None, label: str | None = None
) -> tuple[list[ImportedFile], list[BenchError]]:
    """Write the result file of each of other tools' files; returns them, and the reasons of those that are refused.

    One that is refused, as `prepare` does, costs none of the others.
    """
    first: dict[str, Path] = {}
    saved: list[ImportedFile] = []
    refused: list[BenchError] = []
    for source in sources:
        try:
            file = prepare(source, hints, tool, label)
        except BenchError as error:
            refused.append(error)
            continue
        imported, twin = file.save(output), first.setdefault(file.sha256, file.source)
        remark = f"its content is that of {str(twin)!r}: as launches, the two would count the same numbers twice"
        is_twin = twin is not file.source
        saved.append(replace(imported, remarks=(*imported.remarks, remark)) if is_twin else imported)
    return saved, refused


def import_file(
    source: Path, hints: ImportHints, output: Path, tool: str | None = None, label: str | None = None
) -> ImportedFile:
    """Write the result file of one file. Raises BenchError as `prepare` does."""
    return prepare(source, hints, tool, label).save(output)


def prepare(source: Path, hints: ImportHints, tool: str | None = None, label: str | None = None) -> PreparedFile:
    """The file, read, and the lines of its result.

    Raises BenchError for a file that cannot be read, that no known tool wrote, or of which no row can be read.
    """
    if not jsonl.exists(source):
        raise BenchError(f"no file {str(source)!r}; name what the tool wrote")
    if source.is_dir():
        raise BenchError(f"{str(source)!r} is a folder; name the files in it that the tool wrote")
    data, _ = jsonl.read(source, MAX_TEXT)
    text = _clean(source, data)
    read = _with_ranks(read_text(source, text, hints, tool))
    if not read.readings:
        raise BenchError(_nothing_read(source, read))
    label = label or safe_label(source)
    measurements = result_lines.measurements(read)
    origin = result_lines.origin(read, source.name, data, text)
    header = result_lines.header(read, origin, label, measurements)
    lines = _checked(source, [header, *measurements, result_lines.end(read, measurements)])
    return PreparedFile(source, text, read, label, tuple(measurements), tuple(lines), hashlib.sha256(data).hexdigest())


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


def read_text(source: Path, text: CleanText, hints: ImportHints, tool: str | None) -> ImportedText:
    """The text as read by the format that it looks like, or by `tool`. Raises BenchError if it is refused."""
    try:
        chosen, remarks = _format_of(text.text, tool)
        read = chosen.read(text.text, replace(hints, op=hints.op and operation_of(hints.op)))
        _check_hints(read, hints)
        read = _with_device(read, hints)
    except BenchError as error:
        raise BenchError(f"{str(source)!r}: {error}") from error
    return replace(read, remarks=(*read.remarks, *remarks))


def _format_of(text: str, tool: str | None) -> tuple[Format | PluginFormat, list[str]]:
    """The format that reads a text, and remarks on the choice.

    Raises BenchError if the text looks like none, or `tool` names none.
    """
    tool = next((name for name in TOOLS if tool is not None and name == tool.lower()), tool)
    if tool is not None and tool not in TOOLS:
        return plugins.load(tool), []
    fitting = [row for row in FORMATS if tool in (None, row.tool)]
    candidates = [row for row in fitting if row.looks_like(text)]
    if tool is not None:
        return (candidates or fitting[-1:])[0], []  # as the user says; the reader names what it cannot read
    if candidates:
        others = dict.fromkeys(row.tool for row in candidates if row.tool != candidates[0].tool)
        return candidates[0], [f"the text also looks like {name}; for its numbers add --from {name}" for name in others]
    found, broken = plugins.recognise(text)
    if found is not None:
        return found, broken
    if (form := describe_other_form(text)) is not None:
        raise BenchError("; ".join((form, *broken)))
    names = ", ".join((*TOOLS, *plugins.installed_names()))
    raise BenchError("; ".join((f"looks like none of {names}; say --from TOOL, or name what the tool wrote", *broken)))


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
