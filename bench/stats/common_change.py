"""The change that all cases of a comparison share, estimated robustly, and each case without it.

Each launch has a level: the weighted median over the cases of how far each is from its own middle, in which all cases
of a kind together weigh as much as those of another. A minority of cases that changed does not move it. The common
change is judged from the levels as a case is from its times. A case minus the level of its launch is judged *relative
to the rest*. The idea is that of removing unwanted variation by what samples have in common (Leek and Storey, PLoS
Genet. 3 (2007) e161), with a level in place of fitted factors: nothing is fitted, and each case has it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

FEWEST_CASES = 3
"""With fewer cases one that changed is half of all."""


class TwoSides(NamedTuple):
    """A case, or the levels, on both sides: launch -> logarithm."""

    base: Mapping[int, float]
    new: Mapping[int, float]


def launch_levels(cases: Sequence[TwoSides], kinds: Sequence[str], paired: bool) -> TwoSides | None:
    """Level of each launch; None for fewer than FEWEST_CASES, or if a side has no launch with most of the cases.

    `kinds` has the kind of each case. In pairs the middle of a case is that of the pair, so that a drift from pair to
    pair is in no level.
    """
    if len(cases) < FEWEST_CASES:
        return None
    counts = Counter(kinds)
    weights = [1 / counts[kind] for kind in kinds]
    middles = [_middles(case, paired) for case in cases]
    levels = TwoSides(*(_levels([case[side] for case in cases], middles, weights) for side in range(2)))
    if paired:
        common = levels.base.keys() & levels.new.keys()
        levels = TwoSides(*({launch: side[launch] for launch in sorted(common)} for side in levels))
    return levels if all(levels) else None


def _levels(
    cases: Sequence[Mapping[int, float]], middles: Sequence[Mapping[int, float]], weights: Sequence[float]
) -> dict[int, float]:
    levels: dict[int, float] = {}
    for launch in sorted({launch for case in cases for launch in case}):
        there = [
            (case[launch] - middle[launch], weight)
            for case, middle, weight in zip(cases, middles, weights, strict=True)
            if launch in case
        ]
        # A launch that lacks most of the cases, as an interrupted one does, tells no level of them.
        if 2 * sum(weight for _, weight in there) > sum(weights):
            levels[launch] = weighted_median(there)
    return levels


def _middles(case: TwoSides, paired: bool) -> dict[int, float]:
    """Middle of the case for each of its launches: that of the pair, or of both sides' means."""
    if paired:
        return {launch: (value + case.new[launch]) / 2 for launch, value in case.base.items()}
    middle = sum(sum(side.values()) / len(side) for side in case) / 2
    return dict.fromkeys([*case.base, *case.new], middle)


def relative(case: TwoSides, levels: TwoSides) -> TwoSides:
    """The case without the level of its launches; launches without a level are left out."""
    return TwoSides(
        *(
            {launch: value - level[launch] for launch, value in side.items() if launch in level}
            for side, level in zip(case, levels, strict=True)
        )
    )


def weighted_median(values: Sequence[tuple[float, float]]) -> float:
    """Median of at least one (value, weight); midway between two values if half of the weight lies on either side."""
    ordered = sorted(values)
    cumulated = np.cumsum([weight for _, weight in ordered])
    half = float(cumulated[-1]) / 2
    place = int(np.searchsorted(cumulated, half * (1 - 1e-12)))
    is_between = abs(float(cumulated[place]) - half) <= 1e-12 * half and place + 1 < len(ordered)
    return (ordered[place][0] + ordered[place + 1][0]) / 2 if is_between else ordered[place][0]
