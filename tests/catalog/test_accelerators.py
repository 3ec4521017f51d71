"""The catalogue of accelerators: names of drivers, peaks, and what must stay unknown."""

from __future__ import annotations

import csv
import re
from importlib import resources

import pytest

from bench.catalog import accelerators

GIB = 2**30


@pytest.mark.parametrize(
    ("device_name", "memory_bytes", "row"),
    [
        ("NVIDIA H100 80GB HBM3", int(79.1 * GIB), "H100-SXM-80GB"),
        ("NVIDIA H100 PCIe", int(79.1 * GIB), "H100-PCIe-80GB"),
        ("NVIDIA A100-SXM4-80GB", int(79.2 * GIB), "A100-SXM-80GB"),
        ("A100-SXM-80GB", None, "A100-SXM-80GB"),
        ("NVIDIA H200", int(139.8 * GIB), "H200-SXM-141GB"),
        ("NVIDIA GH200 480GB", int(94.5 * GIB), "GH200-SXM-96GB"),
        ("NVIDIA B200", int(178.4 * GIB), "B200-SXM-180GB"),
        ("NVIDIA GB200", int(184.3 * GIB), "GB200-SXM (per GPU of NVL72)"),
        ("NVIDIA GB300", 279 * GIB, "GB300-SXM (per GPU of NVL72)"),
        ("AMD Instinct MI300X", 192 * GIB, "MI300X"),
        ("AMD Instinct MI300X VF", 192 * GIB, "MI300X"),
        ("  nvidia h200 ", None, "H200-SXM-141GB"),
    ],
)
def test_names_that_drivers_give_find_their_row(device_name: str, memory_bytes: int | None, row: str) -> None:
    found = accelerators.find(device_name, memory_bytes)
    assert found is not None
    assert found.name == row


@pytest.mark.parametrize(
    "device_name",
    [
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100 80GB PCIe",
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA H100 NVL",
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "NVIDIA H200 NVL",
        "NVIDIA H20",
        "NVIDIA H800",
        "NVIDIA GH200 144G HBM3e",
        "NVIDIA RTX A6000",
        "AMD Instinct MI300A",
        "AMD Instinct MI308X",
        "Intel Xeon Processor",
        "",
    ],
)
def test_a_near_miss_is_unknown(device_name: str) -> None:
    assert accelerators.find(device_name) is None
    assert accelerators.peak_flops(device_name, "bfloat16") is None
    assert accelerators.peak_memory_bytes_per_s(device_name) is None


def test_memory_tells_variants_of_one_name_apart() -> None:
    assert accelerators.find("NVIDIA GH200 480GB", 144 * 10**9) is None
    assert accelerators.find("NVIDIA H100 PCIe", 40 * 10**9) is None
    assert accelerators.find("AMD Instinct MI300X", 24 * GIB) is None  # a partition of an eighth


def test_peaks_are_the_dense_ones() -> None:
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float16") == 989e12
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float8_e4m3fn") == 1979e12
    assert accelerators.peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert accelerators.peak_memory_bytes_per_s("NVIDIA H200") == 4.8e12
    assert accelerators.peak_memory_bytes_per_s("NVIDIA H100 80GB HBM3", int(79.1 * GIB)) == pytest.approx(3.35e12)


def test_what_the_catalogue_does_not_give_is_none() -> None:
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float32") is None
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "int8") is None
    assert accelerators.peak_flops("NVIDIA A100-SXM4-80GB", "float8_e4m3fn") is None  # Ampere has no fp8
    assert accelerators.peak_flops("TPU v5p", "float16") is None
    assert accelerators.peak_memory_bytes_per_s("NVIDIA GB300") is None  # blank in the data file
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16", 40 * 10**9) is None


def test_every_row_is_read_and_has_a_pattern_and_a_source() -> None:
    with resources.files("bench.catalog.data").joinpath("accelerators.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = accelerators.catalogue()
    assert [row["name"] for row in rows] == [one.name for one in found]
    assert {one.name for one in found} == {row for _, row in accelerators.PATTERNS}
    assert all(one.source_of_flops for one in found if one.bf16_dense_tflop_per_s is not None)
    assert len({pattern for pattern, _ in accelerators.PATTERNS}) == len(accelerators.PATTERNS)
    for pattern, _ in accelerators.PATTERNS:
        re.compile(pattern)


def test_a_column_of_words_is_kept_as_words() -> None:
    gaudi = accelerators.find("GAUDI3")
    assert gaudi is not None
    assert gaudi.scaleout_nic == "shared with scale-up"
    assert gaudi.scaleout_nic_gbit_per_s is None
    assert gaudi.power_watts == 900
    v5p = accelerators.find("TPU v5p")
    assert v5p is not None
    assert v5p.power_watts is None
    assert v5p.power_term == "not published by Google"
