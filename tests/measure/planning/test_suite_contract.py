"""What a suite's functions return, right and wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from bench.measure.planning import suite_contract
from bench.measure.planning.suite_contract import ContractError, place_of, to_amount, to_check, to_derived
from bench.suite import Check


def check() -> None: ...


PLACE = f" (test_suite_contract.py, check, line {check.__code__.co_firstlineno})"


@pytest.mark.parametrize(
    "returned", [(0.5, 1), [0.5, 1.0], (np.float32(0.5), np.int64(1)), Check(0.5, 1.0), (0.5, 1.0, "full")]
)
def test_two_numbers_are_a_check(returned: object) -> None:
    assert to_check(check, returned) == Check(0.5, 1.0, "full")


def test_an_error_may_be_no_number_but_then_it_fails() -> None:
    assert not to_check(check, (float("nan"), 1.0)).passed
    assert to_check(check, (0.0, 0.0, "reduced")).scope == "reduced"


@pytest.mark.parametrize(
    "returned",
    [True, None, 0.1, "fine", (), (0.1,), (0.1, None), ("0.1", "0.2"), (0.1, 0.2, 0.3), (0.1, 0.2, "full", 4),
     (np.ones(2), 1.0)],
)  # fmt: skip
def test_anything_else_is_told_with_file_function_and_line(returned: object) -> None:
    with pytest.raises(ContractError) as caught:
        to_check(check, returned)
    said = f"check() has to return (error, tolerance), two numbers; it returned {returned!r}{PLACE}"
    assert str(caught.value) == said


def test_a_tolerance_without_an_end_would_let_everything_pass() -> None:
    with pytest.raises(ContractError, match="a tolerance that is a finite number; it returned"):
        to_check(check, (0.1, float("inf")))


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ContractError) as caught:
        to_check(check, "x" * 10_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("function", "place"), [(check, PLACE), (partial(partial(check)), PLACE), (dict, ""), (3, "")])
def test_the_place_of_a_function(function: object, place: str) -> None:
    assert place_of(function) == place


def test_a_lambda_has_a_line_alone() -> None:
    assert place_of(lambda: None).startswith(" (test_suite_contract.py, line ")


@pytest.mark.parametrize("returned", [None, "1 GiB", -1, float("nan"), float("inf"), [1]])
def test_an_amount_is_a_number(returned: object) -> None:
    assert to_amount("memory", check, 1 << 30) == 1 << 30
    with pytest.raises(ContractError, match=r"^memory\(\) has to return a number, 0 or more; it returned .*, check, "):
        to_amount("memory", check, returned)


def test_derived_metrics_are_declared_numbers() -> None:
    assert to_derived(check, {"share": np.float64(0.5), "rate": None}, {"share": 1, "rate": 1}) == {
        "share": 0.5,
        "rate": None,
    }
    with pytest.raises(ContractError, match=r"derive\(\) returned 'speed', which METRICS does not have"):
        to_derived(check, {"speed": 1.0}, {"share": 1})
    for returned in (None, [1], {"share": "much"}):
        with pytest.raises(ContractError, match=r"derive\(\) has to return a dict of metrics to numbers or None"):
            to_derived(check, returned, {"share": 1})


@pytest.mark.parametrize("name", ["to_figures", "to_tables"])
@pytest.mark.parametrize("returned", [None, 3, [1], {"a": 1, 2: 3}])
def test_figures_and_tables_are_dicts(name: str, returned: Any) -> None:
    assert getattr(suite_contract, name)(check, {}) == {}
    with pytest.raises(ContractError, match=r"has to return a dict of .*, check, line"):
        getattr(suite_contract, name)(check, returned)
