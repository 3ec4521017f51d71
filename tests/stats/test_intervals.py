from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import intervals as stats


def test_order_statistics_agree_with_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for n in (*range(1, 120), 999, 100_000):
        k = stats.order_statistic(n)
        if k is None:
            assert 2 * scipy.binom.cdf(0, n, 0.5) > 0.05
            continue
        assert 2 * scipy.binom.cdf(k - 1, n, 0.5) <= 0.05 < 2 * scipy.binom.cdf(k, n, 0.5)


# n -> k at 95%: Conover, "Practical Nonparametric Statistics"; Le Boudec, "Performance Evaluation", appendix A.
@pytest.mark.parametrize(("n", "k"), [(5, None), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (50, 18), (70, 27)])
def test_the_interval_of_the_median_has_the_published_ranks(n: int, k: int | None) -> None:
    samples = np.random.default_rng(1).permutation(np.arange(1, n + 1))
    assert stats.median_interval(samples) == (None if k is None else (k, n + 1 - k))


def test_the_interval_of_the_median_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for samples in rng.lognormal(sigma=1.5, size=(2000, 25)):
        interval = stats.median_interval(samples)
        assert interval is not None
        hits += interval.low <= 1.0 <= interval.high  # exp of the normal's median 0
    # Exact: 1 - 2 P(Binomial(25, 1/2) <= 7) = 0.9567; three standard errors of 2000 draws are 0.0137.
    assert abs(hits / 2000 - 0.9567) < 0.0137


def test_half_width_by_hand() -> None:
    # Blocks [9, 10, 11], [11, 12, 13], [13, 14, 15]: medians 10, 12, 14; mean 12, s = 2, t(2) = 4.303.
    samples = [9, 10, 11, 13, 11, 12, 14, 15, 13]
    assert stats.half_width(samples, 3) == pytest.approx(4.302653 * 2 / math.sqrt(3) / 12, rel=1e-6)


def test_half_width_sees_a_drift_that_shuffling_hides() -> None:
    drift = np.linspace(100, 200, 200)
    shuffled = np.random.default_rng(3).permutation(drift)
    one, other = stats.half_width(drift, 5), stats.half_width(shuffled, 5)
    assert one is not None
    assert other is not None
    assert one > 2 * other


@pytest.mark.parametrize(("samples", "blocks"), [([], 5), ([1, 2, 3, 4], 5), ([1, 2, 3], 1), ([0] * 20, 5)])
def test_half_width_is_unknown_where_it_means_nothing(samples: list[int], blocks: int) -> None:
    assert stats.half_width(samples, blocks) is None


def test_equal_samples_have_no_width() -> None:
    assert stats.half_width([7] * 20, 5) == 0.0


def test_log_t_interval_by_hand() -> None:
    # Logarithms to base 2 are 0, 1, 2: mean 1, s 1, t(2) = 4.302653, so 2^(1 +- 4.302653 sqrt(1 / 3 + 0.4)).
    interval = stats.log_t_interval([1.0, 2.0, 4.0])
    assert interval is not None
    assert stats.BETWEEN_RUNS == 0.4
    half = 4.302653 * math.sqrt(1 / 3 + 0.4)
    assert interval == pytest.approx((2 ** (1 - half), 2 ** (1 + half)), rel=1e-6)
    # A spread that is known from elsewhere: normal, with a variance of 4 (in logarithms to base 2).
    half = 1.959964 * math.sqrt(4 * (1 / 3 + 0.4))
    known = stats.log_t_interval([1.0, 2.0, 4.0], spread=(4 * math.log(2) ** 2, math.inf))
    assert known == pytest.approx((2 ** (1 - half), 2 ** (1 + half)), rel=1e-6)
    assert stats.log_t_interval([1.0]) is None
    assert stats.log_t_interval([1.0, 0.0]) is None


def test_medians_and_quantiles() -> None:
    assert stats.median([3, 1, 2]) == 2.0
    assert stats.median([4, 1, 2, 3]) == 2.5
    assert stats.quantiles([1, 2, 3, 4, 5], [0, 0.25, 0.5, 0.9, 1]) == pytest.approx([1, 2, 3, 4.6, 5])


def test_faultless_calls_exclude_about_three_over_their_number() -> None:
    assert stats.excluded_share(1) == pytest.approx(0.95)
    assert stats.excluded_share(20) == pytest.approx(0.139, abs=0.001)
    assert stats.excluded_share(3000) == pytest.approx(3 / 3000, rel=0.01)
