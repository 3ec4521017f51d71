"""`bench list`: suites, and the cases of one."""

from __future__ import annotations

import sys

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import form
from bench.core.terminal import echo, output_width
from bench.errors import BenchError
from bench.measure.planning.presets import PRESETS


@click.command(name="list", cls=HelpedCommand, page="suites")
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="standard",
    show_default=True,
    help="List the cases of this preset.",
)
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="List for a machine of this many ranks.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="List for this kind of device.",
)
@form
@click.option("--ids", is_flag=True, help="Only the ids of the cases, for `bench run --case`.")
@click.option("--template", is_flag=True, help="Print a complete suite to start from.")
def command(
    suites: tuple[str, ...], preset: str, ranks: int, device: str, form: str, ids: bool, template: bool
) -> None:
    """List suites with the cases that a run takes by default and their time, or the cases of the named SUITEs.

    \b
    Examples:
      bench list
      bench list collective --preset smoke
      bench list --template > mine.py
    """
    from bench.measure.planning import listing

    if ids and not suites:
        raise BenchError("--ids: name the suites whose cases are meant, such as: bench list compute --ids")
    if template:
        echo(listing.template(), nl=False)
    elif suites:
        width = output_width(sys.stdout)
        echo(listing.cases(suites, preset, ranks, device, form, ids, width), nl=False)
    else:
        echo(listing.suites(ranks, device, form, output_width(sys.stdout)), nl=False)
