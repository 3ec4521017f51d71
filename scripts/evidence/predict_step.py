"""Predict training steps on more ranks from suites that ran on fewer, and hold them against what was measured.

    scripts/evidence/predict_measure.sh asleep FOLDER
    python scripts/evidence/predict_step.py FOLDER/asleep

Nothing of r4 goes into the prediction but its cases' parameters, and how many of its ranks share a core.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from bench import frame
from bench.cli.predict_command import command
from bench.predict import calibrate, from_files, measured
from bench.predict.constants import frozen
from bench.result import load_many
from bench.table import Table, render, text_column

STACK = "torchtitan"


def main() -> None:
    folder = Path(sys.argv[1])
    sources = [str(path) for part in ("r1", "r2") for path in sorted((folder / part).glob("*.jsonl*"))]
    found = measured.read(sources)
    truth = load_many([str(path) for path in sorted((folder / "r4").glob("*.jsonl*"))])
    rows = [row for row in frame.case_rows(truth) if row["status"] == "ok"]
    # Ranks that sleep most of their time (`--slow`) leave cores to the others.
    busy = sum(float(rank.get("emulated_speed", 1.0)) for rank in truth[0].environment["ranks"])
    shown, errors = [], []
    for step in calibrate.steps(rows, measured.DTYPES):
        share = min(1.0, (found.num_cores or step.ranks) / busy)
        given = ["--precision", step.job.precision, "--stack", STACK, "--device-share", str(share)]
        given += ["--model", "llama3-8b", "--gpus", str(step.ranks)]  # the job itself is the case's
        options = command.make_context("predict", [*given, *(f"--from={source}" for source in sources)]).params
        _, make = from_files.understood(found, options, frozen())
        device = measured.device(found, step.job.precision, {**options, "domain_size": step.ranks}, frozen().common)
        predicted = make(device, step.job).predict(step.split)
        error = predicted.step_seconds / step.seconds - 1.0
        errors.append(abs(error))
        shown.append(
            {
                "case": step.case,
                "measured ms": f"{step.seconds * 1e3:.1f}",
                "predicted ms": f"{predicted.step_seconds * 1e3:.1f}",
                "error %": f"{100 * error:+.1f}",
            }
        )
    notes = (f"mean error {100 * statistics.fmean(errors):.1f}%, median {100 * statistics.median(errors):.1f}%",)
    columns = tuple(text_column(name) for name in shown[0])
    print(render([Table("Steps on more ranks than were measured", columns, tuple(shown), notes)], "table"), end="")


if __name__ == "__main__":
    main()
