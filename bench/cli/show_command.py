"""`bench show`: a result file as a table, or in another format."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import colour, form
from bench.errors import BenchError


@click.command(name="show")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@form
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Save instead of print, by suffix: .csv .md .json .parquet (or .jsonl with --share).",
)
@click.option(
    "--share",
    "publish",
    is_flag=True,
    help="A copy fit to be published: hosts numbered, no UUIDs, addresses, interface names or paths.",
)
@click.option("--status", is_flag=True, help="Exit with the code that the run ended with (3 where it never ended).")
def command(paths: tuple[str, ...], form: str, output: Path | None, publish: bool, status: bool) -> int:
    """Show result FILEs: what was measured on what, a table per suite, and what has no speed and why.

    \b
    Examples:
      bench show results/run-node7-20260101T120000Z-1a2b.jsonl
      bench show FILE --format json | jq '.[] | select(.suite == "collective")'
      bench show FILE -o cases.csv
      bench show FILE --share -o public.jsonl
    """
    from bench import frame, report, share
    from bench.result import SUFFIXES, Writer, load_many

    results = load_many(paths)
    if publish:
        if output is None or len(results) != 1:
            raise BenchError(f"--share of {len(results)} file(s): it makes one copy of one file; name it -o OUT.jsonl")
        if not output.name.endswith(SUFFIXES):
            raise BenchError(f"-o {output}: a published copy is a result file; its name has to end in .jsonl")
        with Writer.create(output) as writer:
            for record in share.shared(results[0]):
                writer.append(record)
    elif output is not None:
        report.write(frame.case_rows(results), output, frame.own_metrics(results))
    else:
        for result in results if form != "table" else ():
            for warning in result.warnings:
                click.echo(f"warning: {warning}", err=True)
        click.echo(report.tables(results, form, colour()), nl=False)
    return max(report.status_code(result) for result in results) if status else 0
