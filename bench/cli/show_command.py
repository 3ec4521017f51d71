"""`bench show`: a result file as a table, or in another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form, wide, width
from bench.core.cell_text import clean
from bench.core.garbage import without_collecting
from bench.core.terminal import echo
from bench.core.values import counted
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.records.file import Result


@click.command(name="show", cls=HelpedCommand, page="reading")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@form
@wide
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Save instead of print, by suffix: .csv .md .json .parquet .pytest-benchmark.json .continuous.json .bmf.json "
    "(or .jsonl with --share).",
)
@click.option(
    "--share",
    "publish",
    is_flag=True,
    help="A copy fit to be published: hosts and labels numbered, no names of people, paths, addresses or secrets; says "
    "what it left out.",
)
@click.option(
    "--ranks", is_flag=True, help="Medians of each rank by itself, and of its own work, instead of the cases."
)
@click.option("--ids", is_flag=True, help="Full ids of cases in place of their short names.")
@click.option("--brief", is_flag=True, help="The findings alone: the last screen of `bench run`.")
@click.option(
    "--expect",
    is_flag=False,
    flag_value="",
    metavar="[CSV]",
    help="Exit with 1 if a case is below its published range, or below a CSV's (columns case,low).",
)
@click.option("--status", is_flag=True, help="Exit with the code that the run ended with (3 if it never ended).")
def command(
    paths: tuple[str, ...],
    form: str,
    output: Path | None,
    publish: bool,
    ranks: bool,
    ids: bool,
    brief: bool,
    expect: str | None,
    status: bool,
    wide: bool,
) -> int:
    """Show result FILEs: a table per suite, cases without a speed and why, and the findings of a lone FILE.

    With -o, also what other tools read: pytest-benchmark's JSON (all samples; `bench import` reads it back),
    x.continuous.json for github-action-benchmark (customSmallerIsBetter, us), x.bmf.json for Bencher (ns).

    \b
    Examples:
      bench show last                   the newest result in results/
      bench show last --brief           its findings, without the tables
      bench show FILE --format json | jq '.rows[] | select(.suite=="compute")'
      bench show FILE -o cases.csv
      bench show FILE --expect
      bench show FILE --share -o public.jsonl
    """
    if brief and (ranks or publish or output is not None or form not in ("table", "markdown")):
        raise BenchError("--brief only prints findings; leave out the other form of output, or take --format json")
    if ranks and (publish or output is not None):
        raise BenchError("--ranks only prints; leave out -o and --share, or take --format csv > FILE")
    from bench.records.file import load_many
    from bench.report import result_tables

    with without_collecting():
        results = load_many(paths)
        if publish:
            _save_copy(results, output)
        elif output is not None:
            _export(results, output)
        elif brief:
            echo(result_tables.findings_text(results, form, colour(), width(wide)), nl=False)
        else:
            _print(results, form, ranks, wide, ids)
    code = max(result_tables.status_code(result) for result in results) if status else 0
    return code if expect is None else max(code, _expect(results, expect))


# What one way of showing alone needs is imported by it: a table of a small file takes as long as the imports.


def _expect(results: Sequence[Result], own: str) -> int:
    """Say which cases lie below what is expected; the exit code is that of a gate if one does."""
    from bench.core.exit_codes import GATE
    from bench.report import expectation_gate

    judged = expectation_gate.judge(results, Path(own) if own else None)
    for line in judged.lines:
        echo(clean(f"below: {line}"), err=True)
    if not judged.lines:
        count = counted(judged.num_cases, "case")
        echo(f"expected: {count} judged, none below" if judged.num_cases else "expected: no case has a range", err=True)
    return GATE if judged.lines else 0


def _print(results: Sequence[Result], form: str, ranks: bool, wide: bool, ids: bool) -> None:
    if ranks:
        from bench.report.rank_table import text
    else:
        from bench.report.result_tables import tables as text
    for result in results if form != "table" or ranks else ():
        for warning in result.warnings:
            echo(clean(f"warning: {warning}"), err=True)
    echo(text(results, form, colour(), width(wide), ids), nl=False)


def _save_copy(results: Sequence[Result], output: Path | None) -> None:
    from bench.records import anonymize
    from bench.records.file import Writer
    from bench.records.last_result import SUFFIXES

    if output is None or len(results) != 1:
        raise BenchError(f"--share of {len(results)} file(s): it makes one copy of one file; name it -o OUT.jsonl")
    if not output.name.endswith(SUFFIXES):
        raise BenchError(f"-o {output}: a published copy is a result file; its name has to end in .jsonl")
    removed = anonymize.Removed()
    with Writer.create(output) as writer:
        for record in anonymize.anonymize_result(results[0], removed):
            writer.append(record)
    for line in removed.lines():
        echo(clean(line), err=True)


def _export(results: Sequence[Result], output: Path) -> None:
    from bench.core.values import first_few
    from bench.report import export

    left_out = export.write(results, output)
    if left_out:
        names = first_few([clean(name) for name in left_out], more=", ...")
        echo(f"warning: {len(left_out)} of the cases left out, since they have no speed: {names}", err=True)
