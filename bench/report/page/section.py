"""A report's parts, whatever it is about and however it is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.core.table import DisplayTable
from bench.report.plots.source import Plot

if TYPE_CHECKING:
    from bench.analysis.findings.kinds import Findings
    from bench.report.page.change_chart import ChartedChange


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[DisplayTable, ...] = ()
    plots: tuple[Plot, ...] = ()
    folded: bool = False
    """Of use to some readers: closed on a page until it is asked for."""
    parts: tuple[Section, ...] = ()
    """Parts of its own, each folded."""
    is_printed: bool = True
    """False: what only a search needs stays off the paper unless the reader unfolds it."""

    def all_plots(self) -> list[Plot]:
        """Its plots and those of its parts."""
        return [*self.plots, *(plot for part in self.parts for plot in part.all_plots())]


@dataclass(frozen=True)
class Lead:
    """Top of a report: the findings, and the drawing next to them."""

    findings: Findings
    machines: tuple[str, ...] = ()
    """Sides of the comparison, the base first, in the order of their colours."""
    changes: tuple[ChartedChange, ...] = ()
    """Changes that the chart shows; empty for one run."""
    plot: Plot | None = None
    """Drawing next to the bars of one run."""


@dataclass(frozen=True)
class Content:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]
    emulated: tuple[str, ...] = field(default=())
    """Sides on which something was slowed on purpose, as their files say."""
    lead: Lead | None = None
    on_page: Collection[str] | None = None
    """Names of the plots that a page has; None: all. Folders and Markdown have all of them."""

    def plots(self) -> list[Plot]:
        return [plot for section in self.sections for plot in section.all_plots()]

    def is_on_page(self, plot: Plot) -> bool:
        return self.on_page is None or plot.name in self.on_page
