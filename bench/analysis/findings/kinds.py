"""Kinds of findings, in the order in which people read them; JSON has each as an object that names its `kind`.

A command makes `Findings`; the terminal, Markdown, HTML pages and builds on GitHub show the same list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

MAX_REMARKS = 3
"""Remarks that are shown; JSON has all of them."""

Quality = Literal["good", "rough", "useless"]


class Answer(Struct, frozen=True, tag_field="kind", tag="answer"):
    """One sentence that answers the question of the user who typed the command."""

    text: str


class DataState(Struct, frozen=True, tag_field="kind", tag="state"):
    """Quality of the data and the reason: it decides whether to read on."""

    quality: Quality
    text: str


class Figure(Struct, frozen=True, kw_only=True, tag_field="kind", tag="figure"):
    """One figure of one kind of work, and what it is a share of."""

    group: str
    """Block that it is in, such as `reached`; a key of `bench.analysis.findings.screen.BLOCKS`."""
    name: str
    text: str
    """Value with its unit, as people read it."""
    value: float | None = None
    unit: str = ""
    low: float | None = None
    """Lower end of the 95% interval, in `unit`; None: none is known."""
    high: float | None = None
    share: float | None = None
    """Part of the whole that `of` names: 1 is all of it. A bar shows it."""
    of: str = ""
    """Words next to the bar."""
    case: str | None = None


class Remark(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stands_out"):
    """One thing that stands out, with the way to act on it."""

    text: str
    remedy: str
    weight: float = 0.0
    """Remarks of larger weight come first: about how many times slower the work is for it, and 100 more if something
    is broken."""
    case: str | None = None


class Correctness(Struct, frozen=True, tag_field="kind", tag="correct"):
    """Number of cases whose results were right, and what was wrong."""

    text: str
    num_right: int
    num_wrong: int


class Unmeasured(Struct, frozen=True, kw_only=True, tag_field="kind", tag="not_measured"):
    """Cases that have no speed for one reason."""

    text: str
    num_cases: int
    remedy: str = ""


class NextStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="next"):
    """A command to type next, and what it gives."""

    purpose: str
    command: str


Item = Answer | DataState | Figure | Remark | Correctness | Unmeasured | NextStep
Kind = TypeVar("Kind", Answer, DataState, Figure, Remark, Correctness, Unmeasured, NextStep)


@dataclass(frozen=True)
class Findings:
    """Findings of one command, ranked, below a head that says what was measured on what."""

    head: str
    items: tuple[Item, ...]

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """The findings of a kind, in their order."""
        return [item for item in self.items if isinstance(item, kind)]

    def remarks(self) -> list[Remark]:
        """The remarks, the weightiest first."""
        return sorted(self.of_kind(Remark), key=lambda remark: -remark.weight)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain objects, each with its `kind`."""
        return as_objects(self.items)


def as_objects(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Plain objects of findings, as JSON has them."""
    objects: list[dict[str, Any]] = msgspec.to_builtins(list(items))
    return objects
