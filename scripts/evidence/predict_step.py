"""Predict training steps on more ranks from suites that ran on fewer, and hold them against what was measured.

    scripts/evidence/predict_measure.sh cores FOLDER RUN     (and lab; several runs)
    python scripts/evidence/predict_step.py FOLDER > results/evidence/predict_step.md

Nothing of r4 goes into the prediction but its cases' parameters, and how many of its ranks share a core. Each run is
predicted from its own files.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cli.predict_command import command
from bench.core.table import DisplayTable, column, render, text_column
from bench.predict import from_results
from bench.predict.calibration import measured_rates, step_factors
from bench.predict.calibration.step_factors import MeasuredStep
from bench.predict.model.prediction import Prediction
from bench.predict.rates.constants import frozen
from bench.records.file import Result, load_many
from bench.records.rows import case_rows

STACK = "torchtitan"
TITLES = {
    "lab": "Emulated: four hosts (network namespaces) with links of 200 Mbit/s, on the same two cores",
    "cores": "Four busy ranks on two cores",
}
PARTS = ("compute", "host", "tensor", "data", "pipeline", "idle", "optimizer")


def files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.jsonl*"))]


def predictions(folder: Path) -> tuple[list[Result], list[tuple[MeasuredStep, Prediction]]]:
    sources = files(folder / "r1") + files(folder / "r2")
    found, truth = measured_rates.read(sources), load_many(files(folder / "r4"))
    rows = [row for row in case_rows(truth) if row["status"] == "ok"]
    # Ranks that sleep most of their time (`--slow`) leave cores to the others.
    busy = sum(float(rank.emulated_speed or 1.0) for rank in truth[0].environment.ranks)
    share = min(1.0, (found.num_cores or busy) / busy)
    return truth, [
        (step, _predicted(step, found, sources, share)) for step in step_factors.steps(rows, measured_rates.DTYPES)
    ]


def _predicted(step: MeasuredStep, found: measured_rates.Measured, sources: list[str], share: float) -> Prediction:
    given = ["--precision", step.job.precision, "--stack", STACK, "--device-share", str(share)]
    given += ["--model", "llama3-8b", "--gpus", str(step.ranks)]  # the job itself is the case's
    options = command.make_context("predict", [*given, *(f"--from={source}" for source in sources)]).params
    _, make = from_results.request_on(found, options, frozen())
    device = measured_rates.device(found, step.job.precision, {**options, "domain_size": step.ranks}, frozen().common)
    return make(device, step.job).predict(step.strategy)


def _rows(runs: list[list[tuple[MeasuredStep, Prediction]]]) -> Iterator[dict[str, Any]]:
    """A case a row: each run's, and the medians."""
    by_case: defaultdict[str, list[tuple[MeasuredStep, Prediction]]] = defaultdict(list)
    for pairs in runs:
        for step, predicted in pairs:
            by_case[step.case].append((step, predicted))
    for case, pairs in by_case.items():
        errors = [predicted.step_seconds / step.seconds - 1.0 for step, predicted in pairs]
        yield {
            "case": case.partition("[")[2].rstrip("]"),
            "measured": ", ".join(f"{1e3 * step.seconds:.0f}" for step, _ in pairs),
            "errors": ", ".join(f"{100 * error:+.1f}" for error in errors),
            "error": statistics.median(errors),
            **{part: statistics.median(p.parts[f"{part}_seconds"] for _, p in pairs) for part in PARTS},
        }


def page(folder: Path) -> Iterator[str]:
    for part, title in TITLES.items():
        found = [predictions(run) for run in sorted((folder / part).glob("*"))]
        if not found:
            continue
        rows = tuple(_rows([pairs for _, pairs in found]))
        single = [abs(p.step_seconds / step.seconds - 1.0) for _, pairs in found for step, p in pairs]
        middle = [abs(row["error"]) for row in rows]
        columns = [
            text_column("case"),
            column("measured", "measured ms, each run", str),
            column("errors", "off by %, each run", str),
            column("error", "median off by %", lambda v: f"{100 * v:+.1f}"),
        ]
        columns += [column(name, f"{name} ms", lambda v: f"{1e3 * v:.0f}") for name in PARTS]
        yield f"## {title}\n"
        yield f"{found[0][0][0].architecture}; the suites on 1 and 2 ranks ran the same way; {len(found)} runs.\n"
        yield render([DisplayTable("", tuple(columns), rows)], "markdown")
        yield (
            f"Of {len(rows)} cases {_within(middle)} are met within 10% in the median of the runs; of {len(single)} "
            f"single predictions {_within(single)}, their mean error is {100 * statistics.fmean(single):.1f}%, the "
            f"worst {100 * max(single):.0f}%.\n"
        )


def _within(errors: list[float]) -> int:
    return sum(error <= 0.10 for error in errors)


def main() -> None:
    folder = Path(sys.argv[1])
    notes = folder / "NOTES.md"
    print("# A training step on four ranks, predicted from suites on one and two\n")
    print("Measured by `scripts/evidence/predict_measure.sh`, printed by `scripts/evidence/predict_step.py`.")
    print("The columns after the errors are the parts that the prediction is made of, medians.\n")
    if notes.exists():
        print(notes.read_text(encoding="utf-8"))
    print("\n".join(page(folder)), end="")


if __name__ == "__main__":
    main()
