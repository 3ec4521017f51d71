"""The change of a run as a whole, each case against the rest of it, and the kernels of bench that no side changes.

A machine that is slower by the minute, or a change that slows everything, moves all cases of a side. Said once for the
run, with its interval, it says what "unchanged" means for the cases; and a case against the rest of its run can be
decided if the run as a whole cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.compare.change_text import brief_factor
from bench.analysis.compare.launch_controls import Scores, scores_by_launch
from bench.analysis.compare.sides import Side
from bench.analysis.compare.work_changes import CaseLaunches, WorkChange, work_of
from bench.records.metrics import TIME
from bench.records.rows import Row
from bench.stats import change_test
from bench.stats.change_test import JudgedChange, SideLaunches
from bench.stats.common_change import TwoSides, launch_levels, relative

WHOLE_CONFIDENCE = CONTROL_CONFIDENCE = 0.99
"""Stricter than that of cases: a run as a whole, or a control, that seems to differ puts all of it in doubt."""


@dataclass(frozen=True)
class WholeRun:
    """Change of all cases of one new side together."""

    name: str
    """Name of the new side."""
    num_cases: int
    judged: JudgedChange


@dataclass(frozen=True)
class ControlChange:
    """Change of one of the harness's own kernels on one new side."""

    name: str
    control: str
    """`compute`, `copy` or `exchange`."""
    judged: JudgedChange


RELATIVE_FIELDS = ("relative_change", "relative_low", "relative_high", "relative_verdict")
NOT_RELATIVE: Row = dict.fromkeys(RELATIVE_FIELDS)


def judge_whole(
    measured: Sequence[CaseLaunches], threshold: float, paired: bool
) -> tuple[WholeRun | None, list[CaseLaunches]]:
    """The run as a whole by the time of its cases, and the measured with their change against the rest.

    None if there are too few cases. Rows of another metric than time are not judged against the rest.
    """
    timed = [(number, one) for number, one in enumerate(measured) if one.row["metric"] == TIME]
    cases = [TwoSides(one.base, one.new) for _, one in timed]
    levels = launch_levels(cases, [_kind(one) for _, one in timed], paired)
    if levels is None:
        return None, alone(measured)
    judged = _judge_levels(levels, threshold, paired)
    rest = {number: relative(case, levels) for (number, _), case in zip(timed, cases, strict=True)}
    return WholeRun(measured[0].row["name"], len(cases), judged), _with_relative(measured, rest, threshold, paired)


def _judge_levels(levels: TwoSides, threshold: float, paired: bool) -> JudgedChange:
    """The common change with its 95% interval; slower or faster at 99% only, since nothing else is tested with it."""
    whole = [SideLaunches(list(levels.base.values()), list(levels.new.values()), "whole")]
    estimates = change_test.estimate(whole, paired)
    (usual,) = change_test.judge(whole, estimates, threshold, paired)
    (strict,) = change_test.judge(whole, estimates, threshold, paired, WHOLE_CONFIDENCE)
    if usual.verdict in ("slower", "faster") and strict.verdict == "unclear":
        return replace(usual, verdict="unclear", reason=strict.reason, launches_needed=strict.launches_needed)
    return usual


def alone(measured: Sequence[CaseLaunches]) -> list[CaseLaunches]:
    """The cases without a judgement against the rest."""
    return [one._replace(row=one.row | NOT_RELATIVE) for one in measured]


def _kind(case: CaseLaunches) -> str:
    work = work_of(case.row["case"])
    return "/".join((work.suite, *work.operations))


def _with_relative(
    measured: Sequence[CaseLaunches], rest: Mapping[int, TwoSides], threshold: float, paired: bool
) -> list[CaseLaunches]:
    """The cases with their change against the rest; `rest` has them, by number, without the level of their launches."""
    there = {number: sides for number, sides in rest.items() if all(sides)}
    launches = [
        SideLaunches(
            list(base.values()),
            list(new.values()),
            f"relative/{measured[number].row['suite']}",
            spread=measured[number].spread,
        )
        for number, (base, new) in there.items()
    ]
    judged = change_test.judge(launches, change_test.estimate(launches, paired), threshold, paired)
    found = dict(zip(there, map(_relative_row, judged), strict=True))
    return [one._replace(row=one.row | found.get(number, NOT_RELATIVE)) for number, one in enumerate(measured)]


def _relative_row(judged: JudgedChange) -> Row:
    values = (judged.change, judged.change_low, judged.change_high, judged.verdict)
    return dict(zip(RELATIVE_FIELDS, values, strict=True))


def control_changes(base: Side, new: Side, threshold: float, paired: bool) -> list[ControlChange]:
    """Changes of the controls that all launches of both sides have; empty if there are none."""
    sides = [scores_by_launch(side.results) for side in (base, new)]
    if paired:
        common = sides[0].keys() & sides[1].keys()
        sides = [{launch: side[launch] for launch in sorted(common)} for side in sides]
    if not all(sides):
        return []
    names = _common_names([scores for side in sides for scores in side.values()])
    base_scores, new_scores = (list(side.values()) for side in sides)
    launches = [
        SideLaunches([one[name] for one in base_scores], [one[name] for one in new_scores], f"control/{name}")
        for name in names
    ]
    estimates = change_test.estimate(launches, paired)
    judged = change_test.judge(launches, estimates, threshold, paired, CONTROL_CONFIDENCE)
    return [ControlChange(new.name, name, one) for name, one in zip(names, judged, strict=True)]


def withhold(measured: Sequence[CaseLaunches], controls: Sequence[ControlChange]) -> list[CaseLaunches]:
    """The cases, undecided if only the machine may have changed: for runs of one machine at different times.

    A case that is slower while a control is slower too may be so for the machine's sake, unless it is slower than the
    rest of its run as well.
    """
    by_verdict = {one.judged.verdict: one for one in reversed(controls) if one.judged.verdict in ("slower", "faster")}
    return [
        one._replace(row=one.row | _undecided(by_verdict[one.row["verdict"]]))
        if one.row["metric"] == TIME
        and one.row["verdict"] in by_verdict
        and one.row["relative_verdict"] != one.row["verdict"]
        else one
        for one in measured
    ]


def withhold_work(work: WorkChange, controls: Sequence[ControlChange]) -> WorkChange:
    """The change of a kind of work, undecided in the same way: if none of its cases is decided."""
    mean = work.mean
    if mean is None or work.metric != TIME or work.num_changed or mean.verdict not in ("slower", "faster"):
        return work
    found = [one for one in controls if one.judged.verdict == mean.verdict]
    return replace(work, mean=replace(mean, **_undecided(found[0]))) if found else work


def _undecided(control: ControlChange) -> dict[str, Any]:
    ratio = brief_factor(1 + control.judged.change)
    reason = f"the machine may have been another: bench's own kernel `{control.control}` took {ratio} as long, too"
    return {"verdict": "unclear", "reason": reason, "launches_needed": None}


def _common_names(launches: Sequence[Scores]) -> list[str]:
    first: Mapping[str, float] = launches[0]
    return [name for name in first if all(name in scores for scores in launches)]
