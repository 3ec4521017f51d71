"""The table of seeded faults itself, and what puts them in: without a run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.seeded import table
from tests.seeded.fault import CHECK, CHECK_ON_1, CLOCK_ON_1, LEFT_ON_1, Fault
from tests.seeded.injection import Injection, When, is_timed


def test_there_are_faults_enough_in_places_enough_and_each_has_to_be_found() -> None:
    assert len(table.FAULTS) == len(table.ROWS) >= 60
    assert len({fault.place for fault in table.ROWS}) >= 15
    assert all(any(fault.cases.values()) for fault in table.ROWS)
    assert sum(fault.when.only_timed for fault in table.ROWS) >= 20
    assert sum(fault.when.ranks == (1,) for fault in table.ROWS) >= 10


def calls(injection: Injection, count: int) -> list[int]:
    """Calls, from 1, that the fault strikes."""
    library = SimpleNamespace(add=lambda a, b: a + b)
    injection.instead(library, "add", lambda _original, _a, _b: -1)
    return [number for number in range(1, count + 1) if library.add(1, 1) == -1]


@pytest.mark.parametrize(
    ("when", "struck"),
    [
        (When(), [1, 2, 3, 4, 5, 6]),
        (When(ranks=(1,)), [1, 2, 3, 4, 5, 6]),
        (When(ranks=(0,)), []),
        (When(every=3), [3, 6]),
        (When(first=4), [5, 6]),
        (When(first=1, every=2), [3, 5]),
        (When(only_timed=True), []),
    ],
)
def test_a_fault_strikes_the_calls_that_it_is_to(when: When, struck: list[int]) -> None:
    assert calls(Injection(1, when), 6) == struck


def test_a_fault_can_strike_while_the_engine_takes_a_sample_alone() -> None:
    def take_sample() -> bool:
        return is_timed()

    assert take_sample()
    assert not is_timed()


def test_a_fault_strikes_only_calls_that_concern_it() -> None:
    library = SimpleNamespace(add=lambda a, b: a + b)
    Injection(0, When()).after(library, "add", lambda result, _a, _b: None, lambda a, _b: a > 1)
    Injection(0, When()).instead(library, "add", lambda original, a, b: 10 * original(a, b), lambda a, _b: a > 1)
    assert (library.add(1, 1), library.add(2, 1)) == (2, 30)


FAULT = Fault("f", "p", lambda _injection: None, {"a": CHECK, "b": ""})
REASON = "check before: error 1 on rank 0 is above the tolerance 0"


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"a": ("invalid", REASON), "b": ("ok", "")}, ""),
        ({"a": ("ok", ""), "b": ("ok", "")}, "a is ok, and not invalid"),
        ({"a": ("failed", "time-out"), "b": ("ok", "")}, "a is failed, and not invalid: time-out"),
        ({"a": ("invalid", REASON), "b": ("invalid", REASON)}, "b is invalid, and not ok"),
        ({"a": ("invalid", "for another reason"), "b": ("ok", "")}, "a: 'for another reason' does not say"),
        ({"b": ("ok", "")}, "a is not measured"),
    ],
)
def test_a_fault_counts_as_found_if_each_case_says_so(found: dict[str, tuple[str, str]], wrong: str) -> None:
    assert FAULT.judge(found).startswith(wrong)
    assert bool(FAULT.judge(found)) is bool(wrong)


def test_patterns_that_name_a_rank_differ_from_those_that_do_not() -> None:
    assert CHECK != CHECK_ON_1
    assert "rank 1" in CHECK_ON_1
    assert "rank 1" in LEFT_ON_1
    assert "rank 1" in CLOCK_ON_1
