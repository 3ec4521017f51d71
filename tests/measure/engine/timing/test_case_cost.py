"""A case's price from its first calls, on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from bench.measure.engine.timing.case_cost import (
    DEAR_ROUNDS,
    UNLIMITED,
    Allowance,
    CaseCost,
    CostProbe,
    main_variant_only,
    traced_variants,
)
from bench.measure.engine.timing.stop_rule import MIN_ROUNDS, Limits
from bench.suite import Work
from tests.measure.engine.timing.test_sampler import SECOND, FakeTime
from tests.support.plans import lone_rank

LIMITS = Limits(0.02, 0.5)


@dataclass
class Case:
    """A case whose parts take this many seconds."""

    prepare: float
    check: float
    call: float
    variants: int = 1
    traced_calls: int = 0
    check_after: bool = True
    timing: str = "aligned"
    min_seconds: float | None = None

    def priced(self, allowance: Allowance) -> tuple[float | None, Limits, FakeTime]:
        """What another turn takes or None, the limits of the samples, and the clock after it."""
        time = FakeTime()
        pricing = CostProbe(lone_rank(), allowance, time.seconds)
        time.nanoseconds += round(self.prepare * SECOND)
        pricing.begin_check()
        time.nanoseconds += round(self.check * SECOND)
        dear = pricing.dear_seconds(self.work(time), time.clock(), self.timing)
        return dear, pricing.limit(LIMITS), time

    def work(self, time: FakeTime) -> Work:
        run = time.takes("call", round(self.call * SECOND))
        return Work(
            variants={f"v{n}": run for n in range(self.variants)},
            check=lambda: (0.0, 0.0),
            traced_calls=self.traced_calls,
            check_after=self.check_after,
            min_seconds=self.min_seconds,
        )


def test_without_a_limit_nothing_is_called_and_nothing_limited() -> None:
    dear, limits, time = Case(1.0, 1.0, 100.0).priced(UNLIMITED)
    assert (dear, limits, time.log) == (None, LIMITS, [])


def test_a_cheap_case_goes_on_with_what_its_turn_has_left_after_the_check_to_come() -> None:
    dear, limits, time = Case(0.5, 0.25, 0.01).priced(Allowance(4.0, 4.0))
    assert (dear, time.log) == (None, ["call"])
    assert limits.most_seconds == pytest.approx(4.0 - 0.5 - 0.25 - 0.01 - 0.25)
    assert replace(limits, most_seconds=None) == LIMITS
    _, limits, _ = Case(0.5, 0.25, 0.01, check_after=False, traced_calls=5).priced(Allowance(4.0, 4.0))
    assert limits.most_seconds == pytest.approx(4.0 - 0.5 - 0.25 - 0.01 - 5 * 0.01)


def test_a_turn_aims_lower_than_it_may_take_but_for_a_few_samples() -> None:
    case = Case(0.2, 0.2, 0.1)
    spent = 0.2 + 0.2 + 0.1 + 0.2  # with the check to come
    assert case.priced(Allowance(4.0, 2.0))[1].most_seconds == pytest.approx(2.0 - spent)
    assert case.priced(Allowance(4.0, 1.0))[1].most_seconds == pytest.approx(5 * 0.1)  # two to warm up, three samples
    assert replace(case, call=0.6).priced(Allowance(4.0, 1.0))[0] is not None  # which it may not take


def test_a_check_that_cannot_be_made_again_puts_a_case_off_without_a_call() -> None:
    dear, _, time = Case(1.0, 2.0, 2.0).priced(Allowance(4.0, 4.0))
    assert time.log == []
    # Prepare, two checks, and calls that may be as long as the check: one to warm up and three samples.
    assert dear == pytest.approx(1.0 + 2 * 2.0 + 4 * 2.0)
    assert Case(1.0, 2.0, 0.01, check_after=False).priced(Allowance(4.0, 4.0))[0] is None


@pytest.mark.parametrize(
    ("changes", "is_dear"),
    [
        ({}, False),  # 0.2 + 0.2 + 0.5, 5 calls of 0.5, and 0.2 for the check to come: 3.6 s
        ({"call": 0.6}, True),  # 4.2 s
        ({"variants": 2}, True),
        ({"timing": "streamed"}, True),  # two calls in a sample at the least
        ({"traced_calls": 1}, True),
    ],
)
def test_one_call_prices_the_case(changes: dict[str, Any], is_dear: bool) -> None:
    case = replace(Case(0.2, 0.2, 0.5), **changes)
    dear, _, time = case.priced(Allowance(4.0, 4.0))
    assert time.log == ["call"]
    assert dear == (pytest.approx(0.2 + 2 * 0.2 + (1 + DEAR_ROUNDS) * case.call) if is_dear else None)


def test_no_more_than_the_first_call_is_spent_on_a_dear_case() -> None:
    """The check is the first call. What a turn takes that is put off, is within its allowance and one call."""
    for call in (0.1, 1.0, 10.0, 100.0):
        dear, _, time = Case(0.1, call, call).priced(Allowance(4.0, 4.0))
        if dear is not None:
            assert time.seconds() <= max(4.0, 0.1 + call)


def test_a_case_that_came_last_has_few_samples_and_all_the_time() -> None:
    dear, limits, time = Case(1.0, 2.0, 2.0).priced(Allowance(30.0, 30.0, is_dear=True))
    assert (dear, time.log) == (None, [])
    assert (limits.min_rounds, limits.max_rounds, limits.warmup_rounds) == (DEAR_ROUNDS, DEAR_ROUNDS, 1)
    assert limits.most_seconds == pytest.approx(30 - 1 - 2 - 2)
    assert DEAR_ROUNDS < MIN_ROUNDS


def test_work_that_lasts_by_its_own_word_is_not_dear() -> None:
    dear, limits, time = Case(1.0, 2.0, 2.0, min_seconds=60.0).priced(Allowance(4.0, 4.0))
    assert (dear, limits, time.log) == (None, LIMITS, [])


def test_the_case_alone_has_nothing_that_needs_its_other_variants() -> None:
    time = FakeTime()
    work = replace(
        Case(0.0, 0.0, 1.0, variants=3, traced_calls=2).work(time), derive=lambda seen: {}, tables=lambda seen: {}
    )
    lone = main_variant_only(work)
    assert (list(lone.variants), lone.traced_calls, lone.derive, lone.tables) == (["v0"], 0, None, None)
    assert traced_variants(work) == ("v0",)
    assert traced_variants(replace(work, traced_variants=("v1", "v2"))) == ("v1", "v2")


def test_what_is_not_timed_yet_counts_for_nothing() -> None:
    price = CaseCost(0.0, 1.0, True, 10)
    assert (price.is_dear(0.9), price.is_dear(1.1)) == (True, False)
