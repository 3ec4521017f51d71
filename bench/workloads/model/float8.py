"""FP8 matrix product of the compute suite: float8_e4m3fn inputs, bfloat16 output, one scale a tensor.

`torch._scaled_mm` is what torch's own FP8 training calls (cuBLASLt); sums are kept as the fast tensor cores keep them
(`use_fast_accum`), as in the forward of common recipes. The reference multiplies the very same FP8 numbers, widened to
bfloat16, which is exact: the check sees the sums and the rounding of the output, not the rounding to FP8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bench.errors import Skip
from bench.suite import Check, TimedCheck
from bench.workloads.model.product_check import product_error

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

DTYPE = "float8_e4m3fn"
MULTIPLE = 16
"""Number that divides every dimension (torch's check of _scaled_mm on GPUs)."""
FIRST_CAPABILITY = (8, 9)
"""First compute capability of NVIDIA GPUs with FP8: Ada and Hopper."""
SUM_BITS = 13
"""Bits kept of each sum at least: about 14 on Hopper (DeepSeek-V3 technical report, 2024, section 3.3.2)."""


def tolerance(k: int) -> float:
    """Allowed error of an entry, relative to its standard deviation over random signs; see `product_tolerance`.

    Half an epsilon of bfloat16's 2^-7 for the output, with the same room as there, and sqrt(k) roundings of the sum.
    """
    return float(8 * 2.0**-7 + 4 * k**0.5 * 2.0**-SUM_BITS)


def matmul(m: int, n: int, k: int, rank: RankContext) -> tuple[Callable[[], object], Callable[[], Check], TimedCheck]:
    """The product, its check and the look at timed ones. Raises Skip if this device or torch cannot multiply in FP8."""
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    _refuse(m, n, k, rank)
    generator = rank.generator(rank.index)
    normal = partial(torch.randn, device=rank.device, dtype=torch.bfloat16, generator=generator)
    float8 = torch.float8_e4m3fn
    # The second factor is wanted in column-major order: the transpose of a matrix in row-major order.
    a, b = normal(m, k).to(float8), normal(n, k).to(float8).t()
    scale = torch.ones((), device=rank.device, dtype=torch.float32)
    c = torch.empty(m, n, device=rank.device, dtype=torch.bfloat16)
    fast = rank.device.type == "cuda"
    run = partial(torch._scaled_mm, a, b, scale, scale, out_dtype=c.dtype, use_fast_accum=fast, out=c)
    _refuse_failing(run)
    looks = BufferLooks(c)

    def check() -> Check:
        c.fill_(torch.nan)
        run()
        looks.learn()
        wide_a, wide_b = a.to(torch.bfloat16), b.to(torch.bfloat16)
        return Check(product_error(wide_a, wide_b, c, generator), tolerance(k))

    return run, check, looks.timed_check


def _refuse(m: int, n: int, k: int, rank: RankContext) -> None:
    uneven = [f"{name}={size}" for name, size in (("m", m), ("n", n), ("k", k)) if size % MULTIPLE]
    if uneven:
        raise Skip(f"{DTYPE} needs multiples of {MULTIPLE}: {', '.join(uneven)}")
    if rank.device.type != "cuda":
        return
    import torch

    capability = torch.cuda.get_device_capability(rank.device)
    if torch.version.hip is None and capability < FIRST_CAPABILITY:
        actual, least = (".".join(map(str, pair)) for pair in (capability, FIRST_CAPABILITY))
        raise Skip(f"{DTYPE}: this GPU has compute capability {actual}, and FP8 begins with {least}")


def _refuse_failing(run: Callable[[], object]) -> None:
    """Raise Skip for what torch refuses on this device; an out-of-memory error passes through."""
    import torch

    try:
        run()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise Skip(f"torch cannot multiply {DTYPE} on this device: {reason}") from error
