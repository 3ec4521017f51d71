"""Plots of saved results. A new kind of plot is a file here with `draw(source)`, and a row of `DRAWN`.

Drawing needs matplotlib and no torch; nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.report.plots.source import Plot, Source

DRAWN = ("changes", "collectives", "speed", "pipeline", "tables", "penalty", "samples")
"""Modules of this package, in the order of a report."""


def draw(source: Source) -> Iterator[Plot]:
    """Every plot for which the results hold something; names are unique."""
    from bench.report.plots.style import drawing

    with drawing():
        for name in DRAWN:
            yield from importlib.import_module(f"bench.report.plots.{name}").draw(source)
