"""Simulated samples with a known answer: how often drift and modes are reported if there are none, and found where
there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from bench.stats import drift

Array = NDArray[np.float64]
Make = Callable[[Generator, int], Array]

ONE_KIND: dict[str, Make] = {
    "normal": lambda r, n: 1e-3 * (1 + 0.05 * r.standard_normal(n)),
    "wide normal": lambda r, n: np.abs(1e-3 * (1 + 0.25 * r.standard_normal(n))) + 1e-4,
    "lognormal": lambda r, n: 1e-3 * r.lognormal(0, 0.3, n),
    "wide lognormal": lambda r, n: 1e-3 * r.lognormal(0, 1.2, n),
    "exponential": lambda r, n: 1e-3 * r.exponential(1, n) + 1e-9,
    "a floor and an exponential tail": lambda r, n: 1e-3 * (1 + r.exponential(0.5, n)),
    "a floor and a heavy tail": lambda r, n: 1e-3 * (1 + r.pareto(1.1, n)),
    "uniform": lambda r, n: 1e-3 * (1 + r.random(n)),
    "whole ticks": lambda r, n: np.round(20 * r.lognormal(0, 0.3, n)) * 1e-6 + 1e-6,
}


def rate(found: Callable[[Array], object | None], make: Make, sizes: tuple[int, ...], rounds: int = 60) -> float:
    """Share of simulated launches in which something is found."""
    random = np.random.default_rng(20)
    hits = [found(make(random, n)) is not None for n in sizes for _ in range(rounds)]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("name", ONE_KIND)
def test_one_kind_of_samples_has_one_mode_and_no_drift(name: str) -> None:
    sizes = (20, 50, 200, 2000)
    assert rate(drift.modes, ONE_KIND[name], sizes) <= (0.02 if name == "uniform" else 0)
    assert rate(drift.drift, ONE_KIND[name], sizes) <= 0.01


def test_outliers_are_no_mode_and_no_drift() -> None:
    for size, place in itertools.product((20, 30, 300), (0, -1)):
        samples = np.random.default_rng(size).normal(1e-3, 1e-5, size)
        samples[place] = 1.0
        assert drift.modes(samples) is None
        assert drift.drift(samples) is None
    late = np.random.default_rng(3).normal(1e-3, 1e-5, 200)
    late[-12:] = 5e-3  # 6% of the samples: a tail
    assert drift.modes(late) is None


def two(share: float, apart: float, spread: float) -> Make:
    def make(random: Generator, n: int) -> Array:
        slow = random.random(n) < share
        return 1e-3 * np.where(slow, apart, 1.0) * random.lognormal(0, spread, n)

    return make


@pytest.mark.parametrize(
    ("make", "size", "least"),
    [
        (two(0.5, 2.0, 0.05), 30, 0.95), (two(0.38, 7.5, 0.3), 60, 0.85), (two(0.3, 1.5, 0.05), 60, 0.7),
        (two(0.2, 3.0, 0.1), 200, 0.95), (two(0.4, 1.3, 0.03), 1000, 0.99),
    ],
)  # fmt: skip
def test_two_kinds_are_found(make: Make, size: int, least: float) -> None:
    assert rate(drift.modes, make, (size,), rounds=200) >= least


def test_modes_are_described_by_their_medians_and_shares() -> None:
    samples = np.array([0.40e-3, 0.41e-3, 0.42e-3] * 20 + [3.0e-3, 3.1e-3, 3.2e-3] * 10)
    found = drift.modes(samples)
    assert found is not None
    assert (found.fast_seconds, found.slow_seconds) == pytest.approx((0.41e-3, 3.1e-3))
    assert found.slow_share == pytest.approx(1 / 3)


def test_two_modes_of_equal_samples_each_are_no_coarse_clock() -> None:
    found = drift.modes([1e-3, 4e-3] * 20)
    assert found is not None
    assert (found.fast_seconds, found.slow_seconds, found.slow_share) == (1e-3, 4e-3, 0.5)


def test_two_modes_ten_percent_apart_concern_nobody() -> None:
    assert rate(drift.modes, two(0.5, 1.1, 0.005), (200,)) == 0


def test_the_dip_of_known_samples() -> None:
    # Two points of equal weight: the best single peak misses each by a quarter.
    assert drift.dip(np.repeat([0.0, 1.0], 50)) == pytest.approx(0.25)
    # Three to one: half of the smaller weight.
    assert drift.dip(np.repeat([0.0, 1.0], [75, 25])) == pytest.approx(0.125, rel=0.05)
    # Evenly spaced: only the steps.
    assert drift.dip(np.arange(100.0)) <= 0.01
    assert drift.dip(np.full(30, 2.0)) == 0


def test_the_critical_dip_is_that_of_uniform_samples() -> None:
    random = np.random.default_rng(7)
    dips = [10 * drift.dip(np.sort(random.random(100))) for _ in range(1000)]
    assert 0.32 < float(np.median(dips)) < 0.35
    assert sum(d > drift.CRITICAL_DIP for d in dips) <= 16


@pytest.mark.parametrize(
    ("last", "spread", "size", "least"),
    [(1.12, 0.02, 60, 0.99), (1.12, 0.10, 1000, 0.95), (0.8, 0.05, 60, 0.99), (1.3, 0.1, 40, 0.5)],
)
def test_a_drift_is_found(last: float, spread: float, size: int, least: float) -> None:
    def make(random: Generator, n: int) -> Array:
        return 1e-3 * np.linspace(1, last, n) * random.lognormal(0, spread, n)

    assert rate(drift.drift, make, (size,), rounds=200) >= least


def test_a_drift_is_the_last_third_against_the_first() -> None:
    found = drift.drift(np.linspace(1.0, 1.3, 31))  # thirds of ten: medians 1.045 and 1.255
    assert found is not None
    assert found.change == pytest.approx(1.255 / 1.045 - 1)
    assert found.z > 0
    falling = drift.drift(np.linspace(1.3, 1.0, 31))
    assert falling is not None
    assert falling.z < 0
    assert falling.change == pytest.approx(1.045 / 1.255 - 1)


def test_mann_kendall_by_hand() -> None:
    # Ten in order: S = 45, variance 10 x 9 x 25 / 18 = 125: Z = 44 / sqrt(125).
    assert drift.mann_kendall(np.arange(10.0)) == pytest.approx(44 / 125**0.5)
    assert drift.mann_kendall(-np.arange(10.0)) == pytest.approx(-44 / 125**0.5)
    assert drift.mann_kendall(np.ones(10)) == 0


def test_a_change_that_stays_below_five_percent_is_no_drift() -> None:
    assert drift.drift(np.linspace(1.0, 1.04, 300)) is None


def test_too_few_samples_tell_nothing() -> None:
    assert drift.drift(np.linspace(1, 2, 19)) is None
    assert drift.modes(np.repeat([1.0, 5.0], [9, 10])) is None
    assert drift.modes(np.zeros(30)) is None
