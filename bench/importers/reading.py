"""Plain data that readers of other tools' files return, and `bench.importers.registry` turns into a result.

A reading is one case. Other tools print means and extremes, hardly ever samples: a value that is not a sample
says so in a note, has no interval, and tells nothing of single ranks.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core.cell_text import clean
from bench.errors import BenchError
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Contradiction
from bench.parallelism import collectives
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import CheckOutcome, Fact, Status, WorkFacts
from bench.suite import Params, SuiteMetric, case_id

__all__ = [
    "COLLECTIVE", "MAX_RANKS", "Contradiction", "ImportHints", "ImportedCase", "ImportedText", "Ledger", "RankFacts",
    "Unread",
    "check_num_ranks", "collective_work", "distinct_name", "identity", "json_value", "launches_of_repeats", "mapping",
    "mean_note", "number", "operation_of", "safe_name", "sequence", "whole", "words", "works_in_place",
]  # fmt: skip

COLLECTIVE = collectives.SUITE
MAX_RANKS = 2**20
"""A file that states more is damaged."""
MAX_DIGITS = 18
"""A whole number of a text that has more is damaged; it also keeps products of a few within what Python prints."""
MAX_UNREAD_CHARACTERS = 120
"""Length at which a line that could not be read is cut."""


@dataclass(frozen=True)
class ImportHints:
    """Facts that the user states because the file does not."""

    op: str | None = None
    num_ranks: int | None = None
    device: str | None = None

    def ranks(self, stated: int | None, tool: str) -> int:
        """The number of ranks. Raises BenchError if neither the file nor the user says it, or they disagree."""
        if stated is None and self.num_ranks is None:
            raise BenchError(f"the file does not say how many ranks {tool} ran on; add --ranks N")
        if stated is not None and self.num_ranks not in (None, stated):
            raise BenchError(f"--ranks {self.num_ranks}: the file says {stated}; leave the option out")
        return check_num_ranks(stated or self.num_ranks or 1)


def check_num_ranks(num_ranks: int) -> int:
    """The number itself. Raises BenchError for one that no machine has."""
    if not 1 <= num_ranks <= MAX_RANKS:
        raise BenchError(f"{num_ranks} ranks: there are 1 to {MAX_RANKS}; the file is damaged, or --ranks is wrong")
    return num_ranks


@dataclass(frozen=True)
class Unread:
    """A row that could not be read."""

    where: str
    """`line 14`, and in JSON `result 3`, counted from 1."""
    text: str

    @classmethod
    def of(cls, where: str, text: str) -> Unread:
        return cls(where, clean(text.strip())[:MAX_UNREAD_CHARACTERS])


@dataclass(frozen=True, kw_only=True)
class ImportedCase:
    """One case, as far as the file tells of it."""

    suite: str
    params: Params
    num_ranks: int
    seconds: tuple[float, ...]
    """Samples: seconds of one call, over all ranks; none if the case is not ok."""
    calls: int = 1
    """Calls that each of `seconds` is a mean of, if these are samples; a stated mean counts as one call."""
    launch: int = 0
    case: str | None = None
    """The case's id if the file has it; else it comes from the suite and the parameters."""
    status: Status = "ok"
    reason: str | None = None
    notes: tuple[str, ...] = ()
    check: CheckOutcome | None = None
    work: WorkFacts | None = None
    derived: Mapping[str, float | None] = field(default_factory=dict)
    metrics: Mapping[str, SuiteMetric] = field(default_factory=dict)
    """Name in `derived` -> what it is."""
    variants: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Further samples, name -> seconds[row][sample]."""
    started: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImportedText:
    """A file of another tool, read."""

    tool: str
    version: str | None
    """Version of the tool."""
    format: str
    readings: tuple[ImportedCase, ...]
    ledger: Ledger = field(default_factory=Ledger)
    """What became of every line of a text, and of every entry of JSON."""
    contradictions: tuple[Contradiction, ...] = ()
    """Things of the file that cannot both be right: the result is not whole."""
    remarks: tuple[str, ...] = ()
    """Things that a reader should know, and that leave the result whole."""
    ranks: tuple[RankFacts, ...] = ()
    """`host`, `device_type` and `device_name` of every rank, as far as they are stated."""
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Fact] = field(default_factory=dict)
    """Options of the tool that change what is measured."""
    backend: str | None = None
    started: str | None = None
    architecture: str | None = None
    """Name of the architecture, if the file has it."""

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The rows that could not be read."""
        return tuple(Unread.of(line.where, line.text) for line in self.ledger.of_kind("unread"))


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I | re.A)
"""A number as tools print it; Python's `float` takes more."""
_SPELLINGS = {
    "allreduce": "all_reduce", "allgather": "all_gather", "alltoall": "all_to_all", "reducescatter": "reduce_scatter",
    "alltoallv": "all_to_all_v", "bcast": "broadcast", "sendrecv": "send_recv",
}  # fmt: skip
"""Other tools' spelling of an operation, in small letters without marks -> bench's."""


