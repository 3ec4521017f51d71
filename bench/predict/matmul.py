"""A matrix multiplication's time from its shape: a roofline with two saturations.

    rate = best rate x share / ((1 + wave / (m n)) (1 + depth / k))

`wave` is the size of output that keeps half of a device's units busy, and grows with the device; `depth` the length of
the products whose start and end cost as much as themselves. Not faster than memory brings the three matrices. Where
measured cases of the `compute` suite are given, their efficiency by size takes the place of the formula.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from bench.predict.constants import Common
from bench.predict.hardware import Device

REFERENCE_FLOPS_PER_S = 312e12
"""Device for which `wave_elements` is given: A100."""


@dataclass(frozen=True)
class MeasuredRates:
    """FLOP/s of measured multiplications by their FLOPs, interpolated between in logarithms; flat outside."""

    flops: tuple[float, ...]
    flops_per_s: tuple[float, ...]

    def at(self, flops: float) -> float:
        place = bisect.bisect_left(self.flops, flops)
        if place == 0 or place == len(self.flops):
            return self.flops_per_s[min(place, len(self.flops) - 1)]
        low, high = self.flops[place - 1], self.flops[place]
        share = math.log(flops / low) / math.log(high / low)
        return math.exp((1 - share) * math.log(self.flops_per_s[place - 1]) + share * math.log(self.flops_per_s[place]))


class Multiplier:
    """Times multiplications on one device in one precision."""

    def __init__(self, device: Device, common: Common, precision: str, measured: MeasuredRates | None = None) -> None:
        eight_bit = precision == "fp8"
        share = common.fp8_share if eight_bit else common.matmul_share
        self.rate = device.matmul_flops_per_s(precision) * share
        self.wave = common.wave_elements * device.flops_per_s(precision) / REFERENCE_FLOPS_PER_S
        self.depth = common.depth_elements * (2.0 if eight_bit else 1.0)
        self.bytes_per_s = device.memory_bytes_per_s * common.memory_share
        self.operand_bytes = {"fp8": 1.0, "fp32": 4.0}.get(precision, 2.0)
        self.measured = measured

    def seconds(self, m: float, n: float, k: float, groups: float = 1.0) -> float:
        """`groups` products [m, k] x [k, n] of equal shape in one kernel, such as the experts of a rank."""
        flops = 2.0 * m * n * k * groups
        if self.measured is not None:
            return flops / self.measured.at(flops)
        compute = flops / self.rate * (1.0 + self.wave / (m * n * groups)) * (1.0 + self.depth / k)
        moved = groups * (self.operand_bytes * (m * k + k * n) + 2.0 * m * n)
        return max(compute, moved / self.bytes_per_s)
