"""The change that all cases of a comparison share, estimated robustly, and the cases without it.

Each launch has a level: the weighted median over the cases of how far each is from its own mean, where all cases of a
kind together weigh as much as those of another. A minority of cases that changed does not move it. The common change is
judged from the levels as a case is from its times. A case minus the level of its launch is judged *relative to the
rest*. The idea is that of removing unwanted variation with what samples have in common (Leek and Storey, PLoS Genet. 3
(2007) e161), with a level in place of fitted factors: it needs no fit, and each case has it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

FEWEST_CASES = 3
"""With fewer cases a changed one is half of what all share."""


class TwoSides(NamedTuple):
    """One case, or the level, on both sides: launch -> logarithm."""

    base: Mapping[int, float]
    new: Mapping[int, float]


def launch_levels(cases: Sequence[TwoSides], kinds: Sequence[str], paired: bool) -> TwoSides | None:
    """Level of each launch; None for fewer than FEWEST_CASES, or a side without a launch that most cases have.

    `kinds` has the kind of each case. In pairs both launches of a pair are measured from the pair's middle, so that a
    drift from pair to pair is in no level.
    """
    if len(cases) < FEWEST_CASES:
        return None
    counts = Counter(kinds)
    weights = [1 / counts[kind] for kind in kinds]
    middles = [_middles(case, paired) for case in cases]
    sides = []
    for number in range(2):
        launches = sorted({launch for case in cases for launch in case[number]})
        level: dict[int, float] = {}
        for launch in launches:
            there = [
                (case[number][launch] - middle(launch), weight)
                for case, middle, weight in zip(cases, middles, weights, strict=True)
                if launch in case[number]
            ]
            # A launch that lacks most of the cases, as an interrupted one does, tells no level of them.
            if 2 * sum(weight for _, weight in there) > sum(weights):
                level[launch] = weighted_median(there)
        sides.append(level)
    return TwoSides(*sides) if all(sides) else None


def _middles(case: TwoSides, paired: bool):  # type: ignore[no-untyped-def]
    if paired:
        return lambda launch: (case.base[launch] + case.new[launch]) / 2
    middle = sum(sum(side.values()) / len(side) for side in case) / 2
    return lambda launch: middle


def relative(case: TwoSides, levels: TwoSides) -> TwoSides:
    """A case without the level of its launches; launches without a level are left out."""
    return TwoSides(
        *(
            {launch: value - level[launch] for launch, value in side.items() if launch in level}
            for side, level in zip(case, levels, strict=True)
        )
    )


def weighted_median(values: Sequence[tuple[float, float]]) -> float:
    """Median of (value, weight): at half of the weight, midway between two values if it lies between them."""
    ordered = sorted(values)
    cumulated = np.cumsum([weight for _, weight in ordered])
    half = cumulated[-1] / 2
    place = int(np.searchsorted(cumulated, half * (1 - 1e-12)))
    lone = ordered[place][0]
    is_between = abs(cumulated[place] - half) <= 1e-12 * half and place + 1 < len(ordered)
    return (lone + ordered[place + 1][0]) / 2 if is_between else lone
