"""Draw the picture of results/reference from a saved run.

    .venv/bin/python scripts/draw_overview.py RESULT.jsonl OUT.png

Four panels: bandwidth over message size, matrix multiplication of one rank alone and of all at once, where a
tensor-parallel block's time goes, and idle time of pipeline schedules against the replay of their order.
"""

from __future__ import annotations

import sys

import matplotlib as mpl
import pandas as pd

import bench

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#999999", "#009e73"  # Okabe and Ito: legible without colour vision


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)


def bandwidth(axes: Axes, frame: pd.DataFrame) -> None:
    """Bus bandwidth of each operation over the size of its message, with the interval between launches."""
    rows = frame[(frame.suite == "collective") & (frame.param_dtype == "float32") & (frame.param_timing == "aligned")]
    rows = rows[(rows.param_async_op == False) & rows.busbw_gb_per_s.notna()]  # noqa: E712 - a column, not a bool
    styles = zip(("all_reduce", "all_gather", "reduce_scatter"), (BLUE, ORANGE, GREEN), "os^", strict=True)
    for op, colour, marker in styles:
        own = rows[rows.op == op].sort_values("param_num_bytes")
        speed = own.busbw_gb_per_s.astype(float)
        times = own[["seconds_low", "seconds_median", "seconds_high"]].astype(float)
        low, high = (speed * times.seconds_median / times[end] for end in ("seconds_high", "seconds_low"))
        high = high.clip(upper=speed * 4)  # few launches far apart have an interval without meaning
        errors = [(speed - low).clip(lower=0), (high - speed).clip(lower=0)]
        axes.errorbar(own.param_num_bytes.astype(float), speed, yerr=errors, color=colour, marker=marker, ms=4,
                      lw=1.3, capsize=2, label=op)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([2**k for k in range(10, 27, 4)], ["1 KiB", "16 KiB", "256 KiB", "4 MiB", "64 MiB"])
    axes.set_xlabel("message size")
    axes.set_ylabel("bus bandwidth (GB/s)")
    axes.set_title("Collectives, float32")
    _legend(axes)


def matmul(axes: Axes, frame: pd.DataFrame) -> None:
    """TFLOP/s per rank, alone and with all ranks at once."""
    rows = frame[(frame.suite == "compute") & (frame.op == "matmul") & frame.tflop_per_s.notna()]
    names = [f"{s} {int(n)}\n{d}" for s, n, d in zip(rows.param_shape, rows.param_size, rows.param_dtype, strict=True)]
    places = range(len(rows))
    alone, together = rows.alone_tflop_per_s.astype(float), rows.tflop_per_s.astype(float)
    axes.barh([p + 0.2 for p in places], alone, height=0.38, color=GREY, label="one rank alone (the slowest)")
    axes.barh([p - 0.2 for p in places], together, height=0.38, color=BLUE, label="all ranks at once", hatch="//")
    axes.set_yticks(list(places), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("TFLOP/s per rank")
    axes.set_title("Matrix multiplication")
    _legend(axes)


def tensor_parallel(axes: Axes, frame: pd.DataFrame) -> None:
    """Time of a block by part: computation of the local shapes, and the rest."""
    rows = frame[(frame.suite == "tensor_parallel") & frame.communication_share.notna()]
    rows = rows[(rows.param_direction == "forward_backward") & (rows.param_dtype == "float32")]
    names = [
        f"{r.op} {int(r.param_hidden)} x {int(r.param_sequence)}\n{r.param_implementation}" for r in rows.itertuples()
    ]
    milliseconds = rows.seconds_median.astype(float) * 1e3
    shares = rows.communication_share.astype(float).clip(lower=0)
    places = list(range(len(rows)))
    axes.barh(places, milliseconds * (1 - shares), color=BLUE, label="computation (measured without communication)")
    axes.barh(places, milliseconds * shares, left=milliseconds * (1 - shares), color=ORANGE, hatch="..",
              label="communication: the rest")  # fmt: skip
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("step time (ms)")
    axes.set_title("Tensor parallelism, forward + backward")
    _legend(axes)


def pipeline(axes: Axes, frame: pd.DataFrame) -> None:
    """Idle share of the step: what the order of each schedule explains, and what was measured."""
    rows = frame[(frame.suite == "pipeline_parallel") & frame.bubble_theory.notna() & frame.idle_share.notna()]
    names = [f"{r.op}\n{int(r.param_num_microbatches)} microbatches, {r.param_dtype}" for r in rows.itertuples()]
    places = range(len(rows))
    axes.barh(list(places), rows.idle_share.astype(float) * 100, color=ORANGE, hatch="..", label="measured")
    axes.barh(list(places), rows.bubble_theory.astype(float) * 100, height=0.4, color=BLUE, label="replay of the order")
    axes.set_yticks(list(places), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("idle share of the step (%)")
    axes.set_title("Pipeline schedules")
    _legend(axes)


def main() -> None:
    source, target = sys.argv[1:]
    frame = bench.load(source)
    figure, grid = plt.subplots(2, 2, figsize=(12, 9.5), dpi=110, layout="constrained")
    panels = (bandwidth, matmul, tensor_parallel, pipeline)
    for axes, panel in zip(grid.flat, panels, strict=True):
        panel(axes, frame)
        axes.spines[["top", "right"]].set_visible(False)
    launches = int(frame.num_launches.max())
    figure.suptitle(f"{frame.architecture.iloc[0]}: medians of {launches} launches", fontsize=13)
    figure.savefig(target)


if __name__ == "__main__":
    main()
