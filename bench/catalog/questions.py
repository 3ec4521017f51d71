"""A figure as a question about what is normal, and the answer: what published figures make one expect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.catalog.accelerators import Accelerator, catalogue
from bench.catalog.reference import LARGE, ReferenceNumber, default_reduction, relative_width, size_class
from bench.core.values import counted, show_number

ENOUGH = 3
"""Sources from which on there is a range."""
MAX_WIDTH = 0.2
MARGIN = 0.03
"""Share by which a range reaches beyond the figures of its sources: those of one publisher for one kind of case differ
by less than this."""
MEASURED, RULE = "measured", "rule"


@dataclass(frozen=True)
class Question:
    """A figure of a case, as far as it decides what is normal; None if it is not known."""

    kind: str
    """Kind of the published figures, such as `all_reduce_busbw`."""
    accelerator: str
    """Name of the catalogue."""
    num_ranks: int
    num_nodes: int | None
    loop: str | None
    num_bytes: int | None = None
    size: int | None = None
    reduction: str | None = None
    """None: the one that the library takes by default."""
    fabric: str | None = None
    node_gbit_per_s: float | None = None

    @property
    def device(self) -> Accelerator | None:
        """The row of the catalogue."""
        return next((row for row in catalogue() if row.name == self.accelerator), None)

    @property
    def reduces_in(self) -> str | None:
        """Who adds: what is known of the run, else the default."""
        if self.reduction is not None or self.num_nodes is None:
            return self.reduction
        fabric = self.device.scaleup_fabric if self.device else None
        return default_reduction(fabric, self.num_ranks, self.num_nodes)


@dataclass(frozen=True)
class Expectation:
    """What others make one expect."""

    low: float
    high: float
    num_sources: int
    basis: str | None
    """`measured`: figures of this kind of case; `rule`: a share of a line rate; None: too few sources, or too far
    apart; `low` and `high` are then what they span, and no range."""

    @property
    def is_range(self) -> bool:
        """True if a figure may be judged by it."""
        return self.basis is not None

    def text(self) -> str:
        """Words such as `expected 470 to 480 (4 sources)` and `1 source: 480`, in the unit of the figure."""
        low, high = show_number(self.low), show_number(self.high)
        span = low if low == high else f"{low} to {high}"
        sources = counted(self.num_sources, "source")
        if self.basis is None:
            apart = ", too far apart" if self.num_sources >= ENOUGH else ""
            return f"{sources}{apart}: {span}"
        return f"expected {span} ({'rule, ' if self.basis == RULE else ''}{sources})"


def question_of(number: ReferenceNumber) -> Question:
    """The question that a published figure answers."""
    return Question(
        kind=number.kind,
        accelerator=number.accelerator,
        num_ranks=number.num_ranks or 0,
        num_nodes=number.num_nodes,
        loop=number.loop,
        num_bytes=number.num_bytes,
        size=number.size,
        reduction=number.reduction,
        fabric=number.fabric,
        node_gbit_per_s=number.node_gbit_per_s,
    ) if number.is_healthy else Question(number.kind, "", 0, None, None)  # fmt: skip


def of_values(found: Sequence[tuple[str, float]], basis: str) -> Expectation | None:
    """The range of publishers' figures, or what they span if they are too few or too far apart; None without one."""
    if not found:
        return None
    values, count = [value for _, value in found], len(sources(found))
    low, high = min(values) * (1 - MARGIN), max(values) * (1 + MARGIN)
    if count >= ENOUGH and relative_width(low, high) <= MAX_WIDTH:
        return Expectation(low, high, count, basis)
    return Expectation(min(values), max(values), count, None)


def sources(found: Iterable[tuple[str, float]]) -> set[str]:
    """The publishers of figures."""
    return {name for name, _ in found}


def is_large(question: Question) -> bool:
    """True for a collective at its final rate."""
    return question.num_bytes is not None and size_class(question.num_bytes) == LARGE
