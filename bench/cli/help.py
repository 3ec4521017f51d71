"""Help in two lengths: `--help` has the options that most people use, `--help-all` has every option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from bench.core.terminal import echo

_SHOW_ALL = "bench.cli.help.show_all"
"""The key of a context's `meta` that is true while the long help is written."""
_COLUMN_MAX = 22
"""Widest column of option names. click's own, 30, would cost most texts a second line."""


class HelpedCommand(click.Command):
    """A command that takes `--help-all`. Its `--help` has the options named in `common`, and says so.

    Without `common` both have all. `page` is the topic of `bench help` that has more; both name it.
    """

    def __init__(
        self, *values: Any, common: Iterable[str] | None = None, page: str | None = None, **named: Any
    ) -> None:
        super().__init__(*values, **named)
        self.page = page
        self.common = None if common is None else frozenset(common)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        # Whoever parses words without a help option only wants to know what they set: nothing may print and exit.
        return params if self.get_help_option(ctx) is None else [*params, _help_all_option()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = [param for param in self.get_params(ctx) if self._is_shown(param, ctx)]
        records = [record for param in shown if (record := param.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records, col_max=_COLUMN_MAX)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        lines = [] if self.page is None else [f"More: bench help {self.page}"]
        if self.common is not None and not ctx.meta.get(_SHOW_ALL):
            lines.append(f"All options: {ctx.command_path} --help-all")
        if lines:
            formatter.write("\n" + "\n".join(lines) + "\n")

    def _is_shown(self, param: click.Parameter, ctx: click.Context) -> bool:
        return self.common is None or ctx.meta.get(_SHOW_ALL, False) or param.name in self.common


def _help_all_option() -> click.Option:
    # Hidden, since the last line of `--help` names it.
    return click.Option(
        ["--help-all"], is_flag=True, is_eager=True, expose_value=False, hidden=True, callback=_show_all_help
    )


def _show_all_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_SHOW_ALL] = True
        echo(ctx.get_help(), color=ctx.color)
        ctx.exit()
