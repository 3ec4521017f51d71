from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.stats import variance_prior
from bench.stats.change_test import THRESHOLD, JudgedChange, SideLaunches, estimate, judge


def case(base: list[float], new: list[float], kind: str = "a", lower_is_better: bool = True) -> SideLaunches:
    return SideLaunches([math.log(x) for x in base], [math.log(x) for x in new], kind, lower_is_better)


def judge_all(cases: Sequence[SideLaunches], threshold: float = THRESHOLD, paired: bool = False) -> list[JudgedChange]:
    return judge(cases, estimate(cases, paired), threshold, paired)


def only(*arguments: SideLaunches, paired: bool = False, threshold: float = 0.05) -> JudgedChange:
    [judged] = judge_all(arguments, threshold, paired)
    return judged


def test_the_interval_is_that_of_the_pooled_t_test() -> None:
    """Logs 0, .1, .2 and .3, .4, .5: shift .3, variance .01, 4 degrees, half 2.776445 x .1 x sqrt(2/3)."""
    found = judge_all([SideLaunches([0.0, 0.1, 0.2], [0.3, 0.4, 0.5], "a")])[0]
    half = 2.7764451 * 0.1 * math.sqrt(2 / 3)
    assert found.change == pytest.approx(math.expm1(0.3))
    assert found.change_low == pytest.approx(math.expm1(0.3 - half), rel=1e-6)
    assert found.change_high == pytest.approx(math.expm1(0.3 + half), rel=1e-6)
    assert found.p_value == pytest.approx(0.0213112, rel=1e-4)  # scipy.stats.ttest_ind
    assert found.verdict == "slower"


def test_pairs_take_out_what_both_have_in_common() -> None:
    base, shifts = [1.0, 2.0, 4.0, 8.0], [1.10, 1.11, 1.09, 1.10]
    new = [b * s for b, s in zip(base, shifts, strict=True)]
    assert only(case(base, new)).verdict == "unclear"
    found = only(case(base, new), paired=True)
    assert found.verdict == "slower"
    logs = np.log(shifts)
    half = 3.1824463 * logs.std(ddof=1) / 2
    assert found.change_high == pytest.approx(math.expm1(logs.mean() + half), rel=1e-6)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ([1.001, 1.0, 0.999], "same"),  # inside the threshold
        ([1.02, 1.021, 1.019], "same"),  # shown to differ, by less than is of interest
        ([1.2, 1.21, 1.19], "slower"),
        ([0.8, 0.81, 0.79], "faster"),
        ([0.7, 1.0, 1.4], "unclear"),
    ],
)
def test_the_first_verdict_that_holds(new: list[float], verdict: str) -> None:
    assert only(case([1.0, 1.002, 0.998], new)).verdict == verdict


def test_more_is_better_where_the_metric_says_so() -> None:
    assert only(case([1.0, 1.002, 0.998], [1.2, 1.21, 1.19], lower_is_better=False)).verdict == "faster"


def test_one_launch_has_no_error_bar() -> None:
    found = only(case([1.0], [3.0]))
    assert (found.verdict, found.change_low, found.p_value) == ("unclear", None, None)
    assert found.change == pytest.approx(2.0)
    assert "no error bar" in str(found.reason)
    assert "--launches" in str(found.reason)
    # One against several has the several's.
    assert only(case([1.0, 1.001, 0.999], [3.0])).verdict == "slower"


def test_equal_values_are_the_same_and_a_coarse_clock_is_no_crash() -> None:
    assert only(case([1.0, 1.0], [1.0, 1.0])).verdict == "same"
    assert only(case([1.0, 1.0], [2.0, 2.0])).verdict == "slower"


def test_unclear_says_how_many_launches_would_settle_it() -> None:
    found = only(case([1.0, 1.1, 1.2], [1.1, 1.2, 1.3]))
    assert found.verdict == "unclear"
    assert found.launches_needed is not None
    # At that number the same shift and variance would be settled, at one fewer not.
    shift = math.log1p(found.change)
    logs = [np.log([1.0, 1.1, 1.2]), np.log([1.1, 1.2, 1.3])]
    sd = math.sqrt(sum(float(((side - side.mean()) ** 2).sum()) for side in logs) / 4)

    def settled(size: int) -> bool:
        from scipy import stats

        half = stats.t.ppf(0.975, 2 * size - 2) * sd * math.sqrt(2 / size)
        return bool(half < shift or math.expm1(shift + half) <= 0.05)

    pytest.importorskip("scipy")
    assert settled(found.launches_needed)
    assert not settled(found.launches_needed - 1)


