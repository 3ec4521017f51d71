"""Peaks of known accelerators: what a device could do at most, and where that figure comes from.

The catalogue is the data file `bench/catalog/data/accelerators.csv`, whose rows carry the source of every figure.
All rates are *dense* ones: vendors often headline figures with structured sparsity, twice as high. A device
that is not in the catalogue has no peak (None), and neither has a near relative of one that is: an A100 with
40 GB, an H100 NVL and a MIG slice are other devices. A new accelerator is one new row and one new pattern.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Accelerator:
    """One row of the catalogue; what its source does not give is None. GB, TB and TFLOP are decimal."""

    name: str
    vendor: str
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
    power_term: str | None
    """What the power figure is in its source: maximum TDP, typical board power, ..."""
    measured_bf16_tflop_per_s: float | None
    """Best matrix-multiplication rate that was reached in practice (`mamf` in the data file)."""
    source_of_flops: str | None
    source_of_memory: str | None
    source_of_fabric: str | None
    source_of_nic: str | None
    source_of_power: str | None
    notes: str | None


# Names as the drivers give them (NVML, torch.cuda.get_device_name, jax) -> name of the row. The whole name
# has to match: an `NVIDIA H200 NVL` is no `NVIDIA H200`, and a MIG slice is not the whole device.
# `GH200 480GB` names the memory of its CPU; the 144 GB version calls itself `GH200 144G HBM3e`.
PATTERNS: tuple[tuple[str, str], ...] = (
    (r"(NVIDIA )?A100-SXM4?-80GB", "A100-SXM-80GB"),
    (r"NVIDIA H100 80GB HBM3", "H100-SXM-80GB"),
    (r"NVIDIA H100 PCIe", "H100-PCIe-80GB"),
    (r"NVIDIA H200", "H200-SXM-141GB"),
    (r"NVIDIA GH200 480GB", "GH200-SXM-96GB"),
    (r"NVIDIA B200", "B200-SXM-180GB"),
    (r"NVIDIA B300( SXM6)?( AC)?", "B300-SXM-288GB"),
    (r"NVIDIA GB200", "GB200-SXM (per GPU of NVL72)"),
    (r"NVIDIA GB300", "GB300-SXM (per GPU of NVL72)"),
    (r"AMD Instinct MI300X( OAM| VF)?", "MI300X"),
    (r"AMD Instinct MI325X( OAM| VF)?", "MI325X"),
    (r"AMD Instinct MI355X( OAM| VF)?", "MI355X"),
    (r"TPU v5p", "TPU v5p"),
    (r"TPU v6( lite|e)", "TPU v6e"),
    (r"TPU v?7x", "TPU v7x"),
    (r"(Intel )?Gaudi ?3", "Gaudi3"),
)

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


def find(device_name: str, memory_bytes: int | None = None) -> Accelerator | None:
    """The row of a device by the name that its driver gives it, or None where there is none.

    Where the device's memory is given, and the row has one, the two have to agree within MEMORY_TOLERANCE:
    memory tells variants of one name apart.
    """
    wanted = next((row for pattern, row in PATTERNS if re.fullmatch(pattern, device_name.strip(), re.I)), None)
    found = next((row for row in catalogue() if row.name == wanted), None)
    if found is None or memory_bytes is None or found.memory_gb is None:
        return found
    low, high = MEMORY_TOLERANCE
    return found if low <= memory_bytes / (found.memory_gb * 1e9) <= high else None


def peak_flops(device_name: str, dtype: str, memory_bytes: int | None = None) -> float | None:
    """Peak dense FLOP/s of a device for a type, such as `bfloat16`; None where it is not known."""
    found = find(device_name, memory_bytes)
    if found is None or dtype not in PEAK_FIELDS:
        return None
    field, vendors = PEAK_FIELDS[dtype]
    tflop_per_s: float | None = getattr(found, field)
    return tflop_per_s * 1e12 if tflop_per_s is not None and found.vendor in vendors else None


def peak_memory_bytes_per_s(device_name: str, memory_bytes: int | None = None) -> float | None:
    """Peak memory bandwidth, reads and writes together, in bytes/s; None where it is not known."""
    found = find(device_name, memory_bytes)
    if found is None or found.memory_tb_per_s is None:
        return None
    return found.memory_tb_per_s * 1e12


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
        power_term=text("power_term"),
        measured_bf16_tflop_per_s=number("mamf_bf16_tflops_measured"),
        source_of_flops=text("src_tflops"),
        source_of_memory=text("src_memory"),
        source_of_fabric=text("src_fabric"),
        source_of_nic=text("src_nic"),
        source_of_power=text("src_power"),
        notes=text("notes"),
    )
