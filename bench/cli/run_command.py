"""`bench run`: measure, check, save, show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bench.cli.help import HelpedCommand
from bench.errors import BenchError
from bench.measure.planning.presets import PRESETS

_COMMON = (
    "preset", "ranks", "device", "settings", "cases", "skip", "budget", "launches", "label", "output", "resume", "like",
    "against",
)  # fmt: skip


@click.command(name="run", cls=HelpedCommand, page="running", common=_COMMON)
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    metavar="NAME",
    default=None,
    help="smoke: 1 min. standard, the default: 4 min. full: as long as it needs. node: is this machine healthy, "
    "10 min (exit 1 if not).",
)
@click.option(
    "--ranks",
    type=int,
    help="Ranks to start here. Default: one per GPU; on CPU 2 for smoke, else one per core (2 to 8).",
)
@click.option(
    "--launcher",
    type=click.Choice(["auto", "local", "env", "slurm", "mpi"]),
    default="auto",
    show_default=True,
    help="Start ranks here, or join those that torchrun (env), srun or mpirun started.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    metavar="auto|cuda|cpu",
    default="auto",
    help="Default auto: GPUs if there are any. GPUs that torch cannot use are an error.",
)
@click.option("--backend", metavar="NAME", help="torch.distributed backend; default nccl on GPUs, gloo on CPU.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=V1,V2",
    help="Values of a parameter in place of the suites' own, such as num_bytes=1KiB,1MiB. Repeatable.",
)
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="ID",
    help="Only this case (`bench list SUITE`). Repeatable.",
)
@click.option("--skip", multiple=True, metavar="NAME", help="Leave out a suite, suite/op or case id. Repeatable.")
@click.option(
    "--budget",
    metavar="TIME",
    help="Time for the whole run, such as 90s or 5m. Cases that do not fit are skipped.",
)
@click.option(
    "--precision",
    metavar="SHARE",
    help="Stop a case when its median is known this well within the launch. [default: 2%]",
)
@click.option(
    "--launches",
    type=int,
    help="Fresh starts of all processes; error bars need several. [default: smoke 1, else 3]",
)
@click.option(
    "--visits",
    type=int,
    help="Visits to each case, spread over a launch. Its samples are shared among them, so that a spell of foreign "
    "load does not hit all of them. [default: full 3, else 1]",
)
@click.option("--seed", type=int, help="Seed of the inputs and of the order of cases. [default: 0]")
@click.option(
    "--label",
    metavar="TEXT",
    help="Name of this run, also in its file's name. [default: run]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the result file. [default: results]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Finish a run that ended early; `last` is the newest.",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure the same plan again, into a new file.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Compare with saved results at the end.",
)
@click.option(
    "--allow-unlike",
    is_flag=True,
    help="Resume or repeat although the machine, versions or suite code differ; join ranks whose versions or variables "
    "differ.",
)
@click.option("--busy", is_flag=True, help="With --preset node: measure although other programs use the machine.")
@click.option(
    "--timeout",
    metavar="TIME",
    help="A case that takes longer has failed. Never above the time left of the run. [default: smoke 15s, standard "
    "1m, node 2m, full 15m]",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Save a trace of each case by torch's profiler, one file per rank, next to the result file.",
)
@click.option(
    "--slow",
    multiple=True,
    metavar="RANK=SPEED",
    help="Emulate a slow rank: it computes at this share of its speed, such as 1=0.5. Marked as emulated everywhere. "
    "Repeatable.",
)
@click.option(
    "--slow-link",
    multiple=True,
    metavar="RANK=SPEED",
    help="Emulate a slow link: this rank communicates at this share of its speed. Marked as emulated everywhere. "
    "Repeatable.",
)
@click.option(
    "--join-timeout",
    metavar="TIME",
    help="Time for all ranks to come, if a launcher starts them. [default: 2m]",
)
@click.option("--continuation", metavar="JSON", hidden=True, help="A joined rank's orders to itself.")
@click.option("--one-launch", type=click.IntRange(min=0), hidden=True, help="Do just this launch of the plan.")
@click.option("--save-as", type=click.Path(path_type=Path), hidden=True, help="The new result file itself.")
@click.option("--launch-seconds", type=click.FloatRange(min=0), hidden=True, help="For that launch, start included.")
@click.option("--plan-only", is_flag=True, hidden=True, help="Say what would be measured, as JSON.")
@click.option("--pair", metavar="JSON", hidden=True, help="Which side of `bench ab` this is.")
def command(**options: Any) -> int:
    """Measure this machine with SUITEs; `bench list` shows them, and the default.

    SUITE is a name, an entry point, or the path of a .py file. Every result is checked against a reference before
    and after it is timed. All samples are saved in one file.

    \b
    Examples:
      bench run --preset smoke
      bench run --preset node
      bench run collective --set op=all_reduce --set num_bytes=1MiB,64MiB
      bench run ./mine.py --label h100-node7
      torchrun --nproc-per-node=8 --no-python bench run
    """
    from bench.measure.planning.options import RunOptions
    from bench.run.run import run

    return run(RunOptions(**options), sys.argv[1:])


def given_options(words: list[str]) -> dict[str, Any]:
    """The options that words set, by name. Raises BenchError for what the command does not take."""
    try:
        # Without --help, which would end this process.
        context = command.make_context("bench run", list(words), help_option_names=[])
    except click.UsageError as error:
        raise BenchError(f"{error.format_message()} (see: bench run --help)") from error
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and value != ()
    }
