"""The catalogue of accelerators: names of drivers, peaks, and what must stay unknown."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from bench.catalog import accelerators
from bench.errors import BenchError

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
        ("NVIDIA GB300", 279 * 10**9, "GB300-SXM (per GPU of NVL72)"),
        ("NVIDIA A100-SXM4-40GB", int(39.4 * GIB), "A100-SXM-40GB"),
        ("NVIDIA A100 80GB PCIe", int(79.2 * GIB), "A100-PCIe-80GB"),
        ("NVIDIA A100-PCIE-40GB", int(39.4 * GIB), "A100-PCIe-40GB"),
        ("NVIDIA H100 NVL", int(93.1 * GIB), "H100-NVL-94GB"),
        ("NVIDIA H200 NVL", int(139.8 * GIB), "H200-NVL-141GB"),
        ("NVIDIA H20", int(95.1 * GIB), "H20-SXM-96GB"),
        ("NVIDIA L40S", int(44.4 * GIB), "L40S-48GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", int(94.5 * GIB), "RTX PRO 6000 Blackwell Server-96GB"),
        ("AMD Instinct MI350X", 288 * 10**9, "MI350X"),
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
        "NVIDIA A100",
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA H100",
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "NVIDIA H20-3e",
        "NVIDIA H800",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
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


NAMES = {
    "A100-SXM-80GB": ("A", "A100", "a100", "A100-SXM", "A100-SXM-80GB", "A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"),
    "A100-SXM-40GB": ("A100-SXM-40GB", "NVIDIA A100-SXM4-40GB"),
    "A100-PCIe-40GB": ("A100-PCIe-40GB",),
    "A100-PCIe-80GB": ("A100-PCIe-80GB",),
    "H100-SXM-80GB": ("H1", "H100", "h100", "H100-SXM", "h100-sxm-80gb", "h100 sxm", "NVIDIA H100 80GB HBM3"),
    "H100-SXM-96GB": ("H100-SXM-96GB",),
    "H100-PCIe-80GB": ("H100-P", "h100-pcie", "H100-PCIe-80GB", "NVIDIA H100 PCIe"),
    "H100-NVL-94GB": ("H100-NVL", "h100 nvl"),
    "H200-SXM-141GB": ("H200", "h200", "H200-SXM-141GB", "NVIDIA H200"),
    "H200-NVL-141GB": ("H200-NVL",),
    "H20-SXM-96GB": ("H20", "h20-sxm", "NVIDIA H20"),
    "GH200-SXM-96GB": ("GH", "GH200", "GH200-SXM-96GB", "NVIDIA GH200 480GB"),
    "B200-SXM-180GB": ("B2", "B200", "b200-sxm", "NVIDIA B200"),
    "B300-SXM-288GB": ("B3", "B300", "NVIDIA B300", "NVIDIA B300 SXM6", "NVIDIA B300 SXM6 AC"),
    "GB200-SXM (per GPU of NVL72)": ("GB200", "GB200-SXM", "GB200-SXM (per GPU of NVL72)", "NVIDIA GB200"),
    "GB300-SXM (per GPU of NVL72)": ("GB300", "gb300-sxm", "GB300-SXM (per GPU of NVL72)", "NVIDIA GB300"),
    "L40S-48GB": ("L40S", "l40s"),
    "RTX PRO 6000 Blackwell Server-96GB": ("RTX PRO 6000", "rtx-pro-6000"),
    "MI300X": ("MI300", "MI300X", "mi300x", "AMD Instinct MI300X", "AMD Instinct MI300X OAM", "AMD Instinct MI300X VF"),
    "MI325X": ("MI325", "MI325X", "AMD Instinct MI325X", "AMD Instinct MI325X OAM"),
    "MI350X": ("MI350", "MI350X"),
    "MI355X": ("MI355", "MI355X", "AMD Instinct MI355X", "AMD Instinct MI355X VF"),
    "TPU v5p": ("TPU", "TPU v5", "TPU v5p"),
    "TPU v6e": ("TPU v6", "TPU v6e", "TPU v6 lite"),
    "TPU v7x": ("TPU v7x", "TPU 7x"),
    "Gaudi3": ("Gaudi", "gaudi3", "GAUDI 3", "Intel Gaudi3", "intel gaudi 3"),
}


def test_drivers_names_and_typed_ones_are_found_by_one_rule() -> None:
    assert {row.name for row in accelerators.catalogue()} == set(NAMES)
    for row, names in NAMES.items():
        for name in (*names, row, row.lower()):
            assert accelerators.named(name).name == row, name


@pytest.mark.parametrize("name", ["H", "B", "G", "M", "MI", "MI3", "MI35", "H2"])
def test_a_start_of_several_products_is_ambiguous(name: str) -> None:
    assert accelerators.find(name) is None
    with pytest.raises(BenchError, match=f"'{name}' is ambiguous: .*; there are: A100-SXM-80GB"):
        accelerators.named(name)


@pytest.mark.parametrize("name", ["", "H300", "A100-SXM-81", "NVIDIA H"])
def test_an_unknown_name_is_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(BenchError, match=f"'{name}' is not in the catalogue; there are: A100-SXM-80GB"):
        accelerators.named(name)


def test_memory_tells_variants_of_one_name_apart() -> None:
    assert accelerators.find("NVIDIA GH200 480GB", 144 * 10**9) is None
    assert accelerators.find("NVIDIA H100 PCIe", 40 * 10**9) is None
    assert accelerators.find("AMD Instinct MI300X", 24 * GIB) is None  # a partition of an eighth


def test_peaks_are_the_dense_ones() -> None:
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float16") == 989e12
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float8_e4m3fn") == 1979e12
    assert accelerators.peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert accelerators.peak_flops("NVIDIA H100 NVL", "bfloat16") == 835.5e12


def test_what_the_catalogue_does_not_give_is_none() -> None:
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "float32") is None
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "int8") is None
    assert accelerators.peak_flops("NVIDIA A100-SXM4-80GB", "float8_e4m3fn") is None  # Ampere has no fp8
    assert accelerators.peak_flops("TPU v5p", "float16") is None
    assert accelerators.peak_flops("NVIDIA RTX PRO 6000 Blackwell Server Edition", "bfloat16") is None  # blank
    assert accelerators.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16", 40 * 10**9) is None


def test_every_row_is_read_and_every_figure_has_a_source() -> None:
    with resources.files("bench.catalog.data").joinpath("accelerators.csv").open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    rows = accelerators.catalogue()
    assert names == [row.name for row in rows]
    drivers = [name.lower() for row in rows for name in row.driver_names]
    assert len(set(drivers)) == len(drivers)
    for row in rows:
        assert row.source_of_flops or row.bf16_dense_tflop_per_s is None, row.name
        assert row.source_of_memory or (row.memory_gb is None and row.memory_tb_per_s is None), row.name
        assert row.source_of_fabric or row.scaleup_one_way_gb_per_s is None, row.name
        assert row.source_of_power or row.power_watts is None, row.name
        assert row.variant_of is None or accelerators.named(row.variant_of).measured_bf16_tflop_per_s, row.name


def test_figures_agree_with_one_another() -> None:
    """8 bits twice as fast as 16 (but on Gaudi 3 and TPU v6e, whose sources say equal), both ways twice one way."""
    for row in accelerators.catalogue():
        fast, slow = row.fp8_dense_tflop_per_s, row.bf16_dense_tflop_per_s
        if fast and slow and row.vendor in ("NVIDIA", "AMD"):
            assert fast / slow == pytest.approx(2.0, rel=0.015), row.name
        if row.scaleup_one_way_gb_per_s and row.scaleup_both_ways_gb_per_s:
            ratio = row.scaleup_both_ways_gb_per_s / row.scaleup_one_way_gb_per_s
            assert ratio == pytest.approx(2.0, rel=0.02), row.name
        if row.measured_bf16_tflop_per_s and slow:
            assert 0.4 < row.measured_bf16_tflop_per_s / slow < 1.0, row.name
        assert not row.full_clock_watts or (row.power_watts or 0) < row.full_clock_watts, row.name


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
