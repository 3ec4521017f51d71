"""Findings of a comparison: how many times as long the new side takes, for each kind of work, and how sure that is.

The answer of each new side is one sentence. Its figures are those of the table: a kind of work with one case has that
case's change, others the geometric mean over cases that are alike. If message sizes are swept there is no mean.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.analysis.compare.change_text import (
    NO_DIFFERENCE,
    brief_factor,
    brief_interval,
    cases_of,
    verdict_words,
)
from bench.analysis.compare.settling import undecided_words
from bench.analysis.findings.comparison_answer import SideAnswer, has_no_error_bar, side_name, works_of
from bench.analysis.findings.comparison_remarks import difference_remarks, whole_figure, whole_remarks
from bench.analysis.findings.data_state import seen_disturbances
from bench.analysis.findings.evidence import RunEvidence
from bench.analysis.findings.kinds import (
    Answer,
    Correctness,
    DataState,
    Figure,
    Findings,
    Item,
    NextStep,
    Quality,
    Unmeasured,
)
from bench.core.values import counted, first_few
from bench.records.case_names import name_cases, short_name
from bench.records.last_result import DEFAULT_FOLDER, result_files
from bench.records.metrics import TIME

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.analysis.compare.work_changes import WorkChange

__all__ = ["comparison_findings", "figures_of", "side_name", "works_of"]

ENOUGH_LAUNCHES = 3


def comparison_findings(comparison: Comparison) -> Findings:
    """Findings of a comparison, the answers first."""
    news = comparison.sides[1:]
    items: list[Item] = [Answer(SideAnswer(comparison, new).text()) for new in news]
    items.append(_state(comparison))
    several = len(news) > 1
    items += [one for new in news for one in figures_of(comparison, new, f"{new.name}: " if several else "")]
    items += [one for new in news for one in whole_figure(comparison, new, f"{new.name}: " if several else "")]
    items += [*whole_remarks(comparison), *difference_remarks(comparison)]
    items += [*_correctness(comparison), *_unmeasured(comparison), *_next_steps(comparison)]
    return Findings(_head(comparison), tuple(items))


def figures_of(comparison: Comparison, new: Side, prefix: str = "") -> list[Figure]:
    """Figures of one new side, one per kind of work; `prefix` is put before the names."""
    return [
        _mean_figure(work, prefix + work.work.words, comparison.threshold)
        if work.mean is not None
        else _swept_figure(work, prefix + work.work.words, comparison)
        for work in works_of(comparison, new)
    ]


def _mean_figure(work: WorkChange, name: str, threshold: float) -> Figure:
    mean = work.mean
    assert mean is not None
    interval = brief_interval(mean)
    lone = len(work.cases) == 1
    words = [interval or "no error bar", verdict_words(mean, threshold) if interval else None]
    words.append(None if lone else f"mean of {len(work.cases)} cases")
    low, high = mean.change_low, mean.change_high
    return Figure(
        group="change",
        name=name,
        text=brief_factor(1 + mean.change),
        value=1 + mean.change,
        unit="x",
        low=None if low is None else 1 + low,
        high=None if high is None else 1 + high,
        of=", ".join(word for word in words if word),
        case=work.cases[0]["case"] if lone else None,
    )


def _swept_figure(work: WorkChange, name: str, comparison: Comparison) -> Figure:
    """Figure of swept sizes: that of the largest change that is shown, or none."""
    if not work.num_changed:
        words = "no error bar" if has_no_error_bar(work) else NO_DIFFERENCE
        return Figure(group="change", name=name, text="-", of=f"{words}, {counted(len(work.cases), 'case')}")
    row = work.largest
    number = cases_of(work.num_changed, len(work.cases))
    return Figure(
        group="change",
        name=name,
        text=brief_factor(1 + row["change"]),
        value=1 + row["change"],
        unit="x",
        low=1 + row["change_low"],
        high=1 + row["change_high"],
        of=f"{comparison.name_of(row['case'])}, {number} {work.verdict or 'changed'}",
        case=row["case"],
    )


def _state(comparison: Comparison) -> DataState:
    """Launches per side, and what is left open."""
    rows = comparison.cases
    common = len({row["case"] for row in rows})
    counts = [row[f"{side}_launches"] for row in rows for side in ("base", "new")]
    unit = "pairs of launches" if comparison.paired else "launches per side"
    fewest, most = (min(counts), max(counts)) if counts else (0, 0)
    launches = f"{fewest} {unit}" if fewest == most else f"{fewest} to {most} {unit}"
    if fewest == most == 1:
        launches = launches.replace("launches", "launch", 1).replace("pairs", "pair", 1)
    quality: Quality = "useless" if not rows else "good" if fewest >= ENOUGH_LAUNCHES else "rough"
    disturbed = [words for side in comparison.sides for words in _disturbed_words(side)]
    quality = "rough" if disturbed and quality == "good" else quality
    parts = [f"{counted(common, 'case')}, {launches}", *disturbed]
    for new in comparison.sides[1:]:
        words = undecided_words(comparison, [row for row in rows if row["name"] == new.name])
        parts += [words if len(comparison.sides) == 2 else f"{new.name}: {words}"] if words else []
    return DataState(quality, "; ".join(parts))


def _disturbed_words(side: Side) -> Iterator[str]:
    """What took time away from enough cases of a side to make its figures rough."""
    rows = [row for result in side.results for row in RunEvidence(result).measured]
    for is_large, words in seen_disturbances(rows):
        if is_large:
            yield f"{side.name}: {words}, so a change may be theirs"


def _head(comparison: Comparison) -> str:
    """The figures' meaning, in words."""
    works = comparison.works
    if not works:
        return ""
    base, *news = comparison.sides
    row = works[0].cases[0]
    what, better = ("Time", "faster") if row["metric"] == TIME else (row["metric"], "better")
    names = " and ".join(new.name for new in news)
    side = "below" if row["better"] == "lower" else "above"
    return f"{what} of {names} over that of {base.name}: {side} 1x is {better}"


