"""Reads what the OSU micro-benchmarks (OMB) print: blocking collectives and point-to-point tests.

A collective's latency is each rank's mean over its calls, timed one by one with a barrier between them
(`aligned`); printed is the mean over the ranks and, with -f, their maximum, which is taken where it is there.
OSU counts the bytes of one rank's share for all-gather, all-to-all, gather and scatter; bench counts the full
buffer, n times that. The text does not say how many ranks took part. Tests between two ranks become a suite
`osu`: latencies are one-way, bandwidths (decimal MB/s, 64 messages in flight) become the time of a message.
Source: the benchmarks' own sources, c/util/osu_util_mpi.c and c/mpi/collective.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.importers.reading import (
    COLLECTIVE,
    ImportedCase,
    ImportedText,
    ImportHints,
    Unread,
    collective_work,
    mean_note,
    number,
    whole,
)
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import CheckOutcome
from bench.suite import Params

TOOL = "OSU micro-benchmarks"
SUITE = "osu"


@dataclass(frozen=True)
class Test:
    """A test of the text, in the terms of bench."""

    op: str
    shares: bool = False
    """True if the size column is one rank's share of the payload."""
    dtype: str | None = "int8"
    """Type if the text has no `# Datatype`, as before version 7; None: it is not part of the case."""
    suite: str = COLLECTIVE
    num_ranks: int | None = None
    """Number of ranks if the test is always between this many."""


TESTS: Mapping[str, Test] = {
    "Allreduce Latency Test": Test("all_reduce", dtype="float32"),
    "Reduce Latency Test": Test("reduce", dtype="float32"),
    "Reduce_scatter Latency Test": Test("reduce_scatter", dtype="float32"),
    "Allgather Latency Test": Test("all_gather", shares=True),
    "All-to-All Personalized Exchange Latency Test": Test("all_to_all", shares=True),
    "Gather Latency Test": Test("gather", shares=True),
    "Scatter Latency Test": Test("scatter", shares=True),
    "Broadcast Latency Test": Test("broadcast"),
    "Barrier Latency Test": Test("barrier", dtype=None),
    "Latency Test": Test("latency", dtype=None, suite=SUITE, num_ranks=2),
    "Bandwidth Test": Test("bandwidth", dtype=None, suite=SUITE, num_ranks=2),
    "Bi-Directional Bandwidth Test": Test("bidirectional_bandwidth", dtype=None, suite=SUITE, num_ranks=2),
    "Multi Latency Test": Test("multi_latency", dtype=None, suite=SUITE),
    "Multiple Bandwidth / Message Rate Test": Test("multiple_bandwidth", dtype=None, suite=SUITE),
}
"""A further test is a further row."""
DTYPES = {"MPI_CHAR": "int8", "MPI_INT": "int32", "MPI_FLOAT": "float32", "MPI_DOUBLE": "float64"}
_DEVICE_TYPES = {"CUDA": "cuda", "ROCM": "cuda", "OPENACC": "cuda"}
"""Name in the text -> torch's; AMD's devices are `cuda` too."""

_TITLE = re.compile(
    r"#\s*OSU (?P<library>\w+)(?:-(?P<device>[A-Z]+)(?: MANAGED)?)? (?P<test>[A-Z].* Test)(?: v(?P<version>\S+))?"
)
_HEADS = re.compile(r"#\s*(Size|Avg Latency)\b")
_RANKS = re.compile(r"#\s*Number of Ranks (\d+)")
_PAIRS = re.compile(r"#\s*\[ pairs: (\d+) \]")
_DATATYPE = re.compile(r"#\s*Datatype: (\w+)")
_COLUMN = re.compile(r"\s{2,}")

# Column -> seconds of one call, from the cell and the size in bytes; the first that a table has is taken.
_SECONDS: Mapping[str, Callable[[float, float], float]] = {
    "max latency(us)": lambda value, _: value * 1e-6,
    "avg latency(us)": lambda value, _: value * 1e-6,
    "latency (us)": lambda value, _: value * 1e-6,
    "latency(us)": lambda value, _: value * 1e-6,
    "bandwidth (mb/s)": lambda value, size: size / (value * 1e6),
    "mb/s": lambda value, size: size / (value * 1e6),
}
_TAKEN = {
    "max latency(us)": "the slowest rank's mean over its calls",
    "avg latency(us)": "a mean over the calls and over the ranks",
    "bandwidth (mb/s)": "the time of one message among many in flight, from the bandwidth",
    "mb/s": "the time of one message among those of all pairs in flight, from the bandwidth",
}


