"""NVLinks against those that a product wires."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.catalog.accelerators import catalogue, find
from bench.catalog.nvlinks import wired_links
from bench.measure.doctor.checks import examine
from bench.measure.doctor.nvlink_check import check_nvlinks
from tests.measure.doctor.test_checks import GPU_NODE, healthy_gpu, trouble

NVL, SXM, PCIE = "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"


def found(*gpus: tuple[str, int, int], **more: Any) -> list[tuple[str, str, str, str]]:
    """Findings on GPUs that are given as (name, active links, links)."""
    facts = replace(
        GPU_NODE,
        gpus=tuple(
            healthy_gpu(index, name=name, nvlinks_active=active, nvlinks=links, **more)
            for index, (name, active, links) in enumerate(gpus)
        ),
    )
    return [(each.level, each.what, each.value, each.action) for each in check_nvlinks(facts)]


@pytest.mark.parametrize(
    ("name", "active", "links"),
    [
        (NVL, 12, 18),  # the bridge takes 12
        (SXM, 18, 18),
        (PCIE, 0, 18),  # cards without a bridge
        (PCIE, 12, 18),
        ("NVIDIA H200 NVL", 18, 18),
        ("NVIDIA A100-SXM4-80GB", 12, 12),
        ("NVIDIA B200", 18, 18),
        ("NVIDIA RTX A6000", 4, 4),  # no row, and nothing missing
        ("NVIDIA RTX A6000", 0, 4),
    ],
)
def test_links_as_they_are_wired_are_no_fault(name: str, active: int, links: int) -> None:
    assert found((name, active, links), (name, active, links)) == []


@pytest.mark.parametrize(
    ("name", "active", "action"),
    [
        (NVL, 0, "reboot"),
        (NVL, 11, "reset"),
        (SXM, 12, "reset"),
        (SXM, 0, "reboot"),
        (PCIE, 8, "reset"),
        ("NVIDIA H200 NVL", 12, "reset"),
        ("NVIDIA B200", 17, "reset"),
    ],
)
def test_fewer_links_than_are_wired_fail(name: str, active: int, action: str) -> None:
    wired = wired_links(name)
    assert wired is not None
    fault = ("fail", "GPU 1 NVLink", f"{active} of {wired.links} wired links active", action)
    assert found((name, wired.links, 18), (name, active, 18)) == [fault]


def test_gpus_with_the_same_fault_are_one_finding() -> None:
    gone = found((NVL, 0, 18), (NVL, 0, 18), (NVL, 12, 18), (NVL, 3, 18))
    assert [(what, value) for _, what, value, _ in gone] == [
        ("NVLink of 2 GPUs", "0 of 12 wired links active on GPU 0, 1"),
        ("GPU 3 NVLink", "3 of 12 wired links active"),
    ]


def test_a_gpu_alone_and_a_slice_need_no_link() -> None:
    assert found((NVL, 0, 18)) == []
    assert found((SXM, 0, 18), (SXM, 0, 18), mig=True) == []


def test_an_unknown_model_is_judged_by_its_like() -> None:
    name = "NVIDIA Unheard Of"
    assert wired_links(name) is None
    one_less = found((name, 6, 6), (name, 6, 6), (name, 5, 6))
    assert one_less == [("fail", "GPU 2 NVLink", "5 links active; 6 are on most others of its model", "reset")]
    alike = found((name, 4, 6), (name, 4, 6))
    assert alike == [("warn", "NVLink of 2 GPUs", "4 of 6 links active on GPU 0, 1", "watch")]


def test_the_table_is_of_gpus_in_the_catalogue() -> None:
    assert find(NVL) is not None
    with_nvlink = {row.name for row in catalogue() if "NVLink" in (row.scaleup_fabric or "")}
    known = {row.name for row in catalogue() if any(wired_links(f"NVIDIA {name}") for name in row.driver_names)}
    # The name of one is not known.
    assert with_nvlink - known == {"H100-SXM-96GB"}


def test_a_node_of_bridged_pairs_is_healthy() -> None:
    pair = tuple(healthy_gpu(index, name=NVL, nvlinks_active=12) for index in (0, 1))
    node = replace(GPU_NODE, torch_gpus=(NVL, NVL), gpus=pair)
    assert trouble(node) == []
    assert any("without a finding" in finding.value for finding in examine(node))
