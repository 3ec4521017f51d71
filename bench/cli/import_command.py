"""`bench import`: another tool's file as a result file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.help import HelpedCommand
from bench.core import exit_codes
from bench.core.cell_text import clean
from bench.core.terminal import echo
from bench.errors import BenchError
from bench.importers.formats import TOOLS
from bench.records.last_result import DEFAULT_FOLDER

if TYPE_CHECKING:
    from bench.importers.registry import ImportedFile

MAX_SHOWN = 5
"""Rows that could not be read, and unknown lines, which are printed; --verbose prints all of them."""


@click.command(name="import", cls=HelpedCommand, page="comparing")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "tool",
    metavar="TOOL|FILE.py",
    shell_complete=lambda _context, _option, text: [name for name in TOOLS if name.startswith(text)],
    help=f"Which tool wrote it: {', '.join(TOOLS)}, or a reader of your own.",
)
@click.option("--op", help="Which collective it measured, if the text does not say it (all_reduce, ...).")
@click.option("--ranks", type=click.IntRange(1), help="How many ranks took part, if the text does not say it.")
@click.option("--device", help="The devices' name as the driver gives it, if the file does not say it.")
@click.option("-v", "--verbose", is_flag=True, help="Print each line and its use.")
@click.option("--label", help="Label of the result; default: the file's name.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the results, or the name of the one result (.jsonl).",
)
def command(
    files: tuple[Path, ...],
    tool: str | None,
    op: str | None,
    ranks: int | None,
    device: str | None,
    verbose: bool,
    label: str | None,
    output: Path,
) -> int:
    """Make result files of what other tools wrote, to be shown, compared and plotted like any other.

    Reads nccl-tests (rccl-tests), OSU micro-benchmarks, PARAM's comms benchmark, all_reduce_bench, nvbandwidth -j,
    pytest-benchmark and logs of MLPerf Training; for any other, see `bench help own_formats`. Takes off colours and
    prefixes of launchers and log collectors. Names rows that cannot be read, unknown lines and contradictions.

    \b
    Exit codes:
      0  all rows are read
      2  a file is not saved: no row is read, or options contradict it
      3  rows are unread or failed, or the file contradicts itself

    \b
    Examples:
      bench import all_reduce.txt
      bench import --verbose job.log
      bench import --from ./my_format.py times.txt
      bench import --ranks 16 --device "NVIDIA H200" osu_allreduce.txt
    """
    from bench.importers.reading import ImportHints
    from bench.importers.registry import import_files
    from bench.records.last_result import SUFFIXES

    if len(files) > 1 and output.name.endswith(SUFFIXES):
        raise BenchError(f"-o {output}: {len(files)} files become a result each; name a folder")
    hints = ImportHints(op=op, num_ranks=ranks, device=device)
    saved, refused = import_files(files, hints, output, tool, label)
    code = exit_codes.OK
    for imported in saved:
        if verbose:
            _print_lines(imported)
        _print_summary(imported)
        code = max(code, imported.exit_code)
    for reason in refused[:-1]:
        echo(f"bench: error: {clean(' '.join(str(reason).split()))}", err=True)
    if refused:
        raise refused[-1]
    return code


def _print_summary(saved: ImportedFile) -> None:
    echo(clean(f"{saved.path}: {_counted(saved.num_cases, 'case')} of {saved.tool}, from {saved.source}"))
    for note in _notes(saved):
        echo(clean(f"{saved.source}: {note}"), err=True)
    if saved.not_ok:
        echo(f"{saved.source}: {_counted(saved.not_ok, 'case')} wrong or without a time: see `bench show`", err=True)
    if saved.unread:
        shown = [f"{row.where}: {row.text}" for row in saved.unread[:MAX_SHOWN]]
        more = len(saved.unread) - len(shown)
        shown += [f"{more} more, in the result's header"] if more else []
        rows = _counted(len(saved.unread), "row")
        echo(clean(f"{saved.source}: {rows} could not be read: {'; '.join(shown)}"), err=True)


def _notes(saved: ImportedFile) -> list[str]:
    """Lines on the text itself: its prefixes and marks, its unknown lines, its contradictions."""
    notes = [f"note: taken off: {'; '.join(clean(row.note()) for row in saved.taken_off)}"] if saved.taken_off else []
    unknown = saved.ledger.of_kind("unknown")
    if unknown:
        shown = [f"{line.where}: {line.first_words}" for line in unknown[:MAX_SHOWN]]
        more = len(unknown) - len(shown)
        shown += [f"{more} more, see --verbose"] if more else []
        notes.append(f"note: {_counted(len(unknown), 'unknown line')}, not used: {'; '.join(shown)}")
    notes += [f"note: {clean(remark)}" for remark in saved.remarks]
    return notes + [f"warning: contradiction: {clean(text)}" for text in saved.contradictions]


def _print_lines(saved: ImportedFile) -> None:
    """Every line of the file, in its order, and what became of it."""
    for line in saved.ledger:
        why = f" ({line.why})" if line.why else ""
        echo(clean(f"{line.where}: {line.kind}{why}: {line.text}"))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
