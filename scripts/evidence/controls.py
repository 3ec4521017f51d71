"""What a launch's noise has in common: the harness's own kernels, and the run as a whole.

    python scripts/evidence/controls.py results/evidence/data/quiet results/evidence/data/xeon

The folders hold the runs that `collect.py` made; results/evidence/controls.md is what it printed. How much of the noise
between launches do controls take out, in launches that their coefficients were not fitted on, against the simple rival
that divides by one control? How often is a change of everything found, made by scaling the saved samples of a side, and
how often one that is not there? How often does a verdict against the rest of the run accuse an unchanged case, and find
one that changed?
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from analyse import NEAR_SECONDS, _table, ab_sides, near_pairs, neighbours, plain, relabelled, was_alone, windows
from msgspec import structs
from numpy.typing import NDArray
from scipy.stats import beta

from bench.analysis.compare.comparison import Comparison, Settings, compare
from bench.analysis.compare.launch_controls import scores_by_launch
from bench.core.clock import seconds_between
from bench.records.file import Result, load_many
from bench.records.lines.parts import VariantSamples
from bench.records.rows import Row, case_groups
from bench.records.samples import sample_matrix
from bench.run.ab.ab_detect import read_pairs
from bench.stats.power import MOST_PAIRS
from bench.stats.sequential import FIRST_PLAN_PAIRS, SequentialPairs

SHRINKAGE = 0.1
"""Share of a control's variance that is added to it, in the fit of coefficients."""
FOLDS = 4
NEAREST = {"matmul_512": "compute", "copy_4MiB": "copy"}
"""Piece -> the control that is most like it; all others exchange."""
WHOLE = (0, 5, 10, 20)
"""Percent by which all samples of a side are slowed."""
PAIRS = (10, 20, 30)
VERDICTS = ("verdict", "relative_verdict")
COMMUNICATES = ("mlp", "all_reduce_1KiB", "all_reduce_16MiB")
DETECTED = 10
"""Percent that `--detect` asks for."""
ABOUT = (
    "Runs of `scripts/evidence/collect.py`: each launch measures pieces of the built-in suites, plain and slowed by a "
    "known share of their own time. This page is what `scripts/evidence/controls.py` printed, with the product's own "
    "comparison. A change of everything is made by scaling the saved samples of the new side; the controls stay."
)


def main(folders: Sequence[Path]) -> None:
    """Print the document."""
    click.echo(f"# What the noise of a launch has in common\n\n{ABOUT}")
    for folder in folders:
        runs = sorted(filter(was_alone, load_many(folder)), key=lambda run: str(run.header.started))
        click.echo(f"\n## {folder.name}: {len(runs)} runs of unchanged code on {runs[0].architecture}")
        for part in (variance_ratios(runs), whole_changes(runs), against_rest(runs), planned_pairs(runs), cost(runs)):
            click.echo(f"\n{part}" if part else "", nl=bool(part))


def launch_table(runs: Sequence[Result]) -> tuple[list[str], NDArray[np.float64], list[str], NDArray[np.float64]]:
    """Cases, [launch][case] logarithms of medians, controls, [launch][control], in the order of time; NaN: missing."""
    cases = list(dict.fromkeys(case for run in runs for case in case_groups([run])))
    controls = list(dict.fromkeys(name for run in runs for name in _first_scores(run)))
    times, scores = [], []
    for run in runs:
        of_launch = scores_by_launch([run])
        groups = case_groups([run])
        for launch in sorted({record.launch for record in run.measurements}):
            medians = {
                case: value.medians[group.view.main]
                for case, group in groups.items()
                for value in group.view.launches
                if value.launch == launch
            }
            times.append([np.log(medians[case]) if case in medians else np.nan for case in cases])
            scores.append([of_launch.get(launch, {}).get(name, np.nan) for name in controls])
    return cases, np.array(times), controls, np.array(scores)


def _first_scores(run: Result) -> list[str]:
    return list(next(iter(scores_by_launch([run]).values()), {}))


def variance_ratios(runs: Sequence[Result]) -> str:
    """Effective launches: variance between launches as measured over that with controls."""
    cases, times, controls, scores = launch_table(runs)
    title = "### Variance between launches that follow each other, as measured over adjusted\n\n"
    if not controls:
        # Of a file without controls the other kinds of work are the control.
        pieces = list(dict.fromkeys(map(_piece, cases)))
        scores = np.stack(
            [np.nanmean(times[:, [_piece(case) == piece for case in cases]], axis=1) for piece in pieces], 1
        )
        controls = pieces
    differences, of_controls = np.diff(times, axis=0), np.diff(scores, axis=0)
    rows = []
    for piece in dict.fromkeys(map(_piece, cases)):
        own = differences[:, [_piece(case) == piece for case in cases]]
        usable = [number for number, name in enumerate(controls) if name != piece]
        x = of_controls[:, usable]
        raw = float(np.nanmean(own**2))
        nearest = [number for number, name in enumerate(controls) if name == NEAREST.get(piece, "exchange")]
        rival = own - (of_controls[:, nearest] if nearest else x.mean(axis=1, keepdims=True))
        model = _held_out(x, own)
        rows.append(
            [piece, f"{100 * np.sqrt(raw / 2):.1f}%", f"{raw / np.nanmean(rival**2):.2f}", f"{raw / model:.2f}"]
        )
    heads = ["work", "launches differ by", "divided by one control", "all controls, held out"]
    what = "other kinds of work" if "exchange" not in controls else ", ".join(controls)
    note = f"\n\nControls: {what}. Coefficients of three quarters of the differences, applied to the other quarter."
    return title + _table(heads, rows) + note


