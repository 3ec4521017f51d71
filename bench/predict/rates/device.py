"""Rates of a device and the levels of its network: from the catalogue, or overridden by measurements.

Two levels of network: `inside` a scale-up domain (a node's NVLink or XGMI, or a rack's), and `across` domains (one NIC
a device). Peaks are the catalogue's; the share that is reached is in `bench.predict.rates.constants`. Values that the
catalogue does not have are asked for, never guessed: `--nic-gbit` and its like.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field, replace

from bench.catalog.accelerators import Accelerator, catalogue, named
from bench.errors import BenchError

DOMAIN_SIZE = 8
RACK_DOMAIN = re.compile(r"(\d+)-GPU domain")


def is_eight_bit(precision: str) -> bool:
    """True for fp8, whatever its scales are of."""
    return precision in ("fp8", "fp8-rowwise")


@dataclass(frozen=True)
class Level:
    """One level of the network, as one device sees it: `bytes_per_s` one way, `seconds` of latency a hop."""

    bytes_per_s: float
    latency_seconds: float
    source: str


@dataclass(frozen=True)
class Device:
    """One type of accelerator with its network. Rates are peaks in FLOP/s and bytes/s, None if not known."""

    name: str
    bf16_flops_per_s: float
    fp8_flops_per_s: float | None
    reached_bf16_flops_per_s: float
    """The best matrix-multiplication rate that was reached in practice, whatever the shape."""
    memory_bytes: float | None
    memory_bytes_per_s: float
    domain_size: int
    inside: Level | None
    across: Level | None
    power_watts: float | None
    nominal_watts: float | None
    """Power at which the peak holds; a lower `power_watts` caps the clock."""
    notes: tuple[str, ...] = field(default=())
    fp32_flops_per_s: float | None = None
    """Peak of measured devices only: the catalogue has none."""
    overlaps: bool = True
    """The device computes while data move: not if ranks compute on the cores that move them."""

    def flops_per_s(self, precision: str) -> float:
        """Peak dense rate; raises BenchError for a precision whose rate is not in the catalogue."""
        if precision in ("bf16", "fp16"):
            return self.bf16_flops_per_s
        if is_eight_bit(precision) and self.fp8_flops_per_s is not None:
            return self.fp8_flops_per_s
        if precision == "fp32" and self.fp32_flops_per_s is not None:
            return self.fp32_flops_per_s
        raise BenchError(
            f"{self.name}: no peak rate of precision {precision!r} is known; of the catalogue's, take bf16, fp16 or fp8"
        )

    def matmul_flops_per_s(self, precision: str) -> float:
        """Rate of the best multiplication: measured for bf16, and the same share of the peak for fp8."""
        return self.clock_share * self.reached_bf16_flops_per_s * self.flops_per_s(precision) / self.bf16_flops_per_s

    @property
    def clock_share(self) -> float:
        """A power cap lowers the clock by its cube root: power goes with frequency times voltage squared, and voltage
        about with frequency.
        """
        if self.power_watts and self.nominal_watts and self.power_watts < self.nominal_watts:
            return float((self.power_watts / self.nominal_watts) ** (1.0 / 3.0))
        return 1.0


def names() -> list[str]:
    return [row.name for row in catalogue()]


def find(
    name: str,
    nic_gbit: float | None = None,
    domain_size: int | None = None,
    latencies: tuple[float, float] = (0.0, 0.0),
    memory_gb: float | None = None,
) -> Device:
    """A device by a name that the catalogue knows, such as `H200`.

    `latencies` are of a hop inside and across domains. Raises BenchError for an unknown name, or if a figure that a
    prediction needs is missing from the catalogue.
    """
    row = named(name)
    if row.bf16_dense_tflop_per_s is None or row.memory_tb_per_s is None:
        raise BenchError(
            f"{row.name}: the catalogue has no peak or no memory bandwidth of it; take another accelerator"
        )
    notes = [row.notes] if row.variant_of and row.notes else []
    reached = (named(row.variant_of) if row.variant_of else row).measured_bf16_tflop_per_s
    if reached is None:
        share = _typical_share(row.vendor)
        reached = row.bf16_dense_tflop_per_s * share
        notes.append(
            f"{row.name}: reached matmul rate unknown; {100 * share:.0f}% of peak, the median of {row.vendor}'s"
        )
    size = domain_size or _domain_size(row)
    nic = nic_gbit if nic_gbit is not None else row.scaleout_nic_gbit_per_s
    inside, across = latencies
    device = Device(
        name=row.name,
        bf16_flops_per_s=row.bf16_dense_tflop_per_s * 1e12,
        fp8_flops_per_s=None if row.fp8_dense_tflop_per_s is None else row.fp8_dense_tflop_per_s * 1e12,
        reached_bf16_flops_per_s=reached * 1e12,
        memory_bytes=None if row.memory_gb is None else row.memory_gb * 1e9,
        memory_bytes_per_s=row.memory_tb_per_s * 1e12,
        domain_size=size,
        inside=None
        if row.scaleup_one_way_gb_per_s is None
        else Level(row.scaleup_one_way_gb_per_s * 1e9, inside, row.source_of_fabric or "catalogue"),
        across=None
        if nic is None
        else Level(nic * 1e9 / 8, across, "given" if nic_gbit is not None else row.source_of_nic or "catalogue"),
        power_watts=row.power_watts,
        nominal_watts=row.full_clock_watts or row.power_watts,
        notes=tuple(notes),
    )
    return device if memory_gb is None else replace(device, memory_bytes=memory_gb * 1e9)


def _domain_size(row: Accelerator) -> int:
    match = RACK_DOMAIN.search(row.scaleup_fabric or "")
    return int(match.group(1)) if match else DOMAIN_SIZE


def _typical_share(vendor: str) -> float:
    shares = [
        row.measured_bf16_tflop_per_s / row.bf16_dense_tflop_per_s
        for row in catalogue()
        if row.vendor == vendor and row.measured_bf16_tflop_per_s and row.bf16_dense_tflop_per_s
    ]
    if not shares:
        raise BenchError(f"no accelerator of {vendor} in the catalogue has a measured matmul rate; take another one")
    return statistics.median(shares)
