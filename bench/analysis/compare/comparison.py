"""Results side by side, with a verdict for every case that both sides have.

A side has one number per launch of a case. Its estimate is their geometric mean, the centre of the interval; so a
change is new / base - 1 of the numbers next to it. Nothing is dropped: cases of one side only, and cases that are not
ok on either side, are listed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.analysis.compare import selection, sides
from bench.analysis.compare.selection import Values, Where
from bench.analysis.compare.sides import Side
from bench.analysis.compare.whole_run import (
    ControlChange,
    WholeRun,
    alone,
    control_changes,
    judge_whole,
    withhold,
    withhold_work,
)
from bench.analysis.compare.work_changes import CaseLaunches, WorkChange, work_changes
from bench.errors import BenchError
from bench.records.case_names import CaseNames, name_cases, short_name
from bench.records.file import Result
from bench.records.metrics import TIME, Metric
from bench.records.rows import Row
from bench.records.saved_plan import are_paired
from bench.stats import change_test, intervals


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison."""

    metrics: tuple[str, ...] = (TIME,)
    where: Where = field(default_factory=dict)
    threshold: float = change_test.THRESHOLD
    allow_unlike: bool = False
    by: str | None = None
    """A parameter whose values within one run are the sides."""
    controls: bool = True
    """False: each case by itself, without the run as a whole, the kernels of the harness, and the spread of samples."""


@dataclass(frozen=True)
class Comparison:
    """The base first, then the others."""

    sides: tuple[Side, ...]
    shared: dict[str, Any]
    differences: tuple[Row, ...]
    """{"field", "values": [one per side]}."""
    cases: tuple[Row, ...]
    """One per case, metric and new side: suite, case, metric, unit, better, name (of the new side), base, base_low,
    base_high, base_launches, new, new_low, new_high, new_launches, change, change_low, change_high, p_value,
    adjusted_p, verdict, reason, launches_needed. Against the rest of the run: relative_change, relative_low,
    relative_high, relative_verdict, None if that is not judged."""
    only_base: tuple[Row, ...]
    """{"case", "name" (the side that lacks it), "status" (on the base)}."""
    only_new: tuple[Row, ...]
    """{"case", "name" (the side that has it), "status"}."""
    not_ok: tuple[Row, ...]
    """{"case", "name", "status", "reason"}."""
    paired: bool
    """True if launch i of one side belongs to launch i of the other."""
    threshold: float
    works: tuple[WorkChange, ...] = ()
    """One per new side, metric and kind of work, the most informative kind first."""
    wholes: tuple[WholeRun, ...] = ()
    """One per new side with enough cases, by time."""
    controls: tuple[ControlChange, ...] = ()
    """One per new side and control that both sides have in all launches."""

    def whole(self, name: str) -> WholeRun | None:
        """The change of all cases together of the new side of that name; None if it was not judged."""
        return next((whole for whole in self.wholes if whole.name == name), None)

    @property
    def alike(self) -> bool:
        """True if all sides are of one architecture, so that this is a check for a regression."""
        return all(side.architecture == self.sides[0].architecture for side in self.sides)

    @cached_property
    def names(self) -> CaseNames:
        """Short names of the cases that were judged: one name per case, wherever it is shown."""
        return name_cases(row["case"] for row in self.cases)

    def name_of(self, case: str) -> str:
        """Short name of a case in a list of several suites; of one that was not judged the name by itself."""
        return self.names.across(case) if case in self.names.names else short_name(case)

    def counts(self) -> Counter[str]:
        """Verdict -> number of cases."""
        return Counter(row["verdict"] for row in self.cases)


def compare(base: Sequence[Result], news: Sequence[Sequence[Result]], settings: Settings | None = None) -> Comparison:
    """Compare each of `news` with `base`, or the values of a parameter within `base` with each other.

    Raises BenchError for a single side, no common case, a metric that no side has or that has no better direction, a
    `where` that fits nothing, and a side whose files are not launches of one run.
    """
    settings = settings or Settings()
    built = _sides([base, *news], settings)
    wanted = [
        selection.metric(name, [result for side in built for result in side.results]) for name in settings.metrics
    ]
    first, *others = built
    for side in others:
        _refuse_no_common_case(first, side)
    paired = settings.by is not None or _are_pairs(built)
    whole_too = settings.controls and settings.by is None
    cases, works, wholes, controls = _judge(built, wanted, settings, paired, whole_too)
    return Comparison(
        sides=tuple(built),
        shared=sides.shared_facts(built),
        differences=tuple(sides.differing_fields(built)),
        cases=tuple(cases),
        only_base=tuple(row for new in others for row in _not_in(first, new, new.name)),
        only_new=tuple(row for new in others for row in _not_in(new, first, new.name)),
        not_ok=tuple(_not_ok(built)),
        paired=paired,
        threshold=settings.threshold,
        works=tuple(works),
        wholes=tuple(wholes),
        controls=tuple(controls),
    )


def _sides(given: Sequence[Sequence[Result]], settings: Settings) -> list[Side]:
    if settings.by is None and len(given) < 2:
        raise BenchError("there is one result to compare; name a second, or say --by PARAM or --among host")
    if settings.by is not None and len(given) > 1:
        raise BenchError(f"--by {settings.by}: it compares the variants within one run; name one result")
    built = sides.build(given, settings.allow_unlike)
    if settings.by is not None:
        built = sides.by_parameter(built[0], settings.by)
    if settings.where:
        selection.refuse_none([g.leader for side in built for g in side.groups.values()], settings.where)
        built = [
            sides.select_cases(side, lambda case, group: selection.fits(group.leader, settings.where)) for side in built
        ]
    return built


