"""Xid and SXid errors of NVIDIA's drivers, and the step that each asks for, with its source.

The data files are `bench/catalog/data/xids.csv` (GPUs) and `sxids.csv` (NVSwitches). `bucket` is NVIDIA's own word for
the step, such as RESET_GPU. Actions follow from it: RESET_GPU and the workflows of memory and NVLink are a `reset`,
RESTART_BM, RESTART_VM and RESET_FABRIC a `reboot`, mechanical checks and field diagnostics `isolate`. Errors that a
program makes itself are `none`; what the hardware corrected, or NVIDIA ignores at first, is `watch`.
"""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

Step = Literal["isolate", "reset", "reboot", "watch", "none", "by message"]
"""What a code asks for; `by message`: the line in the kernel log says so itself."""

RECOVERY_STEPS: dict[int, tuple[Step, str]] = {
    0: ("none", "none"),
    1: ("reset", "a reset of the GPU"),
    2: ("reboot", "a reboot of the node"),
    3: ("watch", "no peer-to-peer work until it is drained"),
    4: ("reset", "draining, and a reset of the GPU"),
    5: ("reset", "a recovery of the IMEX domain"),
    6: ("reset", "a reset of the bus"),
    7: ("reboot", "a reboot of the system"),
}
"""Recovery that a driver asks for, in Xid 154 and in NVML (nvmlDeviceGpuRecoveryAction_t of nvidia-ml-py 13.615)."""


@dataclass(frozen=True)
class DriverError:
    """One row of a data file."""

    code: int
    description: str
    bucket: str
    """NVIDIA's word for the step; empty if its catalogue has none."""
    step: Step
    source: str


def xid(code: int) -> DriverError | None:
    """An error of a GPU by its number; None for one that the catalogue does not use."""
    return _rows("xids.csv").get(code)


def sxid(code: int) -> DriverError | None:
    """An error of an NVSwitch by its number; None for one without a step of its own."""
    return _rows("sxids.csv").get(code)


@functools.cache
def _rows(name: str) -> dict[int, DriverError]:
    text = (resources.files("bench.catalog.data") / name).read_text(encoding="utf-8")
    steps: dict[str, Step] = {step: step for step in get_args(Step)}
    return {
        int(row["code"]): DriverError(
            int(row["code"]), row["description"], row["bucket"], steps[row["action"]], row["source"]
        )
        for row in csv.DictReader(io.StringIO(text))
    }
