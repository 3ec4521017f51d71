"""Tolerances of results against their reference, and their errors.

Two orders of summation of the same K terms differ by rounding: about the machine epsilon times the square
root of K (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"). In float32 with
full-precision products that gives a tolerance beforehand. If products are rounded to fewer bits
(bfloat16, float16, TF32), errors depend on the data, so the tolerance is measured. It is `SHORT_TYPE_MARGIN`
times the error that the same module, run whole on one device in that type, makes against a reference in a
longer type.

Errors are relative to the largest element: an element near zero carries the rounding of the large terms
that cancelled. Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from bench.suite import Check

FLOAT32_MARGIN = 8.0
"""Over epsilon x sqrt(K): up to four such sums follow each other, and the worst of many elements is looked
at."""

SHORT_TYPE_MARGIN = 4.0
"""Over the error of the one-device run: shares are rounded before they are summed, once for each rank."""

SHORT_TYPE_MARGIN_RANKS = 8
"""Up to this many ranks that margin holds for a sum over them, whatever the order of the sum."""


def summed_margin(num_ranks: int) -> float:
    """Margin over the error of the one-device run, for a sum over `num_ranks` ranks in a type of fewer bits.

    A ring adds one share at each hop, and rounds: the j-th partial sum of n shares is about sqrt(j / n) of the result,
    and its rounding error is u times that. Independent errors add up to u sqrt(sum of j / n) = u sqrt((n + 1) / 2),
    where one device, which rounds once, has u. So the margin grows by sqrt(n / 8) above 8 ranks. (A tree, and sums in
    the network's switches, round less often.)
    """
    return SHORT_TYPE_MARGIN * max(1.0, math.sqrt(num_ranks / SHORT_TYPE_MARGIN_RANKS))


def longer_dtype(dtype: torch.dtype) -> torch.dtype | None:
    """The type of the reference that results in `dtype` are compared with; None: the one-device run itself.

    float32 counts as short if torch may round its products to TF32 or bfloat16
    (set_float32_matmul_precision).
    """
    if dtype in (torch.bfloat16, torch.float16):
        return torch.float32
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return torch.float64
    return None


def float_tolerance(dtype: torch.dtype, num_terms: int) -> float:
    """Tolerance of a result whose longest sum has `num_terms` terms, computed in `dtype` in two orders."""
    return FLOAT32_MARGIN * torch.finfo(dtype).eps * math.sqrt(num_terms)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Largest difference / largest element of the reference (absolute if that is zero); NaN if any is NaN.

    Raises ValueError if the shapes differ.
    """
    if value.shape != reference.shape:
        raise ValueError(f"a result has shape {tuple(value.shape)}, its reference {tuple(reference.shape)}")
    difference = float((value.detach().to(reference.dtype) - reference.detach()).abs().max())
    scale = float(reference.detach().abs().max())
    return difference / scale if scale else difference


def inner_product_error(value: Tensor, reference: Tensor, weight: Tensor) -> float:
    """Error of the loss <value, weight> against <reference, weight>, relative to the sum of its terms' sizes.

    Not relative to the loss itself, whose terms cancel: it may be as near zero as chance will have it.
    """
    weights = weight.detach().to(reference.dtype)
    terms = reference.detach() * weights
    loss = (value.detach().to(reference.dtype) * weights).sum()
    scale = float(terms.abs().sum())
    difference = abs(float(loss - terms.sum()))
    return difference / scale if scale else difference


def worst(checks: Iterable[Check]) -> Check:
    """The check that is furthest from holding: NaN first, then the largest error / tolerance."""

    def badness(check: Check) -> float:
        if math.isnan(check.error) or math.isnan(check.tolerance):
            return math.inf
        if check.tolerance > 0:
            return check.error / check.tolerance
        return math.inf if check.error else 0.0

    return max(checks, key=badness)
