"""RDMA ports against others of their kind, and their counters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.measure.doctor.checks import examine
from bench.measure.doctor.port_checks import check_ports
from bench.measure.system.rdma_ports import read_rdma_ports
from tests.measure.doctor.test_checks import CPU_NODE, GPU_NODE
from tests.measure.system.test_rdma_ports import write_port

DOWN = {"state": "1: DOWN", "phys_state": "2: Polling"}
Change = dict[int, dict[str, Any]]


def found(root: Path, number: int, changes: Change) -> list[tuple[str, str, str, str]]:
    """Findings on this many ports, each on a card of its own, with changes by number."""
    for index in range(number):
        write_port(root, f"mlx5_{index}", **({"pci": f"0000:{index + 16:02x}:00.0"} | changes.get(index, {})))
    findings = check_ports(replace(GPU_NODE, rdma_ports=read_rdma_ports(root)))
    return [(each.level, each.what, each.value, each.action) for each in findings]


def test_ports_that_are_all_up_are_one_line(tmp_path: Path) -> None:
    assert found(tmp_path, 8, {}) == [("ok", "RDMA ports", "8 x 400 Gbit/s InfiniBand up", "")]


@pytest.mark.parametrize(
    ("number", "changes", "finding"),
    [
        (8, {3: DOWN}, ("fail", "port mlx5_3", "DOWN (Polling), while 7 ports of its kind are up", "isolate")),
        (2, {1: DOWN}, ("warn", "port mlx5_1", "DOWN (Polling), while 1 port of its kind is up", "watch")),
        (
            8,
            {3: {"state": "1: DOWN", "phys_state": "3: Disabled"}},
            ("warn", "port mlx5_3", "DOWN (Disabled), while 7 ports of its kind are up", "watch"),
        ),
        (
            8,
            {3: {"state": "2: INIT"}},
            ("fail", "port mlx5_3", "INIT (LinkUp), while 7 ports of its kind are up", "isolate"),
        ),
        (
            8,
            {2: {"rate": "200 Gb/sec (2X NDR)"}},
            ("fail", "port mlx5_2", "200 Gbit/s; 7 of its kind have 400", "isolate"),
        ),
        (
            2,
            {0: {"rate": "200 Gb/sec (2X NDR)"}},
            ("warn", "port mlx5_0", "200 Gbit/s; 1 of its kind has 400", "watch"),
        ),
        (8, {5: {"symbol_error": 1200}}, ("warn", "port mlx5_5 errors", "symbol_error 1,200", "watch")),
        (8, {5: {"link_downed": 4}}, ("warn", "port mlx5_5 errors", "link_downed 4", "watch")),
        (1, {0: {"link_downed": 40}}, ("warn", "port mlx5_0 errors", "link_downed 40", "watch")),
        (2, {0: DOWN, 1: DOWN}, ("warn", "RDMA ports", "none of 2 ports is up", "watch")),
    ],
)
def test_a_port_unlike_the_others_is_found(
    tmp_path: Path, number: int, changes: Change, finding: tuple[str, str, str, str]
) -> None:
    assert found(tmp_path, number, changes) == [finding]


@pytest.mark.parametrize(
    "changes",
    [
        {1: DOWN | {"pci": "0000:10:00.1"}},  # the second port of the card of port 0
        {1: DOWN | {"board_id": "DELL0000000033"}},  # a card of another kind, for storage
        {1: DOWN | {"virtual": True}},  # waits for a virtual machine
        {1: {"rate": "100 Gb/sec (4X EDR)", "board_id": "DELL0000000033"}},
        {1: {"symbol_error": 3, "link_downed": 1}},  # from the start of the link
        {index: {"link_downed": 25} for index in range(4)},  # their switch was restarted
    ],
)
def test_no_fault_is_not_found(tmp_path: Path, changes: Change) -> None:
    assert [level for level, *_ in found(tmp_path, 4, changes)] == ["ok"]


def test_half_of_the_ports_being_down_accuses_none(tmp_path: Path) -> None:
    levels = [level for level, *_ in found(tmp_path, 4, {0: DOWN, 1: DOWN})]
    assert levels == ["warn", "warn"]


def test_a_host_without_such_ports_hears_nothing_of_them() -> None:
    assert list(check_ports(CPU_NODE)) == []
    assert not any("RDMA" in finding.line() for finding in examine(CPU_NODE))
