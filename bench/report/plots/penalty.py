"""The penalty waterfall: from the sum of the devices' peaks down to what a step achieved, cause by cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.plots.source import Plot, Source
from bench.report.plots.style import FAINT, INK, canvas, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.analysis.explain.waterfall import Waterfall

MAX_DRAWN = 6
LOSS, GAIN, WHOLE = "#b84a00", "#00734f", "#0068a3"

_CAPTION = (
    "Each bar takes the step from where the one above left it: time lost to one cause, found by running the traced "
    "calls again without it, in one fixed order; green is negative. The residual is what the re-run does not explain. "
    "bench explain says how each was found. Causes that were not measured have no bar and say so."
)


def draw(source: Source) -> Iterator[Plot]:
    """A drawing for each of the first traced cases that can be explained, of every side."""
    from bench.analysis.explain.explain_run import waterfalls

    drawn = 0
    for run in source.series:
        for fall in waterfalls(run.groups)[0]:
            if drawn == MAX_DRAWN:
                return
            drawn += 1
            title = f"From peak to achieved: {shorten(fall.case, 70)} ({run.name})"
            yield Plot(f"waterfall-{drawn}", fall.case.partition("/")[0], title, _CAPTION, _bars(fall))


def _bars(fall: Waterfall) -> Figure:
    figure, grid = canvas(7.8, 1.2 + 0.3 * (len(fall.parts) + 2))
    axes: Axes = grid[0][0]
    names = [f"at the {shorten(fall.peak_source, 40)}"]
    reached = fall.peak_seconds * 1e3
    axes.barh(0, reached, 0.7, color=WHOLE, hatch="//", edgecolor="#fefefe")
    for position, part in enumerate(fall.parts, 1):
        if part.seconds is None:
            names.append(f"{part.name} (not measured)")
            continue
        names.append(part.name)
        width = part.seconds * 1e3
        axes.barh(position, width, 0.7, reached, color=LOSS if width >= 0 else GAIN)
        axes.plot([reached, reached], [position - 1, position], color=FAINT, lw=0.8)
        share = 100 * part.seconds / fall.measured_seconds
        end = max(reached, reached + width)
        axes.annotate(f"{share:+.1f}%", (end, position), xytext=(3, 0), va="center", fontsize=7.5, color=INK,
                      textcoords="offset points")  # fmt: skip
        reached += width
    names.append("achieved")
    axes.barh(len(names) - 1, fall.measured_seconds * 1e3, 0.7, color=WHOLE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("time of a step (ms); shares of the achieved time")
    axes.margins(x=0.1)
    axes.grid(True, axis="x")
    return figure
