"""`bench explain`: where the time of a step goes."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form


@click.command(name="explain", cls=HelpedCommand)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@form
def command(path: Path, form: str) -> int:
    """Take the time of a step apart: from peak to achieved, and which ranks, stages and links it waits for.

    FILE is a result file: of every traced case a waterfall from the sum of the devices' peaks (on CPU the measured
    ceiling) down to what was achieved, by running its operations again with one cause after the other taken away; and
    which rank and which link are slow, named only from what shows them. Or FILE is a trace in the form of the artifact
    of "Understanding Stragglers in Large Model Training Using What-if Analysis" (Parquet; needs pyarrow): the step is
    run again as it was and without stragglers.

    \b
    Examples:
      bench explain last                 the newest result in results/
      bench explain results/FILE.jsonl
      bench explain trace.parquet
      bench explain trace.parquet --format json | jq .slowdown
    """
    from bench.analysis.explain import explain_run, explain_trace

    explain = explain_trace.text if path.suffix == ".parquet" else explain_run.text
    click.echo(explain(path, form, colour()), nl=False)
    return 0
