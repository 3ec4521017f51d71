"""Differences between the versions of torch that the product runs on: the lowest is that of pyproject.toml.

FEATURES is the table: a case that needs one of them is skipped if it is missing, with the table's words; `bench doctor`
says the same. A difference that exists only below the lowest version has no row. Which arguments a callable has is
asked of the callable itself (`known_arguments`).

A pre-release counts as its release: `2.12.0a0+...` of a vendor's container has what 2.12 has. Importing this module
does not import torch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Release = tuple[int, int]
"""Major and minor number; no later number of a version has made a difference yet."""


@dataclass(frozen=True)
class Feature:
    """One row: a part of torch that not every version has, or has right."""

    since: Release
    lack: str
    """An older torch, in words that go on after `torch 2.8`."""
    backend: str | None = None
    """The only backend, and with it the device type, where it makes a difference; None: everywhere."""


FEATURES: dict[str, Feature] = {
    # Gradients are too large by the number of ranks that share the weights. On NCCL torch's source takes the average of
    # the library itself (`_get_gradient_divide_factors`); that was not tried.
    "fsdp_average": Feature((2, 9), "sums gradients in fully_shard over gloo, and does not average them", "gloo"),
    # 2.10 and 2.11 do so only before the first step, which `bench.workloads.parallel.pipeline` fixes, and later ones
    # not at all.
    "zbv_neighbours": Feature(
        (2, 10), "has a rank send to itself in ScheduleZBVZeroBubble, which gloo refuses", "gloo"
    ),
    "dual_pipe_v": Feature((2, 9), "has no ScheduleDualPipeV"),
    # The process ends (SIGABRT, SIGSEGV), or the gradients are infinite.
    "grouped_heads_backward": Feature(
        (2, 9), "corrupts memory in the CPU's flash attention backward if several heads share keys", "gloo"
    ),
}
"""Every difference, each seen by running that version; a new one is a row here, and a `skip_reason` where it is
needed."""


def installed() -> str:
    """Version of the torch that this process has."""
    import torch

    return str(torch.__version__)


def release(version: str) -> Release:
    """`2.12.0a0+abc.nv26.3` gives (2, 12)."""
    match = re.match(r"(\d+)\.(\d+)", version)
    assert match, f"torch calls itself {version!r}"
    return int(match[1]), int(match[2])


def missing(version: str, backend: str) -> dict[str, Feature]:
    """The rows of FEATURES that a version lacks where it runs on a backend."""
    have = release(version)
    return {name: row for name, row in FEATURES.items() if have < row.since and row.backend in (None, backend)}


def skip_reason(name: str, backend: str) -> str | None:
    """Reason why a case that needs a feature cannot run with this process's torch; None if it can."""
    version = installed()
    row = missing(version, backend).get(name)
    return None if row is None else f"torch {spelt(release(version))} {row.lack}; {spelt(row.since)} or newer will do"


def spelt(number: Release) -> str:
    """`2.12`."""
    return ".".join(map(str, number))


def known_arguments(call: Callable[..., Any], **named: Any) -> dict[str, Any]:
    """The named arguments that this torch's callable has; an older one does without, or would pass them on."""
    parameters = inspect.signature(call).parameters
    return {name: value for name, value in named.items() if name in parameters}
