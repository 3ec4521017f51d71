"""`bench report`: saved results as a page, as Markdown, or as a folder of plots."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.help import HelpedCommand
from bench.core.cell_text import clean
from bench.core.garbage import without_collecting
from bench.core.terminal import echo

DEFAULT = Path("report.html")


@click.command(name="report", cls=HelpedCommand, page="reports")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Output by ending: .html (one page with the main plots), .md (plots in a folder next to it), .csv, .json, "
    ".parquet, or a folder (each plot as PNG and SVG). Repeatable  [default: report.html].",
)
def command(paths: tuple[str, ...], outputs: tuple[Path, ...]) -> None:
    """Make a report of result FILEs: the answer in the title, its picture below, all figures behind folds.

    Files, folders or globs; the first run is the base of the comparison, and a folder whose files are launches of one
    run is one run. The page needs no network, opens from a
    disk, and can be sorted, filtered and printed. Cases that were skipped or failed are listed with their reasons.

    \b
    Examples:
      bench report results/run.jsonl -o report.html
      bench report a100.jsonl h100.jsonl gb200.jsonl -o report.html -o report.md
      bench report results/ -o plots/
    """
    from bench.report.page.writing import runs, write

    with without_collecting():
        for path in write(runs(paths), outputs or (DEFAULT,)):
            echo(clean(f"saved: {path}"))
