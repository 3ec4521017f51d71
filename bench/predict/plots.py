"""Plots of an answer, each a matplotlib Figure: scaling, time by part, cost against time, break-even, goodput.

Predictions are drawn dashed with open marks, and the title of every saved file says so: nothing here looks like a
measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.jsonl import exists
from bench.errors import BenchError
from bench.predict.answer import Option, PredictedJob
from bench.predict.model.prediction import PARTS
from bench.predict.tables import LABEL, option_row, sweep_rows
from bench.predict.wording import name_fleet, show_duration, show_usd

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {"linestyle": "--", "marker": "o", "markerfacecolor": "none"}


def frames(answer: PredictedJob) -> dict[str, pd.DataFrame]:
    """The data of the plots, for a report of one's own; a frame that the answer has nothing for is missing.

    `scaling`: a row a number of devices and kind of scaling, with seconds by part. `money`: a row a way to pay, with
    `pareto` if no other is both cheaper and sooner. `goodput`: over the interval between checkpoints. `break_even`:
    USD per device-hour over utilisation. Every row has `status`, which says that it is predicted.
    """
    import pandas as pd

    rows_of = {
        "scaling": sweep_rows(answer),
        "money": pareto(answer.options),
        "goodput": goodput_rows(answer),
        "break_even": break_even_rows(answer),
    }
    return {name: pd.DataFrame(rows) for name, rows in rows_of.items() if rows}


def pareto(options: tuple[Option, ...]) -> list[dict[str, Any]]:
    """Ways to pay with `pareto`: no other costs less and is done no later."""
    rows = [option_row(option) for option in options]
    for row in rows:
        row["pareto"] = not any(
            other["run_usd"] <= row["run_usd"]
            and other["days"] <= row["days"]
            and (other["run_usd"], other["days"]) != (row["run_usd"], row["days"])
            for other in rows
        )
    return rows


def goodput_rows(answer: PredictedJob, points: int = 60) -> list[dict[str, Any]]:
    """Goodput at intervals around the best, a tenth to ten times of it."""
    if answer.reliability is None:
        return []
    failures = answer.reliability.failures
    best = failures.best_seconds
    intervals = [best * 10.0 ** (2.0 * place / (points - 1) - 1.0) for place in range(points)]
    return [
        {"interval_seconds": seconds, "goodput": failures.goodput(seconds), "status": LABEL} for seconds in intervals
    ]


def break_even_rows(answer: PredictedJob, points: int = 50) -> list[dict[str, Any]]:
    """Cost of owning over utilisation, and the cheapest rent."""
    if answer.own is None:
        return []
    rents = [option.usd_per_device_hour for option in answer.options if option.name == "rent"]
    rows = []
    for place in range(1, points + 1):
        share = place / points
        owned = answer.own.fixed_usd_per_hour() / share + answer.own.energy_usd_per_hour()
        rows.append({"utilisation": share, "own_usd": owned, "rent_usd": min(rents, default=None), "status": LABEL})
    return rows


def time_and_money(jobs: Sequence[PredictedJob]) -> Figure:
    """Bars of the time of the run, with its interval, and of each way to pay."""
    from matplotlib.figure import Figure

    ways = [(job, option) for job in jobs for option in job.options]
    figure = Figure(figsize=(7, 0.9 + 0.45 * max(len(jobs), len(ways))), layout="constrained")
    panels = figure.subplots(1, 2 if ways else 1, squeeze=False)[0]
    names = [name_fleet(job) for job in jobs]
    days = [job.run_seconds / 86400.0 for job in jobs]
    factors = [math.exp(1.96 * job.error_share) for job in jobs]
    whiskers = [
        [d - d / f for d, f in zip(days, factors, strict=True)],
        [d * f - d for d, f in zip(days, factors, strict=True)],
    ]
    _bars(panels[0], names, days, [show_duration(job.run_seconds) for job in jobs], "days, with 95% interval", whiskers)
    if ways:
        costs = [option.cost.run_usd for _, option in ways]
        labels = [f"{name_fleet(job)}, {option.name}" for job, option in ways]
        _bars(panels[1], labels, [usd / 1e6 for usd in costs], list(map(show_usd, costs)), "million USD")
    return figure


def _bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    label: str,
    whiskers: list[list[float]] | None = None,
) -> None:
    """Open bars from the top down, each with its text."""
    places = range(len(names))
    axes.barh(list(places), values, xerr=whiskers, facecolor="none", edgecolor="C0", linestyle="--", ecolor="0.5")
    for place, text in zip(places, texts, strict=True):
        axes.text(0, place + 0.25, f" {text}", va="center")  # beside the whisker, not on it
    axes.set(yticks=list(places), yticklabels=list(names), xlabel=label, xlim=(0, None))
    axes.invert_yaxis()
    axes.grid(False)


def scaling(answer: PredictedJob) -> Figure:
    figure, axes = _figure("Scaling")
    for kind in ("weak", "strong"):
        rows = [row for row in sweep_rows(answer) if row["scaling"] == kind]
        axes.plot([r["devices"] for r in rows], [100 * r["efficiency"] for r in rows], label=kind, **STYLE)
    axes.set(xscale="log", xlabel="accelerators", ylabel="tokens/s per accelerator, % of the fewest", ylim=(0, None))
    axes.legend()
    return figure


def parts(answer: PredictedJob) -> Figure:
    figure, axes = _figure("Time of a step by part, strong scaling")
    rows = [row for row in sweep_rows(answer) if row["scaling"] == "strong"]
    shares = [[row[part] / row["step_seconds"] * 100 for row in rows] for part in PARTS]
    axes.stackplot(
        [row["devices"] for row in rows], shares, labels=[p.removesuffix("_seconds") for p in PARTS], alpha=0.6
    )
    axes.set(xscale="log", xlabel="accelerators", ylabel="% of a step", ylim=(0, 100))
    axes.legend(fontsize="small", loc="lower left")
    return figure


def cost(answer: PredictedJob) -> Figure:
    figure, axes = _figure("Cost of a run against its time")
    for row in pareto(answer.options):
        name = row["option"] + (" (Pareto)" if row["pareto"] else "")
        axes.plot([row["days"]], [row["run_usd"] / 1e6], label=name, **STYLE)
    axes.set(xlabel="days", ylabel="million USD", xlim=(0, None), ylim=(0, None))
    axes.legend()
    return figure


def break_even(answer: PredictedJob) -> Figure:
    figure, axes = _figure("Owning against renting")
    rows = break_even_rows(answer)
    shares = [100 * row["utilisation"] for row in rows]
    axes.plot(shares, [row["own_usd"] for row in rows], linestyle="--", label="own")
    if rows[0]["rent_usd"] is not None:
        axes.axhline(rows[0]["rent_usd"], linestyle=":", label="cheapest rent")
        axes.set_ylim(0, 4 * rows[0]["rent_usd"])
    axes.set(xlabel="utilisation, %", ylabel="USD per device-hour in use")
    axes.legend()
    return figure


def goodput(answer: PredictedJob) -> Figure:
    figure, axes = _figure("Goodput over the interval between checkpoints")
    rows = goodput_rows(answer)
    axes.plot([r["interval_seconds"] / 60 for r in rows], [100 * r["goodput"] for r in rows], linestyle="--")
    assert answer.reliability is not None
    axes.axvline(answer.reliability.failures.best_seconds / 60, linestyle=":", label="best")
    axes.axvline(answer.reliability.failures.young_seconds / 60, linestyle="-.", label="Young")
    axes.set(xscale="log", xlabel="minutes between checkpoints", ylabel="goodput, %")
    axes.legend()
    return figure


PLOTS: dict[str, tuple[Callable[[PredictedJob], Figure], Callable[[PredictedJob], bool]]] = {
    "scaling": (scaling, lambda answer: bool(answer.sweep)),
    "parts": (parts, lambda answer: any(point.scaling == "strong" for point in answer.sweep)),
    "cost": (cost, lambda answer: bool(answer.options)),
    "break_even": (break_even, lambda answer: answer.own is not None),
    "goodput": (goodput, lambda answer: answer.reliability is not None),
}
"""Name -> figure, and whether an answer has what it shows."""


def save(answer: PredictedJob, folder: Path) -> list[Path]:
    """PNG files of all plots that the answer has something for, and their data as CSV. Never overwrites.

    Raises BenchError for a file that is there, or a folder that cannot be written.
    """
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (draw, has) in PLOTS.items():
            if has(answer):
                paths.append(_free(folder / f"predicted_{name}.png"))
                figure = draw(answer)
                figure.axes[0].set_title(f"{figure.axes[0].get_title()}, {LABEL}")
                figure.savefig(paths[-1], dpi=120)
        for name, frame in frames(answer).items():
            paths.append(_free(folder / f"predicted_{name}.csv"))
            frame.to_csv(paths[-1], index=False)
    except OSError as error:
        raise BenchError(f"--plots {folder}: cannot be written ({error.strerror}); give another folder") from error
    return paths


def save_each(jobs: Sequence[PredictedJob], folder: Path) -> list[Path]:
    """Plots of one job in the folder, of several each in a folder of it that its number of devices names."""
    if len(jobs) == 1:
        return save(jobs[0], folder)
    return [path for job in jobs for path in save(job, folder / str(job.request.devices))]


def _free(path: Path) -> Path:
    if exists(path):
        raise BenchError(f"--plots: {path} is there already; give another folder")
    return path


def _figure(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes
