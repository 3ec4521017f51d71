"""The table of what one device runs in `compute`: matrix multiply, copy and triad, and how each is checked."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.suite import ITEM_BYTES, Check, Params, TimedCheck, positive_int
from bench.workloads.model import float8
from bench.workloads.model.product_check import BLOCK, product_error, product_tolerance

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext

MIB = 2**20
MATMUL_BYTES = {dtype: ITEM_BYTES[dtype] for dtype in ("float32", "bfloat16", "float16")} | {float8.DTYPE: 5}
"""Bytes per element as memory is counted: FP8 with its output and its copy for the check, 2 bytes each."""
TRIAD_SCALAR = 3.0
SMALLEST = sys.float_info.min
CHECK_BYTES = 6 * 8 * BLOCK

SHAPES: Mapping[str, Callable[[int, int], tuple[int, int, int]]] = {
    "square": lambda size, tokens: (size, size, size),
    "qkv": lambda hidden, tokens: (tokens, 3 * hidden, hidden),
    "attention_out": lambda hidden, tokens: (tokens, hidden, hidden),
    "mlp_up": lambda hidden, tokens: (tokens, 4 * hidden, hidden),
    "mlp_down": lambda hidden, tokens: (tokens, hidden, 4 * hidden),
}
"""Shape -> (size, tokens) -> (m, n, k)."""
LAYER_SHAPES = tuple(name for name in SHAPES if name != "square")


@dataclass(frozen=True)
class Kernel:
    """One rank's operation, and the work of one call."""

    run: Callable[[], object]
    check: Callable[[], Check]
    timed_check: TimedCheck
    flops: float | None = None
    traffic_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelOperation:
    """One row of the table: what it needs, what it takes, and how it is made."""

    needs: Callable[[Params], set[str]]
    """Names of its parameters besides those with defaults."""
    num_bytes: Callable[[Params], int]
    """Bytes of all its tensors."""
    make: Callable[[Params, RankContext], Kernel]


_positive = partial(positive_int, "compute")


def dimensions(params: Params) -> tuple[int, int, int]:
    """(m, n, k) of the matmul. Raises BenchError for a size that is not a whole number above 0."""
    tokens = _positive(params, "tokens") if "tokens" in params else 0
    return SHAPES[str(params["shape"])](_positive(params, "size"), tokens)


def _matmul(params: Params, rank: RankContext) -> Kernel:
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    m, n, k = dimensions(params)
    if params["dtype"] == float8.DTYPE:
        return Kernel(*float8.matmul(m, n, k, rank), flops=2.0 * m * n * k)
    dtype = getattr(torch, str(params["dtype"]))
    generator = rank.generator(rank.index)
    normal = partial(torch.randn, device=rank.device, dtype=dtype, generator=generator)
    a, b = normal(m, k), normal(k, n)
    c = torch.empty(m, n, device=rank.device, dtype=dtype)
    run = partial(torch.matmul, a, b, out=c)
    looks = BufferLooks(c)

    def check() -> Check:
        c.fill_(torch.nan)
        run()
        looks.learn()
        return Check(product_error(a, b, c, generator), product_tolerance(k, dtype, rank.device))

    return Kernel(run, check, looks.timed_check, flops=2.0 * m * n * k)