@dataclass
class _OsuTable:
    test: Test | None = None
    dtype: str | None = None
    columns: Sequence[str] = ()
    num_ranks: int | None = None
    calls: int = 0
    """Number of the table in the text."""


@dataclass
class _OsuText:
    readings: list[ImportedCase] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    devices: set[str | None] = field(default_factory=set)
    titles: dict[str, int] = field(default_factory=dict)
    """Number of times that each test came before: the same test again is another launch."""


def looks_like(text: str) -> bool:
    return re.search(r"^.*# ?OSU \w+", text, re.M) is not None


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text, which may hold several tests; those that bench cannot place are named as unread.

    Raises BenchError if a collective's number of ranks is neither in the text nor in `hints`.
    """
    parsed, table = _OsuText(), _OsuTable()
    for index, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if title := _TITLE.match(line):
            table = _begin(title, parsed)
        elif line.startswith("#"):
            _describe(line, table)
        elif re.match(r"[\d.]+(\s|$)", line):
            reading = _reading(line, table, hints)
            parsed.readings += [reading] if reading is not None else []
            parsed.unread += [Unread.of(f"line {index}", line)] if reading is None else []
    num_ranks = max((reading.num_ranks for reading in parsed.readings), default=0)
    device = parsed.devices.pop() if len(parsed.devices) == 1 else None
    rank = RankFacts(device_type=_DEVICE_TYPES.get(device, "cpu") if device else "cpu")
    return ImportedText(
        tool=TOOL,
        version=", ".join(sorted(parsed.versions)) or None,
        format="text",
        readings=tuple(parsed.readings),
        unread=tuple(parsed.unread),
        ranks=(rank,) * num_ranks,
        backend="mpi",
    )


def _begin(title: re.Match[str], parsed: _OsuText) -> _OsuTable:
    test = TESTS.get(title["test"])
    parsed.devices.add(title["device"])
    parsed.versions |= {title["version"]} if title["version"] else set()
    before = parsed.titles.get(title["test"], 0)
    parsed.titles[title["test"]] = before + 1
    return _OsuTable(test=test, dtype=test.dtype if test else None, calls=before)


def _describe(line: str, table: _OsuTable) -> None:
    if match := _DATATYPE.match(line):
        table.dtype = table.dtype and DTYPES.get(match[1], match[1].removeprefix("MPI_").lower())
    if match := _PAIRS.match(line):
        table.num_ranks = 2 * whole(match[1])
    if match := _RANKS.match(line):
        table.num_ranks = whole(match[1])
    if _HEADS.match(line):
        table.columns = [head.lower() for head in _COLUMN.split(line.lstrip("# ").strip())]


def _reading(line: str, table: _OsuTable, hints: ImportHints) -> ImportedCase | None:
    """The case of a row; None if it cannot be read."""
    cells = dict(zip(table.columns, line.split(), strict=False))
    column = next((name for name in _SECONDS if name in cells), None)
    if table.test is None or column is None or len(line.split()) != len(table.columns):
        return None
    value, size = number(cells[column]), number(cells.get("size", "0"))
    if value is None or size is None or value <= 0:
        return None
    seconds = _SECONDS[column](value, size)
    if seconds <= 0:
        return None
    checked = {"pass": 0.0, "fail": 1.0}.get(cells.get("validation", "").lower())
    wrong = checked is not None and checked > 0
    num_ranks = table.test.num_ranks or hints.ranks(table.num_ranks, TOOL)
    num_bytes = int(size) * num_ranks if table.test.shares else int(size)
    return ImportedCase(
        suite=table.test.suite,
        params=_params(table, table.test, num_bytes),
        num_ranks=num_ranks,
        seconds=() if wrong else (seconds,),
        launch=table.calls,
        status="invalid" if wrong else "ok",
        reason=f"{TOOL} found the result wrong (Validation: Fail)" if wrong else None,
        check=None if checked is None else CheckOutcome(error=checked, tolerance=0.0, scope="full"),
        notes=(mean_note(_TAKEN.get(column, "a mean over the calls")),),
        work=collective_work(table.test.op, num_bytes or None, num_ranks),
    )


def _params(table: _OsuTable, test: Test, num_bytes: int) -> Params:
    params: Params = {"op": test.op}
    params |= {"num_bytes": num_bytes} if "size" in table.columns else {}
    return params | ({"dtype": table.dtype} if table.dtype is not None else {})
