"""A sign of life while splits are searched: the part that is being tried, on a line that goes away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from bench.core.clock import monotonic_seconds

Report = Callable[[str], None]
"""Takes what is being done now, as often as a search likes."""
FIRST_SECONDS = 0.3
"""Time before the first sign: with the start of Python it comes within a second, and short searches have none."""
AGAIN_SECONDS = 0.1


def no_report(text: str) -> None:
    """Say nothing."""


class SearchProgress:
    """Shows reports on a terminal's last line, or the first of them as one line if there is no terminal."""

    def __init__(self, stream: TextIO, seconds: Callable[[], float] = monotonic_seconds) -> None:
        self._stream, self._seconds = stream, seconds
        self._is_terminal = stream.isatty()
        self._next: float | None = seconds() + FIRST_SECONDS
        self._has_line = False

    def __call__(self, text: str) -> None:
        """Show the text, unless it is too soon."""
        if self._next is None or self._seconds() < self._next:
            return
        if not self._is_terminal:
            self._next = None
            self._stream.write(f"{text}\n")
        else:
            self._next = self._seconds() + AGAIN_SECONDS
            self._has_line = True
            self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def close(self) -> None:
        """Take the line away from a terminal."""
        if self._has_line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._has_line, self._next = False, None
