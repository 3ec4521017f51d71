"""Which rank or pair stands out: planted slow links are named, healthy and ambiguous ones are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import pair_outliers
from bench.stats.pair_outliers import Pair


def a_matrix(num_ranks: int, is_directed: bool, spread: float = 0.03, seed: int = 0) -> dict[Pair, float]:
    """Seconds of 1 ms with normal noise; ranks differ in themselves by half of it."""
    random = np.random.default_rng(seed)
    own = random.normal(0, spread / 2, num_ranks)
    return {
        (a, b): 1e-3 * math.exp(own[a] + own[b] + random.normal(0, spread))
        for a in range(num_ranks)
        for b in range(num_ranks)
        if a < b or (is_directed and a != b)
    }


def slowed(matrix: dict[Pair, float], factor: float, *which: Pair) -> dict[Pair, float]:
    return {pair: value * factor if pair in which else value for pair, value in matrix.items()}


def of_rank(matrix: dict[Pair, float], rank: int, position: int | None = None) -> list[Pair]:
    return [pair for pair in matrix if (rank in pair if position is None else pair[position] == rank)]


def found(matrix: dict[Pair, float], is_directed: bool) -> list[tuple[str, tuple[int, ...]]]:
    return [(slow.role, slow.ranks) for slow in pair_outliers.slow_links(matrix, is_directed)]


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("is_directed", [True, False])
@pytest.mark.parametrize("spread", [0.0, 0.03, 0.3])
def test_a_healthy_machine_is_passed_over_in_silence(num_ranks: int, is_directed: bool, spread: float) -> None:
    false_alarms = [bool(found(a_matrix(num_ranks, is_directed, spread, seed), is_directed)) for seed in range(8)]
    assert sum(false_alarms) <= 1


@pytest.mark.parametrize("num_ranks", [4, 5, 8])
def test_a_rank_with_a_slow_network_is_named_and_not_its_peers(num_ranks: int) -> None:
    matrix = a_matrix(num_ranks, True)
    both = slowed(matrix, 4.0, *of_rank(matrix, 2))
    assert found(both, True) == [("sender", (2,)), ("receiver", (2,))] or found(both, True) == [
        ("receiver", (2,)), ("sender", (2,)),
    ]  # fmt: skip
    assert found(slowed(matrix, 4.0, *of_rank(matrix, 2, 0)), True) == [("sender", (2,))]
    assert found(slowed(matrix, 4.0, *of_rank(matrix, 2, 1)), True) == [("receiver", (2,))]


@pytest.mark.parametrize("num_ranks", [4, 5, 8])
def test_with_both_directions_at_once_the_rank_is_named_too(num_ranks: int) -> None:
    # Of 4 ranks, half of the pairs are those of the slow one: they are found one by one, and then taken together.
    matrix = a_matrix(num_ranks, False, spread=0.01)
    assert found(slowed(matrix, 4.0, *of_rank(matrix, 2)), False) == [("rank", (2,))]


def test_a_slow_pair_is_named_in_the_direction_that_is_slow() -> None:
    matrix = a_matrix(4, True)
    assert found(slowed(matrix, 3.0, (1, 3)), True) == [("pair", (1, 3))]
    (slow,) = pair_outliers.slow_links(slowed(matrix, 3.0, (3, 1)), True)
    assert slow.ranks == (3, 1)
    assert slow.ratio == pytest.approx(3.0, rel=0.15)
    assert slow.num_others == 10  # neither itself nor the way back
    assert slow.others_seconds == pytest.approx(1e-3, rel=0.1)


def test_two_kinds_of_link_are_no_outliers() -> None:
    matrix = a_matrix(8, False)
    near = [pair for pair in matrix if pair[0] // 4 == pair[1] // 4]
    far = [pair for pair in matrix if pair not in near]
    assert len(near) < len(far)
    assert found(slowed(matrix, 0.2, *near), False) == found(slowed(matrix, 5.0, *near), False) == []


def test_a_difference_of_no_interest_is_not_named_however_sure() -> None:
    matrix = a_matrix(8, False, spread=1e-4)
    assert found(slowed(matrix, 1.05, (0, 1)), False) == []
    assert found(slowed(matrix, 1.2, (0, 1)), False) == [("pair", (0, 1))]


def test_many_ranks_are_judged_at_once() -> None:
    matrix = a_matrix(64, True)
    slow = slowed(slowed(matrix, 3.0, *of_rank(matrix, 9)), 2.0, (3, 5))
    assert sorted(found(slow, True)) == [("pair", (3, 5)), ("receiver", (9,)), ("sender", (9,))]


def test_what_is_needed_to_tell() -> None:
    assert pair_outliers.too_few_ranks(4, True) is None
    assert pair_outliers.too_few_ranks(5, False) is None
    assert pair_outliers.too_few_ranks(3, True) == (
        "3 ranks: too few pairs to say which of the ranks stands out, which takes 4"
    )
    assert "takes 5" in str(pair_outliers.too_few_ranks(4, False))
