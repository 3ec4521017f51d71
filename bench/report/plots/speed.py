"""Roofline of compute and tensor-parallel cases, and speed-up over ranks next to the ideal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.table import Column, DisplayTable, text_column
from bench.core.values import as_count, show_number, show_quantity
from bench.records.metrics import COMPUTE_SPEED, MEMORY_BANDWIDTH, SPEEDUP
from bench.report.plots.source import Plot, PlottedRun, Source, labels
from bench.report.plots.style import FAINT, canvas, plain_log, shorten
from bench.suite import ITEM_BYTES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.records.case_names import CaseNames
    from bench.records.rows import Row

SCALED = ("tensor_parallel", "pipeline_parallel", "training_step", "data_parallel", "context_parallel")
FACES = ("full", "none")
MAX_CASES = 40

_ROOFLINE = (
    "Each mark is a case: work per byte of memory that it has to move at least (inputs and outputs once, per rank), "
    "and the rate that one device reached. The sloped line is the best memory bandwidth, the level one the best matrix "
    "product of the type, both measured in the same file; filled marks are the compute suite, open ones "
    "tensor_parallel. Both axes are logarithmic."
)
_SCALING = (
    "Time of the same work on one device over the time on all ranks. The dashed line is the ideal: n ranks, n times as "
    "fast. On CPU the one-device runs share the machine. Marks alone: between numbers of ranks nothing was measured."
)


def draw(source: Source) -> Iterator[Plot]:
    yield from _roofline(source)
    yield from _scaling(source)


def _counts(params: Mapping[str, Any], *names: str) -> list[float] | None:
    """The parameters as numbers; None if one is missing or is none, as a file of a stranger's suite may have it."""
    counts = [as_count(params.get(name)) for name in names]
    return None if None in counts else [float(count) for count in counts if count is not None]


def _matmul_bytes(params: Mapping[str, Any], flops: float, item: int) -> float | None:
    """Least traffic of an n x n product, 3 n^2 elements; of other shapes the parameters do not say it."""
    numbers = _counts(params, "size")
    return 3.0 * item * numbers[0] ** 2 if numbers and params.get("shape") == "square" else None


def _mlp_bytes(params: Mapping[str, Any], flops: float, item: int) -> float | None:
    """Least traffic of a whole MLP's two matrices and the activations at their ends, forward."""
    numbers = _counts(params, "batch", "sequence", "hidden", "ffn_hidden")
    if numbers is None:
        return None
    batch, sequence, hidden, width = numbers
    tokens = batch * sequence
    return item * (2 * hidden * width + 2 * tokens * hidden + 2 * tokens * width)


def _attention_bytes(params: Mapping[str, Any], flops: float, item: int) -> float | None:
    """Least traffic of the four projections and of query, key, value and output, forward."""
    numbers = _counts(params, "batch", "sequence", "hidden")
    if numbers is None:
        return None
    batch, sequence, hidden = numbers
    tokens = batch * sequence
    return item * (4 * hidden**2 + 6 * tokens * hidden)


_BYTES: dict[tuple[str, str], Callable[[Mapping[str, Any], float, int], float | None]] = {
    ("compute", "matmul"): _matmul_bytes,
    ("tensor_parallel", "mlp"): _mlp_bytes,
    ("tensor_parallel", "attention"): _attention_bytes,
}


def _point(run: PlottedRun, row: Row) -> tuple[float, float] | None:
    """(FLOP per byte, TFLOP/s per device) of a case, or None if its traffic is not known."""
    rule = _BYTES.get((row["suite"], str(row["params"].get("op"))))
    item = ITEM_BYTES.get(str(row["params"].get("dtype")))
    work = run.groups[row["case"]].leader.work
    if rule is None or item is None or work is None or not work.flops or not row[COMPUTE_SPEED]:
        return None
    passes = 3.0 if row["params"].get("direction") == "forward_backward" else 1.0
    num_bytes = rule(row["params"], work.flops, item)
    if num_bytes is None:
        return None
    shares = 1 if row["suite"] == "tensor_parallel" else row["num_ranks"]  # compute: every rank has its own product
    return float(work.flops) / shares / (passes * num_bytes), float(row[COMPUTE_SPEED])


def _roofline(source: Source) -> Iterator[Plot]:
    figure, grid = canvas(5.6, 3.8)
    axes: Axes = grid[0][0]
    drawn: list[Row] = []
    for run in source.series:
        for suite, face in zip(("compute", "tensor_parallel"), FACES, strict=True):
            points = [(row, point) for row in run.suite_rows(suite) if (point := _point(run, row))]
            drawn += [{"run": run.name, "case": row["case"], "point": point} for row, point in points]
            if points:
                label = run.name if face == "full" or not run.suite_rows("compute") else None
                axes.plot(*zip(*(point for _, point in points), strict=True), ls="", marker=run.look.marker, ms=5,
                          color=run.look.colour, fillstyle=face, label=label)  # fmt: skip
        _roof(axes, run)
    if not drawn:
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
    axes.grid(True)
    axes.set_xlabel("work per byte (FLOP/byte)")
    axes.set_ylabel("speed per device")
    axes.yaxis.set_major_formatter(lambda value, _: show_quantity(value, "TFLOP/s", 1))
    if len(source.series) > 1:
        figure.legend(loc="outside lower left", ncols=2)
    yield Plot("roofline", "compute", "Roofline", _ROOFLINE, figure, _points_table(drawn, source.names))


