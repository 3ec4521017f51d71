"""Fit the constants of `bench predict` on the rows named in FITTED, and freeze them with the error on all others.

    python scripts/evidence/fit_predict.py            # writes the frozen constants (a minute or two)

Least squares of log(predicted / measured), softened, so that a row that the model does not explain pulls little; every
source counts by the square root of its rows. The same constants serve all sources of one kind of software.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import published
from scipy.optimize import least_squares

from bench.predict.model.prediction import TrainingStrategy
from bench.predict.rates.constants import from_json

FILE = resources.files("bench.catalog.data") / "predict_constants.json"

# (pattern of the source, every n-th of its rows, what is said of it)
FITTED = (
    (r"vTrain data/ground_truth_single", 3, "vTrain within a node: every third row"),
    (r"vTrain data/ground_truth_multi", 2, "vTrain across nodes: every second row"),
    (r"cases_april2021", 1, "Megatron-LM SC21 table 1"),
    (r"images/tables\.tex", 1, "Megatron-LM tables.tex, A100"),
    (r"Reducing Activation Recomputation", 2, "arXiv 2205.05198 table 5: every second row"),
    (r"Table 1\+2", 2, "MegaScale tables 1 and 2: every second row"),
    (r"model_table", 2, "Megatron-Core table of 2024: every second row"),
    (r"Zero Bubble", 3, "zero-bubble paper: every third row"),
    (r"A100 40GB with 1600|llm-foundry.*H100 80GB (BF16\"|FP8)", 2, "llm-foundry A100 40 GB, H100: every second row"),
    (r"llama3_h100_202412|docs/performance\.md at", 2, "torchtitan 2024: every second row"),
    (r"asyncTP_llama3_h100_2025-06", 3, "torchtitan, asynchronous tensor parallelism: every third row"),
    (r"Megatron-Bridge.*(26\.04 |25\.11)", 1, "Megatron-Bridge 25.11 and 26.04"),
)

STEP = 1e-4
"""Of a logarithm, for differences."""

# What few rows say little of stays plausible: a weak prior, (value, factor that is one standard deviation).
PRIORS = {
    "start_seconds": (2e-5, 2.0), "overlap_tax": (0.2, 3.0),
    "jitter_share": (5e-3, 2.0), "wave_elements": (5e5, 3.0), "depth_elements": (100.0, 3.0),
    "kernel_seconds": (5e-6, 2.0), "traffic": (1.2, 1.5), "tensor_exposed": (0.5, 2.0), "pipeline_exposed": (0.5, 2.0),
    "step_seconds": (0.02, 3.0),
}  # fmt: skip
PRIOR_WEIGHT = 0.2
"""Of a residual of one standard deviation, where a row that is 2% off has 0.2 in a source of one row."""

COMMON = {
    "matmul_share": (0.6, 1.0),
    "hot_matmul_share": (0.6, 1.0),
    "fp8_share": (0.3, 1.0),
    "wave_elements": (1e4, 5e6),
    "depth_elements": (1.0, 1500.0),
    "memory_share": (0.5, 0.95),
    "attention_share": (0.3, 1.0),
    "ring_share": (0.3, 1.0),
    "inside_share": (0.4, 1.0),
    "across_share": (0.3, 0.95),
    "start_seconds": (2e-6, 5e-4),
    "overlap_tax": (0.001, 0.6),
    "jitter_share": (1e-3, 0.03),
}
STACK = {
    "kernel_seconds": (1e-6, 1e-4),
    "traffic": (0.8, 2.5),
    "tensor_exposed": (0.05, 1.0),
    "pipeline_exposed": (0.05, 1.0),
    "step_seconds": (1e-3, 0.5),
}
# Stacks that differ in what they overlap only, or whose host is the same: they share the rest.
SAME = {
    "megatron-2020": {"kernel_seconds": "megatron", "traffic": "megatron", "step_seconds": "megatron"},
    "megatron-sp": {"kernel_seconds": "megatron", "traffic": "megatron", "step_seconds": "megatron",
                    "tensor_exposed": "megatron", "pipeline_exposed": "megatron"},
    "megascale": {"step_seconds": "megatron", "kernel_seconds": "megatron"},
    "nemo": {"step_seconds": "megatron-core"},
    "torchtitan-async": {"kernel_seconds": "torchtitan-compile", "traffic": "torchtitan-compile",
                         "step_seconds": "torchtitan-compile", "pipeline_exposed": "torchtitan-compile"},
    "torchtitan-compile": {"step_seconds": "torchtitan", "pipeline_exposed": "torchtitan"},
    **{name: dict.fromkeys(("kernel_seconds", "traffic", "tensor_exposed", "pipeline_exposed", "step_seconds"), other)
       for name, other in (("torchtitan-2025", "torchtitan-compile"), ("torchtitan-2025-async", "torchtitan-async"))},
}  # fmt: skip
UNSEEN = {  # what no row of a stack depends on, or its software is known not to do, stays as it is
    "megatron-2020": ("tensor_exposed", "pipeline_exposed"),
    "megatron": ("tensor_exposed",),
    "megatron-deepspeed": ("tensor_exposed",),
    "fsdp": ("tensor_exposed", "pipeline_exposed"),
    "torchtitan": ("tensor_exposed", "pipeline_exposed"),
}


HELD_OUT = "GB300"
"""Start of the names of devices whose memory came to the catalogue after the constants were frozen."""


def chosen(runs: list[published.Run]) -> tuple[list[published.Run], list[published.Run]]:
    """Fitted and held-out runs."""
    counts: defaultdict[str, int] = defaultdict(int)
    fitted, others = [], []
    for run in runs:
        if run.device.name.startswith(HELD_OUT):
            others.append(run)
            continue
        every = next((n for pattern, n, _ in FITTED if re.search(pattern, run.source)), None)
        place = counts[run.source]
        counts[run.source] += 1
        (fitted if every is not None and place % every == 0 else others).append(run)
    return fitted, others


class Vector:
    """The free constants as logarithms within their bounds."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.places: list[tuple[str | None, str]] = [(None, name) for name in COMMON]
        for stack in document["stacks"]:
            for name in STACK:
                if name not in SAME.get(stack, {}) and name not in UNSEEN.get(stack, ()):
                    self.places.append((stack, name))

    def bounds(self) -> tuple[list[float], list[float]]:
        pairs = [(COMMON if stack is None else STACK)[name] for stack, name in self.places]
        return [math.log(low) for low, _ in pairs], [math.log(high) for _, high in pairs]

    def start(self) -> list[float]:
        low, high = self.bounds()
        values = [
            self.document["common"][name] if stack is None else self.document["stacks"][stack][name]
            for stack, name in self.places
        ]
        return [min(max(math.log(v), a + 1e-3), b - 1e-3) for v, a, b in zip(values, low, high, strict=True)]

    def filled(self, logs: list[float], digits: int = 12) -> dict[str, Any]:
        document = json.loads(json.dumps(self.document))
        for (stack, name), log in zip(self.places, logs, strict=True):
            (document["common"] if stack is None else document["stacks"][stack])[name] = float(
                f"{math.exp(log):.{digits}g}"
            )
        for stack, names in SAME.items():
            for name, other in names.items():
                document["stacks"][stack][name] = document["stacks"][other][name]
        return document


