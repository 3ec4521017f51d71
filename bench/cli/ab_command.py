"""`bench ab`: two settings in alternating launches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import comparing
from bench.cli.run_command import command as run_command
from bench.cli.run_command import given_options
from bench.measure.planning.presets import PRESETS

PASSED_ON = ("ranks", "device", "backend", "settings", "cases", "precision", "visits", "seed", "timeout")
"""Options of `bench run` that both sides get as they are."""
_OWN = (
    "a", "b", "base", "a_python", "b_python", "suites", "preset", "pairs", "detect", "budget", "label", "output",
    "resume",
)  # fmt: skip
_COMMON = (
    "a", "b", "base", "b_python", "detect", "budget", "fail_slower", "form", "settings",
)  # fmt: skip
_OPTIONS = {param.name: param for param in run_command.params if param.name in PASSED_ON}


@click.command(name="ab", cls=HelpedCommand, page="comparing", common=_COMMON, params=list(_OPTIONS.values()))
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--a",
    multiple=True,
    metavar="NAME=VALUE|OPTIONS",
    help='One side: an environment variable, or options of `bench run` in quotes: "--backend gloo". Repeatable.',
)
@click.option("--b", multiple=True, metavar="NAME=VALUE|OPTIONS", help="The other side, the same way.")
@click.option(
    "--base",
    metavar="REF",
    help="A is the project at this commit of the git repository at hand, B the working tree as it is. Making their "
    "environments is not part of --budget.",
)
@click.option("--a-python", metavar="PYTHON", help="The interpreter of one side [default: this one].")
@click.option("--b-python", metavar="PYTHON", help="The interpreter of the other side, such as pr/bin/python.")
@click.option(
    "--pairs",
    type=int,
    help="Launches of each side [default: 10, or what the budget has room for, at least 3].",
)
@click.option(
    "--detect",
    metavar="SHARE",
    help="Plan the pairs to find a change of this size, such as 10%, by the spread of the first 4.",
)
@click.option("--budget", metavar="TIME", help="For both sides together, such as 5m [default: the preset's a launch].")
@click.option(
    "--preset",
    type=click.Choice([name for name, preset in PRESETS.items() if not preset.judged]),
    default="smoke",
    show_default=True,
    help="How much each launch measures, as in `bench run`.",
)
@click.option("--label", metavar="TEXT", default="ab", show_default=True, help="A name for the two files.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder of the two result files [default: results]."
)
@click.option(
    "--resume",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Go on where an alternation was interrupted: the same --a and --b again, and both files, each with --resume. "
    "A pair that was cut short is not completed.",
)
@comparing
def command(**given: Any) -> int:
    """Measure SUITEs on two sides in turn, a b b a, and compare them launch by launch: is B faster or slower than A?

    A side is set by variables, options of `bench run` or another interpreter; the rest is the same on both. Slow drift
    of the machine affects both halves of a pair and cancels. Both sides run this source of bench. A side's own --set
    KEY replaces the common one. With --base: bench help ci.

    \b
    Examples:
      bench ab collective --a NCCL_ALGO=Ring --b NCCL_ALGO=Tree
      bench ab tensor_parallel --a "--backend gloo" --b "--backend ucc"
      bench ab ./benchmarks/mine.py --base origin/main --fail-slower 10%
      bench ab --b-python pr/bin/python --fail-slower 10% --budget 10m
    """
    from bench.analysis.comparison_output.presentation import CompareOptions as Comparing
    from bench.run.ab import alternation

    ab_options = {name: given.pop(name) for name in _OWN}
    passed = {name: given.pop(name) for name in PASSED_ON}
    options = alternation.AbOptions(**ab_options, given=tuple(_words(passed)), device=passed["device"])
    return alternation.run(options, Comparing(**given), given_options)


command.params.sort(key=lambda param: param.name in PASSED_ON)  # in --help, what is special to it comes first


def _words(values: Mapping[str, Any]) -> list[str]:
    """The options as they would be typed; those not given are left out."""
    words: list[str] = []
    for name, value in values.items():
        values_of_option = value if isinstance(value, tuple) else (value,)
        words += [word for item in values_of_option if item is not None for word in (_OPTIONS[name].opts[0], str(item))]
    return words
