"""Other tools' files as results: which tool wrote a file, and the result file that its cases become.

The header says where the result came from (`environment.imported_from`: tool, version, format, the file's
name, and the rows that could not be read), and nothing of the input's dumped environment, paths or user. A
case that is one of bench's own has its id, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
import importlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.core import clock, exit_codes, jsonl
from bench.errors import BenchError
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, Unread, identity
from bench.records.environments import architecture
from bench.records.file import SUFFIXES, Writer, new_path
from bench.records.reader import SCHEMA
from bench.records.saved_plan import PlannedCase, SuiteFacts
from bench.records.visits import worst_status
from bench.suite import SuiteMetric

Record = dict[str, Any]
MAIN = "full"
"""Name of the variant that is the case itself."""


@dataclass(frozen=True)
class Format:
    """One row: a form in which a tool writes, and the module that reads it."""

    tool: str
    """Name for `--from`."""
    module: str

    @property
    def looks_like(self) -> Callable[[str], bool]:
        function: Callable[[str], bool] = importlib.import_module(self.module).looks_like
        return function

    @property
    def read(self) -> Callable[[str, ImportHints], ImportedText]:
        function: Callable[[str, ImportHints], ImportedText] = importlib.import_module(self.module).read
        return function


FORMATS = (
    Format("pytest-benchmark", "bench.importers.pytest_benchmark"),
    Format("nccl-tests", "bench.importers.nccl_tests_json"),
    Format("nccl-tests", "bench.importers.nccl_tests_text"),
    Format("param", "bench.importers.param"),
    Format("osu", "bench.importers.osu"),
)
"""Formats, tried in this order. A further tool is a further row."""
TOOLS = tuple(dict.fromkeys(row.tool for row in FORMATS))


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
    text, _ = jsonl.read(source)
    read = _with_device(_read(source, text, hints, tool), hints.device)
    now = clock.utc_now()
    if not read.readings:
        first = f"; {read.unread[0].where}: {read.unread[0].text}" if read.unread else ""
        raise BenchError(f"{str(source)!r}: no row of {read.tool} can be read{first}; is it the right file and --from?")
    records = list(_records(read, source.name, text, label or safe_label(source)))
    host = next((str(rank["host"]) for rank in read.ranks if rank.get("host")), "")
    path = output if output.name.endswith(SUFFIXES) else new_path(output, records[0]["label"], host, now)
    with Writer.create(path) as writer:
        for record in records:
            writer.append(record)
    cases = {record["case"]: record["status"] for record in records if record["kind"] == "measurement"}
    not_ok = sum(status in ("failed", "invalid") for status in cases.values())
    return ImportedFile(source, path, read.tool, len(cases), not_ok, read.unread)


def safe_label(source: Path) -> str:
    """The label of an imported file: its name without endings."""
    return source.name.split(".")[0] or "imported"


def _read(source: Path, data: bytes, hints: ImportHints, tool: str | None) -> ImportedText:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BenchError(f"{str(source)!r} is no UTF-8 text (byte {error.start}); name what the tool wrote") from error
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
    stated = {rank["device_name"] for rank in read.ranks} - {None}
    if device is None:
        return read
    if stated - {device}:
        raise BenchError(f"--device {device}: the file says {', '.join(map(str, stated))}; leave the option out")
    return replace(read, ranks=tuple({**rank, "device_name": device} for rank in read.ranks))


def _records(read: ImportedText, name: str, data: bytes, label: str) -> Iterator[Record]:
    """The lines of the result file."""
    measurements = _measurements(read)
    yield _header(read, name, data, label, measurements)
    yield from measurements
    is_whole = not read.unread and all(record["status"] in ("ok", "skipped") for record in measurements)
    code = exit_codes.OK if is_whole else exit_codes.PARTIAL
    yield {"kind": "end", "ended": clock.stamp(), "status": "complete", "exit_code": code}


def _header(read: ImportedText, name: str, data: bytes, label: str, measurements: Sequence[Record]) -> Record:
    environment = _environment(read, name, data)
    return {
        "kind": "header",
        "schema": SCHEMA,
        "run_id": secrets.token_hex(8),
        "label": label,
        "started": read.started,
        "architecture": environment["architecture"],
        "environment": environment,
        "plan": _plan(read, label, measurements),
        "command": ["import"],
    }


def _environment(read: ImportedText, name: str, data: bytes) -> Record:
    ranks = [{"rank": index, **rank, "memory_bytes": None} for index, rank in enumerate(read.ranks)]
    hosts = {str(rank["host"]): {"hostname": rank["host"]} for rank in ranks if rank["host"]}
    return {
        "imported_from": {
            "tool": read.tool,
            "version": read.version,
            "format": read.format,
            "file": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "unread": [asdict(row) for row in read.unread],
        },
        "architecture": read.architecture or _architecture(ranks, hosts),
        "hosts": hosts,
        "ranks": ranks,
        "versions": dict(read.versions),
        "variables": {},
        "settings": {},
        "commit": None,
    }


def _architecture(ranks: Sequence[Record], hosts: Mapping[str, Record]) -> str:
    if ranks and all(rank["device_name"] for rank in ranks):
        return architecture(ranks, hosts)
    return f"{len(ranks) or 'unknown number'} x unknown device"


def _plan(read: ImportedText, label: str, measurements: Sequence[Record]) -> Record:
    summary = f"Imported from {read.tool}"
    suites: dict[str, dict[str, SuiteMetric]] = {}
    for reading in read.readings:
        suites.setdefault(reading.suite, {}).update(reading.metrics)
    cases = {
        measurement["case"]: PlannedCase(measurement["suite"], measurement["case"], measurement["params"])
        for measurement in measurements
    }
    types = {rank.get("device_type") for rank in read.ranks}
    return {
        "preset": None,
        "suites": [asdict(SuiteFacts(name, read.tool, summary, own)) for name, own in suites.items()],
        "cases": [asdict(case) for case in cases.values()],
        "left_out": [],
        "world_size": len(read.ranks) or None,
        "device_type": types.pop() if len(types) == 1 else None,
        "backend": read.backend,
        "launches": 1 + max((measurement["launch"] for measurement in measurements), default=0),
        "label": label,
        "options": dict(read.settings),
    }


def _measurements(read: ImportedText) -> list[Record]:
    """A line of each case and launch; rows of one case in one run are its samples, later runs its launches."""
    grouped: dict[str, dict[int, list[ImportedCase]]] = {}
    params: dict[str, Any] = {}
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


def _measurement(case: str, params: Mapping[str, Any], launch: int, rows: Sequence[ImportedCase]) -> Record:
    status = worst_status(row.status for row in rows)
    lead = next(row for row in rows if row.status == status)
    kept = [row for row in rows if row.status == "ok"] if status == "ok" else []
    variants: dict[str, Record] = {}
    if kept:
        samples = [seconds * lead.calls for row in kept for seconds in row.seconds]
        variants[MAIN] = {"calls": lead.calls, "nanoseconds": [_nanoseconds(samples)]}
        for name, matrix in lead.variants.items():
            variants[name] = {"calls": 1, "nanoseconds": [_nanoseconds(row) for row in matrix]}
    return {
        "kind": "measurement",
        "launch": launch,
        "suite": lead.suite,
        "case": case,
        "params": dict(params),
        "status": status,
        "reason": lead.reason,
        "num_ranks": lead.num_ranks,
        "started": lead.started,
        "variants": variants,
        "check": None if lead.check is None else dict(lead.check),
        "work": None if lead.work is None or not kept else dict(lead.work),
        "derived": dict(lead.derived) if kept else {},
        "metrics": {name: [row.unit, row.better] for name, row in lead.metrics.items()},
        "stop": None,
        "spans": [],
        "traced_call_ns": [],
        "notes": list(dict.fromkeys(note for row in rows for note in row.notes)),
        "seconds": None,
    }


def _nanoseconds(seconds: Sequence[float]) -> list[int]:
    return [round(second * 1e9) for second in seconds]
