"""Reads what the OSU micro-benchmarks (OMB) print: blocking collectives and point-to-point tests.

A collective's latency is each rank's mean over its calls, timed one by one with a barrier between them
(`aligned`); printed is the mean over the ranks and, with -f, their maximum, which is taken where it is there.
OSU counts the bytes of one rank's share for all-gather, all-to-all, gather and scatter; bench counts the full
buffer, n times that. The text does not say how many ranks took part. Tests between two ranks become a suite
`osu`: latencies are one-way, bandwidths (decimal MB/s, 64 messages in flight) become the time of a message. Where the
buffers lie, and the window and synchronisation of a one-sided test, are parts of a case.
Source: the benchmarks' own sources, c/util/osu_util_mpi.c and c/mpi/collective.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.importers.osu_tests import (
    ANY_TITLE,
    BACKENDS,
    DEVICE_TYPES,
    DTYPES,
    SECONDS,
    TAKEN,
    TITLE,
    OsuTest,
    columns_of,
    test_of,
)
from bench.importers.reading import (
    ImportedCase,
    ImportedText,
    ImportHints,
    collective_work,
    launches_of_repeats,
    mean_note,
    number,
    safe_name,
    whole,
)
from bench.importers.source.launcher import launched_ranks
from bench.importers.source.ledger import Ledger
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import CheckOutcome
from bench.suite import Params

TOOL = "OSU micro-benchmarks"

_RANKS = re.compile(r"#\s*Number of Ranks (\d+)")
_PAIRS = re.compile(r"#\s*\[ pairs: (\d+) \](?: \[ window size: (\d+) \])?")
_DATATYPE = re.compile(r"#\s*Datatype: (\w+)")
_BUFFERS = re.compile(
    r"#\s*(?:Send Buffer|Rank 0 Memory) on \w+(?: \w+)? \((\w+)\)"
    r" and (?:Receive Buffer|Rank 1 Memory) on \w+(?: \w+)? \((\w+)\)"
)
_WINDOW = re.compile(r"#\s*Window creation: MPI_Win_(\w+)")
_SYNC = re.compile(r"#\s*Synchronization: MPI_Win_(\S+)")
_USING = re.compile(r"#\s*(Using \w+|Overall = |Warm|Iteration|MPI_Init)")
_PROGRAM = r"(?:^|[\s/])osu_\w+"
DEFAULT_WINDOW = "64"
"""Messages in flight unless -W says otherwise (util/osu_util.h)."""
_RATE_TOLERANCE = 0.02


@dataclass
class _OsuTable:
    test: OsuTest | None = None
    dtype: str | None = None
    columns: Sequence[str] = ()
    num_ranks: int | None = None
    extras: Params = field(default_factory=dict)
    """Buffers, window and the like, which tell tests of one title apart."""
    last_decimals: int = 0
    """Digits after the point of the last number of the row before, which is the same in all rows of a table."""
    last_size: float = -1.0
    """Size of the row before: sizes that begin anew are of another table, whose title is missing."""
    library: str = "MPI"
    device: str | None = None


@dataclass
class _OsuText:
    readings: list[ImportedCase] = field(default_factory=list)
    tables: list[_OsuTable] = field(default_factory=list)
    """The table of each reading."""
    ledger: Ledger = field(default_factory=Ledger)
    versions: set[str] = field(default_factory=set)
    table: _OsuTable = field(default_factory=_OsuTable)
    last_is_cut: bool = False
    """True if the last row was cut off within its last number."""
    launched: int | None = None
    """Ranks of the last command that started a test, which the next title is of."""


def looks_like(text: str) -> bool:
    return re.search(r"^.*# ?OSU \w+", text, re.M) is not None


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text, which may hold several tests; those that bench cannot place are named as unread.

    Raises BenchError if a collective's number of ranks is neither in the text nor in `hints`.
    """
    parsed = _OsuText()
    for index, original in enumerate(text.splitlines(), 1):
        line = original.strip()
        if line.startswith("#"):
            _comment(index, line, parsed)
        elif re.match(r"\d+(\.\d+)?(\s|$)", line):
            _row(index, line, parsed, hints)
        else:
            _command(index, original, parsed)
    if not text.endswith("\n"):
        _cut_off(parsed)
    readings = launches_of_repeats(_apart(parsed))
    num_ranks = max((reading.num_ranks for reading in readings), default=0)
    devices = {table.device for table in parsed.tables}
    device = devices.pop() if len(devices) == 1 else None
    rank = RankFacts(device_type=DEVICE_TYPES.get(device, "cpu") if device else "cpu")
    libraries = {BACKENDS.get(table.library, table.library.lower()) for table in parsed.tables}
    return ImportedText(
        tool=TOOL,
        version=", ".join(sorted(parsed.versions)) or None,
        format="text",
        readings=readings,
        ledger=parsed.ledger,
        ranks=(rank,) * num_ranks,
        backend=libraries.pop() if len(libraries) == 1 else None,
    )


