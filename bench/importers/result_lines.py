"""Lines of the result file that an imported text becomes: the header, a measurement per case and launch, the end.

The header says where the result came from (`environment.imported_from`: tool, version, format, the file's name, the
rows that could not be read, the contradictions), and nothing of the input's dumped environment, paths or user.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from bench.core import exit_codes
from bench.errors import BenchError
from bench.importers.reading import ImportedCase, ImportedText, identity
from bench.importers.source.cleaning import CleanText
from bench.records.environments import architecture
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
from bench.records.lines.kinds import End, Header, Measurement
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


def end(read: ImportedText, cases: Sequence[Measurement]) -> End:
    """The last line, with the exit code."""
    is_whole = (
        not read.unread and not read.contradictions and all(record.status in ("ok", "skipped") for record in cases)
    )
    code = exit_codes.OK if is_whole else exit_codes.PARTIAL
    return End(status="complete", exit_code=code)  # the time of the import is not when the run ended


def header(read: ImportedText, source: ImportedFrom, label: str, cases: Sequence[Measurement]) -> Header:
    """The first line, with what is known of the machine and the plan of the cases that were read."""
    environment = _environment(read, source)
    return Header(
        schema=SCHEMA,
        run_id=secrets.token_hex(8),
        label=label,
        started=read.started,
        architecture=environment.architecture or "",
        environment=environment,
        plan=_plan(read, label, cases),
        command=["import"],
    )


def origin(read: ImportedText, name: str, data: bytes, text: CleanText) -> ImportedFrom:
    """Origin of the result. Prefixes and unknown lines are kept without their words, which may be private."""
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


def measurements(read: ImportedText) -> list[Measurement]:
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