def operation_of(name: str) -> str:
    """Bench's name of an operation as the user spells it."""
    return _SPELLINGS.get(re.sub(r"[-_ ]", "", name).lower(), name)


def mean_note(what: str) -> str:
    return f"imported: {what}, not a median of samples"


def number(text: Any) -> float | None:
    """A number that a cell holds; None for `N/A`, `nan`, infinities, `1_000`, and what is none."""
    if isinstance(text, bool) or (isinstance(text, str) and _NUMBER.fullmatch(text.strip()) is None):
        return None
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def whole(digits: str) -> int:
    """A whole number of a text. Raises BenchError for one with more digits than any size or count has."""
    if len(digits) > MAX_DIGITS:
        raise BenchError(f"{digits[:MAX_DIGITS]}... is a number of {len(digits)} digits; take the original file")
    return int(digits)


def json_value(text: str, remedy: str) -> Any:
    """Value of a JSON text. Raises BenchError with the remedy if it is not whole, and for several in one text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and text[error.pos] in "{[":
            raise BenchError(
                f"several JSON documents, the second at line {error.lineno}; save each in a file of its own"
            ) from error
        raise BenchError(f"no whole JSON ({error}); {remedy}") from error


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    """A JSON list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def words(value: Any) -> str | None:
    """A JSON text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def identity(suite: str, params: Params) -> tuple[str, Params]:
    """A case's id and all its parameters: those of bench's own collectives have its defaults filled in."""
    if suite != COLLECTIVE:
        return case_id(suite, params, {}), params
    full = {**collectives.CASE_DEFAULTS, **params}
    return case_id(suite, full, collectives.CASE_DEFAULTS), dict(sorted(full.items()))


def launches_of_repeats(readings: Sequence[ImportedCase]) -> tuple[ImportedCase, ...]:
    """Readings with the number of their launch: the same case in a later row is a later launch."""
    seen: dict[tuple[object, ...], int] = {}
    result = []
    for reading in readings:
        key = (reading.suite, reading.num_ranks, *sorted(reading.params.items(), key=repr))
        seen[key] = seen.get(key, -1) + 1
        result.append(replace(reading, launch=seen[key]))
    return tuple(result)


def collective_work(op: str, num_bytes: int | None, num_ranks: int) -> WorkFacts:
    """The `work` of a collective in the result file: its payload, and the bus factor of bench's own operation."""
    bus_factor = collectives.bus_factor(op, num_ranks) if num_bytes and num_ranks > 1 else None
    return WorkFacts(bytes=num_bytes, bus_factor=bus_factor)


def works_in_place(op: str) -> bool:
    """True if bench's own collective of this name replaces its input."""
    row = collectives.BUS_FACTORS.get(op)
    return row is not None and row.works_in_place


def safe_name(text: str) -> str:
    """A name as a case's id can hold it."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_") or "unnamed"


def distinct_name(text: str) -> str:
    """A name as a case's id can hold it; if that changes it, four digits of its hash tell it from others alike."""
    safe = safe_name(text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:4]}"
