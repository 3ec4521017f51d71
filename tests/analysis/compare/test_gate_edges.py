"""The gate and the search among peers at their edges: rates, counts of cases, single launches, orders of rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bench.analysis.compare import comparison_tables, peer_group, settling
from bench.analysis.compare.change_text import NO_DIFFERENCE, verdict_words
from bench.analysis.compare.comparison import compare
from bench.analysis.compare.gate import Gate, _launches_that_settle, outcome, rule
from bench.core.clock import seconds_between
from bench.records.file import load
from bench.stats.change_test import JudgedChange
from bench.stats.intervals import Interval
from tests.analysis.compare.test_comparison import A, B, C, compared, launches, saved
from tests.analysis.compare.test_gate import STEADY, files, row
from tests.analysis.compare.test_outlier_search import fleet, job
from tests.support.results import end, header


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (0.06, 0.20, "lower", "failed"),
        (-0.20, -0.06, "lower", "passed"),
        (0.01, 0.20, "lower", "undecided"),
        (-0.20, -0.06, "higher", "failed"),
        (0.06, 0.20, "higher", "passed"),
        (-0.20, -0.01, "higher", "undecided"),
    ],
)
def test_a_slowdown_of_a_rate_is_a_loss(low: float, high: float, better: str, expected: str) -> None:
    assert outcome(row(low, (low + high) / 2, high, better=better) | {"verdict": "slower"}, 0.05) == expected


def test_a_gate_on_missing_cases_counts_those_of_the_base_on_each_side(tmp_path: Path) -> None:
    base, new = (load(path) for path in files(tmp_path, {A: STEADY, B: STEADY, C: STEADY}))
    for news, said in (([[new]], "2 cases"), ([[new], [new]], "4 cases")):
        ruling = rule(compare([base], news), Gate(fail_missing=True))
        assert ruling is not None
        assert (ruling.line, ruling.exit_code) == (f"Gate: passed: {said} of the base are there and ok", 0)


def test_rows_are_sorted_as_asked(tmp_path: Path) -> None:
    old = {A: 2.0, B: 5.0, C: 1.0}
    new = {A: 2.4, B: 5.0, C: 3.0}
    base, other = (
        saved(
            tmp_path / name,
            header(label=name),
            *(each for case, ms in times.items() for each in launches(case, ms, 1.01 * ms, 0.99 * ms)),
        )
        for name, times in (("old", old), ("new", new))
    )
    cases = compared(base, other).cases
    by = {name: [each["case"] for each in sorted(cases, key=key)] for name, key in comparison_tables.SORTS.items()}
    assert by["base"] == [B, A, C]
    assert by["change"] == [C, A, B]
    assert by["case"] == [A, B, C]
    assert by["verdict"][:2] == [C, A]


def test_undecided_cases_are_said_to_vary_only_if_launches_would_not_settle_them(tmp_path: Path) -> None:
    def said(name: str, *values: float) -> str:
        folder = tmp_path / name
        sides = [
            saved(folder / side, header(label=side), *launches(A, *times))
            for side, times in (("old", STEADY), ("new", values))
        ]
        view = comparison_tables.View()
        comparison = compared(*sides)
        tables = comparison_tables.case_tables(comparison, view)
        return " ".join(note for table in tables for note in table.footnotes)

    some = said("some", 1.09, 1.0, 0.97)
    assert "would settle it" in some
    assert "unclear (varies)" not in some
    assert "unclear (varies)" in said("many", 0.4, 1.0, 2.6)


def test_words_in_place_of_a_figure() -> None:
    def judged(verdict: str) -> JudgedChange:
        return JudgedChange(**{**dict.fromkeys(JudgedChange.__annotations__), "verdict": verdict})  # type: ignore[arg-type]

    assert verdict_words(judged("unclear"), 0.05) == NO_DIFFERENCE
    assert verdict_words(judged("same"), 0.05) == "the same within 5%"
    assert verdict_words(judged("slower"), 0.05) is None


def test_the_standard_error_of_one_launch_is_that_of_its_interval(tmp_path: Path) -> None:
    interval = Interval(math.exp(-0.1), math.exp(0.1))
    assert peer_group.log_standard_error(interval) == pytest.approx(0.1 / 1.959964, rel=1e-4)
    assert peer_group.log_standard_error(None) is None
    assert peer_group.log_standard_error(Interval(0.0, 1.0)) is None
    (peer, *_) = peer_group.hosts(fleet(tmp_path, {}))
    assert all(each.within is not None and each.within > 0 for each in peer.launches.values())


def test_a_rank_without_a_time_of_its_own_work_lacks_the_case(tmp_path: Path) -> None:
    peers = peer_group.ranks([job(tmp_path, {})])
    assert {state for peer in peers for state in peer.status.values()} == {"ok"}
    assert all(np.isfinite(each.logs).all() for peer in peers for each in peer.launches.values())


def test_a_gate_asks_for_nothing_by_itself() -> None:
    assert not Gate().is_requested
    assert (Gate().fail_missing, Gate().allow_unlike, Gate().min_decided) == (False, False, 0.0)
    assert Gate(fail_missing=True).is_requested


def test_launches_that_are_made_count_by_the_side_that_has_fewer(tmp_path: Path) -> None:
    """Of two cases one has two launches on the base and the other three: what is asked for is enough for both."""
    few, many = (1.12, 0.9), (1.3, 1.0, 0.8, 1.1)
    sides = [
        load(saved(tmp_path / name, header(label=name), *launches(A, *first), *launches(B, *second)))
        for name, first, second in (("old", few, many[:3]), ("new", many, many))
    ]
    comparison = compare(sides[:1], [sides[1:]])
    needed = _launches_that_settle(0, comparison, Gate(fail_slower=0.07))
    assert needed is not None
    assert needed > 5
    ruling = rule(comparison, Gate(fail_slower=0.07))
    assert ruling is not None
    assert f"{needed - 2} more launches per side" in ruling.line


def test_half_of_the_undecided_are_promised(tmp_path: Path) -> None:
    """Three cases that need unlike numbers of launches: what settles the middle one settles two."""
    spreads = {A: 0.03, B: 0.05, C: 0.07}
    sides = [
        saved(
            tmp_path / name,
            header(label=name),
            *(each for case, part in spreads.items() for each in launches(case, 1 + part, 1.0, 1 - part)),
        )
        for name in ("old", "new")
    ]
    found = compared(*sides)
    needed = sorted(further for each in found.cases if (further := settling.further_launches(each)) is not None)
    assert len(set(needed)) == 3
    words = settling.undecided_words(found, found.cases)
    assert words is not None
    assert words.startswith(f"3 undecided, {needed[1]} more launches per side")
    assert words.endswith("would settle 2 of them")


def test_a_pair_takes_its_share_of_the_time_of_all(tmp_path: Path) -> None:
    """Two files from 12:00:00 to 12:00:30 with three launches each."""
    sides = [load(saved(tmp_path / name, header(label=name), *launches(A, *STEADY), end())) for name in ("old", "new")]
    base, new = compare(sides[:1], [sides[1:]]).sides
    assert base.results[0].end is not None
    whole = seconds_between(str(base.results[0].header.started), str(base.results[0].end.ended))
    assert whole is not None
    assert settling.pair_seconds(base, new) == pytest.approx(whole / 3)
    assert settling.launch_seconds(base) == pytest.approx(whole / 3)


def test_a_pair_takes_no_longer_for_a_night_in_between(tmp_path: Path) -> None:
    """A launch starts every 20 s, and after the second pair the alternation was interrupted for hours."""
    started = {
        "a": ("10:00:00", "10:01:00", "19:00:00", "19:01:00"),
        "b": ("10:00:20", "10:00:40", "19:00:20", "19:00:40"),
    }
    sides = []
    for name, (first, *later) in started.items():
        resumed = [{"kind": "resume", "started": f"2026-01-01T{time}+00:00", "environment": {}} for time in later]
        top = header(label=name) | {"started": f"2026-01-01T{first}+00:00"}
        sides.append(load(saved(tmp_path / name, top, *launches(A, 1.0, 1.01, 0.99, 1.0), *resumed, end())))
    assert [len(side.resumes) for side in sides] == [3, 3]
    base, new = compare(sides[:1], [sides[1:]]).sides
    assert settling.pair_seconds(base, new) == pytest.approx(40.0)
