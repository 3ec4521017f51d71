"""What a split is made from: how many calls a speed takes, and what of a computation no share makes shorter."""

from __future__ import annotations

import pytest

from bench.parallelism.heterogeneous_step import Dealing
from bench.suite import Span
from bench.workloads.parallel.relative_speed import fitted_fractions, num_calls, skew_shares


def test_short_steps_are_called_more_often_than_long_ones() -> None:
    assert [num_calls(seconds) for seconds in (0.0, 0.01, 0.1, 10.0)] == [25, 25, 10, 5]


def test_a_skewed_split_has_the_same_units_and_leaves_every_rank_some() -> None:
    assert skew_shares((6, 6)) == (9, 3)
    assert skew_shares((3, 3, 2)) == (4, 2, 2)
    assert skew_shares((1, 1)) == (1, 1)


def test_the_fixed_fraction_is_found_by_kind() -> None:
    """Times at 1.5 and 0.5 of the share: all of it grows with the share, a fifth does not, none does."""
    grown = {"all": lambda x: x, "some": lambda x: 0.2 + 0.8 * x, "none": lambda x: 1.0, "odd": lambda x: 1.3 * x - 0.3}
    pairs = [(kind, share, time(share)) for kind, time in grown.items() for share in (1.5, 0.5)]
    assert fitted_fractions(pairs) == pytest.approx({"all": 0.0, "some": 0.2, "none": 0.9, "odd": 0.0})
    assert fitted_fractions([("alike", 1.0, 1.0)]) == {}


def test_a_slow_rank_pays_the_fixed_part_at_its_own_speed() -> None:
    span = Span(rank=0, call=0, kind="forward", start_ns=0, duration_ns=8_000_000)
    dealing = Dealing((12, 4), (1.0, 0.5), {"forward": 0.25})
    assert dealing.seconds(span, 1, 8) == pytest.approx(8e-3 * (0.25 + 0.75 * 4 / 8) / 0.5)
    assert Dealing((12, 4), (1.0, 0.5)).seconds(span, 0, 8) == pytest.approx(12e-3)
