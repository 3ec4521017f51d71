"""The most memory that a rank has held since a moment: the allocator's count on a GPU, resident memory on a CPU.

Importing this module does not import torch.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEANING = {
    "cpu": "peak memory: growth of the resident set (VmHWM), without memory kept from before and used again",
    "cuda": "peak memory: growth of what torch's allocator has given out (max_memory_allocated)",
}


class PeakMemory:
    """Counts from its creation on. Unknown (None) where the system tells nothing of it (not Linux)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cpu":
            _trim()
            _forget_peak()
            self._before = _status_bytes("VmRSS")
            return
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        self._before = torch.cuda.memory_allocated(device)

    def bytes(self) -> int | None:
        if self._device.type == "cpu":
            peak = _status_bytes("VmHWM")
            return None if peak is None or self._before is None else max(0, peak - self._before)
        import torch

        return torch.cuda.max_memory_allocated(self._device) - (self._before or 0)


def _trim() -> None:
    """Give what was freed back to the system, so that it is counted when it is used again (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Let VmHWM start from now (proc(5), clear_refs); if that is not allowed it holds an older peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status_bytes(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    text = next((line.split()[1] for line in lines if line.startswith(f"{name}:")), None)
    return None if text is None else int(text) * 1024
