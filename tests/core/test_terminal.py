"""The width of a stream that is a terminal while stdout is none."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios

import pytest

from bench.core.terminal import MIN_WIDTH, PIPE_WIDTH, output_width


@pytest.mark.parametrize(("columns", "width"), [(57, 57), (20, MIN_WIDTH), (0, PIPE_WIDTH)])
def test_a_terminal_is_asked_itself(monkeypatch: pytest.MonkeyPatch, columns: int, width: int) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", io.StringIO())
    main, side = os.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(main, "rb"), os.fdopen(side, "w") as stream:
        assert output_width(stream) == width
        monkeypatch.setenv("COLUMNS", "123")
        assert output_width(stream) == 123


def test_a_pipe_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")
    assert output_width(io.StringIO()) == PIPE_WIDTH
