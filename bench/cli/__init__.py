"""The command `bench`: parse, call one function, echo. Each command is a file of its own, imported when it is called.

Exit codes: 0 success; 1 a gate that the user asked for failed; 2 a mistake in the call or an unreadable file;
3 the run ended early, or a case failed or is invalid; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from bench.core import exit_codes
from bench.core.cell_text import clean
from bench.core.module_shadows import ShadowsNamed
from bench.core.process import standard_streams, stop_signals
from bench.core.process_environment import environment_variables
from bench.errors import BenchError

COMMANDS: dict[str, str] = {
    "run": "Measure this machine, check every number, and save a result file.",
    "list": "List suites, or the cases of one; --template prints a suite to start from.",
    "show": "Show a result file as a table, or export it.",
    "ab": "Compare two settings by launches in turn, which holds on a noisy machine.",
    "compare": "Put two or more results side by side.",
    "explain": "Take the time of a step apart: which ranks, stages and links it waits for.",
    "report": "Make a page of results with plots: the answer first, every suite, every environment.",
    "mix": "Estimate a cluster of mixed accelerators from results of each kind.",
    "import": "Make a result file of what another tool wrote (nccl-tests, PARAM, OSU, pytest-benchmark).",
    "predict": "Predict a job on N accelerators: time, memory, splits, scaling, failures and cost.",
    "doctor": "Say what `bench run` would use here, and what is wrong or suspicious.",
    "help": "Show a page of the documentation, or list the pages.",
}


class ReaderGone(Exception):  # noqa: N818 - no mistake: `bench list | head` is done when it has its lines
    """The reader of a pipe went away. click would end with 1, which here means that a gate failed."""


@contextmanager
def _noticing_a_gone_reader() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


class Lazy(click.Group):
    """Imports a command's module only when that command is called, so that `--help` is quick."""

    def make_context(self, *words: Any, **extra: Any) -> click.Context:
        with _noticing_a_gone_reader():
            return super().make_context(*words, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _noticing_a_gone_reader():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bench.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from bench.measure.system.environment import versions

        for name, version in versions().items():
            click.echo(f"{name} {version or 'none'}")
        ctx.exit()


def _set_unpack_limit(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        from bench.core.jsonl import set_unpack_limit
        from bench.core.values import parse_size

        set_unpack_limit(parse_size("--unpack-limit ", value))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Versions of bench, torch, CUDA, NCCL and Python.",
)
@click.option(
    "--unpack-limit",
    metavar="SIZE",
    expose_value=False,
    callback=_set_unpack_limit,
    help="What a compressed file may unpack to.  [default: 8GiB]",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Learn how fast a machine or a cluster really is for distributed training.

    \b
    Examples:
      bench run                          measure this machine (4 minutes)
      bench run --preset smoke           the same in under a minute
      bench show last                    look at the newest result in results/
      bench show results/FILE.jsonl      look at a saved run
      bench compare BASE.jsonl NEW.jsonl
      bench help                         list the pages of the documentation
    """
    variables = environment_variables()
    if variables.get("FORCE_COLOR") and not variables.get("NO_COLOR"):
        ctx.color = True  # else click strips colours from what goes into a pipe
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main() -> None:
    """The console script; also the exit codes of what goes wrong."""
    standard_streams.prepare()
    stop_signals.listen()
    try:
        sys.exit(call(sys.argv[1:]))
    finally:
        stop_signals.ignore()


def call(arguments: list[str]) -> int:
    try:
        with ShadowsNamed():
            result: Any = cli.main(arguments, prog_name="bench", standalone_mode=False)
    except BenchError as error:
        _complain(str(error))
        return exit_codes.USAGE
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx is not None else ""
        _complain(error.format_message() + hint)
        return exit_codes.USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return exit_codes.USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return stop_signals.handle()
    except ReaderGone:
        # What was to be flushed at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return result if isinstance(result, int) else 0


def _complain(text: str) -> None:
    click.echo(f"bench: error: {clean(' '.join(text.split()))}", err=True)