def _command(index: int, line: str, parsed: _OsuText) -> None:
    """Take up the number of ranks of a launcher's command line; any other line is not read."""
    num_ranks = launched_ranks(line, _PROGRAM)
    if num_ranks is None:
        parsed.ledger.other(index, line)
        return
    parsed.launched = num_ranks
    parsed.ledger.read(index, line, f"command on {num_ranks} ranks")


def _comment(index: int, line: str, parsed: _OsuText) -> None:
    if ANY_TITLE.match(line):
        title = TITLE.match(line)
        parsed.table = _begin(title, parsed) if title is not None else _OsuTable()
        parsed.ledger.read(
            index, line, "title of a test" if parsed.table.test else "title of a test not known to bench"
        )
    elif (what := _describe(line, parsed.table)) is not None:
        parsed.ledger.read(index, line, what)
    elif _USING.match(line):
        parsed.ledger.skip(index, line, "line of the benchmark without data")
    else:
        parsed.ledger.other(index, line)


def _begin(title: re.Match[str], parsed: _OsuText) -> _OsuTable:
    test = test_of(title)
    launched, parsed.launched = parsed.launched, None
    parsed.versions |= {title["version"]} if title["version"] else set()
    return _OsuTable(
        test=test,
        dtype=test.dtype if test else None,
        extras={"buffers": "managed"} if title["managed"] else {},
        num_ranks=launched,
        library=title["library"],
        device=title["device"],
    )


def _describe(line: str, table: _OsuTable) -> str | None:
    """Take up a line that describes the test; None for a line of another kind."""
    if match := _DATATYPE.match(line):
        table.dtype = table.dtype and DTYPES.get(match[1], match[1].removeprefix("MPI_").lower())
        return "type"
    if match := _PAIRS.match(line):
        table.num_ranks = 2 * whole(match[1])
        if match[2] not in (None, DEFAULT_WINDOW):
            table.extras["window_size"] = whole(match[2])
        return "number of pairs"
    if match := _RANKS.match(line):
        table.num_ranks = whole(match[1])
        return "number of ranks"
    if match := _BUFFERS.match(line):
        table.extras["buffers"] = f"{match[1]}-{match[2]}"
        return "place of the buffers"
    for name, pattern in (("window", _WINDOW), ("sync", _SYNC)):
        if match := pattern.match(line):
            table.extras[name] = safe_name(match[1])
            return name
    if (columns := columns_of(line)) is not None:
        table.columns = columns
        return "head of the table"
    return None


def _row(index: int, line: str, parsed: _OsuText, hints: ImportHints) -> None:
    found = _reading(line, parsed.table, hints)
    if isinstance(found, str):
        if len(line.split()) == 1 and not parsed.table.columns:
            parsed.ledger.other(index, line)
        else:
            parsed.ledger.unread(index, line, found)
        return
    parsed.readings.append(found)
    parsed.tables.append(parsed.table)
    parsed.ledger.read(index, line, "row")
    decimals = len(line.rpartition(".")[2]) if "." in line.split()[-1] else 0
    parsed.last_is_cut = decimals < parsed.table.last_decimals or line.endswith(".")
    parsed.table.last_decimals = decimals


