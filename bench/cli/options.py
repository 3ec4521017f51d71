"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from bench.launch import environment_variables
from bench.table import FORMATS, wants_colour

form: Callable[[Any], Any] = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
)


def colour() -> bool:
    """Whether stdout is to be coloured (NO_COLOR, FORCE_COLOR, a terminal)."""
    return wants_colour(sys.stdout, environment_variables())
