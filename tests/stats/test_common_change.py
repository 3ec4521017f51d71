"""The level of a launch: what all cases share, whatever one of them does."""

from __future__ import annotations

import numpy as np
import pytest

from bench.stats import change_test
from bench.stats.change_test import SideLaunches
from bench.stats.common_change import TwoSides, launch_levels, relative, weighted_median


def case(base: list[float], new: list[float]) -> TwoSides:
    return TwoSides(dict(enumerate(base)), dict(enumerate(new)))


def noisy(number: int, shift: float = 0.0, drift: float = 0.0, launches: int = 6) -> list[TwoSides]:
    """Cases that share the noise of their launches, with a little of their own; all of the new side are shifted."""
    rng = np.random.default_rng(7)
    common = np.where(np.arange(launches) % 2, 0.2, -0.2) * np.array([[1.0], [-1.0]]) + drift * np.arange(launches)
    own = rng.normal(0, 0.01, (number, 2, launches))
    return [
        case(list(where + common[0] + one[0]), list(where + common[1] + one[1] + shift))
        for where, one in enumerate(own)
    ]


@pytest.mark.parametrize("paired", [False, True])
def test_a_shift_of_everything_is_in_the_levels_and_not_in_the_rest(paired: bool) -> None:
    cases = noisy(9, shift=0.1)
    levels = launch_levels(cases, ["a"] * 9, paired)
    assert levels is not None
    common = np.mean(list(levels.new.values())) - np.mean(list(levels.base.values()))
    expected = np.mean([np.mean(list(c.new.values())) - np.mean(list(c.base.values())) for c in cases])
    assert common == pytest.approx(expected, abs=0.01)
    for one in cases:
        rest = relative(one, levels)
        differences = np.array(list(rest.new.values())) - np.array(list(rest.base.values()))
        assert np.std(differences) < 0.03
        assert np.mean(list(rest.new.values())) - np.mean(list(rest.base.values())) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("paired", [False, True])
def test_a_case_that_changed_stands_out_of_the_rest_and_does_not_move_it(paired: bool) -> None:
    cases = noisy(9)
    slow = case(list(cases[4].base.values()), [value + 0.2 for value in cases[4].new.values()])
    changed = [*cases[:4], slow, *cases[5:]]
    before, after = (launch_levels(each, ["a"] * 9, paired) for each in (cases, changed))
    assert before is not None
    assert after is not None
    for one, two in zip(before, after, strict=True):
        assert list(two.values()) == pytest.approx(list(one.values()), abs=0.02)
    rest = [relative(each, after) for each in changed]
    sides = [SideLaunches(list(each.base.values()), list(each.new.values()), "") for each in rest]
    verdicts = [one.verdict for one in change_test.judge(sides, change_test.estimate(sides, paired), paired=paired)]
    assert verdicts[4] == "slower"
    assert not {"slower", "faster"} & {*verdicts[:4], *verdicts[5:]}
    plain = [SideLaunches(list(each.base.values()), list(each.new.values()), "") for each in changed]
    as_it_is = change_test.judge(plain, change_test.estimate(plain, paired), paired=paired)[4]
    assert as_it_is.verdict == "unclear"  # the noise of whole launches hides it


def test_one_kind_of_many_cases_weighs_no_more_than_another() -> None:
    many, others = noisy(9, shift=0.3), noisy(4)
    levels = launch_levels([*many, *others], ["many"] * 9 + ["b", "c", "d", "e"], paired=True)
    assert levels is not None
    assert np.mean(list(levels.new.values())) - np.mean(list(levels.base.values())) < 0.1


def test_a_drift_from_pair_to_pair_is_in_no_level() -> None:
    levels = launch_levels(noisy(9, drift=0.5), ["a"] * 9, paired=True)
    assert levels is not None
    differences = [levels.new[pair] - levels.base[pair] for pair in levels.base]
    assert np.std(differences) < 0.5


def test_few_cases_have_no_level_and_a_launch_that_lacks_most_has_none() -> None:
    cases = noisy(9)
    assert launch_levels(cases[:2], ["a", "b"], paired=False) is None
    cut = [
        one if number < 2 else TwoSides({n: v for n, v in one.base.items() if n}, one.new)
        for number, one in enumerate(cases)
    ]
    levels = launch_levels(cut, ["a"] * 9, paired=False)
    assert levels is not None
    assert sorted(levels.base) == [1, 2, 3, 4, 5]


def test_the_median_with_weights() -> None:
    assert weighted_median([(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]) == 2.0
    assert weighted_median([(1.0, 1.0), (2.0, 1.0)]) == 1.5
    assert weighted_median([(1.0, 0.1), (2.0, 0.1), (9.0, 1.0)]) == 9.0
