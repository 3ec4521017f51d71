"""RDMA ports in a tree of its own, in the form of /sys/class/infiniband."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure.system.rdma_ports import RdmaPort, read_rdma_ports


def write_port(root: Path, device: str, pci: str = "0000:3b:00.0", number: int = 1, **more: Any) -> None:
    """Write the files of a healthy port of 400 Gbit/s, with changes; counters by their names."""
    place = root / "sys/devices/pci0000:3a/0000:3a:01.0" / pci
    folder = place / "infiniband" / device / "ports" / str(number)
    (folder / "counters").mkdir(parents=True)
    texts = {
        "state": "4: ACTIVE",
        "phys_state": "5: LinkUp",
        "rate": "400 Gb/sec (4X NDR)",
        "link_layer": "InfiniBand",
    }
    for name, text in texts.items():
        (folder / name).write_text(f"{more.pop(name, text)}\n")
    (folder.parent.parent / "board_id").write_text(f"{more.pop('board_id', 'MT_0000000838')}\n")
    (folder.parent.parent / "hca_type").write_text("MT4129\n")
    for name in ("symbol_error", "link_downed", "port_rcv_errors"):
        (folder / "counters" / name).write_text(f"{more.pop(name, 0)}\n")
    if more.pop("virtual", False):
        (place / "physfn").mkdir()
    assert not more
    link = root / "sys/class/infiniband" / device
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        (folder.parent.parent / "device").symlink_to("../..")
        link.symlink_to(folder.parent.parent)


def test_a_port_is_read_with_its_card_and_counters(tmp_path: Path) -> None:
    write_port(tmp_path, "mlx5_0", symbol_error=7)
    assert read_rdma_ports(tmp_path) == (
        RdmaPort(
            device="mlx5_0",
            number=1,
            state="ACTIVE",
            physical_state="LinkUp",
            gbit_per_s=400,
            link_layer="InfiniBand",
            board="MT_0000000838 MT4129 InfiniBand",
            card="0000:3b:00",
            counters={"symbol_error": 7, "link_downed": 0, "port_rcv_errors": 0},
        ),
    )


def test_ports_of_one_device_and_virtual_functions_are_told_apart(tmp_path: Path) -> None:
    write_port(tmp_path, "mlx4_0", number=1)
    write_port(tmp_path, "mlx4_0", number=2, state="1: DOWN", phys_state="2: Polling")
    write_port(tmp_path, "mlx5_9", pci="0000:3b:02.1", virtual=True)
    one, two, virtual = read_rdma_ports(tmp_path)
    assert (one.name, one.is_up, two.name, two.is_up) == ("mlx4_0", True, "mlx4_0:2", False)
    assert (virtual.is_virtual_function, one.is_virtual_function) == (True, False)


def test_files_that_are_not_there_are_unknown(tmp_path: Path) -> None:
    assert read_rdma_ports(tmp_path) == ()
    (tmp_path / "sys/class/infiniband/efa_0/ports/1").mkdir(parents=True)
    (port,) = read_rdma_ports(tmp_path)
    assert (port.state, port.gbit_per_s, port.board, dict(port.counters)) == ("", None, "", {})
