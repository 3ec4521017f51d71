"""`bench compare`: results side by side."""

from __future__ import annotations

import click

from bench.cli.options import colour, form


@click.command(name="compare")
@click.argument("base")
@click.argument("news", nargs=-1, required=True, metavar="NEW...")
@form
def command(base: str, news: tuple[str, ...], form: str) -> None:
    """Put NEW results beside BASE: how they differ, then medians with spread and ratio, then what only one side has.

    Each is a file, a folder of launches, or a glob in quotes. No verdict is given yet: with one launch a side, a ratio
    says nothing of the spread between launches.

    \b
    Examples:
      bench compare results/base.jsonl results/new.jsonl
      bench compare base.jsonl new.jsonl --format markdown
    """
    from bench.compare import compare_paths

    click.echo(compare_paths(base, news, form, colour()), nl=False)
