"""`bench mix`: a mixed cluster of accelerators, from results of each kind."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form, wide


@click.command(name="mix", cls=HelpedCommand, page="mixed_or_uniform")
@click.argument("parts", nargs=-1, required=True, metavar="[NAME=]FILE=COUNT...")
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=USD",
    help="USD per hour of one accelerator of a kind; adds dollars per million tokens. Repeatable.",
)
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A measured mix (suite heterogeneous): says the model's error; smaller losses are not shown.",
)
@click.option(
    "--unit-gb",
    type=click.FloatRange(min=0, min_open=True),
    help="Memory that a unit (a layer, a microbatch in flight) takes on a rank: caps the balanced plan by each memory.",
)
@click.option("--all", "everything", is_flag=True, help="Show the table of every case, split each way, too.")
@wide
@form
def command(
    parts: tuple[str, ...],
    prices: tuple[str, ...],
    measured: Path | None,
    unit_gb: float | None,
    everything: bool,
    wide: bool,
    form: str,
) -> int:
    """Predict a cluster of mixed accelerators, from results of each kind alone.

    FILE is a result file or a folder of one architecture, or a name of the catalogue (peak figures, and labelled so). A
    kind has the name of its file, of its folder if files are called alike, or NAME. The command compares
    one training job over all of them, split evenly and in the best whole numbers, with each kind alone at its own best
    configuration. It also has one kind in training while the others serve.

    \b
    Examples:
      bench mix h100.jsonl=16 h200.jsonl=48 --price h100=2.5 --price h200=3.5
      bench mix old=a/run.jsonl=8 new=b/run.jsonl=8 --measured mixed.jsonl
      bench mix H100-SXM-80GB=150000 H200-SXM-141GB=50000 GB200=20000
    """
    from bench.core.terminal import echo, output_width
    from bench.predict.mix.cluster import mix
    from bench.predict.mix.printing import show

    width = output_width(sys.stdout)
    cluster = mix(parts, prices, measured, unit_gb)
    echo(show(cluster, form, width, colour(), everything or wide, wide), nl=False)
    return 0
