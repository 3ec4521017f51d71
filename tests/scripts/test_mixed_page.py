"""The page on mixed and uniform clusters is what the data and the code say, and its figures agree with each other."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT

PAGE = (ROOT / "bench" / "docs" / "mixed_or_uniform.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def modules() -> Any:
    """Scripts, which are not a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield {name: importlib.import_module(name) for name in ("mixed_figures", "write_mixed_page")}


@pytest.fixture(scope="module")
def figures(modules: dict[str, ModuleType]) -> Any:
    return modules["mixed_figures"]


@pytest.fixture(scope="module")
def predicted(figures: Any) -> Any:
    return figures.Predicted()


def test_the_page_is_what_the_data_and_the_code_say(modules: dict[str, ModuleType], predicted: Any) -> None:
    assert modules["write_mixed_page"].page(predicted) == PAGE


def test_the_page_is_short_and_names_the_basis_of_every_table_row() -> None:
    assert len(PAGE.splitlines()) < 250
    losses = PAGE.partition("## Losses by mixing")[2].partition("\n## ")[0]
    rows = [line for line in losses.splitlines() if line.startswith("|")][2:]
    assert rows
    assert all(row.endswith(("rule |", "**emulated** |")) for row in rows)
    assert PAGE.count("*basis*") == 2


def test_equal_shares_leave_the_number_times_the_slowest_speed(figures: Any, predicted: Any) -> None:
    speeds, counts = figures.mix_speeds(predicted), figures.counts()
    left = sum(counts.values()) * min(speed.value for speed in speeds.values())
    expected = 1.0 - left / sum(counts[name] * speed.value for name, speed in speeds.items())
    for split in figures.PARALLELISM:
        assert figures.loss(speeds, split).lockstep.value == pytest.approx(expected)
    assert figures.loss(speeds, "data").balanced.value < figures.loss(speeds, "tensor").balanced.value < expected


def test_an_interval_holds_what_lies_between_its_ends(figures: Any) -> None:
    """Kinds that may be equally fast may lose nothing."""
    pair = {figures.H100: figures.Range(1.0, 1.0, 1.0), figures.H200: figures.Range(1.0, 0.9, 1.1)}
    lockstep = figures.loss(pair, "data").lockstep
    assert lockstep.low == pytest.approx(0.0)
    assert lockstep.high > 0.01


def test_clusters_of_equal_cost_cost_as_much_and_of_equal_power_take_as_much(figures: Any) -> None:
    price = figures.costs()[0]
    assert not price.stands_in
    number = figures.equal_cost(figures.GB200)
    assert number.value * price.usd[figures.GB200] == pytest.approx(price.of(figures.counts()))
    assert number.low < number.value < number.high
    power = figures.equal_power(figures.GB200)
    assert power.value * figures.watts(figures.GB200, True) == pytest.approx(figures.mix_watts(True))
    assert power.low * figures.watts(figures.GB200, False) == pytest.approx(figures.mix_watts(False))


def test_the_words_of_the_answer_are_true_of_its_figures(figures: Any, predicted: Any) -> None:
    even, balanced, apart = predicted.over_mix(figures.equal_cost(figures.GB200))
    assert even.value > balanced.value > apart.value
    assert even.low < even.value < even.high
    # The lead comes from the newer accelerator more than from uniformity.
    uniformity = predicted.uniform_h100().value
    assert uniformity - 1.0 < even.value - uniformity
    # The H200 gives up least when it serves: its interval is above all others' values.
    decode, training = figures.serving_speeds(), figures.mix_speeds(predicted)
    ratios = {name: decode[name].value / training[name].value for name in figures.counts()}
    assert max(ratios, key=lambda name: ratios[name]) == figures.H200
    # Published ratios of others lie within the interval of the predicted one.
    factor = training[figures.GB200]
    assert all(factor.low < ratio < factor.high for ratio in figures.published_ratios().values())


def test_the_prediction_of_the_mix_agrees_with_the_rule(predicted: Any) -> None:
    assert predicted.even.tokens_per_s < predicted.balanced.tokens_per_s <= predicted.separate
    rule = sum(part.member.devices for part in predicted.even.parts) * min(
        one.tokens_per_s / one.parts[0].member.devices for one in predicted.alone.values()
    )
    assert predicted.even.tokens_per_s == pytest.approx(rule, rel=0.02)
