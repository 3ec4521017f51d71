"""Changes by kind of work: one geometric mean over cases that are alike, counts if message sizes are swept.

A mean over message sizes would mix latency and bandwidth, so such cases are counted and the largest change is named.
The mean of cases that are alike has an interval of its own, from the means of whole launches: cases of one launch
share its good or bad minute, and are not independent witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.records.case_names import SHORT_TYPES, split_id
from bench.records.rows import Row
from bench.stats import change_test, intervals
from bench.stats.change_test import Estimate, JudgedChange, SideLaunches, Verdict


class WorkKind(NamedTuple):
    """A kind of work, in the words that people use for it."""

    words: str
    suite: str
    operations: tuple[str, ...] = ()
    """Operations of the suite that are of this kind; none: all that no other kind has."""
    is_by_type: bool = False
    """True if a type may be a kind of its own: a device may lack the instructions for it."""


WORKS = (
    WorkKind("training", "training_step"),
    WorkKind("compute", "compute", is_by_type=True),
    WorkKind("memory", "compute", ("copy", "triad")),
    WorkKind("data parallel", "data_parallel"),
    WorkKind("tensor parallel", "tensor_parallel"),
    WorkKind("pipeline", "pipeline_parallel"),
    WorkKind("context parallel", "context_parallel"),
    WorkKind("expert parallel", "expert_parallel"),
    WorkKind("prefill", "inference", ("prefill",)),
    WorkKind("decode", "inference", ("decode",)),
    WorkKind("collectives", "collective"),
    WorkKind("pairs of ranks", "point_to_point"),
    WorkKind("saving checkpoints", "checkpoint", ("save", "async_save")),
    WorkKind("loading checkpoints", "checkpoint", ("load",)),
)
"""Kinds of work, the most informative first; a suite that is not here is a kind of its own, named for itself."""
UNLIKE_TYPES = 1.5
"""Factor between the changes of two types beyond which a mean over both would hide what each does."""
SWEPT = "num_bytes"
"""Parameter whose values are sizes of messages or buffers."""


def work_of(case: str) -> WorkKind:
    """Kind of work of a case."""
    suite, operation, params = split_id(case)
    of_suite = [work for work in WORKS if work.suite == suite]
    named = [work for work in of_suite if operation in work.operations]
    whole = [work for work in of_suite if not work.operations]
    work = (named or whole or [WorkKind(suite.replace("_", " "), suite)])[0]
    dtype = params.get("dtype") if work.is_by_type else None
    return work if dtype is None else work._replace(words=f"{work.words} {SHORT_TYPES.get(dtype, dtype)}")


def rank_of(work: WorkKind) -> int:
    """Place of a kind of work among the others."""
    places = [number for number, known in enumerate(WORKS) if known[1:] == work[1:]]
    return places[0] if places else len(WORKS)


@dataclass(frozen=True)
class WorkChange:
    """Change of one kind of work on one new side, by one metric."""

    work: WorkKind
    name: str
    """Name of the new side."""
    metric: str
    cases: tuple[Row, ...]
    """Rows of the cases, as in the comparison."""
    mean: JudgedChange | None
    """Geometric mean over the cases, with its verdict; None: message sizes are swept, so there is none."""

    @property
    def num_changed(self) -> int:
        """Number of cases that are shown to be slower or faster."""
        return sum(row["verdict"] in ("slower", "faster") for row in self.cases)

    @property
    def verdict(self) -> Verdict | None:
        """Verdict on the kind of work; None if some cases are slower and others faster."""
        if self.mean is not None:
            return self.mean.verdict
        verdicts = {row["verdict"] for row in self.cases}
        if {"slower", "faster"} <= verdicts:
            return None
        ordered: tuple[Verdict, ...] = ("slower", "faster", "unclear", "same")
        return next(verdict for verdict in ordered if verdict in verdicts)

    @property
    def largest(self) -> Row:
        """Row of the largest change, among those that are shown if there are any."""
        shown = [row for row in self.cases if row["verdict"] in ("slower", "faster")]
        return max(shown or self.cases, key=lambda row: change_size(row["change"]))


def change_size(change: float) -> float:
    """Size of a change, alike for twice and for half: 2 for both."""
    ratio = 1 + change
    return max(ratio, 1 / ratio) if ratio > 0 else float("inf")


class CaseLaunches(NamedTuple):
    """A case on two sides."""

    row: Row
    base: Mapping[int, float]
    """Launch -> logarithm of the metric."""
    new: Mapping[int, float]
    spread: float | None = None
    """That of the samples within launches, as `bench.stats.change_test.SideLaunches` has it."""


def work_changes(measured: Sequence[CaseLaunches], threshold: float, paired: bool) -> list[WorkChange]:
    """Changes by kind of work of one new side and metric, the most informative kind first."""
    by_work = _by_work(measured)
    averaged = [work for work, cases in by_work.items() if len(cases) > 1 and not _is_swept(cases)]
    means = dict(zip(averaged, _judge_means([by_work[work] for work in averaged], threshold, paired), strict=True))
    changes = []
    for work in sorted(by_work, key=lambda work: (rank_of(work), work.words)):
        rows = tuple(case.row for case in by_work[work])
        mean = _of_row(rows[0]) if len(rows) == 1 else means.get(work)
        changes.append(WorkChange(work, rows[0]["name"], rows[0]["metric"], rows, mean))
    return changes


def _by_work(measured: Sequence[CaseLaunches]) -> dict[WorkKind, list[CaseLaunches]]:
    """Kind of work -> its cases; types are apart only if their changes are, as of one without instructions."""
    by_kind: dict[WorkKind, dict[WorkKind, list[CaseLaunches]]] = {}
    for case in measured:
        typed = work_of(case.row["case"])
        whole = next((work for work in WORKS if work[1:] == typed[1:]), typed)
        by_kind.setdefault(whole, {}).setdefault(typed, []).append(case)
    by_work: dict[WorkKind, list[CaseLaunches]] = {}
    for whole, by_type in by_kind.items():
        shifts = [sum(math.log1p(case.row["change"]) for case in cases) / len(cases) for cases in by_type.values()]
        are_alike = max(shifts) - min(shifts) <= math.log(UNLIKE_TYPES)
        by_work |= {whole: [case for cases in by_type.values() for case in cases]} if are_alike else by_type
    return by_work


def _is_swept(cases: Sequence[CaseLaunches]) -> bool:
    """True if most cases are of a message's or buffer's size: one of them stands for no other."""
    return 2 * sum(SWEPT in split_id(one.row["case"])[2] for one in cases) > len(cases)


def _of_row(row: Row) -> JudgedChange:
    """The judged change of a lone case, which is that of its kind of work."""
    return JudgedChange(**{name: row[name] for name in JudgedChange.__dataclass_fields__})


def _judge_means(groups: Sequence[Sequence[CaseLaunches]], threshold: float, paired: bool) -> list[JudgedChange]:
    launches = [_mean_launches(cases) for cases in groups]
    estimates = [
        _centred(one, cases) for one, cases in zip(change_test.estimate(launches, paired), groups, strict=True)
    ]
    return change_test.judge(launches, estimates, threshold, paired)


def _mean_launches(cases: Sequence[CaseLaunches]) -> SideLaunches:
    """Mean logarithm of all cases in each launch that has all of them; a side without such a launch has its mean."""
    first = cases[0].row
    sides = [[case.base for case in cases], [case.new for case in cases]]
    launches = [[n for n in of_side[0] if all(n in one for one in of_side)] for of_side in sides]
    means = [
        [sum(one[n] for one in of_side) / len(cases) for n in numbers]
        or [sum(intervals.centre_and_squares(list(one.values()))[0] for one in of_side) / len(cases)]
        for of_side, numbers in zip(sides, launches, strict=True)
    ]
    return SideLaunches(means[0], means[1], f"{first['metric']}/mean", first["better"] == "lower")


def _centred(estimate: Estimate, cases: Sequence[CaseLaunches]) -> Estimate:
    """The estimate at the mean of the cases' own changes, also if a launch lacks some of them."""
    shifts = [
        intervals.centre_and_squares(list(new.values()))[0] - intervals.centre_and_squares(list(base.values()))[0]
        for _, base, new, _ in cases
    ]
    return estimate._replace(shift=sum(shifts) / len(shifts))
