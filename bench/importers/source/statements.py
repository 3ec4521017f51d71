"""Statements that a text makes of itself, and what contradicts them.

A text says the same thing in several places: the ranks it lists, the processes of its launcher, the bandwidths of its
rows. Its statements on one thing are gathered; two values are a contradiction, which is refused or named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.core.values import counted
from bench.errors import BenchError
from bench.parallelism import collectives

Value = str | int


@dataclass(frozen=True)
class Statement:
    """One thing that the text says of itself."""

    what: str
    """Such as `operation` or `ranks`."""
    value: Value
    where: str
    """The place, in words: `line 4 (nGpus 2)`."""


@dataclass(frozen=True)
class Contradiction:
    """Two things of a text that cannot both be right."""

    where: str
    text: str

    def note(self) -> str:
        """A line for the user."""
        return f"{self.where}: {self.text}"


@dataclass
class Statements:
    """Statements of one run, in their order."""

    made: list[Statement] = field(default_factory=list)

    def state(self, what: str, value: Value | None, where: str) -> None:
        """Add a statement; None states nothing."""
        if value is not None:
            self.made.append(Statement(what, value, where))

    def of(self, what: str) -> list[Statement]:
        """The statements on one thing."""
        return [statement for statement in self.made if statement.what == what]

    def agreed(self, what: str, remedy: str) -> Value | None:
        """The value that all statements have; None if there is none. Raises BenchError if they differ."""
        found = self.of(what)
        values = list(dict.fromkeys(statement.value for statement in found))
        if len(values) > 1:
            said = ", ".join(f"{statement.value} ({statement.where})" for statement in _first_of_each(found))
            raise BenchError(f"the text contradicts itself on its {what}: {said}; {remedy}")
        return values[0] if values else None


def _first_of_each(statements: Iterable[Statement]) -> list[Statement]:
    first: dict[Value, Statement] = {}
    for statement in statements:
        first.setdefault(statement.value, statement)
    return list(first.values())


def check_listed_ranks(ranks: Sequence[int], told: int | None, shortened: str | None = None) -> int | None:
    """How many ranks a list of them says there are; None if there is no list.

    `told` is the user's number, `shortened` a reason why the list may lack its end.

    Raises BenchError for a rank that is listed twice, and if ranks are missing and the user named no number of them, or
    fewer than are listed.
    """
    if not ranks:
        return None
    twice = next((rank for rank in ranks if ranks.count(rank) > 1), None) if len(set(ranks)) < len(ranks) else None
    if twice is not None:
        times = "twice" if ranks.count(twice) == 2 else f"{ranks.count(twice)} times"
        raise BenchError(
            f"the text lists rank {twice} {times}: either its processes were not connected, so that each was a run of "
            "its own (nccl-tests without MPI=1), or it holds several runs; put each into a file"
        )
    highest = max(ranks)
    if len(ranks) == highest + 1 and shortened is None:
        return len(ranks)
    if told is None:
        missing = f"there is a rank {highest}, so that at least {highest + 1} took part"
        why = shortened if shortened and len(ranks) == highest + 1 else missing
        raise BenchError(
            f"the text lists {counted(len(ranks), 'rank')}, but {why}; say how many there were: add --ranks N"
        )
    if told <= highest:
        raise BenchError(f"--ranks {told}: the text lists rank {highest}, so there are at least {highest + 1}")
    return told


TOLERANCE = 0.02
"""Relative deviation of a ratio of two printed numbers that rounding and a decimal more or less explain."""
_HALF_DIGIT = 0.005
"""Bandwidths are printed with two digits after the point."""


@dataclass(frozen=True)
class Bandwidths:
    """The two bandwidths that a row states, in GB/s."""

    where: str
    algbw: float | None
    busbw: float | None


def fits_factor(row: Bandwidths, factor: float) -> bool | None:
    """Whether bus bandwidth over algorithm bandwidth is the factor; None if the digits do not tell."""
    if row.algbw is None or row.busbw is None or row.algbw < 20 * _HALF_DIGIT:
        return None
    expected = factor * row.algbw
    slack = max(TOLERANCE * expected, (1 + factor) * _HALF_DIGIT)
    return abs(row.busbw - expected) <= slack


def factor_contradiction(op: str, num_ranks: int, rows: Sequence[Bandwidths]) -> Contradiction | None:
    """Rows whose bandwidths do not have the operation's ratio on this many ranks; None if all fit, or none tells."""
    factor = collectives.bus_factor(op, num_ranks)
    if factor is None:
        return None
    told = [(row, fits) for row in rows if (fits := fits_factor(row, factor)) is not None]
    wrong = [row for row, fits in told if not fits]
    if not wrong:
        return None
    first = wrong[0]
    assert first.algbw
    ratio = (first.busbw or 0.0) / first.algbw
    return Contradiction(
        first.where,
        f"bus bandwidth over algorithm bandwidth is {ratio:.3g} in {len(wrong)} of {len(told)} halves of rows, but "
        f"that of {op} on {num_ranks} ranks is {factor:.3g}{_fitting(op, ratio)}; the operation, the number of "
        "ranks or the row is wrong",
    )


def _fitting(op: str, ratio: float) -> str:
    """The number of ranks at which the operation has this ratio."""
    row = collectives.BUS_FACTORS[op]
    share = (ratio - row.offset) / row.slope if row.slope else 1.0
    if not 0.4 < share < 0.97:
        return ""
    num_ranks = round(1 / (1 - share))
    return f" (it is that of {num_ranks} ranks)" if abs(row.at(num_ranks) - ratio) < 0.01 * ratio else ""
