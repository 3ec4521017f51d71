from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import distributions

# Student's t, upper 2.5%: NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 10: 2.228, 30: 2.042, 100: 1.984, math.inf: 1.960}


@pytest.mark.parametrize("degrees", T_975)
def test_t_quantiles_are_those_of_the_tables(degrees: float) -> None:
    assert distributions.t_quantile(0.975, degrees) == pytest.approx(T_975[degrees], abs=5e-4)
    assert distributions.t_quantile(0.025, degrees) == pytest.approx(-T_975[degrees], abs=5e-4)


def test_t_has_its_closed_forms() -> None:
    # 1 degree is Cauchy: F(t) = 1/2 + atan(t)/pi; 2 degrees: F(t) = 1/2 + t / (2 sqrt(2 + t^2)).
    for t in (0.0, 0.3, 1.0, 5.0, 1e3):
        assert distributions.t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-13)
        assert distributions.t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-13)
    assert distributions.t_quantile(0.5, 7) == pytest.approx(0.0, abs=1e-9)


def test_t_quantiles_agree_with_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for degrees in (1, 2.5, 4, 30, 1e4):
        for share in (0.55, 0.9, 0.995):
            assert distributions.t_quantile(share, degrees) == pytest.approx(scipy.t.ppf(share, degrees), rel=1e-9)


def test_digamma_and_trigamma_at_known_points() -> None:
    # Abramowitz and Stegun, 6.3.2, 6.3.3, 6.4.2 and 6.4.4.
    gamma = 0.5772156649015329
    assert distributions.digamma(1.0) == pytest.approx(-gamma, rel=1e-13)
    assert distributions.digamma(0.5) == pytest.approx(-gamma - 2 * math.log(2), rel=1e-13)
    assert distributions.trigamma(1.0) == pytest.approx(math.pi**2 / 6, rel=1e-13)
    assert distributions.trigamma(0.5) == pytest.approx(math.pi**2 / 2, rel=1e-13)


@pytest.mark.parametrize("x", [0.01, 0.4, 1.0, 7.5, 40.0, 3000.0])
def test_the_inverse_undoes_trigamma(x: float) -> None:
    assert distributions.trigamma_inverse(distributions.trigamma(x)) == pytest.approx(x, rel=1e-8)


def test_the_tail_of_the_binomial_adds_up_its_terms() -> None:
    for count, trials, rate in ((1, 1, 0.01), (4, 5, 0.3), (44, 45, 0.01), (0, 3, 0.1), (3, 3, 0.5)):
        terms = (math.comb(trials, n) * rate**n * (1 - rate) ** (trials - n) for n in range(count, trials + 1))
        assert distributions.binomial_tail(count, trials, rate) == pytest.approx(sum(terms), rel=1e-9)


def test_p_values_of_welch_agree_with_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    one, two = np.array([1.0, 1.2, 0.9]), np.array([2.0, 1.1, 1.7, 2.9])
    squared_errors = [float(sample.var(ddof=1)) / sample.size for sample in (one, two)]
    degrees = distributions.welch_degrees(squared_errors, [one.size, two.size])
    p_value = distributions.two_sided_p(float(one.mean() - two.mean()), math.sqrt(sum(squared_errors)), degrees)
    assert p_value == pytest.approx(scipy.ttest_ind(one, two, equal_var=False).pvalue)
