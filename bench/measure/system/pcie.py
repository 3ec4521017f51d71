"""PCIe devices: which are GPUs, which have no driver, and of ports whether they are a switch's and redirect peers.

Offsets are those of the PCI Express base specification, as in Linux' include/uapi/linux/pci_regs.h. Only root may read
beyond the first 64 bytes of a configuration space; without them a port's facts are unknown.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bench.measure.system.cgroup import read_text

CAPABILITY_POINTER = 0x34
PCI_EXPRESS, ACCESS_CONTROL = 0x10, 0x000D
EXTENDED_CAPABILITIES = 0x100
DOWNSTREAM_PORT = 0x6
REDIRECTS = 0x04 | 0x08 | 0x10
"""Requests and completions between peers, and what comes back up, go to the root."""
_MOST_CAPABILITIES = 64
"""Bound on a list that leads in a circle."""

# (vendor, start of the PCI class) of GPUs: NVIDIA's and AMD's.
_GPU_CLASSES = (("0x10de", "0x0300"), ("0x10de", "0x0302"), ("0x1002", "0x0380"), ("0x1002", "0x1200"))


def is_gpu(device: Path) -> bool:
    """Return True for the folder of a GPU, by vendor and class."""
    vendor, kind = read_text(device / "vendor"), read_text(device / "class") or ""
    return any(vendor == maker and kind.startswith(start) for maker, start in _GPU_CLASSES)


def gpus_without_driver(root: Path = Path("/")) -> tuple[str, ...]:
    """PCI addresses of GPUs that no driver has taken, while another of the same kind has one."""
    gpus = [device for device in sorted((root / "sys/bus/pci/devices").glob("*")) if is_gpu(device)]
    kinds = {device: (read_text(device / "vendor"), read_text(device / "device")) for device in gpus}
    driven = {kinds[device] for device in gpus if (device / "driver").exists()}
    return tuple(device.name for device in gpus if kinds[device] in driven and not (device / "driver").exists())


def is_switch_port(config: Path) -> bool | None:
    """Return True for a downstream port of a switch; None if the configuration cannot be read."""
    data = _read(config)
    if data is None:
        return None
    offset = data[CAPABILITY_POINTER]
    for _ in range(_MOST_CAPABILITIES):
        if offset < 0x40 or offset + 4 > len(data):
            return False
        if data[offset] == PCI_EXPRESS:
            return bool(data[offset + 2] >> 4 == DOWNSTREAM_PORT)
        offset = data[offset + 1]
    return False


def acs_redirects(config: Path) -> bool | None:
    """Return True if Access Control Services send peer traffic to the root; None if that cannot be read."""
    data = _read(config)
    if data is None:
        return None
    offset = EXTENDED_CAPABILITIES
    for _ in range(_MOST_CAPABILITIES):
        if offset < EXTENDED_CAPABILITIES or offset + 8 > len(data):
            return False
        (header,) = struct.unpack_from("<I", data, offset)
        if header & 0xFFFF == ACCESS_CONTROL:
            (control,) = struct.unpack_from("<H", data, offset + 6)
            return bool(control & REDIRECTS)
        offset = header >> 20
    return False


def _read(config: Path) -> bytes | None:
    """Bytes of a configuration space; None for one of which only the head is shown."""
    try:
        data = config.read_bytes()
    except OSError:
        return None
    return data if len(data) > 0x40 else None
