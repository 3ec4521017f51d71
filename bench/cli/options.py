"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from bench.core.process_environment import environment_variables
from bench.core.table import FORMATS, wants_colour
from bench.core.terminal import output_width

form: Callable[[Any], Any] = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
)

wide: Callable[[Any], Any] = click.option(
    "--wide", is_flag=True, help="All columns, however wide; else those that fit the terminal (100 columns in a pipe)."
)

COMPARING: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--fail-slower",
        metavar="SHARE",
        help="Exit 1 if a case is shown to be slower by more than this, such as 5%.",
    ),
    click.option("--fail-missing", is_flag=True, help="Exit 1 if a case that is ok on the base is missing or not ok."),
    click.option(
        "--min-decided",
        metavar="SHARE",
        help="Exit 2 if the gate could decide fewer of the cases than this [default: not one].",
    ),
    click.option(
        "--threshold", metavar="SHARE", help="A change within this is the same for practical ends [default: 5%]."
    ),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help="Compare this in place of seconds_median. Repeatable.",
    ),
    click.option(
        "--where",
        multiple=True,
        metavar="NAME=V1,V2",
        help="Only cases whose suite, op, case or parameter is one of these. Repeatable: all have to fit.",
    ),
    click.option(
        "--sort",
        type=click.Choice(["verdict", "change", "case", "base"]),
        default="verdict",
        show_default=True,
        help="Order of the rows.",
    ),
    wide,
    click.option("--all", "everything", is_flag=True, help="Show all cases, also those that are the same."),
    click.option("--environments", is_flag=True, help="Show all that differs and is the same, digests of code too."),
    click.option(
        "--allow-unlike", is_flag=True, help="Gate, or count files as launches of one run, although they differ."
    ),
    click.option(
        "--no-controls",
        is_flag=True,
        help="Judge each case by itself: without the run as a whole, controls, and the spread of its samples.",
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice([*FORMATS, "junit", "github"]),
        default="table",
        show_default=True,
        help="How to print; junit: XML with a test per case; github: annotations and the step's summary.",
    ),
)


def comparing(command: Any) -> Any:
    """The options of what is compared, how it is shown, and what fails; fields of the comparison's `Options`."""
    for option in reversed(COMPARING):
        command = option(command)
    return command


def colour() -> bool:
    """True if stdout is to be coloured (NO_COLOR, FORCE_COLOR, a terminal)."""
    return wants_colour(sys.stdout, environment_variables())


def width(wide: bool) -> int | None:
    """Columns that tables on stdout may have; None: as many as they need."""
    return None if wide else output_width(sys.stdout)
