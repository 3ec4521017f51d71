"""Factors on the work of a step, from measured training steps: its time over the time that the rates alone predict.

The suites' rates are of one kernel after the other; a step's own kernels, its host and its caches differ, and weigh
more the smaller a microbatch is. If the files have a `training_step`, each of its cases is predicted from the same
files. The factor on its work that makes the prediction equal to the measurement is put on the work of every device: the
median over the cases with microbatches of this many tokens, and between the sizes that were measured interpolated. It
is a matter of a machine, a type and a size, never of one case.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.core.values import as_count
from bench.parallelism.layout import Job
from bench.parallelism.shapes import models
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.rates.by_size import BySize
from bench.records.metrics import TIME

SUITE = "training_step"
WORK = ("compute_seconds", "host_seconds", "optimizer_seconds")
FACTORS = (0.1, 1000.0)
"""The least and the most that can be found."""
HALVINGS = 40


@dataclass(frozen=True)
class MeasuredStep:
    """A case of `training_step` as a job and a split."""

    case: str
    ranks: int
    job: Job
    strategy: TrainingStrategy
    seconds: float
    own_seconds: float | None = None
    """Part of `seconds` that the busiest rank works, by the traced calls; None without any, or in a pipeline."""

    @property
    def microbatch_tokens(self) -> float:
        """Tokens of one rank's microbatch, over tensor ranks: the size of its work."""
        return self.strategy.microbatch * self.job.sequence / (self.strategy.cp * self.strategy.tp)


def steps(
    rows: Iterable[Mapping[str, Any]],
    precisions: Mapping[str, str],
    own_shares: Mapping[tuple[int, str], float] | None = None,
) -> list[MeasuredStep]:
    """Training steps without torch.compile among measured cases; `precisions` has torch's names of types by ours.

    `own_shares`: (ranks, case) -> the busiest rank's own work as a share of a traced call.
    """
    shares = own_shares or {}
    ours = {dtype: name for name, dtype in precisions.items()}
    measured = []
    for row in rows:
        params = row["params"]
        if row["suite"] == SUITE and not params.get("compile") and params.get("shape") in models():
            precision = ours.get(str(params.get("dtype", "float32")))
            step = None if precision is None else _step(row, params, precision)
            if step is not None:
                # Where a pipeline's rank waits for its neighbours there is no span.
                share = shares.get((step.ranks, step.case)) if step.strategy.pp == 1 else None
                measured.append(step if share is None else replace(step, own_seconds=share * step.seconds))
    return measured


def _step(row: Mapping[str, Any], params: Mapping[str, Any], precision: str) -> MeasuredStep | None:
    known = models()[str(params["shape"])]
    layers = int(row.get("trained_layers") or as_count(params.get("num_layers")) or known.num_layers)
    tp, pp, batch, number = (as_count(params.get(name)) for name in ("tp", "pp", "batch", "num_microbatches"))
    if tp is None or pp is None or batch is None or number is None:
        return None
    ranks = int(row["num_ranks"])
    dp = max(1, ranks // (tp * pp))
    if dp * tp * pp != ranks or batch % (dp * number):
        return None
    sequence = as_count(params.get("sequence")) or known.sequence
    shape = replace(known, num_layers=layers, sequence=sequence)
    schedule = str(params.get("schedule", "1f1b"))
    strategy = TrainingStrategy(
        tp=tp,
        pp=pp,
        dp=dp,
        microbatch=batch // (dp * number),
        schedule=schedule if schedule in ("gpipe", "1f1b") else "1f1b",
        recompute="full" if params.get("recompute") else "none",
        zero=3 if params.get("dp_mode") == "shard" else 0,
    )
    job = Job(shape, batch, precision)
    return MeasuredStep(str(row["case"]), ranks, job, strategy, float(row[TIME]))


def work_seconds(predicted: Prediction) -> float:
    """Seconds that the busiest rank works, transfers and waiting left out."""
    return sum(predicted.parts[name] for name in WORK)


def factors(
    measured: Iterable[MeasuredStep], predict: Callable[[MeasuredStep, BySize | None], Prediction]
) -> BySize | None:
    """Factors by the tokens of a microbatch, from the steps of the fewest ranks, which transfer least; None without
    any.

    `predict` takes a step and the factors to predict it with.
    """
    known = list(measured)
    fewest = min((step.ranks for step in known), default=0)
    factors_of_size: defaultdict[float, list[float]] = defaultdict(list)
    for step in known:
        if step.ranks == fewest:
            factors_of_size[step.microbatch_tokens].append(_factor(step, predict))
    sizes = sorted(factors_of_size)
    return BySize(tuple(sizes), tuple(statistics.median(factors_of_size[size]) for size in sizes)) if sizes else None


def _factor(step: MeasuredStep, predict: Callable[[MeasuredStep, BySize | None], Prediction]) -> float:
    """Factor that makes the prediction the measurement: of a rank's own work if calls were traced, so that a slow link
    does not look like slow work; of one rank, which sends nothing, always of the whole step.
    """
    own_seconds = None if step.ranks == 1 else step.own_seconds

    def is_too_short(factor: float) -> bool:
        predicted = predict(step, BySize((step.microbatch_tokens,), (factor,)))
        return predicted.step_seconds < step.seconds if own_seconds is None else work_seconds(predicted) < own_seconds

    low, high = FACTORS
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_too_short(middle) else (low, middle)
    return math.sqrt(low * high)
