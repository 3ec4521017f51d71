"""The kernels that the harness is held against, as plain calls of torch."""

from __future__ import annotations

from collections.abc import Callable

import torch

BIG = {"cuda": 8192, "cpu": 512}
SMALL = {"cuda": 2048, "cpu": 256}
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}


def product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    c = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)


def float8_product(size: int, device: torch.device) -> Callable[[], object]:
    a = torch.randn(size, size, device=device).to(torch.float8_e4m3fn)
    b = torch.randn(size, size, device=device).to(torch.float8_e4m3fn).t()
    one, c = torch.ones((), device=device), torch.empty(size, size, device=device, dtype=torch.bfloat16)
    return lambda: torch._scaled_mm(a, b, one, one, out_dtype=c.dtype, use_fast_accum=True, out=c)
