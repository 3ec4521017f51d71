"""A result as the makers of findings see it: its rows, and names for its devices and cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.core.values import MISSING, show_quantity
from bench.records.case_names import CaseNames, name_cases
from bench.records.metrics import METRICS
from bench.records.rows import Row, case_groups, run_rows
from bench.records.samples import has_few_samples

if TYPE_CHECKING:
    from bench.records.file import Result


@dataclass(frozen=True)
class RunEvidence:
    """One run."""

    result: Result
    """The first of its files: what does not change between launches is read from it."""
    others: tuple[Result, ...] = ()
    """Further files with launches of the run."""

    @property
    def results(self) -> tuple[Result, ...]:
        return (self.result, *self.others)

    @cached_property
    def rows(self) -> list[Row]:
        return run_rows(self.results, case_groups(self.results))

    @cached_property
    def measured(self) -> list[Row]:
        """Rows with a speed."""
        return [row for row in self.rows if row["status"] == "ok" and row["seconds_median"] is not None]

    @cached_property
    def names(self) -> CaseNames:
        return name_cases(row["case"] for row in self.rows)

    @property
    def world_size(self) -> int:
        return self.result.plan.world_size or 1

    @cached_property
    def device(self) -> str:
        """Noun for what a rank runs on: GPU, core, or rank if it has several cores."""
        if any(rank.device_type == "cuda" for rank in self.result.environment.ranks):
            return "GPU"
        threads = {rank.num_threads for rank in self.result.environment.ranks}
        return "core" if threads == {1} else "rank"

    def of_suite(self, suite: str, op: str | None = None) -> list[Row]:
        """Measured rows of a suite, and of one of its operations if that is given."""
        return [row for row in self.measured if row["suite"] == suite and (op is None or row["params"].get("op") == op)]


def best(rows: Sequence[Row], metric: str) -> Row | None:
    """The row with the most of a metric of which more is better, or the least of one of which less is."""
    known = [row for row in rows if row.get(metric)]
    sign = -1.0 if metric in METRICS and METRICS[metric].better == "lower" else 1.0
    return max(known, key=lambda row: sign * row[metric], default=None)


def show_value(row: Row, metric: str, unit: str) -> str:
    """Value of a row with its unit; `~` and two digits if it has few samples."""
    value = row.get(metric)
    if value is None:
        return MISSING
    return f"~{show_quantity(value, unit, 2)}" if has_few_samples(row) else show_quantity(value, unit)