def _held_out(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Mean square of y that controls x leave, each quarter by the coefficients of the others."""
    fold = np.arange(len(x)) * FOLDS // len(x)
    squares: list[NDArray[np.float64]] = []
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        known = ~np.isnan(y[train])
        rows = np.repeat(x[train], y.shape[1], axis=0)[known.ravel()]
        square = rows.T @ rows
        coefficients = np.linalg.solve(square + SHRINKAGE * np.diag(np.diag(square)), rows.T @ y[train][known])
        left = y[test] - (x[test] @ coefficients)[:, np.newaxis]
        squares.append((left**2)[~np.isnan(left)])
    return float(np.concatenate(squares).mean())


def _piece(case: str) -> str:
    return plain(case).partition("/")[2]


def scaled(result: Result, percent: int) -> Result:
    """The result with all samples of its cases longer by so many percent; the controls stay as they are."""
    factor = 1 + percent / 100
    records = [
        structs.replace(record, variants={name: _scaled(one, factor) for name, one in record.variants.items()})
        for record in result.measurements
    ]
    return replace(result, measurements=tuple(records)) if percent else result


def _scaled(samples: VariantSamples, factor: float) -> VariantSamples:
    assert samples.nanoseconds is not None, "the evidence has two ranks"
    return structs.replace(samples, nanoseconds=np.rint(samples.nanoseconds * factor).astype(np.int64))


def whole_changes(runs: Sequence[Result]) -> str:
    """Verdicts on the run as a whole if nothing, or everything, has changed."""
    rows = []
    for percent in WHOLE:
        found = [compare([one], [[scaled(two, percent)]]) for one, two in neighbours(runs)]
        rows.append(["3 launches against 3", f"{percent}%", *_whole_counts(found)])
    for pairs in PAIRS:
        every = list(windows(runs, pairs))
        for percent in WHOLE:
            found = [
                compare([ab_sides(one, 0, 0)], [[scaled(ab_sides(one, 0, 1), percent)]])
                for one in every[:: max(1, pairs // 5)]
            ]
            if found:
                rows.append([f"`ab`, {pairs} pairs", f"{percent}%", *_whole_counts(found)])
    heads = ["comparison", "all slower by", "number", "slower", "faster", "unclear", "same", "cases called `same`"]
    return "### The run as a whole\n\n" + _table(heads, rows)


def _whole_counts(found: Sequence[Comparison]) -> list[str]:
    verdicts = Counter(whole.judged.verdict for each in found for whole in each.wholes)
    total = max(1, sum(verdicts.values()))
    same = sum(row["verdict"] == "same" for each in found for row in each.cases)
    shares = [f"{100 * verdicts[name] / total:.0f}%" for name in ("slower", "faster", "unclear", "same")]
    return [str(total), *shares, f"{100 * same / sum(len(each.cases) for each in found):.1f}%"]


def against_rest(runs: Sequence[Result]) -> str:
    """False alarms of cases as they are and against the rest, by runs too, and the power of both."""
    rows = []
    for percent, pieces in ((0, ()), (10, ()), (10, COMMUNICATES), (20, ()), (20, COMMUNICATES)):
        words = f"{percent}%{', what communicates' if pieces else ''}"
        sides = [(relabelled(a, 0), relabelled(b, percent)) for a, b in neighbours(runs)]
        rows.append(["3 launches against 3", words, *_rest_counts(sides, percent, pieces)])
        sides = [(ab_sides(one, 0, 0), ab_sides(one, percent, 1)) for one in list(windows(runs, 10))[::2]]
        if sides:
            rows.append(["`ab`, 10 pairs", words, *_rest_counts(sides, percent, pieces)])
    heads = [
        "comparison",
        "four slower by",
        "comparisons",
        "cases",
        "`--no-controls`",
        "as they are",
        "against the rest",
        "either",
        "either, by runs",
    ]
    note = (
        "\n\nSlower by 0%: share of cases that are called faster or slower, and of comparisons with any such case, "
        "with the upper end of its 95% interval (Clopper and Pearson). Otherwise: share of the slower cases that are "
        "found."
    )
    return "### Cases as they are, and against the rest of their run\n\n" + _table(heads, rows) + note


def _rest_counts(sides: Sequence[tuple[Result, Result]], percent: int, pieces: Sequence[str]) -> list[str]:
    before = [compare([a], [[b]], Settings(controls=False)) for a, b in sides]
    found = [compare([a], [[b]]) for a, b in sides]
    called = ("slower", "faster") if not percent else ("slower",)
    rows, rows_before = (
        [row for row in _counted(each, percent) if not pieces or _piece(row["case"]) in pieces]
        for each in (found, before)
    )
    shares = [sum(row["verdict"] in called for row in rows_before) / len(rows)]
    shares += [sum(row[name] in called for row in rows) / len(rows) for name in VERDICTS]
    shares.append(sum(bool({row[name] for name in VERDICTS} & set(called)) for row in rows) / len(rows))
    alarms = sum(any({row["verdict"], row["relative_verdict"]} & set(called) for row in each.cases) for each in found)
    upper = 1.0 if alarms == len(found) else float(beta.ppf(0.975, alarms + 1, len(found) - alarms))
    by_runs = "-" if percent else f"{100 * alarms / len(found):.0f}%, at most {100 * upper:.0f}%"
    return [str(len(found)), str(len(rows)), *(f"{100 * share:.2f}%" for share in shares), by_runs]


def _counted(found: Sequence[Comparison], percent: int) -> list[Row]:
    """Rows that count: of slowed runs those of the pieces that are slower."""
    rows = [row for each in found for row in each.cases]
    return [
        row
        for row in rows
        if not percent or (row["case"] == plain(row["case"]) and _piece(row["case"]) in _slowed(found))
    ]


def _slowed(found: Sequence[Comparison]) -> set[str]:
    return {_piece(row["case"]) for row in found[0].cases if plain(row["case"]) != row["case"]}


def planned_pairs(runs: Sequence[Result]) -> str:
    """What `bench ab --detect 10%` would have made of the pairs that followed each other, from every third pair on."""
    whole = next(windows(runs, len(near_pairs(runs))))
    settings = Settings()
    rows = []
    for percent in (0, DETECTED):
        made: list[int] = []
        judged: list[Row] = []
        short = 0
        for start in range(0, len(whole) // 2 - FIRST_PLAN_PAIRS, 3):
            ended = _detect(whole[2 * start :], percent, settings)
            if ended is None:
                short += 1
                continue
            number, found = ended
            made.append(number)
            judged += _counted([found], percent)
        if not made:
            continue
        slower, same = (sum(row["verdict"] == name for row in judged) / len(judged) for name in ("slower", "same"))
        rows.append([
            f"{percent}%", str(len(made)), f"{np.median(made):.0f} ({min(made)} to {max(made)})", str(len(judged)),
            f"{100 * slower:.0f}%", f"{100 * same:.0f}%", str(short),
        ])  # fmt: skip
    heads = ["slower by", "alternations", "pairs, median", "cases", "called slower", "called `same`", "data too short"]
    return "### `bench ab --detect 10%`, as planned from the pairs\n\n" + _table(heads, rows)


def _detect(window: Sequence[tuple[Result, int]], percent: int, settings: Settings) -> tuple[int, Comparison] | None:
    """Pairs made and the comparison of them; None if the plan asks for more than there are."""
    rule = SequentialPairs(math.log1p(DETECTED / 100), settings.threshold)
    made, planned = FIRST_PLAN_PAIRS, MOST_PAIRS
    while made <= len(window) // 2:
        a, b = ab_sides(window[: 2 * made], 0, 0), ab_sides(window[: 2 * made], percent, 1)
        pairs = read_pairs(a, b, settings)
        if rule.plans_at(made):
            planned = max(made, rule.plan(pairs.cases)[0].pairs)
        is_decided = rule.looks_at(made) and rule.decided(pairs.cases) == len(pairs.cases)
        if made >= planned or is_decided:
            return made, compare([a], [[b]], settings)
        made += 1
    return None


def cost(runs: Sequence[Result]) -> str:
    """Share of the visits' time that controls took, as far as their samples tell."""
    shares = [
        sum(float(sample_matrix(one).max(axis=0).sum()) for one in record.controls.values()) / 1e9 / record.seconds
        for run in runs
        for record in run.measurements
        if record.controls and record.seconds
    ]
    if not shares:
        return ""
    whole = [seconds_between(run.header.started, run.end.ended if run.end else None) for run in runs]
    mean = sum(second for second in whole if second) / len(whole)
    return (
        f"### What controls cost\n\nTheir samples took {100 * np.mean(shares):.2f}% of the time of {len(shares)} "
        f"visits (the middle half {100 * np.quantile(shares, 0.25):.2f} to {100 * np.quantile(shares, 0.75):.2f}%). A "
        f"run took {mean:.0f} s; launches within {NEAR_SECONDS:.0f} s of each other are pairs."
    )


if __name__ == "__main__":
    main([Path(text) for text in sys.argv[1:]])
