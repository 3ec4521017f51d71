"""Times of the harness's own kernels, one number per launch and kernel: controls, which no change under test touches.

All visits of a launch count together: what they tell of (where threads and pages lie, what others take of the machine)
lasts longer than a visit, and a visit alone has too few samples to tell it.
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
COUNTED_SHARE = 0.5
"""Share of the samples, the fastest, that count: the others are those that something disturbed, by more or less."""


def scores_by_launch(results: Iterable[Result]) -> dict[int, Scores]:
    """Scores of every launch of the results, numbered on from file to file; without launches that have no controls."""
    found: dict[int, Scores] = {}
    offset = 0
    for result in results:
        of_file = _file_scores(result)
        found |= {offset + launch: scores for launch, scores in of_file.items()}
        offset += 1 + max((record.launch for record in result.measurements), default=0)
    return found


def _file_scores(result: Result) -> dict[int, Scores]:
    samples: dict[int, dict[str, list[NDArray[np.float64]]]] = {}
    for record in result.latest():
        for name, taken in record.controls.items():
            slowest = sample_matrix(taken).max(axis=0) / taken.calls
            samples.setdefault(record.launch, {}).setdefault(name, []).append(slowest)
    return {
        launch: {name: _score(np.concatenate(parts)) for name, parts in of_launch.items()}
        for launch, of_launch in sorted(samples.items())
    }


def _score(nanoseconds: NDArray[np.float64]) -> float:
    """Mean logarithm of the faster samples; one of no time, as a coarse clock takes it, counts as a nanosecond."""
    ordered = np.sort(np.log(np.maximum(nanoseconds, 1.0)))
    return float(ordered[: max(1, round(COUNTED_SHARE * ordered.size))].mean())
