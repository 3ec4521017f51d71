"""The command `bench`: parse, call one function, echo. Each command is a file of its own, imported when it is called.

Exit codes: `bench.core.exit_codes`. Whatever happens, 1 is left to gates: an unforeseen error ends with 70.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from bench.core import exit_codes
from bench.core.cell_text import clean
from bench.core.crash import unforeseen
from bench.core.crash.module_shadows import ShadowsNamed
from bench.core.process import standard_streams, stop_signals
from bench.core.process_environment import environment_variables
from bench.core.values import brief_text
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


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script: ends this process with the exit code, in all cases."""
    standard_streams.prepare()
    stop_signals.listen()
    unforeseen.watch_threads()
    try:
        code = call(sys.argv[1:] if arguments is None else arguments)
    except BaseException as error:  # noqa: BLE001 - the last place that can: beyond it Python ends with 1
        code = unforeseen.complain(error)
    finally:
        stop_signals.ignore()
    sys.exit(unforeseen.final_code(code))


def call(arguments: list[str]) -> int:
    """Run `bench` with arguments; returns the exit code. Unforeseen errors are raised."""
    try:
        with ShadowsNamed():
            result: Any = cli.main(arguments, prog_name="bench", standalone_mode=False)
    except BaseException as error:
        code = _end_of(error)
        if code is None:
            raise
        return code
    return result if isinstance(result, int) else 0


def _end_of(error: BaseException) -> int | None:
    """The exit code of an error that ended the command, once the user is told; None: it is unforeseen."""
    for kind, end in _ENDS:
        if isinstance(error, kind) and (code := end(error)) is not None:
            return code
    return None


def _end_in_usage(error: BenchError | click.ClickException) -> int:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f" (see: {error.ctx.command_path} --help)"
    _complain((error.format_message() if isinstance(error, click.ClickException) else str(error)) + hint)
    return unforeseen.code_of(error, exit_codes.USAGE)


def _end_interrupted(_: KeyboardInterrupt | click.Abort) -> int:
    _say("interrupted")
    return stop_signals.handle()


def _end_without_reader(_: ReaderGone) -> int:
    _drop_output()
    return exit_codes.BROKEN_PIPE


def _end_of_the_system(error: OSError) -> int | None:
    """End a command that could not print, which names no file, or whose file the system refuses."""
    if error.filename is None and error.errno in _CANNOT_PRINT:
        _drop_output()
        _complain(standard_streams.describe_refusal(error))
    elif error.filename is not None and error.errno in _REFUSED:
        _complain(f"cannot use {brief_text(str(error.filename))!r}: {error.strerror}; name another, or see to it")
    else:
        return None
    return exit_codes.USAGE


def _end_without_package(error: ModuleNotFoundError) -> int | None:
    package = (error.name or "").partition(".")[0]
    if package in ("", "bench", "suites"):
        return None
    _complain(f"the package {package} is missing; install it with {sys.executable} -m pip install {package}")
    return exit_codes.USAGE


def _end_of_signal(error: SystemExit) -> int | None:
    """The code of a command that a signal ended; anyone else's SystemExit is no end of bench."""
    return error.code if isinstance(error.code, int) and error.code in exit_codes.OF_SIGNALS else None


_CANNOT_PRINT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF)
_REFUSED = (
    *_CANNOT_PRINT, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
    errno.EISDIR, errno.ESTALE, errno.ETXTBSY, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
_ENDS: tuple[tuple[tuple[type[BaseException], ...], Callable[[Any], int | None]], ...] = (
    ((BenchError, click.ClickException), _end_in_usage),
    ((KeyboardInterrupt, click.Abort), _end_interrupted),
    ((ReaderGone,), _end_without_reader),
    ((OSError,), _end_of_the_system),
    ((ModuleNotFoundError,), _end_without_package),
    ((SystemExit,), _end_of_signal),
)


def _drop_output() -> None:
    """Send what is still to be flushed at exit to nowhere: Python would complain, and end with 120."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    _say(f"bench: error: {clean(' '.join(text.split()))}")


def _say(text: str) -> None:
    """Say a line on stderr; if nobody takes it, the exit code has to do."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True)
