"""What the verdicts are worth: false alarms, power and coverage, all from one and the same data.

    python scripts/evidence/analyse.py results/evidence/data/xeon [METRIC] > results/evidence/xeon.md

The folder holds the runs that `collect.py` made, each of three launches. Runs that did not have the machine to
themselves, by what they recorded of other processes, are counted and left out. Every figure comes from the product's
own code: the runs are handed to `bench.analysis.compare.comparison` and `bench.records.rows` as they are, or, where a
slow-down is to be found, with a slower piece in the place of the plain one. For contrast: pytest-benchmark's rule and
pyperf's test on the same.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from msgspec import structs

from bench.analysis.compare import comparison
from bench.analysis.compare.comparison import Comparison, Settings
from bench.analysis.compare.gate import Gate, rule
from bench.records.case_view import CaseView
from bench.records.file import Result, load_many
from bench.records.lines.kinds import Measurement
from bench.records.lines.parts import Interference
from bench.records.metrics import TIME
from bench.records.rows import case_groups
from bench.records.visits import is_disturbed
from bench.stats.intervals import median

LEVELS = (3, 5, 10, 20)
PAIRS = (3, 5, 10)
STEADY = 0.03
"""Standard deviation of the logarithms of launch medians, below which launches agree."""
LONG_SECONDS = 1e-3
MOST_DISTURBED = 0.5
NEAR_SECONDS = 60.0
"""Launches that began within so many seconds make a pair, as those of `bench ab` do."""
GATE = Gate(fail_slower=0.05, allow_unlike=True)
METRICS = [TIME]
"""Metric that is compared; the command may replace it."""


def compare(base: Sequence[Result], news: Sequence[Sequence[Result]]) -> Comparison:
    """The product's comparison by the metric."""
    return comparison.compare(base, news, Settings(metrics=tuple(METRICS)))


def main(folder: Path) -> None:
    """Print the document."""
    whole = [result for result in load_many(folder) if result.end is not None and result.end.status == "complete"]
    runs = sorted(filter(was_alone, whole), key=lambda result: str(result.header.started))
    spread = spreads(runs)
    for part in (
        about(runs, spread, len(whole) - len(runs)),
        false_alarms(runs),
        power_of_compare(runs, spread),
        power_of_ab(runs, spread),
    ):
        click.echo(part)
    click.echo(coverage(runs))


def was_alone(run: Result) -> bool:
    """Whether other processes used the cores in no more than half of its visits; nothing else of it is looked at.

    What a hypervisor does is part of the machine.
    """
    disturbed = [is_disturbed(without_steal(record)) for record in run.measurements]
    return sum(disturbed) <= MOST_DISTURBED * len(disturbed)


def without_steal(record: Measurement) -> Measurement:
    """A measurement as if the hypervisor had taken nothing."""
    seen = record.disturbance or Interference()
    hosts = [structs.replace(host, steal_share=0.0) for host in seen.hosts]
    return structs.replace(record, disturbance=Interference(hosts=hosts))


def about(runs: Sequence[Result], spread: dict[str, tuple[float, float]], num_left_out: int) -> str:
    """What was measured, and how well launches agree."""
    first, last = runs[0], runs[-1]
    rows = [
        [case, f"{1e3 * seconds:.3g} ms", f"{100 * sd:.1f}%", "yes" if is_steady((seconds, sd)) else "no"]
        for case, (seconds, sd) in spread.items()
    ]
    return "\n".join([
        "# What the verdicts are worth",
        "",
        f"{len(runs)} separate runs of unchanged code (`scripts/evidence/collect.py`), {_launches(runs)} launches in "
        f"all, on {first.architecture}, {first.plan.backend}, torch {first.environment.versions['torch']}, from "
        f"{str(first.header.started)[:16]} to {str(last.header.started)[11:16]} UTC. Each launch measures four "
        "pieces of the built-in suites in three visits, plain and followed by a busy loop of 3, 5, 10 and 20% of its "
        "own time, in the timed part of every rank. This page is what `scripts/evidence/analyse.py` printed, "
        f"for `{METRICS[0]}`."
        + (
            f" {num_left_out} further runs are left out: other processes used the cores in over "
            f"{MOST_DISTURBED:.0%} of their visits."
            if num_left_out
            else ""
        ),
        "",
        _table(["case", "median", "launches differ by (sd of logs)", "over 1 ms and within 3%"], rows),
    ])  # fmt: skip


def _launches(runs: Iterable[Result]) -> int:
    return sum(len({record.launch for record in run.measurements}) for run in runs)


