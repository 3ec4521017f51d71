"""Reads what nccl-tests (and rccl-tests) print: old and new columns, -I, -C, -S, with debug lines in between.

A text may hold several runs: each is a launch of the cases that an earlier one has too. Statements of a run have to
agree: the ranks it lists, the communicators of NCCL's debug lines, the bandwidths of its rows. The operation is that of
the program's own line, or of the command line that started it. Source: src/common.cu and src/util.cu of nccl-tests and
rccl-tests, versions of 2017 to 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from bench.errors import BenchError
from bench.importers.nccl_tests.program import Program, exported_variables, program_of, stated_variables
from bench.importers.nccl_tests.rows import TOOL, operation, version_text
from bench.importers.nccl_tests.run import (
    NcclRun,
    checked_cases,
    configure,
    distinct_settings,
    rank_facts,
    settings_of,
)
from bench.importers.nccl_tests.table import (
    CUT_START,
    START,
    RowInPieces,
    TableHead,
    begin_row,
    halves_of,
    is_head,
    is_rest_of_head,
    unit_of,
)
from bench.importers.nccl_tests.wrapping import WrappedHead
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, number, whole
from bench.importers.source.ledger import Ledger
from bench.importers.source.noise import is_elision
from bench.importers.source.statements import Contradiction

_START = re.compile(r"#?\s*(nccl-tests version|rccl-tests: Version|Collective test starting|nThread\b)")
_VERSION = re.compile(r"nccl-tests version (\S+)(?:.*nccl-library=(\d+))?")
_RCCL_VERSION = re.compile(r"#?\s*rccl-tests: Version (\S+)")
_NCCL_LINE = re.compile(r"\b[NR]CCL version\s*:?\s*(\d+\.\d+\.\d+)(?:\+(?:cuda|hip)(\d[\d.]*))?")
_STARTING = re.compile(r"#\s*Collective test starting: (\S+)")
_CONCLUDED = re.compile(r"#\s*Collective test concluded: (\S+)")
_DEVICE = re.compile(r"#\s*Rank\s+(\d+)(?:\s+Group\s+(\d+))?\s+Pid\s+\d+ on\s+(\S+) device\s+\d+ \[[^\]]*\] (.*\S)")
_COMMUNICATOR = re.compile(r"NCCL INFO .*\bcomm 0x[0-9a-f]+ rank \d+ n[rR]anks (\d+)\b")
_OUT_OF_BOUNDS = re.compile(r"#\s*Out of bounds values\s*: (\d+)")
_AVERAGE = re.compile(r"#\s*Avg bus bandwidth\s*: (\S+)")
_DEBUG = re.compile(
    r"(?:\[[\d-]+[ T][\d:.,]+\]\s*)?(?<![A-Za-z])[A-Za-z][\w.-]*:\d+:\d+ \[\d+\].*$|[NR]CCL version \d.*$"
)
"""A line of NCCL_DEBUG, which may begin in the middle of a row: host:process:thread [device] ...

The look-behind only saves time: without it, each letter of a long word is tried as the beginning.
"""
_WHOLE_DEBUG = re.compile(r"(?:\[[\d-]+[ T][\d:.,]+\]\s*)?[\w.-]*[A-Za-z][\w.-]*:\d+:\d+ \[\d+\]\s")
"""The same as a line of its own: there the host's name may begin with a digit."""
_LOOKS = re.compile(
    r"^.*#\s*size\s+count\s+type\b|# nccl-tests version|# Collective test starting"
    r"|^\s*\d+\s+\d+\s+(?:float|half|bfloat16|double|u?int\d+)\s+(?:[a-z]+\s+)?-?\d+\s+\d+\.\d+\s",
    re.M,
)
"""Lines of nccl-tests alone, and rows of a table that lost its head."""
_SIGN = re.compile(r"^#(?!wrong|bitdiff|iters)\s*")
"""The `#` of a line, which is not that of a column."""
_HEADINGS = re.compile(
    r"#\s*(Using devices|\(B\)|Errors with asterisks|Parallel Init|Reporting|Bitwise|Timing|Memory)|#\s*\(us\)"
)


