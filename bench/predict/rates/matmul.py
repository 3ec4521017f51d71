"""A matrix multiplication's time from its shape: a roofline with two saturations.

    rate = best rate x share / ((1 + wave / (m n)) (1 + depth / k))

`wave` is the size of output that keeps half of a device's units busy, and grows with the device; `depth` the length of
the products whose start and end cost as much as themselves. Not faster than memory brings the three matrices. Where
measured cases of the `compute` suite are given, their efficiency by size takes the place of the formula.
"""

from __future__ import annotations

from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import HOT_WATTS, Common
from bench.predict.rates.device import Device, is_eight_bit

REFERENCE_FLOPS_PER_S = 312e12
"""Device for which `wave_elements` is given: A100."""
ROWWISE_SHARE = 0.65
"""Rate with one scale per row over that with one per tensor: torchao's README (torchao/float8/README.md) has 6,150
tokens/s of Llama 3 8B on 8 H100 in bf16, 7,690 with a scale per tensor and 6,768 with one per row. If products with one
a tensor take half of bf16's time, those with one per row take 0.77 of it."""


def reached_share(device: Device, common: Common, precision: str) -> float:
    """Share of the best rate that a multiplication reached alone."""
    if is_eight_bit(precision):
        return common.fp8_share * (ROWWISE_SHARE if precision == "fp8-rowwise" else 1.0)
    is_cool = device.nominal_watts is not None and device.nominal_watts < HOT_WATTS
    return common.matmul_share if is_cool else common.hot_matmul_share


class Multiplier:
    """Times multiplications on one device in one precision."""

    def __init__(self, device: Device, common: Common, precision: str, measured: BySize | None = None) -> None:
        """`measured`: FLOP/s of measured multiplications by their FLOPs."""
        eight_bit = is_eight_bit(precision)
        self.rate = device.matmul_flops_per_s(precision) * reached_share(device, common, precision)
        self.wave = common.wave_elements * device.flops_per_s(precision) / REFERENCE_FLOPS_PER_S
        self.depth = common.depth_elements * (2.0 if eight_bit else 1.0)
        self.bytes_per_s = device.memory_bytes_per_s * common.memory_share
        self.operand_bytes = 1.0 if eight_bit else 4.0 if precision == "fp32" else 2.0
        self.measured = measured

    def seconds(self, m: float, n: float, k: float, groups: float = 1.0) -> float:
        """`groups` products [m, k] x [k, n] of equal shape in one kernel, such as the experts of a rank."""
        flops = 2.0 * m * n * k * groups
        if self.measured is not None:
            return flops / self.measured.at(flops)
        compute = flops / self.rate * (1.0 + self.wave / (m * n * groups)) * (1.0 + self.depth / k)
        moved = groups * (self.operand_bytes * (m * k + k * n) + 2.0 * m * n)
        return max(compute, moved / self.bytes_per_s)