def _points_table(drawn: Sequence[Row], names: CaseNames) -> DisplayTable:
    columns = (
        Column("case", lambda row: names.across(row["case"]), "left"),
        text_column("run"),
        Column("FLOP/byte", lambda row: show_number(row["point"][0])),
        Column("per device", lambda row: show_quantity(row["point"][1], "TFLOP/s")),
    )
    return DisplayTable("", columns, tuple(drawn))


def _roof(axes: Axes, run: PlottedRun) -> None:
    """min(bandwidth x intensity, best product) of each type, from what the file measured."""
    bandwidths = [row[MEMORY_BANDWIDTH] for row in run.suite_rows("compute") if row[MEMORY_BANDWIDTH]]
    best: dict[str, float] = {}
    for row in run.suite_rows("compute", "matmul"):
        dtype = str(row["params"].get("dtype"))
        best[dtype] = max(best.get(dtype, 0.0), row[COMPUTE_SPEED] or 0.0)
    for number, (dtype, top) in enumerate(best.items()):
        if not bandwidths or not top:
            continue
        knee = top * 1e3 / max(bandwidths)
        xs, ys = [knee / 32, knee, knee * 256], [top / 32, top, top]
        axes.plot(xs, ys, color=run.look.colour, lw=1, alpha=0.8, ls=("-", "--", ":")[min(number, 2)])
        axes.annotate(shorten(dtype, 16), (xs[2], top), ha="right", va="bottom", fontsize=7.5, color=run.look.colour)


def _scaling(source: Source) -> Iterator[Plot]:
    points = [(run, row) for suite in SCALED for run in source.series for row in run.suite_rows(suite) if row[SPEEDUP]]
    if not points:
        return
    counts = sorted({row["num_ranks"] for _, row in points})
    figure = _over_ranks(points, counts) if len(counts) > 1 else _by_case(points[:MAX_CASES], counts[0])
    rows = [row | {"run": run.name} for run, row in points]
    columns = (
        Column("case", lambda row: source.names.across(row["case"]), "left"),
        text_column("run"),
        Column("ranks", lambda row: str(row["num_ranks"])),
        Column("speed-up", lambda row: show_quantity(row[SPEEDUP], "x")),
    )
    table = DisplayTable("", columns, tuple(rows))
    yield Plot("speed-up", SCALED[0], "Speed-up over one device", _SCALING, figure, table)


def _over_ranks(points: Sequence[tuple[PlottedRun, Row]], counts: Sequence[int]) -> Figure:
    """Both axes logarithmic; marks of one number of ranks stand a little apart."""
    figure, grid = canvas(7.2, 3.8)
    axes: Axes = grid[0][0]
    cases = list(dict.fromkeys(row["case"] for _, row in points))
    seen: set[str] = set()
    for run, row in points:
        x = row["num_ranks"] * (1 + 0.2 * (cases.index(row["case"]) / len(cases) - 0.5))
        axes.plot([x], [row[SPEEDUP]], ls="", marker=run.look.marker, ms=5, alpha=0.8, color=run.look.colour,
                  label=None if run.name in seen else run.name)  # fmt: skip
        seen.add(run.name)
    axes.plot(counts, counts, ls="--", color=FAINT, lw=1.2, label="ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([float(count) for count in counts], [str(count) for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("ranks")
    axes.set_ylabel("speed-up over one device (x)")
    axes.grid(True)
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _by_case(points: Sequence[tuple[PlottedRun, Row]], num_ranks: int) -> Figure:
    rows = {row["case"]: row for _, row in points}
    places = {case: position for position, case in enumerate(rows)}
    figure, grid = canvas(7.6, 1.2 + 0.22 * len(rows))
    axes: Axes = grid[0][0]
    seen: set[str] = set()
    for run, row in points:
        axes.plot([row[SPEEDUP]], [places[row["case"]]], ls="", marker=run.look.marker, ms=5, color=run.look.colour,
                  label=None if run.name in seen else run.name)  # fmt: skip
        seen.add(run.name)
    axes.axvline(num_ranks, ls="--", lw=1.2, color=FAINT, label=f"ideal on {num_ranks} ranks")
    axes.axvline(1, lw=0.8, color=FAINT)
    axes.set_yticks(range(len(rows)), [shorten(label, 64) for label in labels(list(rows.values()))], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("speed-up over one device (x)")
    axes.grid(True, axis="x")
    figure.legend(loc="outside lower left", ncols=2)
    return figure
