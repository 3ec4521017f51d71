"""`bench explain`: where the time of a step goes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form
from bench.core.terminal import echo, output_width


@click.command(name="explain", cls=HelpedCommand, page="explaining")
@click.argument("path", metavar="FILE", required=False, type=click.Path(path_type=Path))
@click.option(
    "--waterfall",
    "waterfalls",
    is_flag=False,
    flag_value="",
    multiple=True,
    metavar="[CASE]",
    help="Tables from peak to achieved, cause by cause: of the cases with this text in their id or short name, or of "
    "all. Repeatable.",
)
@click.option("--all", "everything", is_flag=True, help="All cases, however many; of a trace all places and kinds.")
@form
def command(path: Path | None, waterfalls: tuple[str, ...], everything: bool, form: str) -> int:
    """Say where the time of each step goes, and which ranks and links are slow.

    FILE is a result file: of every traced case the parts of its time, from the devices' peaks (on CPU the measured
    ceiling) down to the time it took. They are found by running its operations again with one cause after the other
    taken away. A rank or a link is called slow if it is so in at least a quarter of the measurements, beyond chance. Or
    FILE is a trace in the form of the artifact of "Understanding Stragglers in Large Model Training Using What-if
    Analysis" (Parquet; needs pyarrow). The step is then run again as it was, and without stragglers.

    \b
    Examples:
      bench explain last                          the newest result in results/
      bench explain results/FILE.jsonl --waterfall training
      bench explain trace.parquet
      bench explain trace.parquet --format json | jq .slowdown
    """
    from bench.analysis.findings.explained import ExplainRequest, text

    if path is None and waterfalls and waterfalls[-1]:  # --waterfall FILE
        path, waterfalls = Path(waterfalls[-1]), (*waterfalls[:-1], "")
    if path is None:
        raise click.UsageError("Missing argument 'FILE'.")
    request = ExplainRequest(form, waterfalls, everything, output_width(sys.stdout), colour())
    echo(text(path, request), nl=False)
    return 0
