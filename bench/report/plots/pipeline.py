"""Pipeline schedules as a timeline per rank, from traced starts and ends; idle time against the replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.core.table import Column, DisplayTable, text_column
from bench.core.values import show_quantity
from bench.records.lines.kinds import Measurement
from bench.records.metrics import BUBBLE, IDLE
from bench.report.plots.source import Plot, PlottedRun, Source, labels
from bench.report.plots.style import HATCHES, LIGHT, canvas, shorten
from bench.suite import COMMUNICATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.records.case_names import CaseNames
    from bench.records.rows import Row

SUITES = ("pipeline_parallel", "training_step", "heterogeneous")
KINDS = ("forward", "backward", "loss", "backward_input", "backward_weight", "optimizer")
"""Kinds with the same colour in every timeline; others come after these."""
MAX_TIMELINES = 6
MAX_SPANS = 4000
MAX_BARS = 24

_TIMELINE = (
    "One traced call, a row per rank: each block is a marked part of its work, with its start and end as measured; the "
    "number is the microbatch, if there is room. White gaps are time in which the rank did none of it: it waited, "
    "sent or received."
)
_IDLE = (
    "Share of the step in which ranks did none of the work: measured (wide bar), and what the schedule's own order "
    "explains, by a replay with the measured durations (narrow bar). The difference is communication and overhead."
)


def draw(source: Source) -> Iterator[Plot]:
    yield from _idle(source)
    left = MAX_TIMELINES
    for run in source.series:
        for case, group in run.groups.items():
            lead = group.leader
            if left and group.status == "ok" and lead.suite in SUITES and 0 < len(lead.spans) <= MAX_SPANS:
                left -= 1
                yield _timeline(MAX_TIMELINES - left, run, case, lead)


def _timeline(number: int, run: PlottedRun, case: str, lead: Measurement) -> Plot:
    """The traced call of median length, so that an interrupted one is not shown as typical."""
    spans, call = lead.spans, _median_call(lead.traced_call_ns)
    call_spans = [s for s in spans if s.call == call] or [s for s in spans if s.call == spans[0].call]
    # Communication lies within forward and backward: it is drawn last, narrower, on top of them.
    kinds = sorted(dict.fromkeys(shorten(span.kind) for span in call_spans), key=lambda kind: kind == COMMUNICATION)
    num_ranks = max(lead.num_ranks, 1 + max(span.rank for span in call_spans))
    end = max(span.start_ns + span.duration_ns for span in call_spans)
    figure, grid = canvas(8.6, 1.3 + 0.34 * min(num_ranks, 24))
    axes: Axes = grid[0][0]
    for kind in kinds:
        index = KINDS.index(kind) if kind in KINDS else len(KINDS) + kinds.index(kind)
        parts = [span for span in call_spans if shorten(span.kind) == kind]
        ranks, lefts = [span.rank for span in parts], [span.start_ns / 1e6 for span in parts]
        widths = [span.duration_ns / 1e6 for span in parts]
        height = 0.34 if kind == COMMUNICATION else 0.72
        bars = axes.barh(ranks, widths, height, lefts, color=LIGHT[index % len(LIGHT)], lw=0.4, edgecolor="#fefefe",
                         hatch=HATCHES[index % len(HATCHES)], label=kind)  # fmt: skip
        for bar, span in zip(bars, parts, strict=True):
            if span.microbatch is not None and span.duration_ns > 0.035 * end:
                axes.annotate(str(span.microbatch), (bar.get_x() + bar.get_width() / 2, span.rank), ha="center",
                              va="center", fontsize=7, color="#fefefe", weight="bold")  # fmt: skip
    axes.set_yticks(range(num_ranks), [f"rank {rank}" for rank in range(num_ranks)])
    axes.invert_yaxis()
    axes.set_xlabel("time since the start of the call (ms)")
    axes.set_xlim(0, end / 1e6)
    figure.legend(loc="outside lower left", ncols=6)
    return Plot(f"timeline-{number}", lead.suite, f"Timeline of {shorten(case, 70)} ({run.name})", _TIMELINE, figure)


def _median_call(call_ns: Sequence[Sequence[int]]) -> int:
    longest = [max(ranks) for ranks in zip(*call_ns, strict=True)] if call_ns else []
    return sorted(range(len(longest)), key=lambda call: longest[call])[len(longest) // 2] if longest else 0


def _idle(source: Source) -> Iterator[Plot]:
    bars: list[tuple[PlottedRun, Row]] = [
        (run, row)
        for run in source.series
        for row in run.rows
        if row["status"] == "ok" and row.get(BUBBLE) is not None and row.get(IDLE) is not None
    ][:MAX_BARS]
    if not bars:
        return
    bars.sort(key=lambda bar: bar[1]["case"])
    figure, grid = canvas(7.2, 1.2 + 0.3 * len(bars))
    axes: Axes = grid[0][0]
    seen: set[str] = set()
    for position, (run, row) in enumerate(bars):
        label = None if run.name in seen else f"{run.name}: measured"
        seen.add(run.name)
        axes.barh(position, 100 * row[IDLE], 0.74, color=run.look.colour, alpha=0.55, hatch=run.look.hatch,
                  label=label)  # fmt: skip
        axes.barh(position, 100 * row[BUBBLE], 0.3, color=run.look.colour, edgecolor="#fefefe",
                  label="replay of the order" if position == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(bars)), [shorten(label, 60) for label in labels([row for _, row in bars])])
    axes.invert_yaxis()
    axes.set_xlabel("idle share of the step (%)")
    axes.grid(True, axis="x")
    figure.legend(loc="outside lower left", ncols=2)
    title = "Idle time, measured and explained by the order"
    yield Plot("idle", bars[0][1]["suite"], title, _IDLE, figure, _idle_table(bars, source.names))


def _idle_table(bars: Sequence[tuple[PlottedRun, Row]], names: CaseNames) -> DisplayTable:
    rows = tuple(row | {"run": run.name} for run, row in bars)
    columns = (
        Column("case", lambda row: names.across(row["case"]), "left"),
        text_column("run"),
        Column("measured", lambda row: show_quantity(row[IDLE], "share")),
        Column("replay of the order", lambda row: show_quantity(row[BUBBLE], "share")),
    )
    return DisplayTable("", columns, rows)