@dataclass
class _Reader:
    """Goes through the lines once."""

    hints: ImportHints
    runs: list[NcclRun] = field(default_factory=lambda: [NcclRun()])
    ledger: Ledger = field(default_factory=Ledger)
    versions: dict[str, str] = field(default_factory=dict)
    tool_version: str | None = None
    pending: RowInPieces | None = None
    program: Program | None = None
    halves: list[bool] = field(default_factory=list)
    exported: dict[str, str] = field(default_factory=dict)
    """Variables of NCCL that the shell or NCCL itself names."""
    stated: dict[str, str] = field(default_factory=dict)
    """Variables of NCCL that headings state before a table: `=== NCCL_ALGO=Ring ===`."""
    stated_before: int = 0
    """Number of the run that `stated` is of."""
    command: str = ""
    """Beginning of a command that goes on in the next line."""
    wrapped: WrappedHead = field(default_factory=WrappedHead)

    @property
    def run(self) -> NcclRun:
        return self.runs[-1]

    def line(self, index: int, original: str) -> None:
        text = original.strip()
        if match := _NCCL_LINE.search(text):
            self.versions |= {k: v for k, v in zip(("nccl", "cuda"), match.groups(), strict=True) if v}
        if match := _COMMUNICATOR.search(text):
            self.run.statements.state("number of ranks", whole(match[1]), f"NCCL's communicator in line {index}")
        self.exported |= exported_variables(text)
        if (
            self._rest_of_line(index, text)
            or self._comment(index, text)
            or self._program(index, text)
            or self._cells(index, text)
            or self._heading(index, text)
        ):
            return
        self.wrapped.take_rest_of_name(index, text, len(self.run.devices) - 1)
        if is_elision(text) and self.run.devices and not self.run.has_head:
            self.run.is_elided = True
        self.ledger.other(index, original)

    def _program(self, index: int, text: str) -> bool:
        """A line that says which program ran; a clear one is not replaced by a doubtful one before the next table."""
        if text.startswith("#") and not re.match(r"#\s*\S*/", text):
            return False
        command, self.command = self.command, ""
        if text.endswith("\\"):
            self.command = f"{command} {text[:-1]}"
        found = program_of(f"{command} {text}" if command else text)
        if found is None:
            return False
        if self.program is None or self.run.rows or found.is_command >= self.program.is_command:
            self.program = found
        self.ledger.read(index, text, f"the program that ran: {', '.join(found.names)}")
        return True

    def _heading(self, index: int, text: str) -> bool:
        """Take up the variables of NCCL that a line states; those of the table before do not hold any more."""
        found = stated_variables(text)
        if found:
            number = len(self.runs) + bool(self.run.rows)
            self.stated = found if number != self.stated_before else self.stated | found
            self.stated_before = number
            self.ledger.read(index, text, "variables of NCCL")
        return bool(found)

    def _rest_of_line(self, index: int, text: str) -> bool:
        """The rest of a set-up, or of the line of a device, which a mail or a page wrapped."""
        if (setup := self.wrapped.joined_setup(index, text)) is not None:
            configure(self.run.setup, setup)
            self.ledger.read(index, text, "rest of the set-up")
            return True
        device = self.wrapped.joined_device(index, text)
        if device is None or _DEVICE.match(self.wrapped.text) or not _DEVICE.match(device):
            return False
        self.ledger.read(index - 1, self.wrapped.text, "device")
        self.ledger.read(index, text, str(self._setup_line(device, index)))
        self.wrapped.lengths[len(self.run.devices) - 1] = len(text)
        return True

    def _comment(self, index: int, text: str) -> bool:
        """A line that begins with `#`, or one without that says how the test was set up. False for any other."""
        if _START.match(text) and self.run.rows:
            self.give_up()
            self.runs.append(NcclRun())
        run, words = self.run, _SIGN.sub("", text).split()
        what = self._setup_line(text, index)
        if what is None and text.startswith("#") and (is_head(words) or words[:3] == ["bytes", "N", "type"]):
            self._head(words, index)
            what = "head of the table"
        elif what is None and run.has_head and is_rest_of_head(words) and not run.rows and self.pending is None:
            run.head = run.head.extended(words, self.halves)
            what = "rest of the table's head"
        elif what is None and text.startswith("#") and (halves := halves_of(text)):
            self.halves = halves
            what = "halves of the table"
        elif what is None and text.startswith("#"):
            what = self._last_lines(text) or ("heading" if _HEADINGS.match(text) else None)
            if run.has_head and not run.rows and (unit := unit_of(text)) is not None:
                run.head = replace(run.head, microseconds=unit)
        if what is None:
            return False
        self.ledger.read(index, text, what)
        return True

    def _head(self, words: list[str], index: int) -> None:
        if self.run.rows:
            self.give_up()
            self.runs.append(self.run.again())
        self.run.head, self.run.has_head = TableHead.of(words, self.halves, index), True

    def _setup_line(self, text: str, index: int) -> str | None:
        run, setup = self.run, self.run.setup
        if match := _DEVICE.match(text):
            run.ranks.append(whole(match[1]))
            run.devices.append((whole(match[2] or "0"), match[3], match[4]))
            self.wrapped.keep(index, text)
            self.wrapped.lengths[len(run.devices) - 1] = len(text)
            return f"device of rank {match[1]}"
        if self.wrapped.begins_device(index, text):
            return None
        if match := _VERSION.search(text):
            self.tool_version = match[1]
            self.versions |= {"nccl": version} if (version := version_text(whole(match[2] or "0"))) else {}
            return "version"
        if match := _RCCL_VERSION.match(text):
            self.tool_version = match[1]
            return "version"
        if match := _STARTING.match(text):
            setup.op = operation(match[1])
            run.statements.state("operation", setup.op, f"line {index}")
            return "the program's own name"
        if re.match(r"#\s*nThread\b", text):
            configure(setup, text)
            self.wrapped.keep(index, text)
            return "set-up"
        if "Blocking Enabled" in text and text.startswith("#"):
            setup.is_blocking = True
            return "set-up"
        return None

    def _last_lines(self, text: str) -> str | None:
        """Lines after the table."""
        if match := _CONCLUDED.match(text):
            self.run.statements.state("operation", operation(match[1]), "its last line")
            return "the program's own name"
        if match := _OUT_OF_BOUNDS.match(text):
            self.run.out_of_bounds += whole(match[1])
            return "number of wrong values"
        if match := _AVERAGE.match(text):
            self.run.average = number(match[1])
            return "average of the rows"
        if "asterisk" in text:
            self.run.setup.marks_errors = True
            return "legend"
        return None

    def _cells(self, index: int, text: str) -> bool:
        """A row, its beginning, or the rest of one. False for a line of another kind."""
        if text.startswith("#") or _WHOLE_DEBUG.match(text):
            return False
        cut = _DEBUG.sub("", text).strip()
        if START.match(cut):
            self.give_up()
            self._begin(index, cut, text)
            return True
        words = cut.split()
        if self.pending is not None and words and self.pending.takes(words):
            self.pending.lines.append((index, text))
            self.ledger.read(index, text, "rest of a row")
        elif CUT_START.match(cut):
            self.give_up()
            self.ledger.unread(index, text, "cut off before its type")
        else:
            return False
        self._complete()
        return True

    def _begin(self, index: int, cut: str, text: str) -> None:
        if self.program is not None and self.run.setup.op is None:
            self.run.setup.op = self.program.operation(self.hints.op)
        if not self.run.rows:
            self._before_rows()
        self.pending = begin_row(self.run.head, cut, index, text)
        if self.pending is None:
            self.ledger.unread(index, text, f"does not fit the head: {' '.join(self.run.head.columns)}")
            return
        self.ledger.read(index, text, "row")
        self._complete()

    def _before_rows(self) -> None:
        """What is known of a run once its table begins: the variables of NCCL, and the whole names of its devices."""
        run, program = self.run, self.program
        run.variables = self.exported | self.stated
        if program is not None:
            run.variables |= {**program.variables, **program.options}
            run.setup.average = program.options.get("average", run.setup.average)
        devices = self.wrapped.with_rests(run.devices)
        if devices != run.devices:
            for index, text in self.wrapped.rests.values():
                self.ledger.read(index, text, "rest of a device's name")
        run.devices, self.wrapped = devices, WrappedHead()

    def _complete(self) -> None:
        if self.pending is not None and not self.pending.missing:
            self.run.rows.append(self.pending.row())
            self.pending = None

    def give_up(self) -> None:
        """The row begun is not going to be completed."""
        if self.pending is not None:
            for index, text in self.pending.lines:
                self.ledger.unread(index, text, f"lacks {' '.join(self.pending.missing)}")
            self.pending = None


