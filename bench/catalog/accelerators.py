"""Catalogue of accelerators: peaks, memory, links and power of known devices, with the source of every figure.

The data file is `bench/catalog/data/accelerators.csv`; a new accelerator is one new row. All rates are *dense* ones:
vendors often headline figures with structured sparsity, twice as high. A device that is not in the catalogue has no
peak (None), and neither has a near relative of one that is: a MIG slice and an H20 with other memory are other devices.

`find` is the only look-up. It takes a driver's name (`NVIDIA H100 80GB HBM3`), the name of a row (`H100-SXM-80GB`) or
the start of one (`h100`).
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from bench.errors import BenchError


@dataclass(frozen=True)
class Accelerator:
    """One row of the catalogue; None if its source does not give a value. GB, TB and TFLOP are decimal."""

    name: str
    vendor: str
    driver_names: tuple[str, ...]
    """Names that drivers give it (NVML, torch.cuda.get_device_name, jax), without the maker's name in front."""
    variant_of: str | None
    """Name of the row with the same chip, whose measured rates hold for this one too."""
    year: int | None
    memory_type: str | None
    bf16_dense_tflop_per_s: float | None
    fp8_dense_tflop_per_s: float | None
    memory_gb: float | None
    memory_tb_per_s: float | None
    scaleup_fabric: str | None
    scaleup_one_way_gb_per_s: float | None
    scaleup_both_ways_gb_per_s: float | None
    scaleout_nic: str | None
    """Text of the column: a number of Gbit/s, or words such as `shared with scale-up`."""
    scaleout_nic_gbit_per_s: float | None
    power_watts: float | None
    full_clock_watts: float | None
    """Power at which the peaks hold, if `power_watts` is a lower cap."""
    power_term: str | None
    """Term for the power figure in its source: maximum TDP, typical board power, ..."""
    measured_bf16_tflop_per_s: float | None
    """Best matrix-multiplication rate that was reached in practice (`mamf` in the data file)."""
    source_of_flops: str | None
    source_of_memory: str | None
    source_of_fabric: str | None
    source_of_nic: str | None
    source_of_power: str | None
    notes: str | None

    @property
    def has_rates(self) -> bool:
        """True if peak and memory bandwidth are known, which every prediction needs."""
        return self.bf16_dense_tflop_per_s is not None and self.memory_tb_per_s is not None


MAKERS = re.compile(r"(nvidia|amd instinct|intel)\s+")

# Vendors write "80 GB" for 80 GiB (1.074 x 80e9 bytes) or a little less, and drivers keep some themselves.
MEMORY_TOLERANCE = (0.90, 1.08)

# torch's name of a type -> (field of the peak in TFLOP/s, vendors that publish that rate for this type).
# NVIDIA and AMD publish one dense tensor rate for bfloat16 and float16. float32 and int8 are not in the data.
_ALL = ("NVIDIA", "AMD", "Google", "Intel")
PEAK_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bfloat16": ("bf16_dense_tflop_per_s", _ALL),
    "float16": ("bf16_dense_tflop_per_s", ("NVIDIA", "AMD")),
    "float8_e4m3fn": ("fp8_dense_tflop_per_s", _ALL),
    "float8_e5m2": ("fp8_dense_tflop_per_s", _ALL),
    "float8_e4m3fnuz": ("fp8_dense_tflop_per_s", ("AMD",)),
    "float8_e5m2fnuz": ("fp8_dense_tflop_per_s", ("AMD",)),
}


@functools.cache
def catalogue() -> tuple[Accelerator, ...]:
    """All rows of the data file, in its order."""
    text = (resources.files("bench.catalog.data") / "accelerators.csv").read_text(encoding="utf-8")
    return tuple(_accelerator(row) for row in csv.DictReader(io.StringIO(text)))


