"""Hold `bench predict` against published runs: per source its error, beside the best single constant of that source.

    python scripts/validate_predict.py [--rows] [--format csv] [--data FILE]
    python scripts/validate_predict.py --format markdown > results/evidence/published.md

The constants are frozen in bench/catalog/data/predict_constants.json; rows that they were fitted on are counted apart.
The best constant is the one model FLOP/s utilisation that has the least mean error over the very rows that it is tried
on: it has one number of each source for its own, the prediction none. `one factor` gives the prediction that number
too: one factor for the whole source. What peers claim is from their papers, on rows that they chose.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "evidence"))

import fit_predict
import published

from bench.core.table import DisplayTable, column, render, text_column
from bench.core.values import show_text
from bench.predict.rates.constants import frozen

PAGE = """# Published runs, predicted

Step times and memory that others published, beside what `bench predict` gives for the same model, devices and split.
This page is what `scripts/validate_predict.py` printed; its docstring says what the columns are. The runs are in
[data/published_training.csv.gz](data/published_training.csv.gz), and the constants, with the rows that they were fitted
to, in `bench/catalog/data/predict_constants.json`.

"""
CLAIMS = (
    ("Table 5 via calculon", "calculon 3.65%"),
    ("ground_truth_single", "vTrain 8.37%"),
    ("ground_truth_multi", "vTrain 14.73%"),
)


def errors(predicted: Sequence[float], measured: Sequence[float]) -> list[float]:
    return [abs(p / m - 1.0) for p, m in zip(predicted, measured, strict=True)]


def best_factor(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The one factor on the prediction with the least mean error: it is among the ratios, since the error is convex
    between them."""
    ratios = [m / p for p, m in zip(predicted, measured, strict=True)]
    return min(ratios, key=lambda f: statistics.fmean(errors([f * p for p in predicted], measured)))


def fitted_errors(predicted: Sequence[float], measured: Sequence[float]) -> list[float]:
    factor = best_factor(predicted, measured)
    return errors([factor * each for each in predicted], measured)


def source_row(source: str, runs: list[published.Run], predicted: list[float], fitted: int) -> dict[str, Any]:
    measured = [run.seconds for run in runs]
    # A constant utilisation: time in proportion to FLOPs over peak, with one factor for the source.
    ideal = [
        run.job.tokens * run.job.shape.step_flops_per_token()
        / (run.device.flops_per_s(run.job.precision) * run.devices)
        for run in runs
    ]  # fmt: skip
    alone = len(runs) == 1
    own = errors(predicted, measured)
    constant, scaled = (fitted_errors(times, measured) for times in (ideal, predicted))
    return {
        "source": source,
        "rows": len(runs),
        "fitted": fitted,
        "mean_error": statistics.fmean(own),
        "worst_error": max(own),
        "bias": math.exp(statistics.fmean(math.log(p / m) for p, m in zip(predicted, measured, strict=True))) - 1.0,
        "constant_error": None if alone else statistics.fmean(constant),
        "constant_worst": None if alone else max(constant),
        "factor_error": None if alone else statistics.fmean(scaled),
        "better": None if alone else statistics.fmean(own) < statistics.fmean(constant),
        "better_with_factor": None if alone else statistics.fmean(scaled) < statistics.fmean(constant),
        "claim": next((claim for mark, claim in CLAIMS if mark in source), None),
    }


def memory_rows(runs: list[published.Run], memories: list[float]) -> list[dict[str, Any]]:
    by_source: defaultdict[str, list[float]] = defaultdict(list)
    for run, predicted in zip(runs, memories, strict=True):
        if run.memory_bytes is not None:
            by_source[run.source].append(predicted / run.memory_bytes - 1.0)
    return [
        {
            "source": source,
            "rows": len(found),
            "mean_error": statistics.fmean(map(abs, found)),
            "worst_error": max(map(abs, found)),
            "bias": statistics.fmean(found),
            "within_10": sum(abs(each) <= 0.1 for each in found),
        }
        for source, found in by_source.items()
    ]


def percent(value: float | None) -> str:
    return show_text(None) if value is None else f"{100 * value:.1f}"


def yes(value: bool | None) -> str:
    return show_text(None) if value is None else ("yes" if value else "no")


