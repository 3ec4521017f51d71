"""Last screen of `bench run`: the findings of the run, where it is saved, and how it compares with earlier ones."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.core import exit_codes
from bench.core.column_fit import wrap
from bench.core.process.standard_streams import CannotPrintError
from bench.core.process_environment import environment_variables
from bench.core.table import wants_colour
from bench.core.terminal import echo, output_width

if TYPE_CHECKING:
    from bench.measure.launch.recorder import Recorder
    from bench.records.file import Result


def close(against: Path | None, recorder: Recorder, code: int) -> int:
    """Print the last screen of a run that has ended with an exit code; returns the one that holds then.

    A screen that cannot be printed takes nothing from the result: that is saved. Raises BenchError if it is not.
    """
    code = recorder.confirm(code)
    try:
        _print_screen(against, recorder.path, code)
    except BrokenPipeError:  # `bench run | head` has the lines that it wanted
        return code or exit_codes.BROKEN_PIPE
    except CannotPrintError as error:
        click.echo(f"bench: error: {error}; the result is saved: {shlex.quote(str(recorder.path))}", err=True)
        return code or exit_codes.USAGE
    return code


def _print_screen(against: Path | None, path: Path, code: int) -> None:
    from bench.analysis.findings import screen
    from bench.analysis.findings.of_run import run_findings
    from bench.analysis.health import verdict
    from bench.records.file import load
    from bench.records.rows import profile_lines

    result = load(path)
    width, colour = output_width(sys.stdout), wants_colour(sys.stdout, environment_variables())
    echo(screen.show(run_findings(result), width, colour), nl=False)
    for line in profile_lines(result.measurements, path):
        echo(line)
    if result.end is not None and result.end.reason:
        echo("\n".join(wrap(f"note: {result.end.reason}", width)))
    echo(_saved_line(result, code))
    if against is not None:
        from bench.run.baseline import compare_with_earlier

        echo()
        echo(compare_with_earlier(against, result, colour), nl=False)
    if verdict.is_judged(result):  # once more, since a long run's last line is what people look for
        echo("\n".join(wrap(verdict.judge(result).line(), width)))


def _saved_line(result: Result, code: int) -> str:
    """Path and size of the file, the exit code if it is not 0, and the command that measures the same again."""
    from bench.analysis.findings.of_run import command_name

    size = result.path.stat().st_size
    ending = "" if code == 0 else f", exit code {code}"
    saved = f"saved: {shlex.quote(str(result.path))} ({size / 1000:.0f} kB{ending})"
    return f"{saved}   again: bench run --like {command_name(result)}"
