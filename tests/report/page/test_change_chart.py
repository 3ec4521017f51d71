"""The chart of work by machine: where marks and intervals lie, and what stands beside them."""

from __future__ import annotations

import pytest

from bench.report.page.change_chart import Axis, ChartedChange, lay_out


def change(
    work: str, machine: str, ratio: float | None, low: float | None = None, high: float | None = None, **more: bool
) -> ChartedChange:
    texts = (f"{ratio}x", "slower", f"{low}x to {high}x", "one case")
    return ChartedChange(work, machine, ratio, low, high, *texts, **more)


def test_marks_lie_in_order_and_no_change_has_a_line_of_its_own() -> None:
    chart = lay_out([change("training", "b", 1.9, 1.5, 2.4), change("training", "c", 0.5, 0.4, 0.6)], "abc")
    slower, faster = chart.rows
    assert slower.low is not None
    assert slower.at is not None
    assert slower.high is not None
    assert faster.at is not None
    assert 0 < faster.at < chart.one < slower.low < slower.at < slower.high < 100
    assert [row.is_first for row in chart.rows] == [True, False]
    assert slower.mark != faster.mark
    assert slower.colour != faster.colour
    assert (chart.one, "1x") in chart.ticks


@pytest.mark.parametrize(
    ("low", "high", "is_logarithmic", "ticks"),
    [
        (0.95, 2.4, False, ["1x", "1.5x", "2x"]),
        (1.0, 3.9, False, ["1x", "1.5x", "2x", "2.5x", "3x", "3.5x"]),
        (0.5, 16.0, True, ["0.5x", "1x", "2x", "4x", "8x", "16x"]),
        (0.9, 1.1, False, ["0.9x", "0.95x", "1x", "1.05x", "1.1x"]),
    ],
)
def test_an_axis_is_logarithmic_if_its_range_exceeds_four_times(
    low: float, high: float, is_logarithmic: bool, ticks: list[str]
) -> None:
    axis = Axis(low, high)
    assert axis.is_logarithmic == is_logarithmic
    assert [text for _, text in axis.ticks()] == ticks


def test_an_interval_without_end_goes_on_beyond_the_axis() -> None:
    (row,) = lay_out([change("training", "b", 2.0, 0.001, 4_000.0)], "ab").rows
    assert row.goes_on == (True, True)
    (row,) = lay_out([change("training", "b", 2.0, 1.5, 3.0)], "ab").rows
    assert row.goes_on == (False, False)


def test_what_has_no_figure_has_no_mark_and_what_has_no_error_bar_no_interval() -> None:
    chart = lay_out([change("collectives", "b", None), change("training", "b", 1.5)], "ab")
    assert [(row.at is None, row.low) for row in chart.rows] == [(True, None), (False, None)]
    assert [row["text"] for row in chart.table.rows] == ["Nonex", "1.5x"]


def test_the_largest_of_swept_sizes_is_named_beside_the_verdict() -> None:
    assert change("collectives", "b", 2.0, 1.0, 3.0, is_largest=True).brief == "largest: one case"
    assert change("training", "b", 2.0, 1.0, 3.0).brief == "1.0x to 3.0x"
