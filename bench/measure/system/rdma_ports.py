"""Ports of RDMA devices (InfiniBand, RoCE, EFA) as the kernel shows them under /sys/class/infiniband.

Files and units: Documentation/ABI/stable/sysfs-class-infiniband. Every function takes the root of the file system.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.system.cgroup import read_int, read_text

COUNTERS = (
    "symbol_error",
    "link_error_recovery",
    "link_downed",
    "port_rcv_errors",
    "local_link_integrity_errors",
    "excessive_buffer_overrun_errors",
)
"""Counters of faults of the link; they count from the start of the driver, or from the last time they were cleared."""


@dataclass(frozen=True, kw_only=True)
class RdmaPort:
    """One port; None and empty are unknown."""

    device: str
    number: int
    state: str = ""
    """Logical state, such as `ACTIVE` or `DOWN`."""
    physical_state: str = ""
    """Such as `LinkUp`, `Polling` or `Disabled`."""
    gbit_per_s: float | None = None
    link_layer: str = ""
    """`InfiniBand` or `Ethernet`."""
    board: str = ""
    """Kind of card: ports of the same kind are compared."""
    card: str = ""
    """PCI address without its function, which the ports of one card share."""
    is_virtual_function: bool = False
    """True on the host of a virtual function: it may wait for a virtual machine."""
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.device if self.number == 1 else f"{self.device}:{self.number}"

    @property
    def is_up(self) -> bool:
        return self.state == "ACTIVE"


def read_rdma_ports(root: Path = Path("/")) -> tuple[RdmaPort, ...]:
    """All ports, by device and number; empty if the host has none."""
    folders = sorted((root / "sys/class/infiniband").glob("*/ports/[0-9]*"))
    return tuple(_read_port(folder) for folder in folders)


def _read_port(folder: Path) -> RdmaPort:
    device = folder.parent.parent
    rate = re.match(r"[0-9.]+", read_text(folder / "rate") or "")
    counters = {name: read_int(folder / "counters" / name) for name in COUNTERS}
    board = (read_text(device / "board_id"), read_text(device / "hca_type"), read_text(folder / "link_layer"))
    return RdmaPort(
        device=device.name,
        number=int(folder.name) if folder.name.isdecimal() else 0,
        state=_word(read_text(folder / "state")),
        physical_state=_word(read_text(folder / "phys_state")),
        gbit_per_s=float(rate[0]) if rate else None,
        link_layer=read_text(folder / "link_layer") or "",
        board=" ".join(part or "" for part in board).strip(),
        card=(device / "device").resolve().name.rpartition(".")[0],
        is_virtual_function=(device / "device/physfn").exists(),
        counters={name: value for name, value in counters.items() if value is not None},
    )


def _word(text: str | None) -> str:
    """`ACTIVE` of `4: ACTIVE`."""
    return (text or "").rpartition(":")[2].strip()
