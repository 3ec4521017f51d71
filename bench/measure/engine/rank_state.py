"""State of a rank's process that a case may leave changed, and that would change what the next one measures.

A suite that sets torch's default type or its number of threads measures something else, and so do all suites after it.
Settings that a case has changed are set back before the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Switch:
    """One setting of the process."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _switches() -> Mapping[str, Switch]:
    import torch

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "torch's default type": Switch(torch.get_default_dtype, torch.set_default_dtype),
        "torch's gradients": Switch(torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's number of threads": Switch(torch.get_num_threads, torch.set_num_threads),
        "torch's precision of float32 products": Switch(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        ),
        "TF32 in cuBLAS": Switch(lambda: cuda.matmul.allow_tf32, lambda on: setattr(cuda.matmul, "allow_tf32", on)),
        "cuDNN's benchmark mode": Switch(lambda: cudnn.benchmark, lambda on: setattr(cudnn, "benchmark", on)),
        "torch's deterministic algorithms": Switch(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        "the working folder": Switch(_folder, _change_folder),
    }


def _folder() -> str | None:
    """The working folder; None if it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return None


def _change_folder(folder: str | None) -> None:
    with suppress(OSError):  # it may have been removed since
        if folder is not None:
            os.chdir(folder)


class RankState:
    """The settings of this process before a case."""

    def __init__(self) -> None:
        self._switches = _switches()
        self._before = {name: switch.read() for name, switch in self._switches.items()}

    def restore(self) -> list[str]:
        """Set back what has changed since; returns the names of it."""
        changed = [name for name, switch in self._switches.items() if switch.read() != self._before[name]]
        for name in changed:
            self._switches[name].write(self._before[name])
        return changed


def changed_note(changed: list[str]) -> str:
    """Note on a case that changed settings."""
    return f"the case changed {', '.join(changed)}; it was set back for the cases after it"
