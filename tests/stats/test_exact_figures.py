"""Statistics against figures by hand or from the source: constants and signs that no simulation would notice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import change_test, drift, intervals, pair_outliers, robust_score
from bench.stats.change_test import Estimate


@pytest.mark.parametrize("size", [1, 2, 49, 50, 51, 52, 101, 102])
def test_the_median_of_few_and_of_many_is_numpy_s(size: int) -> None:
    values = np.random.default_rng(size).permutation(np.arange(size) ** 2)
    assert intervals.median(values) == float(np.median(values))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_rank_of_the_interval_is_the_largest_that_covers(confidence: float) -> None:
    for n in (*range(1, 80), 400, 5000):
        k = intervals.order_statistic(n, confidence)
        tails = [scipy_stats.binom.cdf(j - 1, n, 0.5) for j in range(1, n // 2 + 2)]
        fitting = [j for j, tail in enumerate(tails, 1) if tail <= (1 - confidence) / 2 + 1e-12]
        assert k == (max(fitting) if fitting else None), n


@pytest.mark.parametrize(
    ("num", "correction"),
    [(2, 0.399), (3, 0.994), (4, 0.512), (5, 0.844), (6, 0.611), (7, 0.857), (8, 0.669), (9, 0.872)],
)
def test_qn_of_few_values_has_the_published_correction(num: int, correction: float) -> None:
    """Rousseeuw and Croux 1993, section 4, of the numbers 1 to n, whose k-th distance is counted by hand."""
    values = np.arange(1.0, num + 1)
    distances = sorted(b - a for i, a in enumerate(values) for b in values[i + 1 :])
    half = num // 2 + 1
    expected = 2.21914 * correction * distances[half * (half - 1) // 2 - 1]
    assert robust_score.qn(values[None, :])[0] == pytest.approx(expected)


@pytest.mark.parametrize("num", [10, 11, 40, 41])
def test_qn_of_more_values_has_the_published_correction(num: int) -> None:
    values = np.random.default_rng(num).normal(size=num)
    distances = sorted(abs(b - a) for i, a in enumerate(values) for b in values[i + 1 :])
    half = num // 2 + 1
    correction = num / (num + 1.4) if num % 2 else num / (num + 3.8)
    expected = 2.21914 * correction * distances[half * (half - 1) // 2 - 1]
    assert robust_score.qn(values[None, :])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("num_others", "degrees"),
    [(4, 1.95), (5, 1.95), (6, 3.3), (7, 3.3), (12, 7.3), (14, 8.8), (62, 50.5), (98, 80.36), (200, 164.0)],
)
def test_degrees_of_freedom_of_a_score(num_others: int, degrees: float) -> None:
    assert robust_score.degrees(num_others) == pytest.approx(degrees)


@pytest.mark.parametrize("num_low", [3, 10, 20, 37])
def test_the_cut_in_two_has_the_least_squares(num_low: int) -> None:
    random = np.random.default_rng(num_low)
    ordered = np.sort(np.concatenate([random.normal(0, 1, num_low), random.normal(9, 1, 40 - num_low)]))
    within = [ordered[:k].var() * k + ordered[k:].var() * (40 - k) for k in range(1, 40)]
    assert drift._best_cut(ordered) == int(np.argmin(within)) + 1 == num_low


def test_a_lone_low_value_is_cut_off_by_itself() -> None:
    """Squares between two parts weigh their sizes, so that the cut is not drawn to the middle."""
    assert drift._best_cut(np.array([0.0, *np.linspace(10, 11, 30)])) == 1
    assert drift._best_cut(np.array([*np.linspace(0, 1, 30), 11.0])) == 30


@pytest.mark.parametrize("num_ranks", [10, 11])
def test_of_few_pairs_a_slow_rank_is_left_out_of_its_own_measure(num_ranks: int) -> None:
    """Of up to 100 pairs those of a rank are compared with the others, of more with all: 90 and 110 here."""
    logs = {(a, b): 0.01 * ((3 * a + 5 * b) % 7) for a in range(num_ranks) for b in range(num_ranks) if a != b}
    (first, *_) = pair_outliers._rank_candidates(logs, ("sender",))
    without = [value for pair, value in logs.items() if 0 not in pair]
    assert first.others.count == (len(logs) if num_ranks == 11 else len(without))
    (pair, *_) = pair_outliers._pair_candidates(logs)
    assert pair.others.count == (len(logs) if num_ranks == 11 else len(logs) - 2)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("shift", [-0.2, -0.045, -0.03, 0.0, 0.03, 0.046, 0.2])
@pytest.mark.parametrize("deviation", [0.001, 0.01, 0.04, 0.1])
def test_the_fewest_launches_that_settle_are_those_of_a_search(paired: bool, shift: float, deviation: float) -> None:
    """One number of launches after the other, with scipy's t: an interval within 5%, or without no change."""
    degrees_before, threshold = 3.0, 0.05
    found = change_test.launches_needed(Estimate(shift, deviation**2, degrees_before, 1.0), threshold, paired)
    expected = None
    for size in range(2, change_test.MOST_LAUNCHES + 1):
        own, scale = (size - 1, 1 / size) if paired else (2 * (size - 1), 2 / size)
        half = float(scipy_stats.t.ppf(0.975, max(own, degrees_before))) * deviation * math.sqrt(scale)
        low, high = math.expm1(abs(shift) - half), math.expm1(abs(shift) + half)
        mirrored = math.expm1(-abs(shift) - half)
        if (high <= threshold and mirrored >= -threshold) or low > 0:
            expected = size
            break
    assert found == expected


def test_ranks_that_have_enough_pairs() -> None:
    """Without a rank 3 x 2 of the directed pairs of 4 are left, and 3 of the others, of which 5 ranks leave 6."""
    assert pair_outliers.too_few_ranks(4, is_directed=True) is None
    assert pair_outliers.too_few_ranks(5, is_directed=False) is None
    assert str(pair_outliers.too_few_ranks(3, is_directed=True)).endswith("which takes 4")
    assert str(pair_outliers.too_few_ranks(4, is_directed=False)).endswith("which takes 5")


def test_four_others_are_enough_for_a_pair() -> None:
    logs = {(0, 1): 0.1, (0, 2): 0.2, (0, 3): 0.3, (1, 2): 0.4, (1, 3): 0.5}
    assert [each.others.count for each in pair_outliers._pair_candidates(logs)] == [4] * 5
    logs.popitem()
    assert not list(pair_outliers._pair_candidates(logs))
