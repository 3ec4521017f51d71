"""The table of nccl-tests: which columns its head names, and a row of cells, which may come in several pieces.

The head decides: `size count type [redop] [root]`, then for each half `time` (`cputime` with -C), `algbw`, `busbw`,
`#wrong` (`error` in old versions) and further columns. The line above names the halves: rccl-tests -O 0 prints the
in-place one alone. NCCL writes its debug lines between the beginning of a row and its numbers, and mails wrap a row.
A cell more or less than the head names makes a row unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.importers.nccl_tests.rows import EXTRA_COLUMNS, Body, Row
from bench.importers.reading import number, whole

TIMES = ("time", "cputime")
IDENTITY = ("size", "count", "type", "redop", "root")
NUMBERS = (*TIMES, "algbw", "busbw", "#wrong", "error", "esttime", "#iters", *EXTRA_COLUMNS)
COLUMNS = {*IDENTITY, *NUMBERS, "timestamp", "validation"}
DEFAULT_COLUMNS = (*IDENTITY, *2 * ("time", "algbw", "busbw", "#wrong"))
START = re.compile(r"[\d,]+\s+[\d,]+\s+[a-z]")
"""Beginning of a row."""
CUT_START = re.compile(r"\d+(\s+\d+)?\s*$")
"""A row that was cut off before its type."""
_DTYPE = re.compile(
    r"(bfloat16|double|float|half|u?int(?:8|32|64)|char|int|f8e[45]m[23]|fp8_e[45]m[23])(?![\w])|[a-z]\w*"
)
_NO_NUMBER = re.compile(r"N/A|[-+]?(nan|inf)", re.I)
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+\.\d+")
_ROOT = re.compile(r"-?\d+")
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
_UNIT = re.compile(r"\((ns|us|ms|s)\)")
HALVES = {"out-of-place": False, "in-place": True}


@dataclass(frozen=True)
class TableHead:
    """Columns of a table, and which half each of its times is of."""

    columns: Sequence[str] = DEFAULT_COLUMNS
    in_place: Sequence[bool] = (False, True)
    line: int = 0
    microseconds: float = 1.0
    """Microseconds of the unit of its times, which the line below the head names."""

    @classmethod
    def of(cls, words: Sequence[str], halves: Sequence[bool], line: int) -> TableHead:
        """The head of its words; `halves` are those that the line above names."""
        times = sum(word in TIMES for word in words)
        named = tuple(halves) if len(halves) == times else (False, True)[:times]
        return cls(tuple(words), named, line)

    @property
    def is_readable(self) -> bool:
        """False if it is of the first versions, with times in ms, or if the line was cut off within its last word."""
        last = self.columns[-1]
        is_cut = last not in COLUMNS and any(name.startswith(last) for name in COLUMNS)
        return "size" in self.columns and not is_cut

    @property
    def wanted(self) -> list[str]:
        """Columns after those that say which row it is."""
        return [name for name in self.columns if name not in IDENTITY]

    def extended(self, words: Sequence[str], halves: Sequence[bool]) -> TableHead:
        """The head with the columns of a further line, onto which a mail or a page wrapped it."""
        return TableHead.of([*self.columns, *words], halves, self.line)


def is_head(words: Sequence[str]) -> bool:
    """True for the words of a head."""
    return list(words[:3]) == ["size", "count", "type"] and bool(set(words) & set(TIMES))


def is_rest_of_head(words: Sequence[str]) -> bool:
    """True for a line that has only names of columns."""
    return bool(words) and set(words) <= COLUMNS - {"size", "count"}


def halves_of(text: str) -> list[bool]:
    """The halves that the line above a head names, in their order."""
    return [HALVES[match] for match in re.findall(r"out-of-place|(?<!-of-place )\bin-place", text)]


@dataclass
class RowInPieces:
    """A row of which not all cells were seen yet."""

    head: TableHead
    size: str
    count: str
    dtype: str
    redop: str | None
    root: str | None
    cells: list[str] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Columns whose cells are still to come."""
        return self.head.wanted[len(self.cells) :]

    def takes(self, words: Sequence[str]) -> bool:
        """Add the cells if all of them fit the columns that are missing; nothing is added if one does not."""
        cells = split_cells(words, self.missing)
        if cells is None:
            return False
        self.cells += cells
        return True

    def row(self) -> Row:
        """The row, once no cell is missing."""
        starts = [at for at, name in enumerate(self.head.wanted) if name in TIMES]
        ends = [*starts[1:], len(self.cells)]
        pairs = list(zip(self.head.wanted, self.cells, strict=True))
        halves = {
            in_place: _half(dict(pairs[start:end]), self.head.microseconds)
            for in_place, start, end in zip(self.head.in_place, starts, ends, strict=True)
        }
        stamp = dict(pairs).get("timestamp")
        return Row(
            num_bytes=_whole(self.size),
            count=_whole(self.count),
            dtype=self.dtype,
            redop=self.redop,
            root=None if self.root is None else _root(self.root),
            halves=halves,
            started=stamp.replace(" ", "T") if stamp else None,
            line=self.lines[0][0],
        )


