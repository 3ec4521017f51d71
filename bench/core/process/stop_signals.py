"""Signals that end a command: the first is heard, and those after it do not disturb the tidying up.

SIGINT (Ctrl-C), SIGTERM (Slurm, Kubernetes, systemd) and SIGHUP (a closed terminal) raise `Stopped` on the main thread.
Code that has to come to its end puts the signal off with `deferred`. A library may swallow what a handler raises, as
torch's import does in places: so long loops `check`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The signal that ends this process; a KeyboardInterrupt, since libraries tidy up after one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class _Heard:
    number: int | None = None
    """First signal; None: none came."""
    is_handled: bool = False
    """True once the command tidies up after it."""
    num_deferrals: int = 0


_heard = _Heard()


def listen() -> None:
    """Hear the signals from now on, on the main thread. Those that are ignored stay so: nohup, a shell's `&`."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hear)


def ignore() -> None:
    """Ignore the signals from now on, since the exit code is decided: an interpreter that ends has nothing to save."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _hear(number: int, _: FrameType | None) -> None:
    if _heard.number is None:
        _heard.number = number
        if not _heard.num_deferrals:
            raise Stopped(number)


@contextmanager
def deferred() -> Iterator[None]:
    """Put a signal off to the end of the block, or to a `check` in it; main thread only."""
    _heard.num_deferrals += 1
    try:
        yield
    finally:
        _heard.num_deferrals -= 1
    if not _heard.num_deferrals:
        check()


def check() -> None:
    """Raises Stopped if a signal came, until it is handled."""
    if _heard.number is not None and not _heard.is_handled:
        raise Stopped(_heard.number)


def handle(stopped: BaseException | None = None) -> int:
    """Take note that the command tidies up after a signal, and hear no other one; returns the exit code for it.

    `stopped`: a signal that did not come to this process, but to one that it waits for.
    """
    if _heard.number is None:
        _heard.number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
    _heard.is_handled = True
    return 128 + _heard.number


def heard_signal() -> int:
    """Number of the signal that came; SIGINT if none did."""
    return signal.SIGINT if _heard.number is None else _heard.number


def forget() -> None:
    """Forget the signals so far, for tests of this process."""
    _heard.number, _heard.is_handled, _heard.num_deferrals = None, False, 0
