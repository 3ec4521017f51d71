"""`bench mix`: what a mixed cluster would do."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form


@click.command(name="mix", cls=HelpedCommand)
@click.argument("parts", nargs=-1, required=True, metavar="FILE=COUNT...")
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=USD",
    help="USD an hour of one accelerator of a kind; adds dollars per million tokens. Repeatable.",
)
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A measured mix (suite heterogeneous): prints the model's error; smaller penalties are not shown.",
)
@click.option(
    "--unit-gb",
    type=click.FloatRange(min=0, min_open=True),
    help="Memory that a unit (a layer, a microbatch in flight) takes on a rank: caps the balanced plan by each memory.",
)
@form
def command(
    parts: tuple[str, ...], prices: tuple[str, ...], measured: Path | None, unit_gb: float | None, form: str
) -> int:
    """Predict a cluster of so many accelerators of each kind, from results of each kind alone.

    FILE is a result file of one architecture, or a name of the catalogue (peak figures, and labelled so). Compared are
    one training job over all of them, split evenly and in the best whole numbers, each kind alone at its own best
    configuration, and one kind training while the others serve.

    \b
    Examples:
      bench mix h100.jsonl=16 h200.jsonl=48 --price h100=2.5 --price h200=3.5
      bench mix a.jsonl=8 b.jsonl=8 --measured mixed.jsonl
      bench mix H100-SXM-80GB=150000 H200-SXM-141GB=50000 GB200=20000
    """
    from bench.predict import heterogeneous_tables

    click.echo(heterogeneous_tables.text(parts, prices, measured, unit_gb, form, colour()), nl=False)
    return 0
