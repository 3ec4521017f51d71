"""From the options of the comparing commands to what they print and the code that they exit with."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import compare_tables, exit_code, github
from bench.compare import TIME, Settings, compare
from bench.errors import BenchError
from bench.gate import Gate, rule
from bench.launch import environment_variables
from bench.parse import parse_share
from bench.table import wants_colour
from bench.verdict import THRESHOLD

if TYPE_CHECKING:
    from bench.result import Result


@dataclass(frozen=True)
class Options:
    """As click gives them; None: not said."""

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

    def gate(self) -> Gate:
        return Gate(
            fail_slower=None if self.fail_slower is None else parse_share("--fail-slower", self.fail_slower),
            fail_missing=self.fail_missing,
            min_decided=0.0 if self.min_decided is None else parse_share("--min-decided", self.min_decided),
            allow_unlike=self.allow_unlike,
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
        name, equals, values = text.partition("=")
        wanted = tuple(value.strip() for value in values.split(",") if value.strip())
        if not equals or not name.strip() or not wanted:
            raise BenchError(f"--where {text}: NAME=VALUE, or NAME=VALUE1,VALUE2 for either")
        where[name.strip()] = where.get(name.strip(), ()) + wanted
    return where


def present(base: Sequence[Result], news: Sequence[Sequence[Result]], options: Options, by: str | None = None) -> int:
    """Print the comparison, then the gate's line where one was asked for; returns the exit code. Raises BenchError."""
    gate = options.gate()
    comparison = compare(base, news, options.settings(by))
    ruling = rule(comparison, gate)
    colour = wants_colour(sys.stdout, environment_variables())
    line = None if ruling is None else ruling.line
    text = compare_tables.show(comparison, options.form, colour, options.everything, options.sort, line)
    if options.form == "github":
        summary = environment_variables().get(github.SUMMARY_VARIABLE)
        if summary:
            github.append_summary(Path(summary), text)
        text = github.workflow_commands(comparison, ruling) + ("" if summary else text)
    click.echo(text, nl=False)
    if ruling is None:
        return exit_code.OK
    # A program reads the table's format alone: there the line goes to stderr.
    click.echo(ruling.line, err=options.form in ("json", "csv"))
    return ruling.exit_code


def present_among(results: Sequence[Result], by: str, outlier: str | None, options: Options) -> int:
    """Print which of many equals stand out; returns the exit code. Raises BenchError."""
    from bench import among

    share = THRESHOLD if outlier is None else parse_share("--outlier", outlier)
    found = among.among(results, by, share, options.allow_unlike)
    click.echo(among.show(found, options.form, wants_colour(sys.stdout, environment_variables())), nl=False)
    return exit_code.OK
