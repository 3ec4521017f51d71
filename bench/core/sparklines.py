"""Small pictures in a cell of a table: the shape of a distribution, and a bar for a change."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LEVELS = "▁▂▃▄▅▆▇█"
NUM_BINS = 8
MIN_SAMPLES = 20
BAR_CELLS = 5
FULL_BAR = 0.5
"""A change of this much, or more, fills its half of the bar."""


def shape(ordered: NDArray[np.float64], high: float) -> str | None:
    """Eight columns from the fastest sample to the 99th percentile; two humps are two modes. None with few samples.

    `ordered` is in ascending order, `high` its 99th percentile.
    """
    if ordered.size < MIN_SAMPLES:
        return None
    low = float(ordered[0])
    if not high > low:
        return LEVELS[-1] + LEVELS[0] * (NUM_BINS - 1)
    edges = low + (high - low) / NUM_BINS * np.arange(1, NUM_BINS)
    # A bin holds its lower edge, the last its upper one too.
    below = [0, *np.searchsorted(ordered, edges).tolist(), ordered.size]
    counts = [after - before for before, after in pairwise(below)]
    most = max(counts)
    return "".join(LEVELS[math.ceil(count / most * (len(LEVELS) - 1))] for count in counts)


def bar(change: float) -> str:
    """`  ■■|     `: left of the line is less, right is more; full at half as much again."""
    cells = min(BAR_CELLS, round(abs(change) / FULL_BAR * BAR_CELLS))
    left, right = (cells, 0) if change < 0 else (0, cells)
    return f"{'■' * left:>{BAR_CELLS}}|{'■' * right:<{BAR_CELLS}}"
