"""Outliers among equals: known answers, and what simulation says of false alarms, power and masking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats import outliers, robust_score
from bench.stats.outliers import CaseMembers, JudgedMember, MemberLaunches

NUM_CASES = 30
SPREAD = 0.02
SLOW = math.log(1.1)


def a_case(values: list[float], kind: str = "", lower_is_better: bool = True) -> CaseMembers:
    """One launch a member, of these seconds."""
    members = {f"n{number}": MemberLaunches(np.log([value])) for number, value in enumerate(values)}
    return CaseMembers(members, kind, lower_is_better)


def verdicts(judged: list[JudgedMember]) -> dict[str, str]:
    return {each.member: each.verdict for each in judged if each.verdict != "same"}


def a_fleet(
    random: np.random.Generator, num_hosts: int, slow_hosts: int = 0, slow_cases: int = NUM_CASES
) -> list[CaseMembers]:
    logs = SPREAD * random.standard_normal((NUM_CASES, num_hosts))
    logs[:slow_cases, :slow_hosts] += SLOW
    return [
        CaseMembers({f"n{i}": MemberLaunches(np.array([log])) for i, log in enumerate(row)}) for row in logs.tolist()
    ]


def found(cases: list[CaseMembers], verdict: str = "slower") -> set[str]:
    return {each.member for row in outliers.judge(cases) for each in row if each.verdict == verdict}


def test_one_slow_member_beside_its_siblings() -> None:
    (judged,) = outliers.judge([a_case([1.0, 1.01, 0.99, 1.005, 0.995, 1.002, 0.998, 2.0])])
    slow = judged[-1]
    assert verdicts(judged) == {"n7": "slower"}
    assert (slow.value, slow.centre, slow.low, slow.high) == pytest.approx((2.0, 1.0, 0.99, 1.01))
    assert slow.ratio == pytest.approx(2.0)
    assert slow.num_siblings == 7
    assert slow.adjusted_p is not None
    assert slow.p_value is not None
    assert slow.p_value <= slow.adjusted_p < 1e-4


def test_what_is_better_is_said_by_the_case() -> None:
    values = [1.0, 1.01, 0.99, 1.005, 0.995, 1.002, 0.998, 2.0]
    assert verdicts(outliers.judge([a_case(values, lower_is_better=False)])[0]) == {"n7": "faster"}
    assert verdicts(outliers.judge([a_case([*values[:-1], 0.5])])[0]) == {"n7": "faster"}


def test_a_distance_below_the_threshold_is_of_no_interest() -> None:
    case = a_case([1.0, 1.0001, 0.9999, 1.0002, 0.9998, 1.0001, 0.9999, 1.04])
    assert verdicts(outliers.judge([case])[0]) == {}
    assert verdicts(outliers.judge([case], outlier=0.03)[0]) == {"n7": "slower"}


def test_far_away_among_siblings_that_are_far_apart_is_unclear() -> None:
    (judged,) = outliers.judge([a_case([1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 0.7, 1.5])])
    assert verdicts(judged)["n7"] == "unclear"
    assert "slower" not in verdicts(judged).values()


def test_identical_siblings_leave_no_chance() -> None:
    (judged,) = outliers.judge([a_case([1.0] * 8 + [1.2])])
    assert verdicts(judged) == {"n8": "slower"}
    assert judged[-1].p_value == 0.0
    assert judged[0].p_value == 1.0


def test_a_coarse_clock_makes_no_outliers() -> None:
    """More than half read 1 us, the others 2 us: Qn is 0, and yet nobody stands out."""
    assert found([a_case([1e-6] * 12 + [2e-6] * 6)]) == set()


def test_siblings_without_spread_are_judged_by_what_their_launches_leave_open() -> None:
    """Launches at 0.9 and 1.1 of every value: a standard error of 10%, so that 15% away is nothing."""
    apart = np.log([0.9, 1.1])
    equal = CaseMembers({f"n{i}": MemberLaunches(apart + (0.14 if i == 8 else 0.0)) for i in range(9)})
    assert verdicts(outliers.judge([equal])[0]) == {"n8": "unclear"}


def test_a_member_is_not_blamed_for_launches_that_disagree() -> None:
    rest = {f"n{i}": MemberLaunches(np.array([0.001 * i, 0.001 * i])) for i in range(8)}
    steady, torn = MemberLaunches(np.array([0.15, 0.15])), MemberLaunches(np.array([0.0, 0.30]))
    assert verdicts(outliers.judge([CaseMembers(rest | {"slow": steady})])[0]) == {"slow": "slower"}
    assert verdicts(outliers.judge([CaseMembers(rest | {"slow": torn})])[0]) == {"slow": "unclear"}


def test_the_error_within_the_only_launch_counts() -> None:
    rest = {f"n{i}": MemberLaunches(np.array([0.0])) for i in range(8)}
    slow = MemberLaunches(np.array([0.2]), within=0.1)
    assert verdicts(outliers.judge([CaseMembers(rest | {"slow": slow})])[0]) == {"slow": "unclear"}


def test_few_siblings_are_judged_by_launches_alone() -> None:
    lone = a_case([1.0, 1.0, 1.5])
    assert {each.verdict for each in outliers.judge([lone])[0]} == {"unclear"}
    assert all(each.p_value is None for each in outliers.judge([lone])[0])
    around = np.array([-0.01, 0.0, 0.01])
    several = CaseMembers({"a": MemberLaunches(around), "b": MemberLaunches(around), "c": MemberLaunches(around + 0.3)})
    judged = outliers.judge([several])[0]
    assert verdicts(judged)["c"] == "slower"
    assert "slower" not in {each.verdict for each in judged[:2]}
    welch = stats.ttest_ind(around, around + 0.3, equal_var=False).pvalue
    assert judged[2].p_value == pytest.approx(welch, rel=1e-6)


def test_only_some_are_judged() -> None:
    values = [1.0, 1.01, 0.99, 1.005, 0.995, 1.002, 2.0, 2.0]
    judged = outliers.judge([a_case(values), a_case(values[:5])], only=["n6"])
    assert [[each.member for each in row] for row in judged] == [["n6"], []]
    assert judged[0][0].verdict == "slower"


@pytest.mark.parametrize("num", [2, 5, 8, 11, 64])
def test_qn_estimates_the_standard_deviation(num: int) -> None:
    values = 3.0 * np.random.default_rng(num).standard_normal((20_000 if num < 64 else 2_000, num))
    assert robust_score.qn(values).mean() == pytest.approx(3.0, rel=0.02)


def test_qn_by_hand() -> None:
    # The distances of 0, 1, 3, 7 are 1, 2, 3, 4, 6, 7; h = 3 and so k = 3.
    (scale,) = robust_score.qn(np.array([[7.0, 0.0, 1.0, 3.0]]))
    assert scale == pytest.approx(2.21914 * 0.512 * 3)


@pytest.mark.parametrize("num_siblings", [4, 5, 7, 10, 16, 31])
def test_the_score_has_the_tails_that_are_claimed(num_siblings: int) -> None:
    """P(|score| > its p = 0.001 quantile), exact in the member left out, over simulated siblings."""
    siblings = np.random.default_rng(num_siblings).standard_normal((40_000, num_siblings))
    spread = robust_score.qn(siblings) * math.sqrt(1 + math.pi / (2 * num_siblings))
    edge = stats.t.ppf(1 - 0.0005, robust_score.degrees(num_siblings)) * spread
    centre = np.median(siblings, axis=1)
    beyond = stats.norm.sf(edge + centre) + stats.norm.sf(edge - centre)
    assert 0.0005 < beyond.mean() < 0.0012  # with few siblings it errs on the careful side


def alarms(num_hosts: int, num_fleets: int, seed: int) -> int:
    """Fleets of equals with an alarm; without a practical threshold, so that chance alone is looked at."""
    random = np.random.default_rng(seed)
    fleets = [outliers.judge(a_fleet(random, num_hosts), outlier=0.0) for _ in range(num_fleets)]
    return sum(any(each.verdict in ("slower", "faster") for row in fleet for each in row) for fleet in fleets)


@pytest.mark.long
def test_no_false_alarm_among_64_equals() -> None:
    assert alarms(64, 40, seed=7) <= 2


def test_no_false_alarm_among_few_equals() -> None:
    assert alarms(8, 200, seed=8) <= 10


def test_a_slow_host_is_found() -> None:
    random = np.random.default_rng(9)
    assert sum("n0" in found(a_fleet(random, 64, slow_hosts=1)) for _ in range(20)) >= 19


def test_slow_hosts_do_not_hide_one_another() -> None:
    random = np.random.default_rng(10)
    slow = {f"n{number}" for number in range(8)}
    assert sum(slow <= found(a_fleet(random, 64, slow_hosts=8)) for _ in range(20)) >= 19


def test_like_cases_lend_a_small_fleet_their_spread() -> None:
    """Five siblings know their spread badly; of 30 like cases together it is well known."""
    random = np.random.default_rng(11)
    cases = [
        CaseMembers(
            {f"n{i}": MemberLaunches(np.array([log + (SLOW if i == 0 else 0)])) for i, log in enumerate(row)}, kind
        )
        for row, kind in zip((0.01 * random.standard_normal((30, 6))).tolist(), ["alike"] * 30, strict=True)
    ]
    assert found(cases) == {"n0"}
    strangers = [case._replace(kind=str(number)) for number, case in enumerate(cases)]
    assert found(strangers) == set()


def test_large_fleets_leave_nobody_out() -> None:
    random = np.random.default_rng(12)
    assert found([*a_fleet(random, 300, slow_hosts=2)]) >= {"n0", "n1"}