def find(name: str, memory_bytes: int | None = None) -> Accelerator | None:
    """The row that a name stands for; None for an unknown or ambiguous one.

    With the device's memory given, the row's has to agree with it within MEMORY_TOLERANCE: memory tells variants of one
    name apart.
    """
    rows = _matching(name)
    if not rows or len({_family(row) for row in rows}) > 1:
        return None
    if memory_bytes is None or rows[0].memory_gb is None:
        return rows[0]
    low, high = MEMORY_TOLERANCE
    return rows[0] if low <= memory_bytes / (rows[0].memory_gb * 1e9) <= high else None


def named(name: str) -> Accelerator:
    """The row that a name stands for. Raises BenchError for an unknown or ambiguous one, with the names there are."""
    row = find(name)
    if row is None:
        starts = ", ".join(row.name for row in _matching(name))
        problem = f"is ambiguous: {starts}" if starts else "is not in the catalogue"
        raise BenchError(f"accelerator {name!r} {problem}; there are: {', '.join(row.name for row in catalogue())}")
    return row


def _matching(name: str) -> Sequence[Accelerator]:
    """The row that has the name; failing that all rows that start with it, in the file's order.

    A name with its maker in front is a driver's, and whole: an `NVIDIA H200 XYZ` is not an H200, nor an `NVIDIA H` one.
    """
    text = name.strip().lower()
    key = _key(MAKERS.sub("", text, count=1) if MAKERS.match(text) else text)
    exact = [row for row in catalogue() if key in map(_key, (row.name, *row.driver_names))]
    if exact or not key or MAKERS.match(text):
        return exact
    # `H20` is that card, and not the start of `H200`.
    family = [row for row in catalogue() if key == _key(_family(row))]
    return family or [row for row in catalogue() if _key(row.name).startswith(key)]


def _family(row: Accelerator) -> str:
    """The product's name without form and memory, such as `H100`; alone it stands for the first row that has it."""
    return re.split(r"[- ]", row.name, maxsplit=1)[0]


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.lower())


def peak_flops(device_name: str, dtype: str, memory_bytes: int | None = None) -> float | None:
    """Peak dense FLOP/s of a device for a type, such as `bfloat16`; None if it is not known."""
    row = find(device_name, memory_bytes)
    if row is None or dtype not in PEAK_FIELDS:
        return None
    field, vendors = PEAK_FIELDS[dtype]
    tflop_per_s: float | None = getattr(row, field)
    return tflop_per_s * 1e12 if tflop_per_s is not None and row.vendor in vendors else None


def _accelerator(row: dict[str, str]) -> Accelerator:
    def text(column: str) -> str | None:
        return row[column].strip() or None

    def number(column: str) -> float | None:
        value = text(column)
        return float(value) if value is not None and re.fullmatch(r"[0-9.]+", value) else None

    year = text("year")
    return Accelerator(
        name=row["name"],
        vendor=row["vendor"],
        driver_names=tuple(filter(None, row["driver_names"].split(";"))),
        variant_of=text("variant_of"),
        year=None if year is None else int(year),
        memory_type=text("memory_type"),
        bf16_dense_tflop_per_s=number("bf16_dense_tflops"),
        fp8_dense_tflop_per_s=number("fp8_dense_tflops"),
        memory_gb=number("hbm_gb"),
        memory_tb_per_s=number("hbm_tb_s"),
        scaleup_fabric=text("scaleup_fabric"),
        scaleup_one_way_gb_per_s=number("scaleup_gb_s_per_gpu_unidir"),
        scaleup_both_ways_gb_per_s=number("scaleup_gb_s_per_gpu_bidir"),
        scaleout_nic=text("scaleout_nic_gbps_per_gpu"),
        scaleout_nic_gbit_per_s=number("scaleout_nic_gbps_per_gpu"),
        power_watts=number("power_w"),
        full_clock_watts=number("full_clock_w"),
        power_term=text("power_term"),
        measured_bf16_tflop_per_s=number("mamf_bf16_tflops_measured"),
        source_of_flops=text("src_tflops"),
        source_of_memory=text("src_memory"),
        source_of_fabric=text("src_fabric"),
        source_of_nic=text("src_nic"),
        source_of_power=text("src_power"),
        notes=text("notes"),
    )
