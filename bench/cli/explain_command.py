"""`bench explain`: where the time of a step goes."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import colour, form


@click.command(name="explain")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@form
def command(path: Path, form: str) -> int:
    """Take the time of a step apart: which ranks, stages, links and kinds of operation it waits for.

    FILE is a trace in the form of the artifact of "Understanding Stragglers in Large Model Training Using What-if
    Analysis" (Parquet; needs pyarrow): the step is run again as a graph of operations, as it was and without
    stragglers.

    \b
    Examples:
      bench explain trace.parquet
      bench explain trace.parquet --format json | jq .slowdown
    """
    from bench import explain_trace

    click.echo(explain_trace.text(path, form, colour()), nl=False)
    return 0
