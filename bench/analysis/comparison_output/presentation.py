"""Presentation of comparisons: from the commands' options to what they print and their exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.compare import outlier_search
from bench.analysis.compare.comparison import Settings, compare
from bench.analysis.compare.gate import Gate, Ruling, rule
from bench.analysis.compare.peer_group import PeerMetric
from bench.analysis.comparison_output import comparison_screen, documents, github, junit, outlier_tables, pull_request
from bench.core import exit_codes
from bench.core.column_fit import wrap
from bench.core.process_environment import environment_variables
from bench.core.table import wants_colour
from bench.core.terminal import echo, output_width, write
from bench.core.values import parse_share
from bench.errors import BenchError
from bench.records.metrics import TIME
from bench.stats.change_test import THRESHOLD
from bench.stats.outliers import OUTLIER

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
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
    environments: bool = False
    no_controls: bool = False
    pair_seconds: float | None = None
    """Time of one pair of launches of `bench ab`."""

    def gate(self) -> Gate:
        return Gate(
            fail_slower=None if self.fail_slower is None else parse_share("--fail-slower", self.fail_slower),
            fail_missing=self.fail_missing,
            min_decided=0.0
            if self.min_decided is None
            else parse_share("--min-decided", self.min_decided, may_be_whole=True),
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
            controls=not self.no_controls,
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
    """Print the comparison, then the gate's line if one was asked for; returns the exit code. Raises BenchError."""
    gate = options.gate()
    comparison = compare(base, news, options.settings(by))
    ruling = rule(comparison, gate)
    if options.form == "github":
        write(github.workflow_commands(comparison, ruling), nl=False)
    echo(_SHOWN[options.form](comparison, options, ruling), nl=False)
    return _say(ruling, options.form)


def _show_table(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    on = comparison_screen.Screen(
        width=output_width(sys.stdout),
        colour=wants_colour(sys.stdout, environment_variables()),
        wide=options.wide,
        everything=options.everything,
        environments=options.environments,
        sort=options.sort,
    )
    return comparison_screen.show(comparison, on)


def _show_markdown(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    return pull_request.show(comparison, ruling, options.sort, options.everything)


def _show_json(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    return documents.show_json(comparison, options.sort, None if ruling is None else ruling.line)


def _show_csv(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    return documents.show_csv(comparison, options.sort)


def _show_junit(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    return junit.show(comparison, options.gate(), ruling)


def _show_github(comparison: Comparison, options: CompareOptions, ruling: Ruling | None) -> str:
    """What follows the annotations: nothing, or the Markdown if the step has no summary that it goes to."""
    text = _show_markdown(comparison, options, ruling)
    summary = environment_variables().get(github.SUMMARY_VARIABLE)
    if summary:
        github.append_summary(Path(summary), text)
    return "" if summary else text


_SHOWN: Mapping[str, Callable[[Comparison, CompareOptions, Ruling | None], str]] = {
    "table": _show_table,
    "markdown": _show_markdown,
    "json": _show_json,
    "csv": _show_csv,
    "junit": _show_junit,
    "github": _show_github,
}
"""Format -> how it is made."""
FOR_PROGRAMS = ("json", "csv", "junit")
"""Formats that a program reads: nothing else may be on stdout."""
SAYS_THE_GATE = ("markdown",)
"""Formats that begin with the gate's line."""


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
    colour = wants_colour(sys.stdout, environment_variables())
    width = None if options.wide else output_width(sys.stdout)
    echo(outlier_tables.show(search, options.form, colour, width), nl=False)
    return _say(ruling, options.form)


_OF_SIDES = {
    "fail_missing": "--fail-missing", "threshold": "--threshold", "sort": "--sort", "everything": "--all",
    "environments": "--environments",
}  # fmt: skip


def _refuse_useless(by: str, options: CompareOptions) -> None:
    """Refuse, with a BenchError, an option that means something between sides only."""
    for name, option in _OF_SIDES.items():
        if getattr(options, name) != getattr(CompareOptions(), name):
            raise BenchError(
                f"--among {by} with {option}: that belongs to a comparison of sides; leave one of them out"
            )
    if options.form in ("github", "junit"):
        raise BenchError(f"--among {by} with --format {options.form}: take markdown, or json")


def _say(ruling: Ruling | None, form: str) -> int:
    """The gate's line, the last; it goes to stderr if the output is for a program or has it already to stderr."""
    if ruling is None:
        return exit_codes.OK
    is_aside = form in (*FOR_PROGRAMS, *SAYS_THE_GATE)
    stream = sys.stderr if is_aside else sys.stdout
    # A log keeps it in one line, to be searched for.
    lines = wrap(ruling.line, output_width(stream)) if stream.isatty() else [ruling.line]
    echo("\n".join(lines), err=is_aside)
    return ruling.exit_code
