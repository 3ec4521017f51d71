"""Check of a large matrix product, in float64 at the cost of a few passes over the matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NUM_SAMPLED = 64
"""Rows and columns of a product at whose crossings each entry is checked."""
BLOCK = 2**18
"""Elements that a check turns into float64 at a time: few enough to stay in a core's cache."""


def product_tolerance(k: int, dtype: torch.dtype, device: torch.device) -> float:
    """Allowed error of an entry of the product, relative to its standard deviation over random signs.

    An entry lies within 5 standard deviations in nearly all cases, and rounding it to its type costs half an
    epsilon of that; rounding the inputs to TF32 costs less. Sums are kept in float32, and rounding errors
    that are independent grow as sqrt(k) (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5)). A wrong entry is
    off by about 1.
    """
    import torch

    single = torch.finfo(torch.float32).eps
    internal = {"tf32": 2.0**-10, "bf16": 2.0**-7}.get(_float32_precision(device.type), single)
    of_type = internal if dtype == torch.float32 else torch.finfo(dtype).eps
    return float(8 * of_type + 4 * k**0.5 * single)


def _float32_precision(device_type: str) -> str:
    """`ieee`, `tf32` or `bf16`: how float32 products are computed. torch 2.8 knows one setting for all devices."""
    import torch

    backend: Any = torch.backends.cuda if device_type == "cuda" else torch.backends.mkldnn
    if hasattr(backend, "matmul") and hasattr(backend.matmul, "fp32_precision"):
        return str(backend.matmul.fp32_precision)
    setting = torch.get_float32_matmul_precision()
    return {"highest": "ieee", "high": "tf32", "medium": "tf32" if device_type == "cuda" else "bf16"}[setting]


def product_error(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, generator: torch.Generator) -> float:
    """Largest error of c = a @ b against float64, relative to sqrt(sum over k of a^2 b^2); NaN if c has
    one.

    Entries at NUM_SAMPLED rows and columns are checked one by one; all entries together through c x = a (b x)
    for random signs x, which costs n^2 and not n^3 (Freivalds 1977) and finds a wrong tile, row or column.
    """
    import torch

    rows, columns = _spread(len(a), a.device), _spread(b.shape[1], a.device)
    some_a, some_b = a[rows].double(), b[:, columns].double()
    error = c[rows][:, columns].double() - some_a @ some_b
    sampled = error.abs() / (some_a.square() @ some_b.square()).sqrt()

    signs = torch.randint(0, 2, (b.shape[1],), device=a.device, generator=generator).double() * 2 - 1
    error = _times(c, signs) - _times(a, _times(b, signs))
    squares = _times(a, _times(b, torch.ones_like(signs), squared=True), squared=True)
    return float(torch.maximum(sampled.max(), (error.abs() / squares.sqrt()).max()))


def _spread(length: int, device: torch.device) -> torch.Tensor:
    """Up to NUM_SAMPLED indices from the first to the last."""
    import torch

    count = min(NUM_SAMPLED, length)
    return torch.linspace(0, length - 1, count, device=device, dtype=torch.float64).round().long()


def _times(matrix: torch.Tensor, vector: torch.Tensor, *, squared: bool = False) -> torch.Tensor:
    """matrix @ vector in float64, some rows at a time; `squared`: of the matrix's squares."""
    import torch

    blocks = (block.double() for block in torch.split(matrix, max(1, BLOCK // matrix.shape[1])))
    return torch.cat([(block.square() if squared else block) @ vector for block in blocks])