def _num_elements(params: Params) -> int:
    return max(1, _positive(params, "num_bytes") // ITEM_BYTES[str(params["dtype"])])


def _copy(params: Params, rank: RankContext) -> Kernel:
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    target, source = _arrays(2, params, rank)
    looks = BufferLooks(target, tolerance=0.0)

    def check() -> Check:
        target.fill_(torch.nan)
        run()
        looks.learn()
        return Check(_blockwise_error((target, source), lambda a, b: (a - b).abs(), inputs=(source,)), 0.0)

    run = partial(target.copy_, source)
    return Kernel(
        run, check, looks.timed_check, traffic_bytes=2 * source.nbytes, notes=_cache_notes(source.nbytes, rank)
    )


def _triad(params: Params, rank: RankContext) -> Kernel:
    """Checked against float64, relative to |b| + |s c|: a product and a sum round by half an epsilon each."""
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    a, b, c = _arrays(3, params, rank)
    looks = BufferLooks(a)

    def error(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        b64, scaled = b.double(), TRIAD_SCALAR * c.double()
        return (a.double() - (b64 + scaled)).abs() / (b64.abs() + scaled.abs()).clamp_min(SMALLEST)

    def check() -> Check:
        a.fill_(torch.nan)
        run()
        looks.learn()
        return Check(_blockwise_error((a, b, c), error, inputs=(b, c)), torch.finfo(a.dtype).eps)

    run = partial(torch.add, b, c, alpha=TRIAD_SCALAR, out=a)
    return Kernel(run, check, looks.timed_check, traffic_bytes=3 * a.nbytes, notes=_cache_notes(a.nbytes, rank))


def _arrays(count: int, params: Params, rank: RankContext) -> list[torch.Tensor]:
    """Random normal numbers that repeat, since drawing each takes longer than measuring them."""
    import torch

    generator, dtype = rank.generator(rank.index), getattr(torch, str(params["dtype"]))
    size = _num_elements(params)
    arrays = [torch.empty(size, device=rank.device, dtype=dtype) for _ in range(count)]
    for array in arrays:
        numbers = torch.randn(min(size, BLOCK), device=rank.device, dtype=dtype, generator=generator)
        for block in torch.split(array, BLOCK):
            block.copy_(numbers[: len(block)])
    return arrays


def _blockwise_error(
    arrays: Sequence[torch.Tensor], error: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]
) -> float:
    """The largest of the elements' errors; NaN if one is NaN, or if an input has one value throughout.

    Zeros would be copied right by a call that writes zeros.
    """
    import torch

    if any(len(array) > 1 and not bool((array[:BLOCK] != array[0]).any()) for array in inputs):
        return math.nan
    blocks = zip(*(torch.split(array, BLOCK) for array in arrays), strict=True)
    return float(torch.stack([error(*block).max() for block in blocks]).max())


def _cache_notes(array_bytes: int, rank: RankContext) -> tuple[str, ...]:
    cache_bytes = _last_level_cache_bytes(rank)
    if not cache_bytes:
        return ()
    ratio = array_bytes / cache_bytes
    return (
        f"each array: {array_bytes / MIB:.4g} MiB, {ratio:.2g} x the last-level cache "
        f"({cache_bytes / MIB:.4g} MiB)"
        + ("; below STREAM's 4 x, so a cache may serve part of it" if ratio < 4 else ""),
    )


def _last_level_cache_bytes(rank: RankContext) -> int | None:
    """Return the last-level cache of the device, or of the first core as Linux tells it; None if unknown."""
    if rank.device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(rank.device).L2_cache_size) or None
    caches = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    texts = [path.read_text().strip() for path in caches]
    sizes = [int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]] for text in texts if text[-1:] in ("K", "M")]
    return max(sizes, default=None)


def _matmul_elements(m: int, n: int, k: int) -> int:
    return m * k + k * n + m * n + k * n  # once more for the second factor, which oneDNN rearranges


OPERATIONS: Mapping[str, KernelOperation] = {
    "matmul": KernelOperation(
        needs=lambda p: {"shape", "size"} | ({"tokens"} if p.get("shape") in LAYER_SHAPES else set()),
        num_bytes=lambda p: _matmul_elements(*dimensions(p)) * MATMUL_BYTES[str(p["dtype"])],
        make=_matmul,
    ),
    "copy": KernelOperation(lambda _: {"num_bytes"}, lambda p: 2 * _positive(p, "num_bytes"), _copy),
    "triad": KernelOperation(lambda _: {"num_bytes"}, lambda p: 3 * _positive(p, "num_bytes"), _triad),
}
