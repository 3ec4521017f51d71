"""Times of the harness's own kernels, one number per launch and kernel: controls, which no change under test touches.

All visits of a launch count together: what they are to tell (where threads and pages lie, what others take of the
machine) lasts longer than a visit, and a visit alone has too few samples to tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bench.records.samples import sample_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.records.file import Result

Scores = Mapping[str, float]
"""Control -> logarithm of its nanoseconds in one launch."""
TRIMMED_SHARE = 0.25
"""Share of the samples at either end that does not count: the mean of the others resists spells as a median does, and
is twice as precise."""


def scores_by_record(results: Iterable[Result]) -> dict[int, Scores]:
    """`id` of each merged measurement -> the scores of its launch; without launches that have no controls."""
    found: dict[int, Scores] = {}
    for result in results:
        of_launch = _launch_scores(result)
        for record in result.latest():
            if record.launch in of_launch:
                found[id(record)] = of_launch[record.launch]
    return found


def _launch_scores(result: Result) -> dict[int, Scores]:
    samples: dict[int, dict[str, list[NDArray[np.float64]]]] = {}
    for record in result.latest():
        for name, taken in record.controls.items():
            slowest = sample_matrix(taken).max(axis=0) / taken.calls
            samples.setdefault(record.launch, {}).setdefault(name, []).append(slowest)
    return {
        launch: {name: _score(np.concatenate(parts)) for name, parts in of_launch.items()}
        for launch, of_launch in samples.items()
    }


def _score(nanoseconds: NDArray[np.float64]) -> float:
    """Trimmed mean of the logarithms; a sample of no time, as a coarse clock takes it, counts as one nanosecond."""
    ordered = np.sort(np.log(np.maximum(nanoseconds, 1.0)))
    cut = int(TRIMMED_SHARE * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())