def looks_like(text: str) -> bool:
    return _LOOKS.search(text) is not None


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text.

    Raises BenchError if neither the text nor `hints` says the operation and the number of ranks, or if they disagree.
    The same holds for a text that contradicts itself on them, and for runs on different devices.
    """
    reader = _Reader(hints)
    for index, line in enumerate(text.splitlines(), 1):
        reader.line(index, line)
    reader.give_up()
    runs = [run for run in reader.runs if run.rows]
    for run in runs:
        run.devices = run.devices or runs[0].devices
        run.ranks = run.ranks or runs[0].ranks
    if any(run.devices != runs[0].devices for run in runs):
        raise BenchError("the text holds runs on different devices; put each into a file of its own")
    cases: list[ImportedCase] = []
    contradictions: list[Contradiction] = []
    remarks: list[str] = []
    num_ranks = None
    for launch, (run, extras) in enumerate(zip(runs, distinct_settings(runs), strict=True)):
        checked, of_run = checked_cases(run, hints, reader.ledger)
        cases += [replace(case, launch=launch, params=case.params | extras) for case in of_run]
        contradictions += checked.contradictions
        remarks += checked.remarks
        num_ranks = (len(run.devices) if checked.groups > 1 else of_run[0].num_ranks) if of_run else num_ranks
    return ImportedText(
        tool=TOOL,
        version=reader.tool_version,
        format="text",
        readings=tuple(cases),
        ledger=reader.ledger,
        contradictions=tuple(contradictions),
        remarks=tuple(dict.fromkeys(remarks)),
        ranks=rank_facts(runs[0].devices if runs else [], num_ranks),
        versions=reader.versions,
        settings=settings_of(runs) if runs else {},
        backend="nccl",
    )