def _cut_off(parsed: _OsuText) -> None:
    """Take back the row that ends a text within its last number: `12.` of 12.25 is another time."""
    last = next(reversed(parsed.ledger.lines.values()), None)
    if last is not None and last.why == "row" and parsed.last_is_cut:
        parsed.readings.pop()
        parsed.tables.pop()
        parsed.ledger.unread(last.where, last.text, "cut off within its last number")


def _reading(line: str, table: _OsuTable, hints: ImportHints) -> ImportedCase | str:
    """The case of a row, or why it cannot be read."""
    words = line.split()
    cells = dict(zip(table.columns, words, strict=False))
    column = next((name for name in SECONDS if name in cells), None)
    if table.test is None:
        return "its test is not known to bench"
    if column is None or len(words) != len(table.columns):
        return f"does not fit the head: {', '.join(table.columns) or 'there is none'}"
    value, size = number(cells[column]), number(cells.get("size", "0"))
    if value is None or size is None or value <= 0 or not size.is_integer():
        return "has no time, or no size"
    if (reason := _contradiction(cells, size)) is not None:
        return reason
    if "size" in table.columns and size <= table.last_size:
        return "its size is not above that of the row before: a row of another test, whose title is missing"
    table.last_size = size
    seconds = SECONDS[column](value, size)
    if seconds <= 0:
        return "moves no data, so that its bandwidth says no time"
    checked = {"pass": 0.0, "fail": 1.0}.get(cells.get("validation", "").lower())
    wrong = checked is not None and checked > 0
    num_ranks = table.test.num_ranks or hints.ranks(table.num_ranks, TOOL)
    num_bytes = int(size) * num_ranks if table.test.shares else int(size)
    return ImportedCase(
        suite=table.test.suite,
        params=_params(table, table.test, num_bytes),
        num_ranks=num_ranks,
        seconds=() if wrong else (seconds,),
        status="invalid" if wrong else "ok",
        reason=f"{TOOL} found the result wrong (Validation: Fail)" if wrong else None,
        check=None if checked is None else CheckOutcome(error=checked, tolerance=0.0, scope="full"),
        notes=(mean_note(TAKEN.get(column, "a mean over the calls")),),
        work=collective_work(table.test.op, num_bytes or None, num_ranks),
    )


def _contradiction(cells: Mapping[str, str], size: float) -> str | None:
    """Why the cells of a row cannot all be right: a mean beyond its extremes, or a rate of another bandwidth."""
    least, mean, most = (number(cells.get(f"{name} latency(us)")) for name in ("min", "avg", "max"))
    if mean is not None and ((least is not None and least > mean) or (most is not None and most < mean)):
        return "its mean is not between its extremes"
    bandwidth, rate = number(cells.get("mb/s")), number(cells.get("messages/s"))
    if not (bandwidth and rate and size and bandwidth >= 1):
        return None
    product = rate * size / 1e6
    is_right = abs(product - bandwidth) <= _RATE_TOLERANCE * bandwidth + 0.01
    return (
        None if is_right else f"{rate:g} messages of {size:g} bytes per second are {product:g} MB/s, not {bandwidth:g}"
    )


def _params(table: _OsuTable, test: OsuTest, num_bytes: int) -> Params:
    params: Params = {"op": test.op, **table.extras}
    params |= {"num_bytes": num_bytes} if "size" in table.columns else {}
    return params | ({"dtype": table.dtype} if table.dtype is not None else {})


def _apart(parsed: _OsuText) -> list[ImportedCase]:
    """Readings with the library and the kind of device as parameters, if the text has several of them."""
    libraries = {table.library for table in parsed.tables}
    devices = {table.device for table in parsed.tables}
    result = []
    for reading, table in zip(parsed.readings, parsed.tables, strict=True):
        extras: Params = {"library": BACKENDS.get(table.library, table.library.lower())} if len(libraries) > 1 else {}
        extras |= {"memory": (table.device or "host").lower()} if len(devices) > 1 else {}
        result.append(replace(reading, params=reading.params | extras))
    return result
