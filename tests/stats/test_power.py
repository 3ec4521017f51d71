"""Power of paired comparisons, against scipy and against simulated pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats.power import (
    MOST_PAIRS,
    POWER,
    change_power,
    discovery_level,
    plan_pairs,
    same_probability,
    smallest_shift,
)

TEN_PERCENT = math.log1p(0.1)


@pytest.mark.parametrize("pairs", [3, 6, 10, 60])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_the_power_is_that_of_the_noncentral_t(pairs: int, level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    limit = stats.t.ppf(1 - level / 2, pairs - 1)
    for effect in (0.0, 0.1, 0.5, 0.8):  # beyond, scipy's lower tail is NaN
        centre = effect * math.sqrt(pairs)
        right = stats.nct.sf(limit, pairs - 1, centre) + stats.nct.cdf(-limit, pairs - 1, centre)
        assert change_power(pairs, 0.02, -0.02 * effect, level) == pytest.approx(right, abs=1e-4)


@pytest.mark.parametrize(("pairs", "deviation"), [(4, 0.02), (8, 0.04), (20, 0.08)])
def test_the_share_of_the_same_is_that_of_simulated_intervals(pairs: int, deviation: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(1).normal(size=(40_000, pairs)) * deviation
    half = stats.t.ppf(0.975, pairs - 1) * differences.std(axis=1, ddof=1) / math.sqrt(pairs)
    simulated = (np.abs(differences.mean(axis=1)) + half <= math.log1p(0.05)).mean()
    assert same_probability(pairs, deviation, 0.05) == pytest.approx(simulated, abs=0.01)


def test_many_cases_ask_for_a_smaller_p_value() -> None:
    assert discovery_level(1) == pytest.approx(0.05)
    levels = [discovery_level(number) for number in (1, 2, 5, 10)]
    assert levels == sorted(levels, reverse=True)
    # Of a hundred cases ten are changed: eight that are found let eight times as much pass as one.
    assert discovery_level(100) == pytest.approx(0.05 * 8 / (100 - 0.05 * 90))
    assert discovery_level(1000) == pytest.approx(discovery_level(100))


def test_a_clock_too_coarse_to_differ_hides_nothing() -> None:
    assert change_power(6, 0.0, 0.1, 0.05) == 1.0
    assert change_power(6, 0.0, 0.0, 0.05) == 0.0
    assert same_probability(6, 0.0, 0.05) == 1.0


def test_the_plan_is_the_fewest_pairs_that_do() -> None:
    deviation = 0.08
    plan = plan_pairs([deviation], TEN_PERCENT, threshold=0.05)
    assert plan.finds
    assert plan.shows_same
    assert plan.hidden == ()

    def is_enough(pairs: int) -> bool:
        power = change_power(pairs, deviation, TEN_PERCENT, 0.05)
        return power >= POWER and same_probability(pairs, deviation, 0.05) >= 1 / 3

    assert is_enough(plan.pairs)
    assert not is_enough(plan.pairs - 1)
    assert plan.smallest_shift is not None
    assert change_power(plan.pairs, deviation, plan.smallest_shift, 0.05) == pytest.approx(POWER, abs=0.01)
    assert plan.smallest_shift < TEN_PERCENT


def test_noise_asks_for_more_pairs_and_then_hides_the_change() -> None:
    plans = [plan_pairs([deviation] * 3, TEN_PERCENT, 0.05) for deviation in (0.01, 0.05, 0.1, 0.5)]
    assert [plan.pairs for plan in plans] == sorted(plan.pairs for plan in plans)
    assert [plan.finds for plan in plans] == [True, True, True, False]
    assert [plan.shows_same for plan in plans] == [True, True, True, False]
    assert plans[2].pairs < MOST_PAIRS == plans[3].pairs
    assert plans[3].hidden == (0, 1, 2)
    assert plans[3].smallest_shift is not None
    assert plans[3].smallest_shift > TEN_PERCENT


def test_a_large_change_is_found_where_nothing_can_be_shown_to_be_the_same() -> None:
    plan = plan_pairs([0.25], math.log1p(0.3), 0.05)
    assert (plan.finds, plan.shows_same) == (True, False)
    assert plan.pairs < MOST_PAIRS  # what is out of reach asks for no pairs


def test_one_noisy_case_of_many_is_named_and_waits_for_nobody() -> None:
    quiet, noisy = plan_pairs([0.03] * 9, TEN_PERCENT, 0.05), plan_pairs([0.03] * 9 + [0.6], TEN_PERCENT, 0.05)
    assert noisy.hidden == (9,)
    assert noisy.finds
    assert noisy.pairs <= quiet.pairs + 2


def test_fewer_pairs_than_a_plan_usually_has() -> None:
    plan = plan_pairs([0.1], TEN_PERCENT, 0.05, most=3)
    assert (plan.pairs, plan.finds) == (3, False)
    assert plan.smallest_shift is not None
    assert plan.smallest_shift > TEN_PERCENT
    assert smallest_shift([50.0], 3) is None
