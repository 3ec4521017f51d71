"""Source of the plots: the sides' results as rows, with a look for each side. No plot reads a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.analysis.compare import sides
from bench.core.values import as_count
from bench.records.case_names import CaseNames, name_cases
from bench.records.case_view import CaseView
from bench.records.lines.parts import TableRows
from bench.records.rows import CaseGroup, case_groups, run_rows
from bench.report.plots.style import Look, looks, shorten
from bench.suite import format_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.analysis.compare.comparison import Comparison
    from bench.core.table import DisplayTable
    from bench.records.file import Result
    from bench.records.rows import Row

MAX_NAME = 60
COMPARISON, HISTORY = "/comparison", "/history"
"""Sections of plots that are of no suite; no suite can have such a name."""


@dataclass(frozen=True)
class Plot:
    """One drawing."""

    name: str
    """Name of its file, and of its place in a page: our own words and numbers, never a text of a file."""
    section: str
    """The suite that it belongs to, or `COMPARISON`, `HISTORY`."""
    title: str
    caption: str
    """Advice how to read it; a screen reader says it too."""
    figure: Figure
    table: DisplayTable | None = None
    """The figures that are drawn, for who cannot see them; None: the tables around it have them."""


@dataclass(frozen=True)
class ComparedView(CaseView):
    """A case as a comparison takes it: its time is the geometric mean of the launches, and all rates follow from it."""

    @cached_property
    def seconds(self) -> float | None:
        values = self.medians
        return math.exp(sum(map(math.log, values)) / len(values)) if values and all(values) else None


def _compared(group: CaseGroup) -> CaseGroup:
    return CaseGroup(group.records, ComparedView(**{f.name: getattr(group.view, f.name) for f in fields(group.view)}))


@dataclass(frozen=True)
class PlottedRun:
    """One side: a run, whose launches may lie in several files."""

    name: str
    results: tuple[Result, ...]
    look: Look
    is_compared: bool = False
    """True: times are those of the comparison, so that one page has one figure for a case."""

    @property
    def result(self) -> Result:
        """The first file: what does not change between launches is read from it."""
        return self.results[0]

    @cached_property
    def groups(self) -> dict[str, CaseGroup]:
        groups = case_groups(self.results)
        return {case: _compared(group) for case, group in groups.items()} if self.is_compared else groups

    @cached_property
    def rows(self) -> list[Row]:
        """One per case, params first; those that are ok have metrics."""
        return run_rows(self.results, self.groups)

    def suite_rows(self, suite: str, op: str | None = None) -> list[Row]:
        return [
            row
            for row in self.rows
            if row["suite"] == suite and row["status"] == "ok" and op in (None, row["params"].get("op"))
        ]


@dataclass(frozen=True)
class Source:
    """All that a report is about."""

    series: tuple[PlottedRun, ...]
    comparison: Comparison | None = None
    """The first side against the others, if there are others with a common case."""
    no_comparison: str = ""
    """Reason why several runs are not compared."""

    @staticmethod
    def of(runs: Sequence[Sequence[Result]]) -> Source:
        """`runs`: each the files of one run. Without a common case there is no comparison, and a reason why."""
        from bench.analysis.compare.comparison import Settings, compare
        from bench.errors import BenchError

        names = [shorten(name, MAX_NAME) for name in sides.names(runs)]
        names = names if len(set(names)) == len(names) else [f"{n} ({i})" for i, n in enumerate(names, 1)]
        look = looks(names, [results[0].architecture for results in runs])
        comparison: Comparison | None = None
        reason = ""
        if len(runs) > 1:
            try:
                comparison = compare(runs[0], runs[1:], Settings(allow_unlike=True))
            except BenchError as error:
                reason = str(error)
        series = tuple(
            PlottedRun(name, tuple(results), look[name], comparison is not None)
            for name, results in zip(names, runs, strict=True)
        )
        return Source(series, comparison, reason)

    @cached_property
    def names(self) -> CaseNames:
        """Short names of all cases: one case has one name in a report."""
        return name_cases(row["case"] for run in self.series for row in run.rows)

    def suites(self) -> list[str]:
        return list(dict.fromkeys(row["suite"] for run in self.series for row in run.rows))

    def ops(self, suite: str) -> list[str]:
        return list(dict.fromkeys(str(row["params"].get("op")) for run in self.series for row in run.suite_rows(suite)))

    def tables(self, suite: str) -> Iterator[tuple[PlottedRun, str, TableRows]]:
        """(side, case, table) of the tables that cases of a suite carry."""
        for run in self.series:
            for case, group in run.groups.items():
                if group.status == "ok" and group.leader.suite == suite:
                    for table in group.leader.tables.values():
                        yield run, case, table


def labels(rows: Sequence[Row]) -> list[str]:
    """A short name for each row: its operation, and those parameters in which rows of its suite differ."""
    values: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name in {name for other in rows if other["suite"] == row["suite"] for name in other["params"]}:
            values.setdefault((row["suite"], name), set()).add(format_param(row["params"].get(name, "-")))
    several = len({row["suite"] for row in rows}) > 1
    texts = []
    for row in rows:
        varied = {k: v for k, v in row["params"].items() if k != "op" and len(values[row["suite"], k]) > 1}
        head = str(row["params"].get("op", "run"))
        words = [f"{row['suite']}/{head}" if several else head, *(f"{k}={format_param(v)}" for k, v in varied.items())]
        texts.append(" ".join(words))
    return texts


def families(rows: Sequence[Row], varied: str) -> list[list[Row]]:
    """Rows that differ in one number only, in its order; the largest family first."""
    rows_by_rest: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if as_count(row["params"].get(varied)) is not None:
            rest = tuple(sorted((k, str(v)) for k, v in row["params"].items() if k != varied))
            rows_by_rest.setdefault(rest, []).append(row)
    ordered = [sorted(family, key=lambda row: row["params"][varied]) for family in rows_by_rest.values()]
    return sorted(ordered, key=len, reverse=True)
