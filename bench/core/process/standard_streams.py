"""The standard streams of the command, whatever the caller made of them: closed, a full device, a reader that is gone.

Text for stderr that cannot be written is dropped: no command ends for its sake. Text for stdout is what was asked for,
so that the user hears of it if it cannot be written, once.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from bench.errors import BenchError


class CannotPrintError(BenchError):
    """The standard output takes nothing, for another reason than that its reader is gone."""


def describe_refusal(error: OSError) -> str:
    """One line on a standard output that takes nothing."""
    return f"cannot write the output: {error.strerror}; send it elsewhere, or make room"


class _Dropping(io.FileIO):
    """A descriptor whose errors are passed over."""

    def write(self, data: object, /) -> int:
        try:
            written = super().write(data)  # type: ignore[arg-type]
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written  # type: ignore[arg-type]


class _Telling(io.FileIO):
    """A descriptor whose first error is told; after it all is dropped, since an exit writes what was left over."""

    has_failed = False

    def write(self, data: object, /) -> int | None:  # type: ignore[override]
        if self.has_failed:
            return memoryview(data).nbytes  # type: ignore[arg-type]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            self.has_failed = True
            raise
        except OSError as error:
            self.has_failed = True
            raise CannotPrintError(describe_refusal(error)) from error


def prepare() -> None:
    """Make the standard streams fit for use; call it once, before anything is printed."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # the caller closed it (`>&-`, as daemons do)
            _open_null(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process lives
    sys.stdout = _rebuilt(sys.stdout, _Telling)
    sys.stderr = _rebuilt(sys.stderr, _Dropping)


def _open_null(number: int) -> None:
    """Open a closed descriptor on the null device, so that no other file gets its number."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)


def _rebuilt(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    """The text stream on the same descriptor with another way to fail; a stream without a descriptor as it is."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream
    stream.flush()
    line_buffering = bool(getattr(stream, "line_buffering", False))
    buffer = io.BufferedWriter(kind(descriptor, "w", closefd=False))
    # ASCII and Latin-1 lack signs that tables have.
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=line_buffering)
