from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import variance_prior
from bench.stats.distributions import digamma
from bench.stats.variance_prior import fit_prior, moderate, moderate_by_spread


@pytest.mark.parametrize(("degrees", "variance"), [(4.0, 1e-4), (12.0, 3.0)])
def test_the_prior_that_made_the_variances_is_found(degrees: float, variance: float) -> None:
    rng = np.random.default_rng(1)
    true = variance * degrees / rng.chisquare(degrees, 20_000)
    seen = true * rng.chisquare(4, true.size) / 4
    prior = fit_prior(seen, np.full(true.size, 4.0))
    assert prior.degrees == pytest.approx(degrees, rel=0.1)
    assert prior.variance == pytest.approx(variance, rel=0.05)
    assert prior.pooled_degrees == 80_000


def test_cases_of_one_variance_are_pooled() -> None:
    """They differ by less than chance makes them: the prior is certain, and no more is known than all have together."""
    found = moderate(np.full(10, 2.0), np.full(10, 4.0))
    # E log s^2 of variance v and 4 degrees is log v + psi(2) - log 2.
    expected = 2.0 / math.exp(digamma(2.0) - math.log(2.0))
    assert found.variances == pytest.approx(np.full(10, expected))
    assert found.degrees == pytest.approx(np.full(10, 40.0))


def test_a_variance_is_raised_towards_the_prior_and_never_lowered() -> None:
    own = np.array([0.01, 0.02, 0.04, 0.05, 0.1, 0.3, 0.5, 1.0, 4.0])
    prior = fit_prior(own, np.full(own.size, 4.0))
    assert 0 < prior.degrees < math.inf
    found = moderate(own, np.full(own.size, 4.0))
    weighted = (prior.degrees * prior.variance + 4 * own) / (prior.degrees + 4)
    assert found.variances == pytest.approx(np.maximum(weighted, own))
    assert found.degrees == pytest.approx(np.full(own.size, 4 + prior.degrees))
    assert found.variances[0] > own[0]
    assert weighted[-1] < own[-1] == found.variances[-1]


def test_few_cases_are_left_as_they_are() -> None:
    own = np.array([1.0] * (variance_prior.MIN_CASES - 1))
    found = moderate(own, np.full(own.size, 4.0))
    assert found.variances == pytest.approx(own)
    assert found.degrees == pytest.approx(np.full(own.size, 4.0))


def test_cases_without_replicates_or_variance_neither_tell_nor_learn() -> None:
    own = np.array([1.0] * 10 + [math.nan, 0.0])
    free = np.array([4.0] * 10 + [0.0, 4.0])
    found = moderate(own, free)
    assert math.isnan(found.variances[10])
    assert found.degrees[10] == 0
    assert found.variances[11] == 0
    assert found.degrees[0] == pytest.approx(40.0)


def test_cases_with_as_much_spread_are_the_prior_of_a_case() -> None:
    """Launches of a case differ by a tenth of its samples' spread: quiet cases are not raised to the others."""
    rng = np.random.default_rng(3)
    spreads = np.exp(rng.uniform(-5, -1, 400))
    own = (0.1 * spreads) ** 2 * rng.chisquare(4, spreads.size) / 4
    found = moderate_by_spread(own, np.full(spreads.size, 4.0), spreads)
    assert np.log(found.variances / (0.1 * spreads) ** 2).min() > -0.25
    assert np.median(np.log(found.variances / (0.1 * spreads) ** 2)) < 0.25
    assert found.degrees.min() > 100
    flat = moderate(own, np.full(spreads.size, 4.0))
    quiet = spreads < np.quantile(spreads, 0.1)
    assert np.median(flat.variances[quiet] / found.variances[quiet]) > 2


def test_a_spread_that_says_nothing_leaves_one_prior_for_all() -> None:
    own = np.array([0.01, 0.02, 0.04, 0.05, 0.1, 0.3, 0.5, 1.0, 4.0])
    prior = fit_prior(own, np.full(own.size, 4.0), num_fitted=2)
    for spreads in (np.full(own.size, 0.1), np.linspace(0.9, 0.1, own.size)):  # alike, or against the variances
        found = moderate_by_spread(own, np.full(own.size, 4.0), spreads)
        weighted = (prior.degrees * prior.variance + 4 * own) / (prior.degrees + 4)
        assert found.variances == pytest.approx(np.maximum(weighted, own))


def test_few_cases_and_those_without_replicates_are_left_as_they_are_by_spread() -> None:
    own = np.array([1.0] * 10 + [math.nan])
    free = np.array([4.0] * 10 + [0.0])
    found = moderate_by_spread(own, free, np.full(own.size, 0.1))
    assert math.isnan(found.variances[10])
    assert found.degrees[10] == 0
    few = moderate_by_spread(own[:7], free[:7], np.full(7, 0.1))
    assert few.variances == pytest.approx(own[:7])