def spreads(runs: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Case -> median seconds, and the standard deviation of the logarithms of all launch medians."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for case, group in case_groups([run]).items():
            found[case] += group.view.medians
    return {
        case: (median(values), float(np.log(values).std(ddof=1))) for case, values in found.items() if len(values) > 1
    }


def is_steady(of_case: tuple[float, float]) -> bool:
    return of_case[0] >= LONG_SECONDS and of_case[1] <= STEADY


def neighbours(runs: Sequence[Result]) -> Iterator[tuple[Result, Result]]:
    """Each run and the next."""
    return itertools.pairwise(runs)


def false_alarms(runs: Sequence[Result]) -> str:
    """A/A comparisons: each run against the next, and against every other."""
    close = [compare([one], [[two]]) for one, two in neighbours(runs)]
    far = [compare([one], [[two]]) for index, one in enumerate(runs) for two in runs[index + 2 :]]
    rows = [
        ["`bench compare`, each run and the next", *_shares(close)],
        ["`bench compare`, all other pairs of runs", *_shares(far)],
    ]
    pairs = [(ab_sides(window, 0, 0), ab_sides(window, 0, 1)) for window in windows(runs, 10)]
    if pairs:
        rows.append(["`bench ab`, 10 pairs, both sides unchanged", *_shares([compare([a], [[b]]) for a, b in pairs])])
    for name, alarm in CONTRAST.items():
        flags = [alarm(one, two) for one, two in neighbours(runs)]
        hits, total = sum(sum(each) for each in flags), sum(len(each) for each in flags)
        rows.append(
            [name, str(len(flags)), str(total), f"{100 * hits / total:.1f}%", "-", f"{100 * (1 - hits / total):.1f}%"]
        )
    heads = ["method", "comparisons", "cases", "called faster or slower", "unclear", "same"]
    return "\n## False alarms: nothing has changed\n\n" + _table(heads, rows)


def _shares(found: Sequence[Comparison]) -> list[str]:
    counts: Counter[str] = sum((each.counts() for each in found), Counter())
    total = sum(counts.values())
    shares = [counts["slower"] + counts["faster"], counts["unclear"], counts["same"]]
    return [str(len(found)), str(total), *(f"{100 * share / total:.2f}%" for share in shares)]


def pooled(result: Result) -> dict[str, np.ndarray[Any, Any]]:
    """Case -> every sample of all launches in one heap, as tools that know no launches take them."""
    return {case: group.view.all_seconds for case, group in case_groups([result]).items()}


def pytest_benchmark_alarms(one: Result, two: Result) -> list[bool]:
    """`--benchmark-compare-fail=median:5%`: the new median is more than 5% above the old; or below, to count both."""
    old, new = pooled(one), pooled(two)
    return [abs(median(new[case]) / median(old[case]) - 1) > 0.05 for case in old if case in new]


def pyperf_alarms(one: Result, two: Result) -> list[bool]:
    """`pyperf compare_to`: its own two-sample t test on all values, two-tailed, 95%."""
    from pyperf._utils import is_significant  # type: ignore[import-not-found, unused-ignore]

    old, new = pooled(one), pooled(two)
    alarms = []
    for case in old:
        size = min(old[case].size, new[case].size)  # it takes equally many of both
        alarms.append(bool(is_significant(old[case][:size].tolist(), new[case][:size].tolist())[0]))
    return alarms


CONTRAST: dict[str, Callable[[Result, Result], list[bool]]] = {
    "pytest-benchmark, `compare-fail=median:5%` (either way)": pytest_benchmark_alarms,
    "pyperf `compare_to`, significant": pyperf_alarms,
}


def relabelled(result: Result, slower: int, launches: dict[int, int] | None = None, **options: Any) -> Result:
    """A run in which the plain pieces have been replaced by those that are so much slower.

    The others stay, so that a comparison holds changed and unchanged cases. `launches` picks some and renumbers them.
    """
    records = []
    for record in result.measurements:
        if launches is not None and record.launch not in launches:
            continue
        percent = record.params["slower_percent"]
        if percent == 0 and slower:
            continue
        named = record if launches is None else structs.replace(record, launch=launches[record.launch])
        records.append(named)
        if percent == slower and slower:
            params = record.params | {"slower_percent": 0}
            records.append(structs.replace(named, case=plain(record.case), params=params))
    header = structs.replace(result.header, plan=structs.replace(result.plan, options=options))
    return replace(result, header=header, measurements=tuple(records))


def plain(case: str) -> str:
    return case.partition("[")[0]


def _power(found: Sequence[Comparison], keep: Callable[[str], bool]) -> list[str]:
    """Of the slower pieces in all comparisons: how many were found, and how many fail a 5% gate."""
    slowed = {plain(row["case"]) for each in found for row in each.cases if plain(row["case"]) != row["case"]}
    rows = [row for each in found for row in each.cases if row["case"] in slowed and keep(row["case"])]
    if not rows:
        return ["-", "-", "-"]
    rulings = [rule(each, GATE) for each in found]
    failing = {id(row) for ruling in rulings if ruling is not None for row in ruling.failing}
    detected = sum(row["verdict"] == "slower" for row in rows)
    gated = sum(id(row) in failing for row in rows)
    return [str(len(rows)), f"{100 * detected / len(rows):.0f}%", f"{100 * gated / len(rows):.0f}%"]


def kinds(spread: dict[str, tuple[float, float]]) -> dict[str, Callable[[str], bool]]:
    """Which cases are told apart."""
    return {
        "all four": lambda case: True,
        "over 1 ms": lambda case: spread[case][0] >= LONG_SECONDS,
        "over 1 ms, launches within 3%": lambda case: is_steady(spread[case]),
    } | {case.partition("/")[2]: (lambda case, own=case: case == own) for case in spread if plain(case) == case}


def power_of_compare(runs: Sequence[Result], spread: dict[str, tuple[float, float]]) -> str:
    """Runs side by side: each against later ones, in which the plain pieces are slower."""
    rows = []
    for num_runs in (1, 2, 3):
        for percent in LEVELS:
            starts = range(len(runs) - 2 * num_runs + 1)
            found = [
                compare(
                    [relabelled(run, 0) for run in runs[start : start + num_runs]],
                    [[relabelled(run, percent) for run in runs[start + num_runs : start + 2 * num_runs]]],
                )
                for start in starts
            ]
            for name, keep in kinds(spread).items():
                counted = _power(found, keep)
                if counted[0] != "-":
                    rows.append([f"{3 * num_runs} against {3 * num_runs}", f"{percent}%", name, *counted])
    heads = ["launches", "slower by", "cases", "judged", "detected", "fails a 5% gate"]
    text = "\n## Power of `bench compare`: four cases are slower\n\n"
    return text + _table(heads, rows)


def windows(runs: Sequence[Result], num_pairs: int) -> Iterator[list[tuple[Result, int]]]:
    """So many pairs of consecutive launches; each window begins at another pair."""
    pairs = near_pairs(runs)
    for start in range(len(pairs) - num_pairs + 1):
        yield [launch for pair in pairs[start : start + num_pairs] for launch in pair]


def near_pairs(runs: Sequence[Result]) -> list[list[tuple[Result, int]]]:
    """Launches two by two, each once, as they followed each other without a long break."""
    launches = sorted(
        (min(datetime.fromisoformat(str(r.started)) for r in run.measurements if r.launch == launch), number, launch)
        for number, run in enumerate(runs)
        for launch in {record.launch for record in run.measurements}
    )
    pairs: list[list[tuple[Result, int]]] = []
    while len(launches) > 1:
        (first, *one), (second, *two), *rest = launches
        if (second - first).total_seconds() <= NEAR_SECONDS:
            pairs.append([(runs[number], launch) for number, launch in (one, two)])
            launches = rest
        else:
            launches = launches[1:]
    return pairs


def ab_sides(window: Sequence[tuple[Result, int]], percent: int, side: int) -> Result:
    """One side of an alternation: of launches 0 1, 3 2, 4 5, 7 6, ... the first (a) or the second (b) of each pair."""
    parts = []
    for pair in range(len(window) // 2):
        run, launch = window[2 * pair + (side if pair % 2 == 0 else 1 - side)]
        own = {"id": "evidence", "side": "ab"[side], "setting": f"{percent}% slower"}
        parts.append(relabelled(run, percent, {launch: pair}, pair=own))
    measurements = tuple(record for part in parts for record in part.measurements)
    return replace(parts[0], measurements=measurements)


def power_of_ab(runs: Sequence[Result], spread: dict[str, tuple[float, float]]) -> str:
    """Launches in turn, as `bench ab` makes them: the same launches, taken two by two."""
    rows = []
    for num_pairs in PAIRS:
        for percent in LEVELS:
            found = [
                compare([ab_sides(window, 0, 0)], [[ab_sides(window, percent, 1)]])
                for window in windows(runs, num_pairs)
            ]
            for name, keep in kinds(spread).items():
                counted = _power(found, keep)
                if counted[0] != "-":
                    rows.append([str(num_pairs), f"{percent}%", name, *counted])
    heads = ["pairs", "slower by", "cases", "judged", "detected", "fails a 5% gate"]
    return "\n## Power of `bench ab`: the same launches in pairs\n\n" + _table(heads, rows)


def coverage(runs: Sequence[Result]) -> str:
    """How often a run's printed interval holds the median of all launches of the other runs."""
    views: list[dict[str, CaseView]] = [{c: g.view for c, g in case_groups([run]).items()} for run in runs]
    held: dict[str, list[bool]] = defaultdict(list)
    for index, own in enumerate(views):
        for case, view in own.items():
            others = [value for other in (*views[:index], *views[index + 1 :]) for value in _medians(other, case)]
            if view.interval is not None and len(view.medians) > 1 and others:
                held[case].append(view.interval.low <= median(others) <= view.interval.high)
    every = [each for flags in held.values() for each in flags]
    rows = [[case, str(len(flags)), f"{100 * np.mean(flags):.1f}%"] for case, flags in held.items()]
    error = math.sqrt(0.95 * 0.05 / len(every))
    note = f"Standard error of the whole, were all independent: {100 * error:.1f}%."
    heads = ["case", "intervals", "hold the median of the others"]
    whole = ["all", str(len(every)), f"{100 * np.mean(every):.1f}%"]
    return "\n## Coverage of the 95% interval of a run\n\n" + _table(heads, [whole, *rows]) + f"\n\n{note}"


def _medians(views: dict[str, CaseView], case: str) -> tuple[float, ...]:
    return views[case].medians if case in views else ()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, [":---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    METRICS[:] = sys.argv[2:] or METRICS
    main(Path(sys.argv[1]))
