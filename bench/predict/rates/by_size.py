"""Values measured at some sizes, at any size: rates of products by their FLOPs, factors of steps by their tokens."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BySize:
    """Positive values that were measured at some sizes, ascending; between them in logarithms, flat outside."""

    sizes: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, size: float) -> float:
        place = bisect.bisect_left(self.sizes, size)
        if place == 0 or place == len(self.sizes):
            return self.values[min(place, len(self.sizes) - 1)]
        low, high = self.sizes[place - 1], self.sizes[place]
        share = math.log(size / low) / math.log(high / low)
        return math.exp((1 - share) * math.log(self.values[place - 1]) + share * math.log(self.values[place]))

    def times(self, factor: float) -> BySize:
        return BySize(self.sizes, tuple(factor * value for value in self.values))
