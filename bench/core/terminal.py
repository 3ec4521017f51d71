"""What a command prints to: how wide it is, and the one way by which text gets there."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from bench.core.cell_text import encodable, guard

PIPE_WIDTH = 100
"""Columns if no terminal tells: a log of a build, or a pager."""
MIN_WIDTH = 40
"""A terminal that claims fewer columns is not believed."""


def output_width(stream: TextIO) -> int:
    """Columns of the stream's terminal (`COLUMNS` wins, as everywhere); PIPE_WIDTH if it is none."""
    if not stream.isatty():
        return PIPE_WIDTH
    try:  # shutil asks stdout alone, which may be a file while stderr is a terminal
        own = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        own = 0
    return max(MIN_WIDTH, shutil.get_terminal_size((own or PIPE_WIDTH, 24)).columns)


def echo(text: str = "", *, err: bool = False, nl: bool = True, color: bool | None = None) -> None:
    """Print text to stdout or stderr, as the last wall behind the escapes of each form.

    No control character but our own colours, no line that a CI runner obeys, and nothing that the stream's encoding
    lacks: all three are shown as escapes. Colours go to terminals alone unless `color` says so.
    """
    write(guard(text), err=err, nl=nl, color=color)


def write(text: str, *, err: bool = False, nl: bool = True, color: bool | None = None) -> None:
    """Print text that is to be obeyed, such as workflow commands whose texts are escaped already."""
    import click

    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None)
    click.echo(encodable(text, encoding), err=err, nl=nl, color=color)
