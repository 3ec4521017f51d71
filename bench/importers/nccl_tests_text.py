"""Reads what nccl-tests (and rccl-tests) print: old and new columns, -I, -C, -S, with debug lines in between.

The columns are those of the table's own head: `size count type [redop] [root]`, then for out-of-place and
in-place `time` (`cputime` with -C), `algbw`, `busbw`, `#wrong` (`error` in old versions) and what -I adds, at
the end a time stamp with -S. NCCL writes its debug lines between the beginning of a row and its numbers, so a
row is put together over several lines. A text may hold several runs: each is a launch of the cases that an
earlier one has too. Source: src/common.cu and src/util.cu of nccl-tests, versions of 2017 to 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.errors import BenchError
from bench.importers.nccl_tests import EXTRA_COLUMNS, TOOL, Body, NcclTestsSetup, Row, operation, readings, version_text
from bench.importers.reading import LAUNCHER_PREFIX, ImportedCase, ImportedText, ImportHints, Unread, number, whole
from bench.records.lines.header import RankFacts

_START = re.compile(r"#\s*(nccl-tests version|rccl-tests: Version|Collective test starting|nThread\b)")
_VERSION = re.compile(r"nccl-tests version (\S+)(?:.*nccl-library=(\d+))?")
_NCCL_LINE = re.compile(r"\b[NR]CCL version (\d+\.\d+\.\d+)(?:\+cuda(\d[\d.]*))?")
_STARTING = re.compile(r"# Collective test starting: (\S+)")
_PROGRAM = re.compile(r"\b(\w+_perf)\b")
_DEVICE = re.compile(r"#\s*Rank\s+(\d+)(?:\s+Group\s+(\d+))?\s+Pid\s+\d+ on\s+(\S+) device\s+\d+ \[[^\]]*\] (.*\S)")
_OPTION = re.compile(r"(nThread|nGpus|minBytes|maxBytes) (\d+)|(?<!warmup )(agg iters|iters|graph|unalign): (\d+)")
_STEP = re.compile(r"step: (\d+)\((factor|bytes)\)")
_DEBUG = re.compile(r"(?<![A-Za-z])[A-Za-z][\w.-]*:\d+:\d+ \[\d+\].*$")
"""A line of NCCL_DEBUG, which may begin in the middle of a row: host:process:thread [device] ...

