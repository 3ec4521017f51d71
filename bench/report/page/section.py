"""A report's parts, whatever it is about and however it is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.core.table import DisplayTable
from bench.report.plots.source import Plot


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[DisplayTable, ...] = ()
    plots: tuple[Plot, ...] = ()
    folded: bool = False
    """Long, and of use to few: closed on a page until it is asked for."""


@dataclass(frozen=True)
class Content:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]
    emulated: tuple[str, ...] = field(default=())
    """Sides on which something was slowed on purpose, as their files say."""

    def plots(self) -> list[Plot]:
        return [plot for section in self.sections for plot in section.plots]