def test_chance_among_many_cases_is_no_discovery() -> None:
    """A p of 0.03 alone is one; among 40 cases that show nothing it is what chance brings up."""
    hit = case([1.0, 1.05, 1.1], [1.14, 1.2, 1.25])
    alone = only(hit)
    assert alone.p_value is not None
    assert 0.01 < alone.p_value < 0.05
    assert alone.verdict == "slower"
    others = [case([1.0, 1.05, 1.1], [1.0, 1.05, 1.1], kind=f"kind{n}") for n in range(40)]
    among = judge_all([hit._replace(kind="own"), *others])[0]
    assert among.verdict == "unclear"
    assert "chance" in str(among.reason)


def simulated(seed: int, num_launches: int, effects: NDArray[np.float64], paired: bool) -> list[JudgedChange]:
    """Cases whose launches vary by about 3%, each by its own: variances scaled inverse chi-square of 6 degrees."""
    rng = np.random.default_rng(seed)
    spread = 0.03 * np.sqrt(6 / rng.chisquare(6, effects.size)) / math.sqrt(2 if paired else 1)
    sides = rng.normal(size=(2, effects.size, num_launches)) * spread[:, None]
    rows = zip(sides[0], sides[1] + effects[:, None], strict=True)
    return judge_all([SideLaunches(base.tolist(), new.tolist(), "a") for base, new in rows], paired=paired)


@pytest.mark.parametrize(("num_launches", "paired"), [(3, False), (10, True), (5, False)])
def test_simulated_intervals_hold_the_truth_as_often_as_they_say(num_launches: int, paired: bool) -> None:
    effects = np.log(1 + np.linspace(-0.2, 0.2, 50))
    held = [
        low <= change <= high
        for seed in range(60)
        for judged, change in zip(simulated(seed, num_launches, effects, paired), np.expm1(effects), strict=True)
        if (low := judged.change_low) is not None and (high := judged.change_high) is not None
    ]
    assert len(held) == 3000
    assert 0.94 <= np.mean(held) <= 0.99  # never less than 95%: a variance is only raised


def test_simulated_unchanged_cases_are_hardly_ever_called_changed() -> None:
    found = Counter(j.verdict for seed in range(100) for j in simulated(seed, 3, np.zeros(50), paired=False))
    assert (found["slower"] + found["faster"]) / 5000 <= 0.005


def test_simulated_slowdowns_are_found() -> None:
    """20% by 3 against 3 launches, 10% by 10 pairs: ten slower cases among fifty."""
    for num_launches, paired, slower, least in ((3, False, 0.2, 0.8), (10, True, 0.1, 0.95)):
        effects = np.where(np.arange(50) < 10, math.log1p(slower), 0.0)
        runs = [simulated(seed, num_launches, effects, paired) for seed in range(60)]
        assert np.mean([judged.verdict == "slower" for run in runs for judged in run[:10]]) >= least
        false = np.array([sum(j.verdict in ("slower", "faster") for j in run[10:]) for run in runs])
        all_found = np.array([sum(j.verdict in ("slower", "faster") for j in run) for run in runs])
        assert (false / np.maximum(1, all_found)).mean() <= 0.07  # the false discovery rate


def test_moderation_finds_more_than_three_launches_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    effects = np.where(np.arange(50) < 10, math.log1p(0.2), 0.0)

    def found() -> int:
        return sum(j.verdict == "slower" for seed in range(30) for j in simulated(seed, 3, effects, False)[:10])

    moderated = found()
    monkeypatch.setattr(variance_prior, "MIN_CASES", 10**9)
    assert moderated > 1.1 * found()


def test_nothing_to_judge() -> None:
    assert judge_all([]) == []