def begin_row(head: TableHead, text: str, line: int, original: str) -> RowInPieces | None:
    """The row that a line begins; None if its beginning or its cells fit no columns of the head."""
    words = text.split()
    if not head.is_readable or len(words) < 3 or not all(_is_whole(word) for word in words[:2]):
        return None
    match = _DTYPE.match(words[2])
    if match is None:
        return None
    rest = [words[2][match.end() :], *words[3:]] if match.end() < len(words[2]) else words[3:]
    redop, rest = _redop(head, rest)
    root, rest = _split_root(head, rest)
    if not head.line and root is None:  # the head is missing: only a row that has every column is one of this form
        return None
    row = RowInPieces(head, words[0], words[1], match[0], redop, root, lines=[(line, original)])
    return row if row.takes(rest) else None


def _redop(head: TableHead, rest: list[str]) -> tuple[str | None, list[str]]:
    """The reduction, which a row of an operation without one leaves blank."""
    if "redop" in head.columns and rest and rest[0].isalpha() and _NO_NUMBER.fullmatch(rest[0]) is None:
        return rest[0], rest[1:]
    return None, rest


def _split_root(head: TableHead, rest: list[str]) -> tuple[str | None, list[str]]:
    """The root. A whole number is one even if a cell is missing then: else a row that was cut off loses its time."""
    if "root" not in head.columns or not rest or _ROOT.fullmatch(rest[0]) is None:
        return None, rest
    return rest[0], rest[1:]


def split_cells(words: Sequence[str], columns: Sequence[str]) -> list[str] | None:
    """The words as cells of the first columns; None if there are too many, or one is not a number."""
    cells: list[str] = []
    left = list(words)
    for name in columns:
        if not left:
            break
        size = 2 if name == "timestamp" else 1
        cell = " ".join(left[:size])
        if name in NUMBERS and not _is_cell(cell):
            return None
        cells.append(cell)
        left = left[size:]
    return None if left else cells


def cell_number(cell: str | None) -> float | None:
    """The number of a cell: `1,234.5` is one, `1,234` may be two and is none, and an asterisk marks it as wrong."""
    text = (cell or "").removesuffix("*")
    return number(text.replace(",", "") if _GROUPED.fullmatch(text) else text)


def _is_cell(cell: str) -> bool:
    return cell_number(cell) is not None or _NO_NUMBER.fullmatch(cell) is not None


def _is_whole(word: str) -> bool:
    return (word.isdecimal() and word.isascii()) or _THOUSANDS.fullmatch(word) is not None


def _whole(word: str) -> int:
    return whole(word.replace(",", ""))


def _root(text: str) -> int:
    """The root; a host's name that begins with a digit may be glued to it, so `-18` is -1 and `08` is 0."""
    if text.startswith("-1"):
        return -1
    if text.startswith("-"):
        raise BenchError(f"root {text} is none; take the original file")
    return 0 if text.startswith("0") else whole(text)


def unit_of(text: str) -> float | None:
    """Microseconds of the unit that the line below a head names; None for a line that names none."""
    match = _UNIT.search(text)
    return None if match is None else UNITS[match[1]]


def _half(cells: Mapping[str, str], unit: float) -> Body:
    time = cell_number(cells.get("time", cells.get("cputime")))
    return Body(
        microseconds=None if time is None else time * unit,
        is_cpu_time="cputime" in cells,
        algbw=cell_number(cells.get("algbw")),
        busbw=cell_number(cells.get("busbw")),
        wrong=cell_number(cells.get("#wrong")),
        delta=cell_number(cells.get("error")),
        is_marked=(cells.get("#wrong") or cells.get("error") or "").endswith("*"),
        extras={name: cell_number(cells[name]) for name in EXTRA_COLUMNS if name in cells},
    )
