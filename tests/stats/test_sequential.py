"""The rule that plans pairs and ends them early, on simulated pairs (scripts/evidence/sequential.py has more)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats.change_test import SideLaunches, estimate, judge
from bench.stats.sequential import FIRST_PLAN_PAIRS, INTERIM_CONFIDENCE, SequentialPairs
from scripts.evidence import sequential as evidence


def pairs_of(*differences: list[float]) -> list[SideLaunches]:
    return [SideLaunches([0.0] * len(row), row, "a") for row in differences]


def a_rule() -> SequentialPairs:
    return SequentialPairs(math.log1p(0.1), 0.05)


def test_a_stricter_confidence_is_that_of_all_parts_of_a_verdict() -> None:
    cases = pairs_of([0.10, 0.12, 0.09, 0.15, 0.11, 0.02], [0.01, 0.0, -0.01, 0.01, 0.0, -0.02])
    estimates = estimate(cases, paired=True)
    usual = judge(cases, estimates, paired=True)
    strict = judge(cases, estimates, paired=True, confidence=0.999)
    assert [one.verdict for one in usual] == ["slower", "same"]
    assert [one.verdict for one in strict] == ["unclear", "same"]
    stats = pytest.importorskip("scipy.stats")
    logs = np.array(cases[0].new)
    half = stats.t.ppf(0.9995, 5) * logs.std(ddof=1) / math.sqrt(6)
    assert strict[0].change_high == pytest.approx(math.expm1(logs.mean() + half))
    assert strict[0].adjusted_p == usual[0].adjusted_p
    assert strict[0].adjusted_p is not None
    assert 1 - INTERIM_CONFIDENCE < strict[0].adjusted_p < 0.05


def test_it_plans_twice_and_looks_at_every_second_pair() -> None:
    rule = a_rule()
    assert [rule.plans_at(pairs) for pairs in (1, FIRST_PLAN_PAIRS - 1, FIRST_PLAN_PAIRS)] == [False, False, True]
    assert rule.plans_at(3, most=3)  # a budget holds no more
    rule.plan(pairs_of([0.2, -0.2, 0.1, -0.1]))
    assert rule.plans[0].pairs > 10
    assert [rule.plans_at(pairs) for pairs in (5, 9, 10)] == [False, False, True]
    rule.plan(pairs_of([0.2, -0.2] * 5))
    assert not rule.plans_at(20)
    assert [pairs for pairs in range(12) if rule.looks_at(pairs)] == [6, 8, 10]
    quiet = a_rule()
    few = quiet.plan(pairs_of([0.01, -0.01, 0.005, -0.005]))[0].pairs
    assert few < 10
    assert quiet.plans_at(few)  # before it ends, the spread of all its pairs is asked


def test_only_what_is_decided_twice_counts() -> None:
    clear, same = [0.3, 0.31, 0.3, 0.29, 0.3, 0.3], [0.001, 0.0, -0.001, 0.0, 0.001, 0.0]
    unclear = [0.1, -0.1, 0.2, -0.1, 0.05, 0.0]
    # The 99.9% interval reaches beyond the threshold, the 95% interval does not: slower, and the same.
    both = [0.04, 0.043, 0.037, 0.036, 0.044, 0.045]
    [usual] = judge(pairs_of(both), estimate(pairs_of(both), paired=True), paired=True)
    assert usual.verdict == "same"
    assert a_rule().decided(pairs_of(clear, same, unclear)) == 2
    assert a_rule().decided(pairs_of(both)) == 0


def test_early_stops_add_no_false_alarms() -> None:
    ways = evidence.simulate(evidence.Setting(False, 1, 0, 0.0), repeats=300, seed=3)
    planned, ours, naive = (counts.alarms / 300 for counts in ways.values())
    assert ours <= planned + 0.005
    assert ours <= 0.09
    assert naive >= ours + 0.03


def test_early_stops_save_pairs_where_a_change_is_large() -> None:
    for is_heavy in (False, True):
        ways = evidence.simulate(evidence.Setting(is_heavy, 10, 10, 0.5), repeats=15, seed=4)
        planned, ours, _ = ways.values()
        assert ours.found == 150
        assert ours.pairs < 0.6 * planned.pairs
        assert ours.early == 15


def test_false_discoveries_among_many_cases_stay_rare_with_heavy_tails() -> None:
    ways = evidence.simulate(evidence.Setting(True, 10, 3, 0.1), repeats=20, seed=5)
    assert ways["`--detect`"].false_shares / 20 <= 0.07
    assert ways["`--detect`"].found >= 45
