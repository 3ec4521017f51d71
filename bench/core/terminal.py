"""Width of what a command prints to."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

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