def tables(everything: bool, path: Path = published.DATA) -> list[DisplayTable]:
    constants = frozen()
    runs, left = published.runs(path)
    if not runs:
        raise SystemExit(f"{path}: no run there can be predicted; of {len(left)} rows, first reason: {left[:1]}")
    fitted = {id(run) for run in fit_predict.chosen(runs)[0]} if path == published.DATA else set()
    predictions = [published.predicted(run, constants, replay=True) for run in runs]
    by_source: defaultdict[str, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        by_source[run.source].append(place)
    rows = []
    for source, places in by_source.items():
        own = [runs[place] for place in places]
        times = [predictions[place].step_seconds for place in places]
        rows.append(source_row(source, own, times, sum(id(run) in fitted for run in own)))
    shown: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("rows", "rows", str),
        ("fitted", "fitted", str),
        ("mean_error", "mean error %", percent),
        ("worst_error", "worst %", percent),
        ("bias", "bias %", percent),
        ("constant_error", "best constant %", percent),
        ("constant_worst", "its worst %", percent),
        ("better", "better", yes),
        ("factor_error", "one factor %", percent),
        ("better_with_factor", "better", yes),
        ("claim", "peers claim", show_text),
    )
    columns = (text_column("source"), *(column(*each) for each in shown))
    notes = (f"Constants: {constants.made}. Left out: {len(left)} rows, listed by --rows.",)
    off = [abs(math.log(p.step_seconds / run.seconds)) for p, run in zip(predictions, runs, strict=True)]
    groups = {
        name: [each for each, run in zip(off, runs, strict=True) if (id(run) in fitted) == wanted]
        for name, wanted in (("fitted", True), ("not fitted", False))
    }
    found = [DisplayTable("Predicted against published step times", columns, tuple(rows), notes)]
    memory = memory_rows(runs, [each.memory.total for each in predictions])
    heads: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("rows", "rows", str), ("mean_error", "mean error %", percent), ("worst_error", "worst %", percent),
        ("bias", "bias %", percent), ("within_10", "within 10%", str),
    )  # fmt: skip
    found.append(DisplayTable("Memory", (text_column("source"), *(column(*each) for each in heads)), tuple(memory)))
    interval = 1.96 * constants.error_share
    found.append(fit_table({name: errors for name, errors in groups.items() if errors}, interval))
    if everything:
        found += [row_table(runs, predictions, fitted), left_table(left)]
    return found


def fit_table(groups: dict[str, list[float]], interval: float) -> DisplayTable:
    """Errors of the rows that the constants were fitted to, and of all others; `interval` is that of a prediction."""
    rows = [
        {
            "group": name,
            "rows": len(errors),
            "median_error": math.expm1(statistics.median(errors)),
            "inside": statistics.fmean(each <= interval for each in errors),
        }
        for name, errors in groups.items()
    ]
    shown: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("rows", "rows", str),
        ("median_error", "median error %", percent),
        ("inside", "within the 95% interval, %", percent),
    )
    columns = (text_column("group", "published step times"), *(column(*each) for each in shown))
    return DisplayTable("Fitted and not fitted", columns, tuple(rows))


def row_table(runs: list[published.Run], predictions: list[Any], fitted: set[int]) -> DisplayTable:
    names = ("source", "model", "gpus", "split", "measured", "predicted", "error %", "fitted")
    rows = tuple(_shown(run, p, id(run) in fitted) for run, p in zip(runs, predictions, strict=True))
    return DisplayTable("Rows", tuple(text_column(name) for name in names), rows)


def _shown(run: published.Run, found: Any, fitted: bool) -> dict[str, Any]:
    own = found.strategy
    return {
        "source": run.source[:48],
        "model": run.row["model"],
        "gpus": run.devices,
        "split": f"tp{own.tp} pp{own.pp} dp{own.dp} mb{own.microbatch} v{own.interleave} {own.recompute}",
        "measured": f"{run.seconds:.4g}",
        "predicted": f"{found.step_seconds:.4g}",
        "error %": f"{100 * (found.step_seconds / run.seconds - 1):+.1f}",
        "fitted": yes(fitted),
    }


def left_table(left: list[tuple[dict[str, str], str]]) -> DisplayTable:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row, reason in left:
        counts[row["source"], reason] += 1
    rows = tuple({"source": s, "reason": r, "rows": n} for (s, r), n in counts.items())
    return DisplayTable("Left out", (text_column("source"), text_column("reason"), column("rows", "rows", str)), rows)


def text(found: Sequence[DisplayTable], form: str) -> str:
    return (PAGE if form == "markdown" else "") + render(found, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", action="store_true", help="every row, and what was left out")
    parser.add_argument("--format", default="table", help="table, markdown, csv or json")
    parser.add_argument("--data", type=Path, default=published.DATA, help="other runs: CSV with the same columns")
    given = parser.parse_args()
    print(text(tables(given.rows, given.data), given.format), end="")


if __name__ == "__main__":
    main()
