"""Calls of a plug-in's own code, a suite or an importer: however it ends, it costs one line, and bench goes on.

A module may raise what is not an `Exception` (pytest's Skipped, a KeyboardInterrupt of its own), leave with `sys.exit`
or `os._exit`, or raise an error that cannot be printed.
"""

from __future__ import annotations

import os
import signal
import sysconfig
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from bench.core.crash.module_shadows import describe_shadow
from bench.errors import BenchError

_MAX_TEXT = 300
"""Characters of an error's own words."""
_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def call_stranger(what: str, call: Callable[[], _T]) -> _T:
    """Call a stranger's code. Raises BenchError for whatever it raises; a signal's exception stays what it is."""
    guard = _Guard()
    try:
        with guard:
            return call()
    except BenchError:
        raise
    except BaseException as error:
        if guard.heard_signal:
            raise
        in_the_way = describe_shadow(error)
        raise BenchError(in_the_way or f"{what} {describe_strangers_error(error)}; fix the file") from error


def describe_strangers_error(error: BaseException) -> str:
    """Type, text, and the last place outside libraries and the engine; a SyntaxError's text has its place already."""
    others = ("<", sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
    suite_frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(others)]
    has_place = isinstance(error, SyntaxError) or not suite_frames
    place = "" if has_place else f" ({Path(suite_frames[-1].filename).name}, line {suite_frames[-1].lineno})"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may fail even at this
        text = "(its text cannot be read)"
    text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    return f"{type(error).__name__}: {text}{place}"


class _Guard:
    """A block of a stranger's code: notes signals, and turns `os._exit` of its thread into a SystemExit."""

    def __init__(self) -> None:
        self.heard_signal = False
        self._caller = os.getpid(), threading.get_ident()
        self._exit = os._exit
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        os._exit = self._refuse_exit
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                previous = signal.getsignal(number)
                if callable(previous):
                    self._previous[number] = previous
                    signal.signal(number, self._note_signal)

    def __exit__(self, *_: object) -> None:
        os._exit = self._exit
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._note_signal:  # the module's own handler stays
                signal.signal(number, previous)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self.heard_signal = True
        self._previous[number](number, frame)

    def _refuse_exit(self, status: int) -> NoReturn:
        if self._caller == (os.getpid(), threading.get_ident()):
            raise SystemExit(f"os._exit({status})")
        self._exit(status)
