"""Presentation of comparisons: from the commands' options to what they print and their exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.analysis.compare import comparison_tables, github, outlier_search, outlier_tables
from bench.analysis.compare.comparison import Settings, compare
from bench.analysis.compare.gate import Gate, Ruling, rule
from bench.analysis.compare.peer_group import PeerMetric
from bench.core import exit_codes
from bench.core.column_fit import WIDTH
from bench.core.process_environment import environment_variables
from bench.core.table import wants_colour
from bench.core.values import parse_share
from bench.errors import BenchError
from bench.records.metrics import TIME
from bench.stats.change_test import THRESHOLD
from bench.stats.outliers import OUTLIER

if TYPE_CHECKING:
    from bench.records.file import Result


@dataclass(frozen=True)
class CompareOptions:
    """Options as click gives them; None: not typed."""

    form: str = "table"
    fail_slower: str | None = None
    fail_missing: bool = False
    min_decided: str | None = None
    threshold: str | None = None
    metrics: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    sort: str = "verdict"
    everything: bool = False
    allow_unlike: bool = False
    wide: bool = False
    pair_seconds: float | None = None
    """Time of one pair of launches of `bench ab`."""

    def gate(self) -> Gate:
        return Gate(
            fail_slower=None if self.fail_slower is None else parse_share("--fail-slower", self.fail_slower),
            fail_missing=self.fail_missing,
            min_decided=0.0 if self.min_decided is None else parse_share("--min-decided", self.min_decided),
            allow_unlike=self.allow_unlike,
            pair_seconds=self.pair_seconds,
        )

    def settings(self, by: str | None = None) -> Settings:
        return Settings(
            metrics=tuple(dict.fromkeys(self.metrics)) or (TIME,),
            where=_where(self.where),
            threshold=THRESHOLD if self.threshold is None else parse_share("--threshold", self.threshold),
            allow_unlike=self.allow_unlike,
            by=by,
        )


def _where(texts: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """`suite=collective`, `op=all_reduce,all_gather`; the same name twice means either."""
    where: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        wanted = tuple(value.strip() for value in values.split(",") if value.strip())
        if not separator or not name.strip() or not wanted:
            raise BenchError(f"--where {text}: NAME=VALUE, or NAME=VALUE1,VALUE2 for either")
        where[name.strip()] = where.get(name.strip(), ()) + wanted
    return where


def present(
    base: Sequence[Result], news: Sequence[Sequence[Result]], options: CompareOptions, by: str | None = None
) -> int:
    """Print the comparison, then the gate's line where one was asked for; returns the exit code. Raises BenchError."""
    gate = options.gate()
    comparison = compare(base, news, options.settings(by))
    ruling = rule(comparison, gate)
    colour = wants_colour(sys.stdout, environment_variables())
    line = None if ruling is None else ruling.line
    width = None if options.wide else WIDTH
    text = comparison_tables.show(comparison, options.form, colour, options.everything, options.sort, line, width)
    if options.form == "github":
        summary = environment_variables().get(github.SUMMARY_VARIABLE)
        if summary:
            github.append_summary(Path(summary), text)
        text = github.workflow_commands(comparison, ruling) + ("" if summary else text)
    click.echo(text, nl=False)
    return _say(ruling, options.form)


def present_outliers(results: Sequence[Result], by: str, outlier: str | None, options: CompareOptions) -> int:
    """Print which of many peers stand out; returns the exit code. Raises BenchError."""
    _refuse_useless(by, options)
    gate = options.gate()
    share = OUTLIER if outlier is None else parse_share("--outlier", outlier)
    settings = options.settings()
    if len(settings.metrics) > 1:
        raise BenchError(f"--among {by} with --metric {', '.join(settings.metrics)}: name one of them")
    chosen = PeerMetric(settings.metrics[0], settings.where)
    search = outlier_search.search_outliers(results, by, share, options.allow_unlike, chosen)
    ruling = None if gate.fail_slower is None else outlier_search.rule(search, gate.fail_slower, gate.min_decided)
    click.echo(outlier_tables.show(search, options.form, wants_colour(sys.stdout, environment_variables())), nl=False)
    return _say(ruling, options.form)


_OF_SIDES = {
    "fail_missing": "--fail-missing", "threshold": "--threshold", "sort": "--sort", "everything": "--all",
}  # fmt: skip


def _refuse_useless(by: str, options: CompareOptions) -> None:
    """Refuse, with a BenchError, an option that means something between sides only."""
    for name, option in _OF_SIDES.items():
        if getattr(options, name) != getattr(CompareOptions(), name):
            raise BenchError(
                f"--among {by} with {option}: that belongs to a comparison of sides; leave one of them out"
            )
    if options.form == "github":
        raise BenchError(f"--among {by} with --format github: take markdown, or json")


def _say(ruling: Ruling | None, form: str) -> int:
    """The gate's line, the last; a program reads the table's format alone, so there the line goes to stderr."""
    if ruling is None:
        return exit_codes.OK
    click.echo(ruling.line, err=form in ("json", "csv"))
    return ruling.exit_code
