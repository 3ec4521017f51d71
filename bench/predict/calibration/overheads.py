"""Overheads of the ways of splitting, fitted to measured training steps.

Rates of products and transfers know nothing of a library's own work. If the files have a plain step on one device and
others that are split in one way only, each way gets

    (measured - predicted) / how often the step pays it

of its steps, the median, 0 at least. It is that of the busiest rank's own work if calls were traced; so a link that is
slower than its sweep said does not pass for a library's cost. Else, and for a pipeline, it is that of the whole step.
There is one number per way, machine and type; a split in several ways pays each of them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

from bench.predict.calibration.step_factors import MeasuredStep, work_seconds
from bench.predict.model.overheads import WAYS, Overheads, RankWork, Way
from bench.predict.model.prediction import Prediction


def fit_overheads(
    measured: Iterable[MeasuredStep],
    predict: Callable[[MeasuredStep], Prediction],
    work: Callable[[MeasuredStep], RankWork],
) -> Overheads:
    """No overheads without a plain step on one device, which separates the error of the rates from that of the ways."""
    steps = list(measured)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    if not any(step.ranks == 1 for step in steps):
        return Overheads()
    for step in steps:
        ways = [way for way in WAYS if way.applies(step.strategy)]
        if len(ways) == 1:
            more = _more_seconds(step, ways[0], predict(step))
            seconds[ways[0].name].append(more / ways[0].times(step.strategy, work(step)))
    return Overheads({name: max(0.0, statistics.median(values)) for name, values in seconds.items()})


def _more_seconds(step: MeasuredStep, way: Way, predicted: Prediction) -> float:
    if way.is_own_work and step.own_seconds is not None:
        return step.own_seconds - work_seconds(predicted)
    return step.seconds - predicted.step_seconds
