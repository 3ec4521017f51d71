"""The answer of a comparison in one sentence per new side: how many times as long, in which work, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.compare.change_text import (
    NO_DIFFERENCE,
    as_long,
    brief_factor,
    brief_interval,
    cases_of,
    clause,
)
from bench.analysis.compare.work_changes import change_size
from bench.core.values import first_few, show_share

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.analysis.compare.work_changes import WorkChange

MAX_FURTHER, MAX_SWEPT, MAX_ALIKE = 2, 2, 3
"""Kinds of work that an answer names: behind the first, with swept sizes, without a shown difference."""


def works_of(comparison: Comparison, new: Side) -> list[WorkChange]:
    """Changes of a new side by the first metric, the most informative kind of work first."""
    of_side = [work for work in comparison.works if work.name == new.name]
    return [work for work in of_side if work.metric == of_side[0].metric]


def side_name(side: Side) -> str:
    """Name of a side; it says if a part of it is emulated."""
    emulated = any(
        speed is not None
        for result in side.results
        for rank in result.environment.ranks
        for speed in (rank.emulated_speed, rank.emulated_link_speed)
    )
    return f"{side.name} (emulated)" if emulated and "emulated" not in side.name else side.name


def has_no_error_bar(work: WorkChange) -> bool:
    return all(row["change_low"] is None for row in work.cases)


@dataclass(frozen=True)
class SideAnswer:
    """The answer for one new side."""

    comparison: Comparison
    new: Side

    @property
    def base_name(self) -> str:
        return side_name(self.comparison.sides[0])

    @property
    def new_name(self) -> str:
        return side_name(self.new)

    def text(self) -> str:
        """One sentence: the first kind of work that changed with its figure, the other figures, then those alike."""
        works = works_of(self.comparison, self.new)
        if not works:
            return f"{self.new_name} and {self.base_name}: no case was measured on both"
        if all(has_no_error_bar(work) for work in works):
            return self._without_error_bar(works)
        alike = [work for work in works if work.verdict in ("unclear", "same")]
        changed = [work for work in works if work not in alike]
        if not changed:
            first, *others = self._alike(alike)
            return "; ".join([f"{self.new_name} against {self.base_name}: {first}", *others])
        directions = {work.verdict for work in changed}
        before = "Which is faster depends on the work: " if {"slower", "faster"} <= directions else ""
        return before + "; ".join([*self._changed(changed), *self._alike(alike)])

    def _changed(self, changed: Sequence[WorkChange]) -> list[str]:
        """The first figure with its interval, further ones, and the largest changes where sizes are swept."""
        means = [work for work in changed if work.mean is not None]
        swept = sorted((work for work in changed if work.mean is None), key=lambda w: -change_size(w.largest["change"]))
        if means:
            parts = [self._leading(means[0])]
        else:
            parts = [f"{self.new_name} against {self.base_name}: {self._swept(swept.pop(0))}"]
        parts += [_figure(work) for work in means[1 : 1 + MAX_FURTHER]]
        parts += _span(means[1 + MAX_FURTHER :])
        parts += [self._swept(work) for work in swept[:MAX_SWEPT]]
        return parts + [f"{work.work.words}: {work.verdict or 'changed'}" for work in swept[MAX_SWEPT:]]

    def _leading(self, work: WorkChange, about: str = "") -> str:
        assert work.mean is not None
        interval = brief_interval(work.mean)
        text = clause(self.new_name, self.base_name, 1 + work.mean.change, work.metric, about)
        return f"{text} in {work.work.words}" + (f" ({interval})" if interval is not None else "")

    def _without_error_bar(self, works: Sequence[WorkChange]) -> str:
        """Figures, and that they may be chance."""
        means = [work for work in works if work.mean is not None]
        if means:
            figures = [self._leading(means[0], "about "), *map(_figure, means[1 : 1 + MAX_FURTHER])]
        else:
            figures = [f"{self.new_name} against {self.base_name}: {self.largest(works[0])}"]
        return "; ".join(figures) + ". One launch per side has no error bar, so this may be chance"

    def _alike(self, works: Sequence[WorkChange]) -> list[str]:
        """Kinds of work that are the same, those without a shown difference, and the first exception among them."""
        same = [work for work in works if work.verdict == "same"]
        unclear = [work for work in works if work.verdict == "unclear"]
        parts = [f"{_listed(same)}: the same within {show_share(self.comparison.threshold)}"] if same else []
        parts += [f"{_listed(unclear)}: {NO_DIFFERENCE}"] if unclear else []
        exceptions = [
            f"but {cases_of(work.num_changed, len(work.cases))} of {work.work.words} changed, {self.largest(work)}"
            for work in works
            if work.num_changed
        ]
        return parts + exceptions[:1]

    def _swept(self, work: WorkChange) -> str:
        """`collectives: 16 of 17 cases slower, broadcast 1 MiB 18x as long`."""
        word = work.verdict or "changed"
        return f"{work.work.words}: {cases_of(work.num_changed, len(work.cases))} {word}, {self.largest(work)}"

    def largest(self, work: WorkChange) -> str:
        """The case with the largest change, and how large it is."""
        row = work.largest
        return f"{self.comparison.name_of(row['case'])} {as_long(1 + row['change'], row['metric'])}"


def _figure(work: WorkChange) -> str:
    assert work.mean is not None
    return f"{work.work.words} {brief_factor(1 + work.mean.change)}"


def _span(works: Sequence[WorkChange]) -> list[str]:
    """Kinds of work that are not named, by the least and the largest of their figures: `4 more: 1.6x to 1.9x`."""
    ratios = sorted(1 + work.mean.change for work in works if work.mean is not None)
    if len(ratios) < 2:
        return [_figure(work) for work in works]
    low, high = brief_factor(ratios[0]), brief_factor(ratios[-1])
    return [f"{len(works)} more kinds of work {low if low == high else f'{low} to {high}'}"]


def _listed(works: Sequence[WorkChange]) -> str:
    most = MAX_ALIKE if len(works) > MAX_ALIKE + 1 else len(works)
    return first_few([work.work.words for work in works], most, " and {} more kinds of work")
