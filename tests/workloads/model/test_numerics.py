"""Errors and tolerances with known values."""

from __future__ import annotations

import math

import pytest
import torch

from bench.suite import Check
from bench.workloads.model.numerics import (
    SHORT_TYPE_MARGIN,
    float_tolerance,
    inner_product_error,
    longer_dtype,
    relative_error,
    summed_margin,
    worst,
)


def test_the_error_is_relative_to_the_largest_element() -> None:
    reference = torch.tensor([0.0, -8.0, 2.0])
    assert relative_error(torch.tensor([1.0, -8.0, 4.0]), reference) == 0.25
    assert relative_error(reference, reference) == 0.0
    assert relative_error(torch.tensor([0.5]), torch.zeros(1)) == 0.5


def test_nan_and_infinity_never_pass() -> None:
    reference = torch.ones(2)
    assert math.isnan(relative_error(torch.tensor([math.nan, 1.0]), reference))
    assert not Check(relative_error(torch.tensor([math.inf, 1.0]), reference), 1.0).passed
    assert not Check(relative_error(torch.tensor([math.nan, 1.0]), reference), 1.0).passed


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\), its reference \(2, 2\)"):
        relative_error(torch.ones(2), torch.ones(2, 2))


def test_a_loss_near_zero_does_not_blow_its_error_up() -> None:
    reference, weight = torch.tensor([4.0, -4.0]), torch.ones(2)  # the loss is 0, its terms are 4 and 4
    assert inner_product_error(torch.tensor([5.0, -4.0]), reference, weight) == 1 / 8


def test_float32_tolerance_grows_with_the_root_of_the_terms() -> None:
    assert float_tolerance(torch.float32, 1024) == 8 * 2**-23 * 32
    assert float_tolerance(torch.float32, 4) == 8 * 2**-23 * 2


def test_types_that_need_a_longer_reference() -> None:
    assert longer_dtype(torch.bfloat16) == torch.float32
    assert longer_dtype(torch.float16) == torch.float32
    assert longer_dtype(torch.float32) is None


def split_product(num_ranks: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """A product in float32, the same in bfloat16 on one device, and the ranks' shares of it in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((256, 4096), (4096, 512)))
    reference = x.float() @ weight.float()
    shares = zip(x.chunk(num_ranks, 1), weight.chunk(num_ranks, 0), strict=True)
    return reference, reference.bfloat16(), [(own.float() @ rows.float()).bfloat16() for own, rows in shares]


def ring_sum(shares: list[torch.Tensor]) -> torch.Tensor:
    """As around a ring: each hop adds its share, and rounds."""
    total = shares[0]
    for share in shares[1:]:
        total = (total.float() + share.float()).bfloat16()
    return total


@pytest.mark.parametrize("num_ranks", [2, 8, 16, 32, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_ring_s_rounding_is_within_the_margin_and_a_missing_share_is_not(num_ranks: int, seed: int) -> None:
    reference, one_device, shares = split_product(num_ranks, seed)
    tolerance = summed_margin(num_ranks) * relative_error(one_device, reference)
    assert Check(relative_error(ring_sum(shares), reference), tolerance).passed
    for wrong in (shares[1:], [*shares, shares[0]]):
        assert not Check(relative_error(ring_sum(wrong), reference), tolerance).passed


def test_the_margin_grows_only_above_a_node() -> None:
    assert [summed_margin(n) / SHORT_TYPE_MARGIN for n in (1, 2, 8, 32, 128)] == [1, 1, 1, 2, 4]
    # The one that does not grow calls a sound ring over 64 ranks wrong.
    reference, one_device, shares = split_product(64, 0)
    assert relative_error(ring_sum(shares), reference) > SHORT_TYPE_MARGIN * relative_error(one_device, reference)


def test_the_worst_check_is_the_one_furthest_from_holding() -> None:
    far, near, nan = Check(2e-6, 1e-6), Check(0.1, 1.0), Check(math.nan, 1.0)
    assert worst([near, far]) is far
    assert worst([near, nan, far]) is nan
    assert worst([Check(0.0, 0.0), near]) is near
    assert worst([far, Check(1e-9, 0.0)]).tolerance == 0.0