def _refuse_no_common_case(base: Side, new: Side) -> None:
    if not set(base.groups) & set(new.groups):
        raise BenchError(
            f"no common case: {base.name} has {_examples(base)}, {new.name} has {_examples(new)}; measure the same "
            "with `bench run --like FILE`"
        )


def _examples(side: Side) -> str:
    first = next(iter(side.groups), None)
    return "no case" if first is None else f"{len(side.groups)} such as {first}"


def _are_pairs(built: Sequence[Side]) -> bool:
    """True if all sides were measured in alternation with the base: one file each."""
    base, *news = built
    alone = all(len(side.results) == 1 for side in built)
    return alone and all(are_paired(base.results[0], new.results[0]) for new in news)


def _judge(
    built: Sequence[Side], wanted: Sequence[Metric], settings: Settings, paired: bool, whole_too: bool
) -> tuple[list[Row], list[WorkChange], list[WholeRun], list[ControlChange]]:
    """Rows of all cases, the changes by kind of work, those of each run as a whole by its time, and of the controls.

    Each new side is judged by itself, with a prior and a control of false discoveries of its own: the verdict on a pair
    of runs does not depend on what else is compared.
    """
    base, *news = built
    threshold = settings.threshold
    rows: list[Row] = []
    works: list[WorkChange] = []
    wholes: list[WholeRun] = []
    controls: list[ControlChange] = []
    values = [
        [{case: selection.values(group, metric) for case, group in side.groups.items()} for metric in wanted]
        for side in built
    ]
    for new, of_new in zip(news, values[1:], strict=True):
        measured = []
        for metric, of_base, of_metric in zip(wanted, values[0], of_new, strict=True):
            for case, one in of_base.items():
                held = _common_launches(one, of_metric.get(case, {})) if paired else (one, of_metric.get(case, {}))
                if all(held):
                    row = _row(base.groups[case].leader.suite, case, metric, new)
                    groups = (base.groups[case], new.groups[case])
                    spread = selection.spread_within(*groups) if settings.controls else None
                    of_sides = _logarithms(held[0]), _logarithms(held[1])
                    measured.append(CaseLaunches(row, *of_sides, spread))
        judged = _judge_cases(measured, threshold, paired)
        whole, judged = judge_whole(judged, threshold, paired) if whole_too else (None, alone(judged))
        wholes += [] if whole is None else [whole]
        seen = control_changes(base, new, threshold, paired) if whole_too else []
        controls += seen
        doubts = seen if not paired and base.hosts == new.hosts else []
        judged = withhold(judged, doubts)
        rows += [one.row for one in judged]
        for metric in wanted:
            by_metric = [one for one in judged if one.row["metric"] == metric.name]
            works += [withhold_work(work, doubts) for work in work_changes(by_metric, threshold, paired)]
    if not rows and not _not_ok(built):
        raise BenchError(f"--metric {', '.join(metric.name for metric in wanted)}: no common case has it")
    return rows, works, wholes, controls


def _judge_cases(measured: Sequence[CaseLaunches], threshold: float, paired: bool) -> list[CaseLaunches]:
    """The cases of one pair of sides with their verdicts in the rows."""
    launches = [
        change_test.SideLaunches(
            list(one.values()), list(two.values()), f"{row['metric']}/{row['suite']}", row["better"] == "lower", spread
        )
        for row, one, two, spread in measured
    ]
    estimates = change_test.estimate(launches, paired)
    verdicts = change_test.judge(launches, estimates, threshold, paired)
    # In pairs the variance is that of the pairs' differences: a side has one of its own.
    spreads = [None if paired else (estimate.variance, estimate.degrees) for estimate in estimates]
    return [
        one._replace(
            row=one.row | _side_row("base", pair.base, spread) | _side_row("new", pair.new, spread) | vars(verdict)
        )
        for one, pair, spread, verdict in zip(measured, launches, spreads, verdicts, strict=True)
    ]


def _logarithms(values: Values) -> dict[int, float]:
    return {launch: math.log(value) for launch, value in values.items()}


def _common_launches(one: Values, two: Values) -> tuple[Values, Values]:
    """Launches that both sides have, in one order."""
    common = [launch for launch in one if launch in two]
    return {launch: one[launch] for launch in common}, {launch: two[launch] for launch in common}


def _row(suite: str, case: str, metric: Metric, new: Side) -> Row:
    return {
        "suite": suite,
        "case": case,
        "metric": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        "name": new.name,
    }


def _side_row(name: str, logs: Sequence[float], spread: tuple[float, float] | None) -> Row:
    """Geometric mean of a side's launches, from logarithms, and its 95% interval.

    `spread`: variance of one launch and its degrees of freedom, as the verdict took them; None: the launches' own.
    """
    centre, squares = intervals.centre_and_squares(logs)
    free = len(logs) - 1
    variance, degrees = spread or (squares / free if free else math.nan, free)
    half = intervals.log_half_width(variance, degrees, len(logs)) if degrees > 0 else None
    return {
        name: math.exp(centre),
        f"{name}_low": None if half is None else math.exp(centre - half),
        f"{name}_high": None if half is None else math.exp(centre + half),
        f"{name}_launches": len(logs),
    }


def _not_in(side: Side, other: Side, name: str) -> list[Row]:
    """Cases that a side has and another lacks, with a side's name."""
    return [
        {"case": case, "name": name, "status": group.status}
        for case, group in side.groups.items()
        if case not in other.groups
    ]


def _not_ok(built: Sequence[Side]) -> list[Row]:
    return [
        {"case": case, "name": side.name, "status": group.status, "reason": group.reason}
        for side in built
        for case, group in side.groups.items()
        if group.status != "ok"
    ]