@dataclass
class Residuals:
    """What least squares makes small."""

    vector: Vector
    runs: list[published.Run]
    splits: list[TrainingStrategy]
    weights: list[float]

    def __call__(self, logs: list[float]) -> list[float]:
        return self._of(logs, range(len(self.runs))) + self._prior(logs)

    def _prior(self, logs: list[float]) -> list[float]:
        return [
            PRIOR_WEIGHT * (log - math.log(PRIORS[name][0])) / math.log(PRIORS[name][1])
            for (_, name), log in zip(self.vector.places, logs, strict=True)
            if name in PRIORS
        ]

    def _of(self, logs: list[float], rows: Sequence[int]) -> list[float]:
        constants = from_json(self.vector.filled(list(logs)))
        return [
            self.weights[row]
            * 10.0
            * math.log(
                published.predicted(self.runs[row], constants, self.splits[row]).step_seconds / self.runs[row].seconds
            )
            for row in rows
        ]

    def jacobian(self, logs: list[float]) -> list[list[float]]:
        """By differences; a stack's constant changes the rows of those stacks only that have it."""
        base = self(logs)
        columns = []
        for place, (stack, name) in enumerate(self.vector.places):
            sharing = {stack} | {other for other, names in SAME.items() if names.get(name) == stack}
            rows = [row for row, run in enumerate(self.runs) if stack is None or run.stack in sharing]
            moved = [*logs]
            moved[place] += STEP
            column = [0.0] * len(base)
            for row, value in zip(rows, self._of(moved, rows), strict=True):
                column[row] = (value - base[row]) / STEP
            for row, value in enumerate(self._prior(moved), start=len(self.runs)):
                column[row] = (value - base[row]) / STEP
            columns.append(column)
        return [list(row) for row in zip(*columns, strict=True)]


def main() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))
    fitted, others = chosen(published.runs()[0])
    sizes: defaultdict[str, int] = defaultdict(int)
    for run in fitted:
        sizes[run.source] += 1
    weights = [sizes[run.source] ** -0.25 for run in fitted]
    for turn in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        vector = Vector(document)
        constants = from_json(document)
        splits = [published.predicted(run, constants).strategy for run in fitted]

        residuals = Residuals(vector, fitted, splits, weights)
        found = least_squares(
            residuals,
            vector.start(),
            jac=residuals.jacobian,
            bounds=vector.bounds(),
            loss="soft_l1",
            max_nfev=40,
        )
        document = vector.filled(list(found.x), 4)
        print(f"turn {turn}: cost {found.cost:.2f}", flush=True)
    constants = from_json(document)
    errors = [math.log(published.predicted(run, constants).step_seconds / run.seconds) for run in others]
    document["error_share"] = float(f"{math.sqrt(sum(e * e for e in errors) / len(errors)):.3g}")
    document["fitted_on"] = [text for _, _, text in FITTED]
    document["made"] = f"scripts/evidence/fit_predict.py, {datetime.now(UTC):%Y-%m-%d}, {len(fitted)} rows"
    with open(str(FILE), "w", encoding="utf-8") as file:  # noqa: PTH123 - a resource, here always a file
        json.dump(document, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
