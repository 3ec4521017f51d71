"""Sketch of the outputs of a call: some elements of each tensor, with which those of another call are compared.

Comparing all gradients of a model would cost as much as some of its layers. A look at what a timed call left takes up
to 1,024 elements, spread over each tensor: a call that did nothing, left out a microbatch or a sum over ranks differs
in nearly all of them. The checks before and after the samples compare everything.

Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from bench.suite import Check

NUM_PLACES = 1024
"""Elements of each tensor that are compared."""
TOLERANCE, SHORT_TYPE_TOLERANCE = 2.0**-10, 2.0**-5
"""Difference of two calls of the same code on the same numbers, over the tensor's largest element. Sums of atomic adds
have no fixed order, so that it is a few roundings in float32, and in 16 bits a few of 2^-8. A missing term of some
ranks or microbatches is a tenth and more."""
Shape = tuple[torch.Size | tuple[int, ...], torch.dtype, torch.device]
"""Shape, type and device of a tensor."""
MISSING = 1.0
"""Error of an output that is not there, or has another shape: all of it is wrong."""


class OutputSketch:
    """Some elements of tensors, in their order."""

    def __init__(self, tensors: Sequence[Tensor], tolerance: float | None = None, most: int = NUM_PLACES) -> None:
        """`tolerance` overrides the one that follows from the types; `most` elements of each tensor are compared."""
        self.most = most
        parts = [local_part(tensor) for tensor in tensors]
        is_short = any(part.dtype in (torch.bfloat16, torch.float16) for part in parts)
        self.tolerance = (SHORT_TYPE_TOLERANCE if is_short else TOLERANCE) if tolerance is None else tolerance
        self.shapes = [(part.shape, part.dtype, part.device) for part in parts]
        places = [some_elements(part, most) for part in parts]
        self.expected = joined(places)
        self.lengths = torch.tensor([len(at) for at in places], device=self.expected.device, dtype=torch.int64)
        self.scales = self._per_place([_largest(part) or 1.0 for part in parts])

    def _per_place(self, values: Sequence[float]) -> Tensor:
        each = torch.tensor(values, dtype=self.expected.dtype, device=self.expected.device)
        return each.repeat_interleave(self.lengths, output_size=len(self.expected))

    def fits(self, tensors: Sequence[Tensor | None]) -> bool:
        """Return True if there are as many tensors, of the same shapes."""
        shapes = [None if tensor is None else local_part(tensor).shape for tensor in tensors]
        return shapes == [shape for shape, *_ in self.shapes]

    def check(self, tensors: Sequence[Tensor | None], factors: Sequence[float] | None = None) -> Check:
        """Compare tensors with the sketch; `factors`: how many times the sketched ones each is to be."""
        if not self.fits(tensors):
            return Check(MISSING, self.tolerance)
        present = [local_part(tensor) for tensor in tensors if tensor is not None]
        found, expected, scales = (
            joined([some_elements(part, self.most) for part in present]),
            self.expected,
            self.scales,
        )
        if factors is not None and any(factor != 1 for factor in factors):
            grown = self._per_place(factors)
            expected, scales = expected * grown, scales * grown
        if not len(found):
            return Check(0.0, self.tolerance)
        return Check(float(((found - expected).abs() / scales).max()), self.tolerance)


def spoil(tensors: Iterable[Tensor | None]) -> None:
    """Fill tensors with NaN, or the smallest whole number, so that a call that does not write them is seen."""
    for tensor in tensors:
        if tensor is None:
            continue
        with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
            part = local_part(tensor)
            part.fill_(math.nan if part.is_floating_point() else torch.iinfo(part.dtype).min)


def spoil_free_memory(together: Iterable[Shape], one_by_one: Iterable[Shape] = ()) -> None:
    """Leave NaN in memory that the next tensors of these shapes are likely to get.

    Allocators give away again the memory that was freed last. A call that does not write a fresh output would else
    find that of the call before, which is right. `together` are those that a call holds at once, of `one_by_one` it
    holds one or two at a time.
    """
    for shapes in (list(together), *([shape] * 2 for shape in one_by_one)):
        spoil([torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in shapes])


def local_part(tensor: Tensor) -> Tensor:
    """The rank's own part of a tensor."""
    part: Tensor = tensor.detach()
    return part.to_local() if isinstance(part, DTensor) else part


def some_elements(part: Tensor, most: int = NUM_PLACES) -> Tensor:
    """Up to `most` elements. Their distance is odd, so that they do not all lie in one column of a matrix."""
    flat = part.reshape(-1)
    return flat[:: math.ceil(len(flat) / most) | 1] if len(flat) > most else flat


def joined(places: Sequence[Tensor]) -> Tensor:
    wide = torch.float64 if any(at.dtype == torch.float64 for at in places) else torch.float32
    return torch.cat([at.to(wide) for at in places]) if places else torch.empty(0)


def _largest(part: Tensor) -> float:
    return float(part.abs().max()) if part.numel() else 0.0
