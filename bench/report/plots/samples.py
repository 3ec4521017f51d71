"""Distributions of samples per rank, every sample visible; and one case over many files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records.metrics import TIME, TIME_HIGH, TIME_LOW
from bench.report.plots.source import HISTORY, Plot, PlottedRun, Source
from bench.report.plots.style import canvas, plain_log, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.records.lines.kinds import Measurement

PER_SUITE = 1
MAX_CASES = 12
MAX_RANKS = 64
MAX_POINTS = 60_000
MIN_FILES = 3
MAX_HISTORIES = 4

_SAMPLES = (
    "Every sample of every rank, of all launches; the bar is the rank's median. If ranks wait for each other their "
    "times are alike, and the one with the longest time is not the slow one. The vertical axis is logarithmic."
)
_HISTORY = (
    "The same case in every file, in the order of their starts; whiskers are 95% intervals between launches, absent "
    "for a single launch. No line is drawn between runs: nothing was measured there."
)


def draw(source: Source) -> Iterator[Plot]:
    yield from _history(source)
    drawn: dict[str, int] = {}
    for case, suite in _telling_cases(source).items():
        if drawn.get(suite, 0) < PER_SUITE and sum(drawn.values()) < MAX_CASES:
            plot = _per_rank(source, 1 + sum(drawn.values()), case, suite)
            if plot is not None:
                drawn[suite] = drawn.get(suite, 0) + 1
                yield plot


def _telling_cases(source: Source) -> dict[str, str]:
    """Case -> suite, in the files' order: the most informative of each suite come first in a plan."""
    return {
        case: group.leader.suite for run in source.series for case, group in run.groups.items() if group.status == "ok"
    }


def _per_rank(source: Source, number: int, case: str, suite: str) -> Plot | None:
    sides = [(run, run.groups[case].records) for run in source.series if case in run.groups]
    columns = [(run, rank, values) for run, records in sides for rank, values in _samples(records).items()]
    if not columns or len(columns) > MAX_RANKS or sum(len(values) for _, _, values in columns) > MAX_POINTS:
        return None
    figure, grid = canvas(max(3.6, min(9.0, 1.6 + 0.55 * len(columns))), 3.2)
    axes: Axes = grid[0][0]
    for position, (run, _, values) in enumerate(columns):
        spread = _jitter(len(values))
        axes.plot(position + spread, values * 1e3, ls="", marker=run.look.marker, ms=2.2, alpha=0.35, mew=0,
                  color=run.look.colour, rasterized=True)  # fmt: skip
        axes.hlines(float(np.median(values)) * 1e3, position - 0.33, position + 0.33, color=run.look.colour, lw=2)
    axes.set_xticks(range(len(columns)), [f"rank {rank}" for _, rank, _ in columns], rotation=90 * (len(columns) > 8))
    _legend(figure, axes, [run for run, *_ in columns])
    ends = [1e3 * end for _, _, values in columns for end in (values.min(), values.max())]
    axes.set_ylim(0.95 * min(ends), 1.05 * max(ends))
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_ylabel("time of one call (ms)")
    axes.grid(True, axis="y")
    return Plot(f"samples-{number}", suite, f"Samples of {shorten(case, 70)}", _SAMPLES, figure)


def _legend(figure: Any, axes: Axes, sides: Sequence[PlottedRun]) -> None:
    if len({run.name for run in sides}) < 2:
        return
    for run in {run.name: run for run in sides}.values():
        axes.plot([], [], ls="", marker=run.look.marker, color=run.look.colour, label=run.name)
    figure.legend(loc="outside lower left", ncols=2)


def _samples(records: Sequence[Measurement]) -> dict[int, np.ndarray[Any, Any]]:
    """Rank -> seconds of one call, all launches; empty if the file has no samples of single ranks."""
    seconds_by_rank: dict[int, list[np.ndarray[Any, Any]]] = {}
    for record in records:
        variant = record.variants.get(record.main)
        if record.status != "ok" or variant is None or variant.nanoseconds is None:
            continue
        for rank, row in enumerate(variant.nanoseconds / (1e9 * variant.calls)):
            seconds_by_rank.setdefault(rank, []).append(row)
    return {rank: np.concatenate(parts) for rank, parts in seconds_by_rank.items()}


def _jitter(count: int) -> np.ndarray[Any, Any]:
    """Sideways places by the golden ratio: even, and the same in every drawing."""
    return (np.arange(count) * 0.6180339887) % 1.0 * 0.6 - 0.3


def _history(source: Source) -> Iterator[Plot]:
    """One case a suite over the files that have it, if these are three or more."""
    if len(source.series) < MIN_FILES:
        return
    done: set[str] = set()
    for case, suite in _telling_cases(source).items():
        ordered = sorted(source.series, key=lambda run: str(run.result.header.started))
        points = [(run, row) for run in ordered for row in run.rows if row["case"] == case and row[TIME]]
        if suite in done or len(points) < MIN_FILES or len(done) >= MAX_HISTORIES:
            continue
        done.add(suite)
        yield _over_files(len(done), case, points)


def _over_files(number: int, case: str, points: Sequence[tuple[PlottedRun, dict[str, Any]]]) -> Plot:
    figure, grid = canvas(7.4, 3.0)
    axes: Axes = grid[0][0]
    seen: set[str] = set()
    for position, (run, row) in enumerate(points):
        middle = row[TIME] * 1e3
        label = None if run.result.architecture in seen else shorten(run.result.architecture)
        seen.add(run.result.architecture)
        axes.plot([position], [middle], ls="", marker=run.look.marker, color=run.look.colour, label=label)
        if row["interval"] == "between_launches" and row[TIME_HIGH] < 100 * row[TIME_LOW]:
            axes.vlines(position, row[TIME_LOW] * 1e3, row[TIME_HIGH] * 1e3, color=run.look.colour, lw=1.2)
    starts = [(run.result.header.started or "?")[:16].replace("T", "\n") for run, _ in points]
    step = max(1, len(points) // 10)
    axes.set_xticks(range(0, len(points), step), starts[::step])
    axes.set_ylabel("median time (ms)")
    axes.set_ylim(bottom=0)
    axes.grid(True, axis="y")
    figure.legend(loc="outside lower left", ncols=2)
    return Plot(f"history-{number}", HISTORY, f"{shorten(case, 70)} over {len(points)} runs", _HISTORY, figure)