def _correctness(comparison: Comparison) -> Iterator[Correctness]:
    """Cases that are wrong or broken on a side, with the reason of the first."""
    wrong = [row for row in comparison.not_ok if row["status"] in ("invalid", "failed")]
    if wrong:
        named = [f"{short_name(row['case'])} on {row['name']} ({row['status']}: {row['reason']})" for row in wrong]
        right = len({row["case"] for row in comparison.cases})
        yield Correctness(
            f"{len(wrong)} without a speed: {first_few(named, 1, ' and {} more: --all')}", right, len(wrong)
        )


def _unmeasured(comparison: Comparison) -> Iterator[Unmeasured]:
    """Cases that only one side has, and those that a side skipped, with the first few names."""
    base = comparison.sides[0].name
    is_one_run = all(side.results == comparison.sides[0].results for side in comparison.sides)
    remedy = "" if is_one_run else "measure the same with bench run --like FILE"
    for rows, words in ((comparison.only_base, f"only on {base}, not on "), (comparison.only_new, "only on ")):
        for name in dict.fromkeys(row["name"] for row in rows):
            cases = [row["case"] for row in rows if row["name"] == name]
            yield Unmeasured(text=_named(words + name, cases), num_cases=len(cases), remedy=remedy)
    skipped = list(dict.fromkeys(row["case"] for row in comparison.not_ok if row["status"] == "skipped"))
    if skipped:
        yield Unmeasured(text=_named("skipped on a side", skipped), num_cases=len(skipped))


def _named(words: str, cases: Sequence[str]) -> str:
    names = name_cases(cases)
    return f"{words} ({first_few([names.across(case) for case in cases], 2, ', {} more: --all')})"


def _next_steps(comparison: Comparison) -> Iterator[NextStep]:
    files = [_argument(side) for side in comparison.sides]
    if any(file is None for file in files) or len(set(files)) < len(files):
        return
    words = shlex.join(str(file) for file in files)
    slower = next((w.name for w in comparison.works if w.verdict in ("slower", None)), None)
    if slower is not None:
        place = [side.name for side in comparison.sides].index(slower)
        yield NextStep(purpose="why slower", command=f"bench explain {shlex.quote(str(files[place]))}")
    yield NextStep(purpose="page", command=f"bench report {words} -o compare.html")


def _argument(side: Side) -> str | None:
    """Shortest name of the side's files: a folder that holds no others, else the file; None if there is neither.

    The results folder is no name: every further run is saved there.
    """
    paths = [result.path for result in side.results]
    folders = {path.parent for path in paths}
    if len(paths) == 1 and paths[0].parent.resolve() == DEFAULT_FOLDER.resolve():
        return os.fspath(paths[0])
    if len(folders) == 1 and len(result_files(paths[0].parent)) == len(paths):
        return os.fspath(paths[0].parent)
    return os.fspath(paths[0]) if len(paths) == 1 else None