The look-behind only saves time: without it, each letter of a long word is tried as the beginning.
"""
_ROW = re.compile(r"\d+\s+\d+\s+[a-z]|\d+(\s+\d+)?\s*$")
"""Beginning of a row, also of one that was cut off; its later part begins with a time, then a bandwidth."""

_DTYPES = "bfloat16|double|float|half|u?int(?:8|32|64)|char|int|f8e4m3|f8e5m2"
_CELLS = {
    "size": r"(?P<size>\d+)",
    "count": r"(?P<count>\d+)",
    "type": rf"(?P<type>{_DTYPES}|[a-z]\w*)",
    "redop": r"(?P<redop>[a-z]+)",
    "root": r"(?P<root>-?\d+)",
}
_TIMES = ("time", "cputime")
_NUMBERS = (*_TIMES, "algbw", "busbw", "#wrong", "error", *EXTRA_COLUMNS)
_NO_NUMBER = re.compile(r"N/A|[-+]?(nan|inf)", re.I)
_DEFAULT_COLUMNS = ("size", "count", "type", "redop", "root", *2 * ("time", "algbw", "busbw", "#wrong"))


@dataclass
class _Run:
    """One run of the program: what it says before its table, and the table."""

    setup: NcclTestsSetup = field(default_factory=NcclTestsSetup)
    devices: list[tuple[int, str, str]] = field(default_factory=list)
    """(group, host, device's name) of every rank, in their order."""
    columns: Sequence[str] = _DEFAULT_COLUMNS
    rows: list[Row] = field(default_factory=list)


@dataclass
class _Pending:
    """A row of which not all cells were seen yet."""

    line: int
    text: str
    head: Mapping[str, str]
    cells: list[str]


@dataclass
class _Reader:
    """Goes through the lines once."""

    runs: list[_Run] = field(default_factory=lambda: [_Run()])
    unread: list[Unread] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    tool_version: str | None = None
    pending: _Pending | None = None
    program: str | None = None

    @property
    def run(self) -> _Run:
        return self.runs[-1]

    def line(self, index: int, text: str) -> None:
        text = LAUNCHER_PREFIX.sub("", text.strip(), count=1).strip()
        if match := _NCCL_LINE.search(text):
            self.versions |= {k: v for k, v in zip(("nccl", "cuda"), match.groups(), strict=True) if v}
        if text.startswith("#"):
            self._comment(text)
            return
        if match := _PROGRAM.search(text):
            self.program = match[1]
        self._cells(index, text, _DEBUG.sub("", text))

    def _comment(self, text: str) -> None:
        if _START.match(text) and self.run.rows:
            self.give_up()
            self.runs.append(_Run())
        run, setup = self.run, self.run.setup
        columns = text.lstrip("# ").split()
        if columns[:3] == ["size", "count", "type"] and set(columns) & set(_TIMES):
            run.columns = columns
        elif match := _DEVICE.match(text):
            run.devices.append((whole(match[2] or "0"), match[3], match[4]))
        elif match := _VERSION.search(text):
            self.tool_version = match[1]
            self.versions |= {"nccl": version} if (version := version_text(whole(match[2] or "0"))) else {}
        elif match := _STARTING.match(text):
            setup.op = operation(match[1])
        elif "nThread " in text:
            _configure(setup, text)
        elif "Blocking Enabled" in text:
            setup.is_blocking = True

    def _cells(self, index: int, line: str, text: str) -> None:
        columns = self.run.columns
        if _ROW.match(text):
            self.give_up()
            if self.run.setup.op is None and self.program is not None:
                self.run.setup.op = operation(self.program)
            head = re.match(r"\s+".join(_CELLS[name] for name in columns if name in _CELLS), text)
            if head is None:
                self.unread.append(Unread.of(f"line {index}", line))
                return
            self.pending = _Pending(index, line, head.groupdict(), [])
            text = text[head.end() :]
        if self.pending is not None:
            wanted = [name for name in columns if name not in _CELLS]
            self.pending.cells += _split_cells(text, wanted[len(self.pending.cells) :])
            if len(self.pending.cells) == len(wanted):
                self.run.rows.append(_row(self.pending, wanted))
                self.pending = None

    def give_up(self) -> None:
        """The row begun is not going to be completed."""
        if self.pending is not None:
            self.unread.append(Unread.of(f"line {self.pending.line}", self.pending.text))
            self.pending = None


def looks_like(text: str) -> bool:
    return (
        re.search(r"^.*#\s*size\s+count\s+type\b|# nccl-tests version|# Collective test starting", text, re.M)
        is not None
    )


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text.

    Raises BenchError if the text does not say the operation or the number of ranks and `hints` does not
    either, where the two disagree, and where runs in one text were made on different devices.
    """
    reader = _Reader()
    for index, line in enumerate(text.splitlines(), 1):
        reader.line(index, line)
    reader.give_up()
    runs = [run for run in reader.runs if run.rows]
    devices = runs[0].devices if runs else []
    if any(run.devices != devices for run in runs):
        raise BenchError("the text holds runs on different devices; put each into a file of its own")
    cases = [replace(case, launch=launch) for launch, run in enumerate(runs) for case in _readings(run, hints)]
    return ImportedText(
        tool=TOOL,
        version=reader.tool_version,
        format="text",
        readings=tuple(cases),
        unread=tuple(reader.unread),
        ranks=tuple(RankFacts(host=host, device_type="cuda", device_name=name) for _, host, name in devices),
        versions=reader.versions,
        settings=_settings(runs[0].setup) if runs else {},
        backend="nccl",
    )


def _readings(run: _Run, hints: ImportHints) -> Iterator[ImportedCase]:
    setup = run.setup
    if hints.op is not None and setup.op not in (None, hints.op):
        raise BenchError(f"--op {hints.op}: the text says {setup.op}; leave the option out")
    groups = [group for group, _, _ in run.devices]
    stated = groups.count(groups[0]) if groups else None
    setup = replace(setup, op=setup.op or hints.op, num_ranks=hints.ranks(stated, TOOL), groups=len(set(groups)) or 1)
    for row in run.rows:
        yield from readings(row, setup)


def _configure(setup: NcclTestsSetup, text: str) -> None:
    options = {(name or other): whole(value or more) for name, value, other, more in _OPTION.findall(text)}
    setup.iterations = options.get("iters")
    setup.aggregated = options.get("agg iters", 1)
    setup.graph = options.get("graph", 0)
    setup.unalign = options.get("unalign", 0)
    setup.min_bytes, setup.max_bytes = options.get("minBytes"), options.get("maxBytes")
    if step := _STEP.search(text):
        setup.step_factor = whole(step[1]) if step[2] == "factor" else None
        setup.step_bytes = whole(step[1]) if step[2] == "bytes" else None


def _settings(setup: NcclTestsSetup) -> dict[str, int | bool]:
    names = ("iterations", "aggregated", "graph", "unalign", "is_blocking")
    return {name: getattr(setup, name) for name in names if getattr(setup, name) is not None}


def _split_cells(text: str, columns: Sequence[str]) -> list[str]:
    """The cells at the beginning of a text, as far as each may be in its column."""
    words, cells = text.split(), list[str]()
    for name in columns:
        size = 2 if name == "timestamp" else 1
        cell = " ".join(words[:size])
        is_number = number(cell) is not None or _NO_NUMBER.fullmatch(cell) is not None
        if not cell or (name in _NUMBERS and not is_number):
            break
        cells.append(cell)
        words = words[size:]
    return cells


def _row(pending: _Pending, columns: Sequence[str]) -> Row:
    starts = [at for at, name in enumerate(columns) if name in _TIMES]
    ends = [*starts[1:], len(columns)]
    pairs = list(zip(columns, pending.cells, strict=True))
    halves = {
        index > 0: _half(dict(pairs[start:end])) for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    }
    root, stamp = pending.head.get("root"), dict(pairs).get("timestamp")
    return Row(
        num_bytes=whole(pending.head["size"]),
        dtype=pending.head["type"],
        redop=pending.head.get("redop"),
        root=None if root is None else whole(root),
        halves=halves,
        started=stamp.replace(" ", "T") if stamp else None,
    )


def _half(cells: Mapping[str, str]) -> Body:
    return Body(
        microseconds=number(cells.get("time", cells.get("cputime"))),
        is_cpu_time="cputime" in cells,
        algbw=number(cells.get("algbw")),
        busbw=number(cells.get("busbw")),
        wrong=number(cells.get("#wrong")),
        delta=number(cells.get("error")),
        extras={name: number(cells[name]) for name in EXTRA_COLUMNS if name in cells},
    )
