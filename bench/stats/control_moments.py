"""Coefficients of controls: how much of a launch's noise they tell, from launches that they are not applied to.

Control variates: of a time y and controls x that the change under test does not touch, y - b x has the same change and
less noise, if b is what the noise of y has in common with x. Known as control variates in simulation (Lavenberg and
Welch, Management Science 27 (1981) 322) and as CUPED in experiments online (Deng et al., WSDM 2013). b comes from
moments: sums of squares and products of differences between launches of unchanged code. Moments of launches that were
measured before are the prior, those of the launches at hand, without the one that b is applied to, are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHRINKAGE = 0.1
"""Share of a control's own variance that is added to it: it draws coefficients towards 0, the more so if controls tell
the same."""
MOST_COEFFICIENT = 2.0
"""No coefficient is larger, whatever the moments say: a control that hardly varies says nothing for sure."""


@dataclass(frozen=True)
class Moments:
    """Mean squares and products of differences between launches."""

    controls: tuple[str, ...]
    squares: NDArray[np.float64]
    """[control][control]"""
    products: NDArray[np.float64]
    """[control]: with the times of a kind of case."""
    weight: float
    """Number of differences that they count as."""

    def coefficients(self, used: Sequence[str]) -> NDArray[np.float64]:
        """[control] in the order of `controls`: those of the best prediction by the controls that are used, shrunk.

        A coefficient below 0 would say that a machine that grows slower makes a case faster: it is 0, and the others
        are found without that control.
        """
        result = np.zeros(len(self.controls))
        active = [place for place, name in enumerate(self.controls) if name in used and self.squares[place, place] > 0]
        while active:
            square = self.squares[np.ix_(active, active)]
            solved = np.linalg.solve(square + SHRINKAGE * np.diag(np.diag(square)), self.products[active])
            if solved.min() >= 0:
                result[active] = np.minimum(solved, MOST_COEFFICIENT)
                break
            active.pop(int(solved.argmin()))
        return result

    def joined(self, other: Moments) -> Moments:
        """Both together, each by its weight."""
        total = self.weight + other.weight
        share = other.weight / total if total else 0.0
        return Moments(
            self.controls,
            self.squares + share * (other.squares - self.squares),
            self.products + share * (other.products - self.products),
            total,
        )


def moments_of(
    controls: Sequence[str], differences: NDArray[np.float64], times: NDArray[np.float64], weight: float | None = None
) -> Moments:
    """Moments of differences between launches: of controls [difference][control], of times [difference][case].

    The cases are of one kind: their mean product counts. NaN is a case that a launch lacks. `weight` is the number of
    differences unless it is said.
    """
    number = len(differences)
    known = ~np.isnan(times)
    means = np.where(known, times, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
    return Moments(
        tuple(controls),
        differences.T @ differences / max(1, number),
        differences.T @ means / max(1, number),
        float(number if weight is None else weight),
    )
