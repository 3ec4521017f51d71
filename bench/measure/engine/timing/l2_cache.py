"""The device's L2 cache before a sample: left as it is, or flushed; the parameter `l2`.

`warm` (the default): nothing is done. A case whose tensors fit into the cache may find there what its last call, or the
reset before this one, left behind. The work around a sample passes through the same cache (the alignment keeps the
device busy with a matrix product of 8 MiB operands), so warm is "as far as it fits", not "everything is there". That is
the case in a benchmark's loop, and in training only for what the operation just before has written.

`cold`: before every sample, outside the timed part, a buffer that is larger than the cache is written on the current
stream, which leaves nothing of the case's tensors in it. That is the case for data that was last used long ago, such as
the weights of a layer in the next step. Only L2 is concerned: page tables, L1, instruction caches and NCCL's
connections stay as they are. The write takes about 0.1 ms and hardly changes clocks or power.

The same is done by Triton's `do_bench` (python/triton/testing.py and its backends' `get_empty_cache_for_benchmark`: a
buffer of 256 MB is zeroed before each call), and also by nvbench (nvbench/detail/l2flush.cuh: a memset of the device's
L2 size before every "cold" sample, on the stream that is measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.errors import Skip
from bench.measure.planning.cases import L2_STATES

if TYPE_CHECKING:
    import torch

    from bench.suite import Param, Work

CACHE_MULTIPLE = 2
"""A cache replaces lines by its own rules: writing just its size may leave some of the old ones."""
LEAST_FLUSH_BYTES = 256 * 2**20
"""Size that Triton writes. It serves if the L2's size is not known, and if it leaves out a
further cache (256 MiB on AMD's MI300X)."""

Flush = Callable[[], object]


def flush_bytes(l2_bytes: int | None) -> int:
    """Bytes to write so that nothing else is left in a cache of this many; None or 0: its size is not known."""
    return max(CACHE_MULTIPLE * (l2_bytes or 0), LEAST_FLUSH_BYTES)


def make_flush(params: Mapping[str, Param], device: torch.device) -> Flush | None:
    """Make the write on the current stream that flushes the L2, if a case asks for it. None: it is left warm.

    Holds its buffer as long as it is held itself. Raises Skip on a device whose cache cannot be flushed so.
    """
    if params.get("l2", L2_STATES[0]) != "cold":
        return None
    if device.type != "cuda":
        raise Skip("l2=cold: only a GPU's L2 is flushed; this is a CPU, where l2=warm is measured")
    import torch

    properties = torch.cuda.get_device_properties(device)
    num_bytes = flush_bytes(getattr(properties, "L2_cache_size", None))
    return torch.empty(num_bytes // 4, dtype=torch.int32, device=device).zero_


def flush_before_samples(work: Work, flush: Flush | None) -> Work:
    """Return the work with the cache flushed as the last, untimed step before every sample."""
    if flush is None:
        return work
    restore, empty = work.reset, flush

    def reset() -> None:
        if restore is not None:
            restore()
        empty()

    return replace(work, reset=reset)
