"""Whole-number shares: the greedy split is the best there is, against every other."""

from __future__ import annotations

from itertools import product

import pytest

from bench.parallelism.work_split import balanced, bound, even, longest, offsets


def test_even_shares_differ_by_one_at_most_and_units_are_dealt_in_order() -> None:
    assert even(10, 4) == (3, 3, 2, 2)
    assert offsets((3, 1)) == [range(3), range(3, 4)]


@pytest.mark.parametrize("speeds", [(1.0, 0.5), (1.0, 0.25), (1.0, 1.0, 0.5), (1.0, 0.7, 0.33)])
@pytest.mark.parametrize("num_units", [4, 7, 12])
def test_no_other_split_is_shorter(speeds: tuple[float, ...], num_units: int) -> None:
    found = balanced(num_units, speeds)
    assert sum(found) == num_units
    others = [s for s in product(range(1, num_units), repeat=len(speeds)) if sum(s) == num_units]
    assert longest(found, speeds) == pytest.approx(min(longest(split, speeds) for split in others))
    assert bound(num_units, speeds) <= longest(found, speeds) + 1e-12


@pytest.mark.parametrize("fixed_units", [0.5, 2.0, 10.0])
def test_what_any_share_costs_is_weighed(fixed_units: float) -> None:
    """A small share at low speed pays it too: 8 : 4 at half the speed is no longer the best."""

    def time(split: tuple[int, ...]) -> float:
        return longest([fixed_units + share for share in split], (1.0, 0.5))

    others = [(first, 12 - first) for first in range(1, 12)]
    assert time(balanced(12, (1.0, 0.5), fixed_units=fixed_units)) == pytest.approx(min(map(time, others)))
    assert balanced(12, (1.0, 0.5), fixed_units=10.0) == (11, 1)


def test_caps_are_kept_and_what_cannot_be_is_refused() -> None:
    assert balanced(9, (1.0, 0.1), most=(6, 9)) == (6, 3)
    with pytest.raises(ValueError, match="9 units do not fit on ranks that hold"):
        balanced(9, (1.0, 1.0), most=(4, 4))
    with pytest.raises(ValueError, match="every rank needs a speed"):
        balanced(4, (1.0, 0.0))
    with pytest.raises(ValueError, match="1 units for 2 ranks"):
        even(1, 2)
